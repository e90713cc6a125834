//! Scalar expressions of loop nests.

use crate::ir::DType;

/// A scalar expression. Types are checked when emitted: operands of an arithmetic node have one
/// type, floats of 16 bits and fewer arrive as `f32`, integers of
/// 4 and 2 bits as bytes, bool is `bool`.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// The nest's i-th read.
    Read(usize),
    /// The nest's i-th accumulator (only in stores).
    Acc(usize),
    /// Loop variable `i`, as `i64`.
    Index(usize),
    /// A literal.
    Const(Scalar),
    /// Function of one value.
    Unary(UnaryFn, Box<Expr>),
    /// Function of two values of one type.
    Binary(BinaryFn, Box<Expr>, Box<Expr>),
    /// Comparison of two values of one type, giving bool.
    Compare(CompareFn, Box<Expr>, Box<Expr>),
    /// `if condition { a } else { b }`.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `clamp(zero + RNE(value))` over the range of an integer type of at most 16 bits: ties to even, NaN
    /// gives the lowest. `value` is f32 or f64, `zero` an i32 within that range.
    Quantize {
        /// Type of the result.
        to: DType,
        /// What is rounded.
        value: Box<Expr>,
        /// What 0 becomes.
        zero: Box<Expr>,
    },
    /// Conversion as ONNX Cast defines it, from one type to another.
    Cast {
        /// Type of `value`.
        from: DType,
        /// Type of the result.
        to: DType,
        /// What is converted.
        value: Box<Expr>,
    },
}

/// A literal of a scalar expression, exact for every element type.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // the variants are their types
pub enum Scalar {
    F32(f32),
    F64(f64),
    /// Any integer type, named by the DType.
    Int(DType, i64),
    U64(u64),
    Bool(bool),
}

/// Functions of one value. Named after ONNX; float functions on f32/f64, arithmetic on all numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // the ONNX operator of that name
pub enum UnaryFn {
    Abs,
    Neg,
    Sign,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Floor,
    Ceil,
    Round,
    Erf,
    Sigmoid,
    Tanh,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Softplus,
    Softsign,
    Relu,
    HardSwish,
    Mish,
    Gelu,
    GeluTanh,
    Not,
    BitwiseNot,
    IsNaN,
    /// Positive and/or negative infinity.
    IsInf {
        positive: bool,
        negative: bool,
    },
    LeakyRelu {
        alpha: f32,
    },
    Elu {
        alpha: f32,
    },
    Celu {
        alpha: f32,
    },
    Selu {
        alpha: f32,
        gamma: f32,
    },
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    ThresholdedRelu {
        alpha: f32,
    },
    Swish {
        alpha: f32,
    },
    Shrink {
        lambd: f32,
        bias: f32,
    },
    /// The power of two (of `float8e8m0`) below the number's size, or the nearer one.
    PowerOfTwo {
        nearest: bool,
    },
}

/// Functions of two values of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the ONNX operator of that name
pub enum BinaryFn {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    /// Sign of the divisor (Python's).
    Mod,
    /// Sign of the dividend (C's fmod).
    Fmod,
    /// NaN wins.
    Max,
    /// NaN wins.
    Min,
    And,
    Or,
    Xor,
    BitwiseAnd,
    BitwiseOr,
    BitwiseXor,
    ShiftLeft,
    ShiftRight,
    /// PRelu: `a < 0 ? a·b : a`.
    PRelu,
}

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the ONNX operator of that name
pub enum CompareFn {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How a reduction combines values; each has its identity as initial value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceOp {
    /// Sum, from 0.
    Sum,
    /// Product, from 1.
    Prod,
    /// Maximum, from the lowest value; NaN wins.
    Max,
    /// Minimum, from the highest value; NaN wins.
    Min,
    /// Logical or.
    Any,
    /// Logical and.
    All,
    /// Position (i64, row-major over the reduced loops) of the first largest value. NaN counts as
    /// largest. The accumulator's `dtype` is the compared type; `Expr::Acc` yields the position.
    ArgMax {
        /// The last of equals instead of the first.
        last: bool,
    },
    /// Position of the first smallest value.
    ArgMin {
        /// The last of equals instead of the first.
        last: bool,
    },
}
