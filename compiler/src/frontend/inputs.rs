//! Types of the model's inputs: open dimensions get their values, bound inputs their tensors.

use super::Options;
use super::binds::fitted;
use super::limits::{MAX_VALUE_BYTES, short};
use super::problems::Problems;
use crate::diag::{Code, Diagnostic};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::proto::{Dimension, DimensionValue, TypeValue, ValueInfoProto};
use crate::onnx::{MAX_RANK, dtype_from_code};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// One declared dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dim<'m> {
    /// Fixed.
    Value(usize),
    /// Open; one without a name of its own goes by its place, `image[2]`.
    Open(Cow<'m, str>),
}

/// A declared tensor type; the shape where one is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared<'m> {
    pub dtype: DType,
    pub dims: Option<Vec<Dim<'m>>>,
}

/// The tensor type of a value's declaration; the error says what it is instead.
pub(super) fn declared(info: &ValueInfoProto) -> Result<Declared<'_>, String> {
    let ty = info.r#type.as_ref();
    let tensor = match ty.and_then(|t| t.value.as_ref()) {
        Some(TypeValue::Tensor(t)) => t,
        Some(TypeValue::Sequence(_)) => return Err("sequences are not supported".into()),
        Some(TypeValue::Map(_)) => return Err("maps are not supported".into()),
        Some(TypeValue::Optional(_)) => return Err("optional values are not supported".into()),
        Some(TypeValue::SparseTensor(_)) => return Err("sparse tensors are not supported".into()),
        Some(TypeValue::Opaque(_)) => return Err("opaque values are not supported".into()),
        None => return Err("no type is declared".into()),
    };
    let dims = match &tensor.shape {
        Some(shape) if shape.dim.len() > MAX_RANK => {
            return Err(format!(
                "{} dimensions, more than the {MAX_RANK} that are supported",
                shape.dim.len()
            ));
        }
        shape => shape
            .as_ref()
            .map(|s| s.dim.iter().enumerate().map(|(axis, d)| dim(&info.name, axis, d)).collect()),
    };
    Ok(Declared { dtype: dtype_from_code(tensor.elem_type)?, dims })
}

fn dim<'m>(value: &str, axis: usize, dim: &'m Dimension) -> Dim<'m> {
    let place = || Dim::Open(Cow::Owned(format!("{}[{axis}]", short(value))));
    match &dim.value {
        Some(DimensionValue::Param(name)) if !name.is_empty() => Dim::Open(Cow::Borrowed(name)),
        Some(DimensionValue::Value(v)) => usize::try_from(*v).map_or_else(|_| place(), Dim::Value),
        _ => place(),
    }
}

/// An input of the model as it will be compiled.
pub(super) enum Input {
    /// Given at run time.
    Open(DType, Shape),
    /// Texts given at run time, as positions in a table.
    Texts(Shape),
    /// Bound to a tensor by an option.
    Bound(Tensor),
    /// Refused; the problem is reported.
    Unknown,
}

/// Resolves every input's type; `inputs` are those without an initializer. With them, the values of named dimensions.
pub(super) fn resolve<'m>(
    inputs: &[&'m ValueInfoProto],
    options: &Options,
    problems: &mut Problems,
) -> (Vec<Input>, BTreeMap<String, usize>) {
    let types: Vec<Option<Declared<'m>>> = inputs
        .iter()
        .map(|info| match declared(info) {
            Ok(t) => Some(t),
            Err(why) => {
                problems.push(Diagnostic::error(
                    Code::UnsupportedForm,
                    format!("input `{}`: {why}", short(&info.name)),
                ));
                None
            }
        })
        .collect();

    check_names(inputs, &types, options, problems);
    let mut dims: BTreeMap<&str, usize> = options.dims.iter().map(|(k, &v)| (k.as_str(), v)).collect();
    learn(inputs, &types, options, &mut dims, problems);
    take_batch_as_one(inputs, &types, options, &mut dims, problems);

    let mut reported = BTreeSet::new();
    let mut out = Vec::with_capacity(inputs.len());
    for (info, ty) in inputs.iter().zip(&types) {
        let Some(ty) = ty else {
            out.push(Input::Unknown);
            continue;
        };
        if let Some(tensor) = options.binds.get(&info.name) {
            out.push(bind(info, ty, tensor, problems));
            continue;
        }
        let shape = match options.input_shapes.get(&info.name) {
            Some(shape) => Some(Shape::from(shape.clone())),
            None => static_shape(info, ty, &dims, &mut reported, problems),
        };
        out.push(match shape {
            Some(shape) if !fits(info, ty.dtype, &shape, problems) => Input::Unknown,
            Some(shape) if ty.dtype == DType::String => Input::Texts(shape),
            Some(shape) => Input::Open(ty.dtype, shape),
            None => Input::Unknown,
        });
    }
    (out, dims.into_iter().map(|(name, v)| (name.to_owned(), v)).collect())
}

