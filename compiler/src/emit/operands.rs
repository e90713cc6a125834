//! Operands → types of the generated code: slots of the arena, ranges of the weights.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use std::cell::RefCell;
use std::collections::BTreeSet;

use super::blob::Blobs;
use super::{EmitError, WeightsAt, format, names};
use crate::ir::DType;
use crate::kernel::{Buffer, Constant, Operand};
use crate::memory::{Plan, StepForm};
use crate::schedule::Schedule;

/// The Rust type that holds an element in memory; `place` says where it appears, for the error.
pub(super) fn element(dtype: DType, place: &str) -> Result<TokenStream, EmitError> {
    Ok(match dtype {
        DType::F32 => quote!(f32),
        DType::F64 => quote!(f64),
        DType::F16 => quote!(rt::F16),
        DType::Bf16 => quote!(rt::Bf16),
        DType::I8 => quote!(i8),
        DType::I16 => quote!(i16),
        DType::I32 => quote!(i32),
        DType::I64 => quote!(i64),
        DType::U8 => quote!(u8),
        DType::U16 => quote!(u16),
        DType::U32 => quote!(u32),
        DType::U64 => quote!(u64),
        DType::Bool => quote!(rt::Bool),
        // A byte each; signed ones are extended in it.
        DType::I4 | DType::I2 => quote!(i8),
        DType::U4 | DType::U2 => quote!(u8),
        DType::F8E4M3 => quote!(rt::F8E4M3),
        DType::F8E4M3Uz => quote!(rt::F8E4M3Uz),
        DType::F8E5M2 => quote!(rt::F8E5M2),
        DType::F8E5M2Uz => quote!(rt::F8E5M2Uz),
        DType::F8E8M0 => quote!(rt::F8E8M0),
        DType::F4E2M1 => quote!(rt::F4E2M1),
        DType::String => {
            return Err(EmitError::ElementType { dtype: dtype.short_name(), place: place.to_owned() });
        }
    })
}

/// A schedule with addresses, and the names its operands have in generated code.
pub(super) struct Operands<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) plan: &'a Plan,
    pub(super) blobs: Blobs,
    /// Whether the caller hands the weights over, in one file.
    pub(super) external: bool,
    /// Operands that generated code names, each of which gets a type alias.
    named: RefCell<BTreeSet<Operand>>,
}

impl<'a> Operands<'a> {
    pub(super) fn new(schedule: &'a Schedule, plan: &'a Plan, weights: WeightsAt) -> Result<Self, EmitError> {
        if plan.offsets.len() != schedule.buffers.len() || plan.forms.len() != schedule.steps.len() {
            return Err(EmitError::Internal("the plan is not of this schedule".into()));
        }
        let external = weights == WeightsAt::Caller;
        let blobs = Blobs::new(schedule, !external);
        Ok(Operands { schedule, plan, blobs, external, named: RefCell::new(BTreeSet::new()) })
    }

