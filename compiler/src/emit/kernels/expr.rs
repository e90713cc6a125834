//! Scalar expressions → Rust.

use proc_macro2::TokenStream;
use quote::quote;

use crate::emit::operands::element;
use crate::emit::{EmitError, format, names};
use crate::ir::DType;
use crate::kernel::expr::{BinaryFn, CompareFn, Expr, Scalar, UnaryFn};

/// An expression's text, its type, and whether it can stand as an operand without parentheses.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) text: TokenStream,
    pub(super) dtype: DType,
    atom: bool,
}

impl Code {
    /// An identifier, call, literal without sign, or anything else that binds tightest.
    pub(super) fn atom(text: TokenStream, dtype: DType) -> Self {
        Code { text, dtype, atom: true }
    }

    fn open(text: TokenStream, dtype: DType) -> Self {
        Code { text, dtype, atom: false }
    }

    /// As an operand.
    pub(super) fn operand(&self) -> TokenStream {
        let text = &self.text;
        if self.atom { quote!(#text) } else { quote!((#text)) }
    }
}

/// What the names of an expression stand for.
pub(super) struct Scope<'a> {
    /// The nest's reads, as loaded.
    pub(super) reads: &'a [Option<Code>],
    /// Accumulators.
    pub(super) accs: &'a [Code],
    /// Loop variables, as `usize` expressions.
    pub(super) indices: &'a [TokenStream],
}

/// The type that values of a storage type are calculated with.
pub(super) fn arithmetic(dtype: DType) -> DType {
    match dtype {
        DType::I4 | DType::I2 => DType::I8,
        DType::U4 | DType::U2 => DType::U8,
        DType::F64 => DType::F64,
        float if float.is_float() => DType::F32,
        other => other,
    }
}

/// An element as a value.
pub(super) fn load(place: TokenStream, dtype: DType) -> Code {
    match dtype {
        _ if is_stored_float(dtype) => Code::atom(quote!(#place.to_f32()), DType::F32),
        DType::Bool => Code::atom(quote!(#place.get()), DType::Bool),
        _ => Code::atom(place, arithmetic(dtype)),
    }
}

/// Whether floats of a type are stored as bits and calculated with as `f32`.
fn is_stored_float(dtype: DType) -> bool {
    dtype.is_float() && !matches!(dtype, DType::F32 | DType::F64)
}

/// A value as an element of `dtype`.
pub(super) fn store(value: &Code, dtype: DType) -> Result<TokenStream, EmitError> {
    let text = &value.text;
    if value.dtype != arithmetic(dtype) {
        return Err(EmitError::Internal(format!("a value of type {} is stored as {dtype}", value.dtype)));
    }
    Ok(match dtype {
        _ if is_stored_float(dtype) => {
            let stored = element(dtype, "a store")?;
            quote!(#stored::from_f32(#text))
        }
        DType::Bool => quote!(rt::Bool::from(#text)),
        _ => quote!(#text),
    })
}

/// The Rust type of a value.
pub(super) fn rust_type(dtype: DType) -> Result<TokenStream, EmitError> {
    Ok(match dtype {
        _ if is_stored_float(dtype) => quote!(f32),
        DType::Bool => quote!(bool),
        _ => element(dtype, "an expression")?,
    })
}

/// An expression.
pub(super) fn expr(e: &Expr, scope: &Scope<'_>) -> Result<Code, EmitError> {
    let missing = |what: &str, i: usize| {
        EmitError::Internal(format!("an expression names {what} {i}, which is not there"))
    };
    match e {
        Expr::Read(i) => scope.reads.get(*i).cloned().flatten().ok_or_else(|| missing("read", *i)),
        Expr::Acc(i) => scope.accs.get(*i).cloned().ok_or_else(|| missing("accumulator", *i)),
        Expr::Index(i) => {
            let index = scope.indices.get(*i).ok_or_else(|| missing("loop", *i))?;
            let single = index.clone().into_iter().count() == 1;
            let text = if single { quote!(#index as i64) } else { quote!((#index) as i64) };
            Ok(Code::open(text, DType::I64))
        }
        Expr::Const(scalar) => Ok(constant(*scalar)),
        Expr::Unary(f, a) => unary(*f, &expr(a, scope)?),
        Expr::Binary(f, a, b) => binary(*f, &expr(a, scope)?, &expr(b, scope)?),
        Expr::Compare(f, a, b) => compare(*f, &expr(a, scope)?, &expr(b, scope)?),
        Expr::Select(c, a, b) => {
            let chained = matches!(**b, Expr::Select(..));
            let (c, a, b) = (expr(c, scope)?, expr(a, scope)?, expr(b, scope)?);
            same(&a, &b, "a selection")?;
            let (ct, at, bt) = (&c.text, &a.text, &b.text);
            let text = match chained {
                true => quote!(if #ct { #at } else #bt),
                false => quote!(if #ct { #at } else { #bt }),
            };
            Ok(Code::open(text, a.dtype))
        }
        Expr::Quantize { to, value, zero } => {
            let (value, zero) = (expr(value, scope)?, expr(zero, scope)?);
            quantize(*to, &value, &zero)
        }
        Expr::Cast { from, to, value } => {
            let value = expr(value, scope)?;
            if value.dtype != arithmetic(*from) {
                let found = value.dtype;
                return Err(EmitError::Internal(format!("a cast from {from} of a value of type {found}")));
            }
            cast(&value, *to)
        }
    }
}

fn quantize(to: DType, value: &Code, zero: &Code) -> Result<Code, EmitError> {
    let fitting = matches!(value.dtype, DType::F32 | DType::F64) && zero.dtype == DType::I32;
    let bytes = matches!(to, DType::I16 | DType::U16) || (to.is_int() && to.size() == 1);
    if !fitting || !bytes {
        let (value, zero) = (value.dtype, zero.dtype);
        return Err(EmitError::Internal(format!("{value} quantized to {to} around a zero point of {zero}")));
    }
    let function = names::ident(&format!("quantize_{}", to.short_name()));
    let (value, zero) = (&value.text, &zero.text);
    Ok(Code::atom(quote!(rt::num::#function(#value, #zero)), arithmetic(to)))
}

fn same(a: &Code, b: &Code, what: &str) -> Result<(), EmitError> {
    if a.dtype == b.dtype {
        Ok(())
    } else {
        Err(EmitError::Internal(format!("operands of {what} are {} and {}", a.dtype, b.dtype)))
    }
}

fn constant(scalar: Scalar) -> Code {
    let number = |text: TokenStream, dtype, negative: bool| Code { text, dtype, atom: !negative };
    match scalar {
        Scalar::F32(x) => number(format::float32(x), DType::F32, x.is_sign_negative()),
        Scalar::F64(x) => number(format::float64(x), DType::F64, x.is_sign_negative()),
        Scalar::Int(dtype, x) => number(format::signed(i128::from(x)), arithmetic(dtype), x < 0),
        Scalar::U64(x) => {
            let literal = format::int(u128::from(x));
            number(quote!(#literal), DType::U64, false)
        }
        Scalar::Bool(x) => Code::atom(quote!(#x), DType::Bool),
    }
}

fn cast(value: &Code, to: DType) -> Result<Code, EmitError> {
    let from = value.dtype;
    let v = value.operand();
    let text = &value.text;
    Ok(match to {
        _ if is_stored_float(to) => {
            let half = element(to, "a cast")?;
            let rounded = match from {
                DType::F32 => quote!(#half::from_f32(#text)),
                DType::F64 => quote!(#half::from_f64(#text)),
                DType::Bool => quote!(#half::from_f32(f32::from(#text))),
                _ => quote!(#half::from_f64(#v as f64)),
            };
            Code::atom(quote!(#rounded.to_f32()), DType::F32)
        }
        DType::Bool => match from {
            DType::Bool => value.clone(),
            DType::F32 | DType::F64 => Code::open(quote!(#v != 0.0), DType::Bool),
            _ => Code::open(quote!(#v != 0), DType::Bool),
        },
        _ if to == from => value.clone(),
        DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
            let (byte, name) = (arithmetic(to), to.short_name());
            let (wrap, text) = (names::ident(&format!("wrap_{name}")), cast(value, byte)?.text);
            Code::atom(quote!(rt::num::#wrap(#text)), byte)
        }
        _ => {
            let target = element(to, "a cast")?;
            match from {
                DType::Bool => Code::atom(quote!(#target::from(#text)), to),
                _ => Code::open(quote!(#v as #target), to),
            }
        }
    })
}

fn compare(f: CompareFn, a: &Code, b: &Code) -> Result<Code, EmitError> {
    same(a, b, "a comparison")?;
    let (x, y) = (a.operand(), b.operand());
    let text = match f {
        CompareFn::Equal => quote!(#x == #y),
        CompareFn::Less => quote!(#x < #y),
        CompareFn::LessOrEqual => quote!(#x <= #y),
        CompareFn::Greater => quote!(#x > #y),
        CompareFn::GreaterOrEqual => quote!(#x >= #y),
    };
    Ok(Code::open(text, DType::Bool))
}

fn binary(f: BinaryFn, a: &Code, b: &Code) -> Result<Code, EmitError> {
    same(a, b, "an operator")?;
    let dtype = a.dtype;
    let (x, y) = (a.operand(), b.operand());
    let (xt, yt) = (&a.text, &b.text);
    let float = matches!(dtype, DType::F32 | DType::F64);
    let integer = dtype.is_int();
    let fitting = match f {
        BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => dtype == DType::Bool,
        BinaryFn::BitwiseAnd | BinaryFn::BitwiseOr | BinaryFn::BitwiseXor => integer || dtype == DType::Bool,
        BinaryFn::ShiftLeft | BinaryFn::ShiftRight => integer,
        _ => float || integer,
    };
    if !fitting {
        return Err(EmitError::Internal(format!("{f:?} of values of type {dtype}")));
    }
    let call = |function: &str| {
        let function = names::ident(function);
        Code::atom(quote!(rt::num::#function(#xt, #yt)), dtype)
    };
    let operator = |text: TokenStream| Code::open(text, dtype);
    Ok(match f {
        BinaryFn::Add if float => operator(quote!(#x + #y)),
        BinaryFn::Sub if float => operator(quote!(#x - #y)),
        BinaryFn::Mul if float => operator(quote!(#x * #y)),
        BinaryFn::Div if float => operator(quote!(#x / #y)),
        BinaryFn::Add => call("add"),
        BinaryFn::Sub => call("sub"),
        BinaryFn::Mul => call("mul"),
        BinaryFn::Div => call("div"),
        BinaryFn::Pow => call("pow"),
        BinaryFn::Mod => call("modulo"),
        BinaryFn::Fmod => call("fmod"),
        BinaryFn::Max => call("max"),
        BinaryFn::Min => call("min"),
        BinaryFn::And | BinaryFn::BitwiseAnd => operator(quote!(#x & #y)),
        BinaryFn::Or | BinaryFn::BitwiseOr => operator(quote!(#x | #y)),
        BinaryFn::Xor | BinaryFn::BitwiseXor => operator(quote!(#x ^ #y)),
        BinaryFn::ShiftLeft => call("shl"),
        BinaryFn::ShiftRight => call("shr"),
        BinaryFn::PRelu if float => {
            let module = math(dtype);
            Code::atom(quote!(rt::math::#module::leaky_relu(#xt, #yt)), dtype)
        }
        BinaryFn::PRelu => operator(quote!(if #x < 0 { rt::num::mul(#xt, #yt) } else { #xt })),
    })
}

/// Module of elementary functions for a type.
fn math(dtype: DType) -> TokenStream {
    if dtype == DType::F64 { quote!(double) } else { quote!(single) }
}

fn unary(f: UnaryFn, a: &Code) -> Result<Code, EmitError> {
    let dtype = a.dtype;
    let x = a.operand();
    let text = &a.text;
    let float = matches!(dtype, DType::F32 | DType::F64);
    let call = |function: &str, params: &[f32]| {
        let module = math(dtype);
        let function = names::ident(function);
        // A parameter is an f32 of the model, also where the data are f64.
        let param = |&p: &f32| match dtype {
            DType::F64 => format::float64(f64::from(p)),
            _ => format::float32(p),
        };
        let params = params.iter().map(param);
        Code::atom(quote!(rt::math::#module::#function(#text #(, #params)*)), dtype)
    };
    let number = |function: &str| {
        let function = names::ident(function);
        Code::atom(quote!(rt::num::#function(#text)), dtype)
    };
    let fitting = match f {
        UnaryFn::Not => dtype == DType::Bool,
        UnaryFn::BitwiseNot => dtype.is_int(),
        UnaryFn::Abs
        | UnaryFn::Neg
        | UnaryFn::Sign
        | UnaryFn::Relu
        | UnaryFn::IsNaN
        | UnaryFn::IsInf { .. } => float || dtype.is_int(),
        UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round => float || dtype.is_int(),
        UnaryFn::PowerOfTwo { .. } => dtype == DType::F32,
        _ => float,
    };
    if !fitting {
        return Err(EmitError::Internal(format!("{f:?} of a value of type {dtype}")));
    }
    Ok(match f {
        UnaryFn::Abs => number("abs"),
        UnaryFn::Neg if float => Code::open(quote!(-#x), dtype),
        UnaryFn::Neg => number("neg"),
        UnaryFn::Sign => number("sign"),
        UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round if !float => a.clone(),
        UnaryFn::Relu if !float => Code::atom(quote!(rt::num::max(#text, 0)), dtype),
        UnaryFn::Exp => call("exp", &[]),
        UnaryFn::Log => call("ln", &[]),
        UnaryFn::Sqrt => call("sqrt", &[]),
        UnaryFn::Reciprocal => Code::open(quote!(1.0 / #x), dtype),
        UnaryFn::Floor => call("floor", &[]),
        UnaryFn::Ceil => call("ceil", &[]),
        UnaryFn::Round => call("round", &[]),
        UnaryFn::Erf => call("erf", &[]),
        UnaryFn::Sigmoid => call("sigmoid", &[]),
        UnaryFn::Tanh => call("tanh", &[]),
        UnaryFn::Sin => call("sin", &[]),
        UnaryFn::Cos => call("cos", &[]),
        UnaryFn::Tan => call("tan", &[]),
        UnaryFn::Asin => call("asin", &[]),
        UnaryFn::Acos => call("acos", &[]),
        UnaryFn::Atan => call("atan", &[]),
        UnaryFn::Sinh => call("sinh", &[]),
        UnaryFn::Cosh => call("cosh", &[]),
        UnaryFn::Asinh => call("asinh", &[]),
        UnaryFn::Acosh => call("acosh", &[]),
        UnaryFn::Atanh => call("atanh", &[]),
        UnaryFn::Softplus => call("softplus", &[]),
        UnaryFn::Softsign => call("softsign", &[]),
        UnaryFn::Relu => call("relu", &[]),
        UnaryFn::HardSwish => call("hard_swish", &[]),
        UnaryFn::Mish => call("mish", &[]),
        UnaryFn::Gelu => call("gelu", &[]),
        UnaryFn::GeluTanh => call("gelu_tanh", &[]),
        UnaryFn::Not | UnaryFn::BitwiseNot => Code::open(quote!(!#x), dtype),
        UnaryFn::IsNaN => Code::atom(quote!(rt::num::is_nan(#text)), DType::Bool),
        UnaryFn::IsInf { positive, negative } => {
            Code::atom(quote!(rt::num::is_inf(#text, #positive, #negative)), DType::Bool)
        }
        UnaryFn::LeakyRelu { alpha } => call("leaky_relu", &[alpha]),
        UnaryFn::Elu { alpha } => call("elu", &[alpha]),
        UnaryFn::Celu { alpha } => call("celu", &[alpha]),
        UnaryFn::Selu { alpha, gamma } => call("selu", &[alpha, gamma]),
        UnaryFn::HardSigmoid { alpha, beta } => call("hard_sigmoid", &[alpha, beta]),
        UnaryFn::ThresholdedRelu { alpha } => call("thresholded_relu", &[alpha]),
        UnaryFn::Swish { alpha } => call("swish", &[alpha]),
        UnaryFn::Shrink { lambd, bias } => call("shrink", &[lambd, bias]),
        UnaryFn::PowerOfTwo { nearest } => {
            let function = names::ident(if nearest { "nearest" } else { "down" });
            Code::atom(quote!(rt::F8E8M0::#function(#text).to_f32()), dtype)
        }
    })
}
