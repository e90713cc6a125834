//! Functions of one element, and of elements that stand at the same place after broadcasting.

use super::{Draw, Values};
use edgec::ir::DType::{self, Bf16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};

pub(super) const FLOATS: &[DType] = &[F32, F64, F16, Bf16];
const NO_BF16: &[DType] = &[F32, F64, F16];
pub(super) const INTS: &[DType] = &[I8, I16, I32, I64, U8, U16, U32, U64];
const SIGNED: &[DType] = &[I8, I16, I32, I64];

/// `shape` with some extents 1 and some leading axes gone: what broadcasts to it.
pub(super) fn narrower(d: &mut Draw, shape: &[usize]) -> Vec<usize> {
    let cut = if d.random.once_in(3) { d.random.below(shape.len() + 1) } else { 0 };
    shape[cut..].iter().map(|&n| if d.random.once_in(3) { 1 } else { n }).collect()
}

/// Two shapes, one of which may be narrower in places.
fn pair(d: &mut Draw) -> [Vec<usize>; 2] {
    let shape = d.shape(0..=4, 5);
    let mut both = match d.random.below(4) {
        0 => [shape.clone(), shape],
        1 => [narrower(d, &shape), narrower(d, &shape)],
        _ => [narrower(d, &shape), shape],
    };
    if d.random.once_in(2) {
        both.reverse();
    }
    both
}

pub(super) fn unary(d: &mut Draw) {
    use Values::{Any, Positive, Unit};
    let table: &[(&str, Values, &[&[DType]])] = &[
        ("Abs", Any, &[FLOATS, INTS]),
        ("Neg", Any, &[FLOATS, SIGNED]),
        ("Sign", Any, &[FLOATS, INTS]),
        ("Relu", Any, &[FLOATS, SIGNED]),
        ("Erf", Any, &[FLOATS]),
        ("Exp", Any, &[FLOATS]),
        ("Floor", Any, &[FLOATS]),
        ("Ceil", Any, &[FLOATS]),
        ("Sigmoid", Any, &[FLOATS]),
        ("Tanh", Any, &[FLOATS]),
        ("Log", Positive, &[FLOATS]),
        ("Sqrt", Positive, &[FLOATS]),
        ("Reciprocal", Positive, &[FLOATS]),
        ("Round", Any, &[NO_BF16]),
        ("Sin", Any, &[NO_BF16]),
        ("Cos", Any, &[NO_BF16]),
        ("Tan", Unit, &[NO_BF16]),
        ("Asin", Unit, &[NO_BF16]),
        ("Acos", Unit, &[NO_BF16]),
        ("Atan", Any, &[NO_BF16]),
        ("Sinh", Any, &[NO_BF16]),
        ("Cosh", Any, &[NO_BF16]),
        ("Asinh", Any, &[NO_BF16]),
        ("Atanh", Unit, &[NO_BF16]),
        ("Acosh", Values::Whole(1, 30), &[NO_BF16]),
        ("Softplus", Any, &[NO_BF16]),
        ("Softsign", Any, &[NO_BF16]),
        ("HardSwish", Any, &[NO_BF16]),
        ("Mish", Any, &[NO_BF16]),
        ("Gelu", Any, &[FLOATS]),
        ("Gelu <approximate = \"tanh\">", Any, &[FLOATS]),
        ("Elu <alpha = 0.75>", Any, &[NO_BF16]),
        ("Selu", Any, &[NO_BF16]),
        ("Celu <alpha = 1.5>", Any, &[&[F32]]),
        ("HardSigmoid <alpha = 0.25, beta = 0.4>", Any, &[NO_BF16]),
        ("LeakyRelu <alpha = 0.125>", Any, &[FLOATS]),
        ("ThresholdedRelu <alpha = 0.5>", Any, &[NO_BF16]),
        ("Shrink <lambd = 1.0, bias = 0.5>", Any, &[NO_BF16]),
        ("IsNaN", Any, &[FLOATS]),
        ("IsInf", Any, &[&[F32, F64]]),
        ("Not", Any, &[&[Bool]]),
        ("BitwiseNot", Any, &[INTS]),
        ("Identity", Any, &[FLOATS, INTS, &[Bool]]),
        ("com.microsoft.QuickGelu <alpha = 1.5>", Any, &[&[F32, F16]]),
    ];
    for &(op, values, types) in table {
        for &dtype in types.iter().copied().flatten() {
            let shape = d.shape(0..=5, 5);
            let x = d.data(dtype, &shape, values);
            d.node(op, dtype, &[&x], 1);
        }
    }
    // Long rows, whose vectors have tails.
    for op in ["Exp", "Tanh", "Sigmoid", "Erf", "Mish", "Softplus", "HardSwish", "Gelu"] {
        let shape = [d.random.range(1, 3), d.random.range(17, 90)];
        let x = d.data(F32, &shape, Any);
        d.node(op, F32, &[&x], 1);
    }
}