    /// The operand's type alias: `plan::B003` or `weights::W012`.
    pub(super) fn name(&self, operand: Operand) -> TokenStream {
        self.named.borrow_mut().insert(operand);
        let alias = alias(operand);
        match operand {
            Operand::Buffer(_) => quote!(plan::#alias),
            Operand::Const(_) => quote!(weights::#alias),
        }
    }

    /// [`Operands::name`], or the absence of an operand of elements `element`.
    pub(super) fn name_or_absent(&self, operand: Option<Operand>, element: &TokenStream) -> TokenStream {
        match operand {
            Some(operand) => self.name(operand),
            None => quote!(rt::Absent<#element>),
        }
    }

    pub(super) fn buffer(&self, operand: Operand) -> Result<Option<(&'a Buffer, usize)>, EmitError> {
        let Operand::Buffer(id) = operand else { return Ok(None) };
        let buffer = self.schedule.buffers.get(id.0 as usize);
        match (buffer, self.plan.offsets.get(id.0 as usize)) {
            (Some(buffer), Some(&offset)) => Ok(Some((buffer, offset))),
            _ => Err(EmitError::Internal(format!("no buffer {}", id.0))),
        }
    }

    pub(super) fn constant(&self, operand: Operand) -> Result<Option<(&'a Constant, usize)>, EmitError> {
        let Operand::Const(id) = operand else { return Ok(None) };
        let (_, offset) = self.blobs.place(id)?;
        match self.schedule.constants.get(id.0 as usize) {
            Some(constant) => Ok(Some((constant, offset))),
            None => Err(EmitError::Internal(format!("no constant {}", id.0))),
        }
    }

    /// Element type, first byte in its space, and number of elements.
    pub(super) fn place(&self, operand: Operand) -> Result<(DType, usize, usize), EmitError> {
        if let Some((buffer, offset)) = self.buffer(operand)? {
            return Ok((buffer.dtype, offset, buffer.len));
        }
        match self.constant(operand)? {
            Some((constant, offset)) => Ok((constant.dtype, offset, constant.len)),
            None => Err(EmitError::Internal("an operand is nowhere".into())),
        }
    }

    /// `&weights::WEIGHTS`, or the file of a split blob that these operands lie in; `blob` where the caller hands
    /// them over.
    pub(super) fn weights(&self, operands: &[Operand]) -> Result<TokenStream, EmitError> {
        if self.external {
            return Ok(quote!(blob));
        }
        let name = self.weights_static(self.blobs.file_of(operands)?);
        Ok(quote!(&weights::#name))
    }

    /// The static that holds a weights file.
    pub(super) fn weights_static(&self, file: usize) -> Ident {
        if self.blobs.files.len() == 1 {
            names::ident("WEIGHTS")
        } else {
            names::ident(&format!("WEIGHTS_{file:02}"))
        }
    }

    /// How step `index` lies, as `rt::kernels::Form`.
    pub(super) fn form(&self, index: usize) -> Result<TokenStream, EmitError> {
        Ok(match self.plan.forms.get(index) {
            Some(StepForm::Disjoint) => quote!(rt::kernels::Form::Disjoint),
            Some(StepForm::Overlap) => quote!(rt::kernels::Form::Overlap),
            Some(StepForm::Strided { pitch }) => {
                let pitch = format::size(*pitch);
                quote!(rt::kernels::Form::Strided { pitch: #pitch })
            }
            None => return Err(EmitError::Internal(format!("no form for step {index}"))),
        })
    }

    /// Items of `plan.rs`: an alias for each buffer that was named.
    pub(super) fn slot_items(&self) -> Result<Vec<String>, EmitError> {
        self.items(|o| matches!(o, Operand::Buffer(_)), "Slot")
    }

    /// Items of `weights.rs`: an alias for each constant that was named.
    pub(super) fn const_items(&self) -> Result<Vec<String>, EmitError> {
        self.items(|o| matches!(o, Operand::Const(_)), "Const")
    }

    fn items(&self, wanted: impl Fn(&Operand) -> bool, kind: &str) -> Result<Vec<String>, EmitError> {
        let kind = names::ident(kind);
        let mut items = Vec::new();
        for &operand in self.named.borrow().iter().filter(|o| wanted(o)) {
            let (dtype, offset, len) = self.place(operand)?;
            let (value, bytes) = match (self.buffer(operand)?, self.constant(operand)?) {
                (Some((buffer, _)), _) => (buffer.name.as_str(), range(offset, len * dtype.size())),
                (_, Some((constant, _))) => (constant.name.as_str(), range(offset, len * dtype.size())),
                _ => ("", String::new()),
            };
            let doc = format::doc(&[format!("{}, bytes {bytes}.", format::code(value))]);
            let alias = alias(operand);
            let element = element(dtype, &format::code(value))?;
            let (offset, len) = (format::size(offset), format::size(len));
            items.push(format::item(quote!(
                #doc
                pub(super) type #alias = rt::#kind<#element, #offset, #len>;
            ))?);
        }
        Ok(items)
    }
}

/// `18_432..36_864`.
pub(super) fn range(start: usize, bytes: usize) -> String {
    format!("{}..{}", format::group(start as u128), format::group((start + bytes) as u128))
}

fn alias(operand: Operand) -> Ident {
    match operand {
        Operand::Buffer(id) => names::ident(&format!("B{:03}", id.0)),
        Operand::Const(id) => names::ident(&format!("W{:03}", id.0)),
    }
}