/// Options that name nothing in the model.
fn check_names(
    inputs: &[&ValueInfoProto],
    types: &[Option<Declared<'_>>],
    options: &Options,
    problems: &mut Problems,
) {
    let list = |names: &mut dyn Iterator<Item = &str>| {
        let names: Vec<String> = names.map(|n| format!("`{}`", short(n))).take(20).collect();
        if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) }
    };
    let named = options.input_shapes.keys().chain(options.binds.keys());
    for name in named.filter(|name| !inputs.iter().any(|i| i.name == **name)) {
        problems.push(
            Diagnostic::error(Code::BadOption, format!("the model has no input `{name}`"))
                .with_help(list(&mut inputs.iter().map(|i| i.name.as_str()))),
        );
    }
    let known: BTreeSet<&str> = types
        .iter()
        .flatten()
        .flat_map(|t| t.dims.iter().flatten())
        .filter_map(|d| if let Dim::Open(name) = d { Some(name.as_ref()) } else { None })
        .collect();
    for name in options.dims.keys().filter(|name| !known.contains(name.as_str())) {
        problems.push(
            Diagnostic::error(Code::BadOption, format!("no input of the model has a dimension `{name}`"))
                .with_help(list(&mut known.iter().copied())),
        );
    }
}

/// Takes values of named dimensions from shapes and tensors given for whole inputs.
fn learn<'m>(
    inputs: &[&'m ValueInfoProto],
    types: &'m [Option<Declared<'m>>],
    options: &Options,
    dims: &mut BTreeMap<&'m str, usize>,
    problems: &mut Problems,
) {
    for (info, ty) in inputs.iter().zip(types) {
        let Some(ty) = ty else { continue };
        let bound = options.binds.get(&info.name).map(|tensor| fitted(tensor, ty));
        let given: &[usize] = match (&bound, options.input_shapes.get(&info.name)) {
            (Some(tensor), _) => tensor.shape().dims(),
            (None, Some(shape)) => shape,
            (None, None) => continue,
        };
        // Exporters write the shape of a scalar where they mean none, and other runtimes take it so.
        let Some(declared) = ty.dims.as_ref().filter(|d| !d.is_empty()) else { continue };
        let mut clash = given.len() != declared.len();
        for (&extent, dim) in given.iter().zip(declared) {
            clash |= match dim {
                Dim::Value(v) => *v != extent,
                Dim::Open(name) => *dims.entry(name).or_insert(extent) != extent,
            };
        }
        if clash {
            problems.push(Diagnostic::error(
                Code::BadOption,
                format!(
                    "the shape {} given for input `{}` contradicts the declared {}",
                    Shape::from(given),
                    short(&info.name),
                    text(declared, dims)
                ),
            ));
        }
    }
}

/// A leading dimension with no value is the batch: 1.
fn take_batch_as_one<'m>(
    inputs: &[&'m ValueInfoProto],
    types: &'m [Option<Declared<'m>>],
    options: &Options,
    dims: &mut BTreeMap<&'m str, usize>,
    problems: &mut Problems,
) {
    let given = |info: &ValueInfoProto| {
        options.binds.contains_key(&info.name) || options.input_shapes.contains_key(&info.name)
    };
    let mut taken: Vec<(&str, Vec<&str>)> = Vec::new();
    for (info, ty) in inputs.iter().zip(types).filter(|(i, _)| !given(i)) {
        let declared = ty.as_ref().and_then(|t| t.dims.as_ref());
        let Some((Dim::Open(name), rest)) = declared.and_then(|d| d.split_first()) else { continue };
        // As many rows as columns: no batch.
        if rest.iter().any(|d| matches!(d, Dim::Open(other) if other == name)) {
            continue;
        }
        match taken.iter_mut().find(|(n, _)| *n == name) {
            Some((_, of)) => of.push(&info.name),
            None if !dims.contains_key(name.as_ref()) => {
                dims.insert(name, 1);
                taken.push((name, vec![&info.name]));
            }
            None => {}
        }
    }
    for (name, of) in taken {
        let of: Vec<String> = of.iter().take(5).map(|i| format!("`{}`", short(i))).collect();
        problems.push(
            Diagnostic::note(
                Code::DimDefault,
                format!("dimension `{}` of {} has no value; it is taken as 1", short(name), of.join(", ")),
            )
            .with_help(format!("another value: `--dim {}`", quoted(&format!("{}=2", short(name))))),
        );
    }
}