pub(super) fn binary(d: &mut Draw) {
    let mut put = |op: &str, types: &[DType], a: Values, b: Values| {
        for &dtype in types {
            let [x, y] = pair(d);
            let x = d.weight(dtype, &x, a);
            let y = d.data(dtype, &y, b);
            d.node(op, dtype, &[&x, &y], 1);
        }
    };
    for types in [FLOATS, INTS] {
        put("Add", types, Values::Any, Values::Any);
        put("Sub", types, Values::Any, Values::Any);
        put("Mul", types, Values::Any, Values::Any);
        put("Div", types, Values::Any, Values::Positive);
        put("Max", types, Values::Any, Values::Any);
        put("Min", types, Values::Any, Values::Any);
        put("Mod <fmod = 1>", types, Values::Any, Values::Positive);
    }
    put("Mod", INTS, Values::Any, Values::Positive);
    put("Pow", FLOATS, Values::Positive, Values::Unit);
    put("Pow", &[I32, I64], Values::Whole(-5, 5), Values::Whole(0, 6));
    // The slope broadcasts to the data, not the other way round.
    for &dtype in FLOATS.iter().chain(&[I32, I64, U32, U64]) {
        let shape = d.shape(1..=4, 5);
        let slope = narrower(d, &shape);
        let (x, slope) = (d.data(dtype, &shape, Values::Any), d.weight(dtype, &slope, Values::Any));
        d.node("PRelu", dtype, &[&x, &slope], 1);
    }
}

pub(super) fn compare(d: &mut Draw) {
    for op in ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"] {
        for &dtype in FLOATS.iter().chain(INTS) {
            let [x, y] = pair(d);
            let (x, y) = (d.data(dtype, &x, Values::Unit), d.weight(dtype, &y, Values::Unit));
            d.node(op, dtype, &[&x, &y], 1);
        }
    }
    for op in ["And", "Or", "Xor", "Equal"] {
        let [x, y] = pair(d);
        let (x, y) = (d.data(Bool, &x, Values::Any), d.weight(Bool, &y, Values::Any));
        d.node(op, Bool, &[&x, &y], 1);
    }
}

pub(super) fn bits(d: &mut Draw) {
    for &dtype in INTS {
        for op in ["BitwiseAnd", "BitwiseOr", "BitwiseXor"] {
            let [x, y] = pair(d);
            let (x, y) = (d.data(dtype, &x, Values::Any), d.weight(dtype, &y, Values::Any));
            d.node(op, dtype, &[&x, &y], 1);
        }
    }
    for dtype in [U8, U16, U32, U64] {
        for direction in ["LEFT", "RIGHT"] {
            let [x, y] = pair(d);
            let (x, y) = (d.data(dtype, &x, Values::Any), d.weight(dtype, &y, Values::Whole(0, 7)));
            d.node(&format!("BitShift <direction = \"{direction}\">"), dtype, &[&x, &y], 1);
        }
    }
}

pub(super) fn several(d: &mut Draw) {
    for &dtype in FLOATS {
        for op in ["Sum", "Mean", "Max", "Min"] {
            let shape = d.shape(1..=4, 4);
            let operands: Vec<String> = (0..d.random.range(1, 4))
                .map(|_| {
                    let narrow = narrower(d, &shape);
                    d.data(dtype, &narrow, Values::Any)
                })
                .collect();
            let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
            d.node(op, dtype, &operands, 1);
        }
    }
    for &dtype in FLOATS.iter().chain(INTS).chain(&[Bool]) {
        let shape = d.shape(1..=4, 4);
        let [c, x, y] = [0, 1, 2].map(|_| narrower(d, &shape));
        let c = d.data(Bool, &c, Values::Any);
        let (x, y) = (d.weight(dtype, &x, Values::Any), d.data(dtype, &y, Values::Any));
        d.node("Where", dtype, &[&c, &x, &y], 1);
    }
    for &dtype in FLOATS.iter().chain(INTS) {
        let shape = d.shape(1..=4, 5);
        let x = d.data(dtype, &shape, Values::Any);
        let (low, high) = (d.tensor(dtype, &[], Values::Unit), d.tensor(dtype, &[], Values::Positive));
        let (low, high) = (d.either(low), d.either(high));
        match d.random.below(3) {
            0 => d.node("Clip", dtype, &[&x, &low, &high], 1),
            1 => {
                d.inputs.retain(|(n, _)| *n != high);
                d.constants.retain(|(n, _)| *n != high);
                d.node("Clip", dtype, &[&x, &low], 1);
            }
            _ => {
                d.inputs.retain(|(n, _)| *n != low);
                d.constants.retain(|(n, _)| *n != low);
                d.node("Clip", dtype, &[&x, "", &high], 1);
            }
        }
    }
}

pub(super) fn cast(d: &mut Draw) {
    let types: Vec<DType> = FLOATS.iter().chain(INTS).chain(&[Bool]).copied().collect();
    for &from in &types {
        for &to in &types {
            let shape = d.shape(0..=3, 4);
            // Numbers that every type holds: beyond them, conversions are not defined.
            let x = d.data(from, &shape, Values::Whole(0, 100));
            d.node(&format!("Cast <to = {}>", edgec::onnx::code_of_dtype(to)), from, &[&x], 1);
        }
    }
}
