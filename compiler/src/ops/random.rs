//! [RandomNormal](https://onnx.ai/onnx/operators/onnx__RandomNormal.html), RandomNormalLike, RandomUniform,
//! RandomUniformLike, [Bernoulli](https://onnx.ai/onnx/operators/onnx__Bernoulli.html),
//! [Multinomial](https://onnx.ai/onnx/operators/onnx__Multinomial.html): numbers drawn at compile time.
//!
//! The draws are constants: the same in every run and on every host. They follow from attribute `seed` (0 where
//! absent) and the position of the element, so that nodes with the same seed draw the same. Probabilities may be run-time operands.

use super::cast::dtype_of;
use super::composite::{Composite, INTERNAL, Script};
use super::number::expect_float;
use super::typed::from_floats;
use super::walk::{checked_type, extent};
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::{AttrReader, NodeView, code_of_dtype};
use std::f64::consts::PI;

/// Operands: none, one that gives the shape, or probabilities (Multinomial: their logarithms, `[batch, classes]`).
pub struct Random;

impl Composite for Random {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("Bernoulli", 15),
        OnnxName::onnx("Bernoulli", 22),
        OnnxName::onnx("Multinomial", 7),
        OnnxName::onnx("Multinomial", 22),
        OnnxName::onnx("RandomNormal", 1),
        OnnxName::onnx("RandomNormal", 22),
        OnnxName::onnx("RandomNormalLike", 1),
        OnnxName::onnx("RandomNormalLike", 22),
        OnnxName::onnx("RandomUniform", 1),
        OnnxName::onnx("RandomUniform", 22),
        OnnxName::onnx("RandomUniformLike", 1),
        OnnxName::onnx("RandomUniformLike", 22),
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let seed = attrs.float_or("seed", 0.0)?;
        let dtype = match attrs.int("dtype")? {
            None => None,
            Some(code) => {
                Some(dtype_of(code).ok_or_else(|| OpError::invalid(format!("attribute `dtype` is {code}")))?)
            }
        };
        match node.op_type {
            "Bernoulli" => bernoulli(inputs, seed, dtype),
            "Multinomial" => multinomial(attrs, inputs, seed, dtype),
            _ => constant(attrs, node, inputs, seed, dtype),
        }
    }
}

/// Normal or uniform numbers, in a shape that is known.
fn constant(
    attrs: &mut AttrReader<'_>,
    node: &NodeView<'_>,
    inputs: &Inputs<'_>,
    seed: f32,
    dtype: Option<DType>,
) -> Result<Body, OpError> {
    let (shape, dtype) = if node.op_type.ends_with("Like") {
        let x = inputs.required(0)?;
        (x.shape.clone(), dtype.unwrap_or(x.dtype))
    } else {
        let extents = AttrReader::required("shape", attrs.ints("shape")?)?;
        let shape: Shape = extents.into_iter().map(extent).collect::<Result<Vec<usize>, _>>()?.into();
        (shape, dtype.unwrap_or(DType::F32))
    };
    expect_float(dtype)?;
    let (shape, mut draws) = (checked_type(dtype, shape)?.shape, Draws::new(seed));
    let count = shape.elements();
    let values: Vec<f64> = if node.op_type.starts_with("RandomNormal") {
        let (mean, scale) =
            (f64::from(attrs.float_or("mean", 0.0)?), f64::from(attrs.float_or("scale", 1.0)?));
        (0..count).map(|_| mean + scale * draws.normal()).collect()
    } else {
        let (low, high) = (f64::from(attrs.float_or("low", 0.0)?), f64::from(attrs.float_or("high", 1.0)?));
        (0..count).map(|_| low + (high - low) * draws.uniform()).collect()
    };
    let mut s = Script::numbered(node.inputs.len());
    let drawn = s.tensor(from_floats(dtype, shape, values)?);
    let y = s.op("Identity", &[&drawn]);
    s.finish(&[&y])
}

/// True where a uniform number lies below the probability.
fn bernoulli(inputs: &Inputs<'_>, seed: f32, dtype: Option<DType>) -> Result<Body, OpError> {
    let x = inputs.required(0)?;
    expect_float(x.dtype)?;
    let mut s = Script::numbered(1);
    let (wide, threshold) = drawn(&mut s, x.dtype, "x0", x.shape.clone(), seed)?;
    let hit = s.op("Less", &[&threshold, &wide]);
    let y = s.op(&format!("Cast <to = {}>", code_of_dtype(dtype.unwrap_or(x.dtype))), &[&hit]);
    s.finish(&[&y])
}