/// The shape with all dimensions known, or the problems reported.
fn static_shape<'m>(
    info: &ValueInfoProto,
    ty: &'m Declared<'m>,
    dims: &BTreeMap<&str, usize>,
    reported: &mut BTreeSet<&'m str>,
    problems: &mut Problems,
) -> Option<Shape> {
    let Some(declared) = &ty.dims else {
        problems.push(
            Diagnostic::error(Code::OpenDim, format!("input `{}` has no shape", short(&info.name)))
                .with_help(format!(
                    "give it: `--input-shape {}`",
                    quoted(&format!("{}=1x3x224x224", short(&info.name)))
                )),
        );
        return None;
    };
    let mut shape = Vec::with_capacity(declared.len());
    let mut whole = true;
    for (i, dim) in declared.iter().enumerate() {
        let name = match dim {
            Dim::Value(v) => {
                shape.push(*v);
                continue;
            }
            Dim::Open(name) => name,
        };
        if let Some(&v) = dims.get(name.as_ref()) {
            shape.push(v);
            continue;
        }
        whole = false;
        if reported.insert(name) {
            problems.push(
                Diagnostic::error(
                    Code::OpenDim,
                    format!(
                        "dimension {i} (`{}`) of input `{}` has no value",
                        short(name),
                        short(&info.name)
                    ),
                )
                .with_help(format!("give it one: `--dim {}`", quoted(&format!("{}=16", short(name))))),
            );
        }
    }
    whole.then(|| shape.into())
}

/// An argument as a shell takes it.
pub(super) fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-=./:,".contains(c);
    match argument.chars().all(plain) && !argument.is_empty() {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    }
}

fn text(dims: &[Dim<'_>], known: &BTreeMap<&str, usize>) -> String {
    let list: Vec<String> = dims
        .iter()
        .map(|d| match d {
            Dim::Value(v) => v.to_string(),
            Dim::Open(name) => match known.get(name.as_ref()) {
                Some(v) => format!("{}={v}", short(name)),
                None => short(name),
            },
        })
        .collect();
    format!("[{}]", list.join(", "))
}

fn bind(info: &ValueInfoProto, ty: &Declared<'_>, tensor: &Tensor, problems: &mut Problems) -> Input {
    let tensor = fitted(tensor, ty);
    if tensor.dtype() == ty.dtype {
        return Input::Bound(tensor.into_owned());
    }
    problems.push(Diagnostic::error(
        Code::BadOption,
        format!(
            "input `{}` is {}, but the tensor bound to it is {}",
            short(&info.name),
            ty.dtype,
            tensor.dtype()
        ),
    ));
    Input::Unknown
}

fn fits(info: &ValueInfoProto, dtype: DType, shape: &Shape, problems: &mut Problems) -> bool {
    let held = if dtype == DType::String { DType::I64 } else { dtype };
    match size_problem(held, shape) {
        None => true,
        Some(why) => {
            problems.push(Diagnostic::error(Code::Limit, format!("input `{}`: {why}", short(&info.name))));
            false
        }
    }
}

/// Why a value of this type would be too large, if it is.
pub(super) fn size_problem(dtype: DType, shape: &Shape) -> Option<String> {
    if shape.rank() > MAX_RANK {
        return Some(format!("{} dimensions; at most {MAX_RANK} are supported", shape.rank()));
    }
    // A zero extent hides how large the others are; strides are still computed from them.
    let full = shape.iter().try_fold(dtype.size().max(1), |n, &d| n.checked_mul(d.max(1)));
    match full {
        Some(bytes) if bytes <= MAX_VALUE_BYTES => None,
        _ => Some(format!("a value of shape {shape} exceeds {MAX_VALUE_BYTES} bytes")),
    }
}