/// The first class at which the sum of probabilities exceeds a uniform number.
fn multinomial(
    attrs: &mut AttrReader<'_>,
    inputs: &Inputs<'_>,
    seed: f32,
    dtype: Option<DType>,
) -> Result<Body, OpError> {
    let x = inputs.required(0)?;
    expect_float(x.dtype)?;
    let samples = extent(attrs.int_or("sample_size", 1)?)?;
    let dtype = dtype.unwrap_or(DType::I32);
    let &[batch, classes] = x.shape.dims() else {
        return Err(OpError::invalid(format!("`input` is {}, expected [batch, classes]", x.shape)));
    };
    if classes == 0 || !matches!(dtype, DType::I32 | DType::I64) {
        return Err(OpError::invalid(format!("{classes} classes as {dtype}")));
    }
    checked_type(dtype, [batch, samples, classes])?;
    let mut s = Script::numbered(1);
    let shares = s.op("Softmax <axis = -1>", &["x0"]);
    let shares = s.reshape(&shares, &[batch, 1, classes]);
    let (shares, threshold) = drawn(&mut s, x.dtype, &shares, [batch, samples, 1].into(), seed)?;
    let sums = s.op(&format!("{INTERNAL}.CumSum <axis = -1>"), &[&shares]);
    let below = s.op("LessOrEqual", &[&sums, &threshold]);
    let below = s.op(&format!("Cast <to = {}>", code_of_dtype(dtype)), &[&below]);
    let axes = s.ints(&[-1]);
    let count = s.op("ReduceSum <keepdims = 0>", &[&below, &axes]);
    // The sum of all may have been rounded to below one.
    let last = s.scalar(dtype, (classes - 1) as f64)?;
    let y = s.op("Min", &[&count, &last]);
    s.finish(&[&y])
}

/// A float operand in the type that it is compared in, and uniform numbers of that type.
fn drawn(
    s: &mut Script,
    dtype: DType,
    x: &str,
    shape: Shape,
    seed: f32,
) -> Result<(String, String), OpError> {
    let compared = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let shape = checked_type(compared, shape)?.shape;
    let mut draws = Draws::new(seed);
    let values: Vec<f64> = (0..shape.elements()).map(|_| draws.uniform()).collect();
    let numbers: Tensor = from_floats(compared, shape, values)?;
    let wide = s.op(&format!("Cast <to = {}>", code_of_dtype(compared)), &[x]);
    Ok((wide, s.tensor(numbers)))
}

/// SplitMix64: each number is a hash of the seed and a count.
struct Draws(u64);

impl Draws {
    fn new(seed: f32) -> Self {
        Draws(u64::from(seed.to_bits()) << 32)
    }

    /// In 0 to 1, without 1; of 24 bits, which `f32` holds exactly.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24)
    }

    /// Of mean 0 and variance 1, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let (radius, turn) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * libm::log(radius)).sqrt() * libm::cos(2.0 * PI * turn)
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{run, run_text};
    use super::super::testing::f32s;
    use crate::ir::{DType, Tensor};

    fn drawn(op: &str) -> Vec<f64> {
        let y = run_text(&format!("g () => (y) {{ y = {op} () }}")).unwrap();
        y[0].to_f64_vec().unwrap()
    }

    #[test]
    fn moments() {
        let moments = |op: &str| {
            let values = drawn(op);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
        };
        let (mean, variance) = moments("RandomUniform <shape = [100, 100], low = 2.0, high = 4.0>");
        assert!((mean - 3.0).abs() < 0.03 && (variance - 1.0 / 3.0).abs() < 0.02, "{mean} {variance}");
        let (mean, variance) = moments("RandomNormal <shape = [10000], mean = 1.0, scale = 2.0, seed = 7.0>");
        assert!((mean - 1.0).abs() < 0.08 && (variance - 4.0).abs() < 0.2, "{mean} {variance}");
        let uniform = |seed: &str| drawn(&format!("RandomUniform <shape = [4] {seed}>"));
        assert_eq!(uniform(""), uniform(", seed = 0.0"));
        assert_ne!(uniform(""), uniform(", seed = 1.0"));
        let huge = "g () => (y) { y = RandomNormal <shape = [1099511627776, 1099511627776]> () }";
        assert!(run_text(huge).is_err(), "too large");
    }

    #[test]
    fn draws_by_probability() {
        let p = f32s(&[3, 1000], &[[0f32; 1000], [1.0; 1000], [0.25; 1000]].concat());
        let y = run("Bernoulli <dtype = 7>", &[Some(&p)], 1).unwrap().swap_remove(0);
        let (dtype, hits) = (y.dtype(), y.to_i64_vec().unwrap());
        let count = |row: usize| hits[row * 1000..][..1000].iter().sum::<i64>();
        assert_eq!((dtype, count(0), count(1)), (DType::I64, 0, 1000));
        assert!((200..300).contains(&count(2)), "{}", count(2));
        let logs = f32s(&[2, 3], &[-1e9, 0.0, -1e9, 0.0, -1e9, 0.0]);
        let y = run("Multinomial <sample_size = 500>", &[Some(&logs)], 1).unwrap().swap_remove(0);
        let classes = y.to_i64_vec().unwrap();
        assert_eq!((y.dtype(), y.shape().dims()), (DType::I32, &[2usize, 500][..]));
        assert!(classes[..500].iter().all(|&c| c == 1));
        let last = classes[500..].iter().filter(|&&c| c == 2).count();
        assert!((200..300).contains(&last) && !classes[500..].contains(&1), "{last}");
        let like = run("RandomNormalLike", &[Some(&Tensor::vector(&[0f64; 3]))], 1).unwrap();
        assert_eq!((like[0].dtype(), like[0].shape().dims()), (DType::F64, &[3usize][..]));
    }
}
