//! [MaxPool](https://onnx.ai/onnx/operators/onnx__MaxPool.html),
//! [AveragePool](https://onnx.ai/onnx/operators/onnx__AveragePool.html),
//! [LpPool](https://onnx.ai/onnx/operators/onnx__LpPool.html) and their global forms.

use super::fused::{Activation, activate};
use super::number::{Number, by_class, class, expect_float};
use super::pool_lower;
use super::walk::{checked_type, operand};
use super::window::{AutoPad, Taps, Window, advance};
use super::{Inputs, LayoutRule, OnnxName, OnnxOp, Op, OpError, OpKind, Type};
use crate::ir::{DType, Shape, Tensor};
use crate::onnx::{AttrReader, NodeView};
use crate::schedule::LowerCx;

/// What a pool makes of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// The largest value; NaN wins.
    Max {
        /// Positions (result 1) count the first spatial axis fastest (`storage_order = 1`).
        column_major: bool,
    },
    /// The mean.
    Average {
        /// Taps in the padding count (`count_include_pad`).
        include_pad: bool,
    },
    /// `(Σ |x|^p)^(1/p)`.
    Lp {
        /// The norm's degree, at least 1.
        p: i64,
    },
}

/// A pool over windows, or over all of the space. Operand: `x[N, C, space…]`. Results: the pooled
/// values; for `Max` the positions of the maxima in the flattened input, as `i64`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// What is computed.
    pub kind: Kind,
    /// The window; `None` for the global forms.
    pub window: Option<Window>,
    /// `ceil_mode`.
    pub ceil: bool,
    /// Activation folded in by passes (types that compute in `f32` only).
    pub activation: Activation,
}

impl OnnxOp for Pool {
    const NAMES: &'static [OnnxName] = &[
        OnnxName::onnx("MaxPool", 1),
        OnnxName::onnx("MaxPool", 8),
        OnnxName::onnx("MaxPool", 10),
        OnnxName::onnx("MaxPool", 11),
        OnnxName::onnx("MaxPool", 12),
        OnnxName::onnx("MaxPool", 22),
        OnnxName::onnx("AveragePool", 1),
        OnnxName::onnx("AveragePool", 10),
        OnnxName::onnx("AveragePool", 11),
        OnnxName::onnx("AveragePool", 19),
        OnnxName::onnx("AveragePool", 22),
        OnnxName::onnx("LpPool", 2),
        OnnxName::onnx("LpPool", 11),
        OnnxName::onnx("LpPool", 18),
        OnnxName::onnx("LpPool", 22),
        OnnxName::onnx("GlobalMaxPool", 1),
        OnnxName::onnx("GlobalMaxPool", 22),
        OnnxName::onnx("GlobalAveragePool", 1),
        OnnxName::onnx("GlobalAveragePool", 22),
        OnnxName::onnx("GlobalLpPool", 2),
        OnnxName::onnx("GlobalLpPool", 22),
    ];

    fn import(attrs: &mut AttrReader<'_>, node: &NodeView<'_>) -> Result<OpKind, OpError> {
        let global = node.op_type.starts_with("Global");
        let kind = match node.op_type.trim_start_matches("Global") {
            "MaxPool" => Kind::Max { column_major: !global && attrs.int_or("storage_order", 0)? != 0 },
            "AveragePool" => {
                Kind::Average { include_pad: !global && attrs.int_or("count_include_pad", 0)? != 0 }
            }
            _ => {
                let p = attrs.int_or("p", 2)?;
                if p < 1 {
                    return Err(OpError::invalid(format!("`p` is {p}")));
                }
                Kind::Lp { p }
            }
        };
        let window = if global { None } else { Some(Window::import(attrs)?) };
        let ceil = !global && attrs.int_or("ceil_mode", 0)? != 0;
        Ok(Pool { kind, window, ceil, activation: Activation::None }.into())
    }
}

impl Pool {
    /// The window over an input of this shape.
    pub fn taps(&self, x: &[usize]) -> Result<Taps, OpError> {
        let [_, _, space @ ..] = x else {
            return Err(OpError::invalid("`X` needs a batch and a channel axis"));
        };
        if space.is_empty() {
            return Err(OpError::invalid("`X` has no spatial axis"));
        }
        match &self.window {
            Some(w) => w.resolve(space, None, self.ceil),
            None if space.contains(&0) => Err(OpError::invalid("a global pool over no elements")),
            None => Window::of(space).resolve(space, None, false),
        }
    }
}

impl Op for Pool {
    fn name(&self) -> &'static str {
        match (self.kind, self.window.is_some()) {
            (Kind::Max { .. }, true) => "MaxPool",
            (Kind::Max { .. }, false) => "GlobalMaxPool",
            (Kind::Average { .. }, true) => "AveragePool",
            (Kind::Average { .. }, false) => "GlobalAveragePool",
            (Kind::Lp { .. }, true) => "LpPool",
            (Kind::Lp { .. }, false) => "GlobalLpPool",
        }
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let x = inputs.required(0)?;
        match self.kind {
            Kind::Max { .. } => drop(class(x.dtype)?),
            Kind::Average { .. } | Kind::Lp { .. } => expect_float(x.dtype)?,
        }
        if self.activation != Activation::None && !(super::nest::single(x.dtype) && inputs.outputs() <= 1) {
            return Err(OpError::internal("an activation was fused into a pool that cannot apply it"));
        }
        let taps = self.taps(x.shape)?;
        let shape: Shape = x.shape.iter().take(2).chain(&taps.output).copied().collect();
        let mut types = vec![checked_type(x.dtype, shape.clone())?];
        if matches!(self.kind, Kind::Max { .. }) && self.window.is_some() {
            types.push(Type::new(DType::I64, shape));
        }
        Ok(types)
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let x = operand(inputs, 0)?;
        let taps = self.taps(x.shape())?;
        let shape: Shape = x.shape().iter().take(2).chain(&taps.output).copied().collect();
        let planes = x.shape().iter().take(2).product::<usize>();
        let mut places = Vec::new();
        let y = by_class!(x.dtype(), N => {
            let values = N::load(x)?;
            let mut y = Vec::with_capacity(shape.elements());
            let size: usize = taps.input.iter().product();
            for plane in 0..planes {
                let values = &values[plane * size..(plane + 1) * size];
                let mut window = vec![0; taps.rank()];
                for _ in 0..taps.output.iter().product() {
                    let (value, place) = self.pool(values, &taps, &window);
                    y.push(value);
                    places.push((plane * size + place) as i64);
                    advance(&mut window, &taps.output);
                }
            }
            if self.activation != Activation::None {
                for v in &mut y {
                    *v = N::of(activate(self.activation, v.wide() as f32, 0.0).into());
                }
            }
            N::store(y, x.dtype(), shape.clone())?
        });
        let mut results = vec![y];
        if matches!(self.kind, Kind::Max { .. }) && self.window.is_some() {
            results.push(Tensor::new::<i64>(shape, places)?);
        }
        Ok(results)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::ChannelsLast
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        pool_lower::lower(self, cx)
    }
}

impl Pool {
    /// One window: the pooled value, and for `Max` the position of the first largest within the plane.
    fn pool<N: Number>(&self, plane: &[N], taps: &Taps, window: &[usize]) -> (N, usize) {
        let ranges: Vec<_> = window.iter().enumerate().map(|(axis, &o)| taps.inside(axis, o)).collect();
        let extents: Vec<usize> = ranges.iter().map(|r| r.len()).collect();
        let (mut best, mut place) = (N::LOWEST, 0);
        let mut found = false;
        let mut sum = N::ZERO;
        let mut tap = vec![0; taps.rank()];
        for _ in 0..extents.iter().product() {
            let (mut at, mut named) = (0, 0);
            for (axis, range) in ranges.iter().enumerate() {
                let i = taps.source(axis, window[axis], range.start + tap[axis]).unwrap_or(0);
                at = at * taps.input[axis] + i;
            }
            if let Kind::Max { column_major: true } = self.kind {
                for (axis, range) in ranges.iter().enumerate().rev() {
                    let i = taps.source(axis, window[axis], range.start + tap[axis]).unwrap_or(0);
                    named = named * taps.input[axis] + i;
                }
            } else {
                named = at;
            }
            let value = plane[at];
            match self.kind {
                Kind::Max { .. } => {
                    if !found || value > best || (Number::is_nan(value) && !Number::is_nan(best)) {
                        (best, place, found) = (value, named, true);
                    }
                }
                Kind::Average { .. } => sum = sum.add(value),
                Kind::Lp { p } => sum = sum.add(power(value, p)),
            }
            advance(&mut tap, &extents);
        }
        match self.kind {
            Kind::Max { .. } => (best, place),
            Kind::Average { include_pad } => {
                let count: usize = window
                    .iter()
                    .enumerate()
                    .map(
                        |(axis, &o)| {
                            if include_pad { taps.inside_padded(axis, o) } else { taps.inside(axis, o) }
                        },
                    )
                    .map(|range| range.len())
                    .product();
                // A window with no counted tap is 0/0, as the definition has it.
                (N::of(sum.wide() / count as f64), 0)
            }
            Kind::Lp { p: 1 } => (sum, 0),
            Kind::Lp { p: 2 } => (N::of(libm::sqrt(sum.wide())), 0),
            Kind::Lp { p } => (N::of(libm::pow(sum.wide(), 1.0 / p as f64)), 0),
        }
    }
}

/// `|x|^p`.
fn power<N: Number>(x: N, p: i64) -> N {
    let wide = libm::fabs(x.wide());
    match p {
        1 => N::of(wide),
        2 => x.mul(x),
        _ => N::of(libm::pow(wide, p as f64)),
    }
}

impl Pool {
    /// Whether padding is only what the window's own attributes say, so that a pass may add to it.
    pub fn takes_pads(&self) -> bool {
        self.window.as_ref().is_some_and(|w| w.auto_pad == AutoPad::NotSet) && !self.ceil
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Fact;

    fn pool(kind: Kind, window: Window) -> Pool {
        Pool { kind, window: Some(window), ceil: false, activation: Activation::None }
    }

    const MAX: Kind = Kind::Max { column_major: false };

    fn run(op: &Pool, x: &Tensor) -> (Vec<f64>, Option<Vec<i64>>) {
        let facts = [Some(Fact { dtype: x.dtype(), shape: x.shape(), constant: None })];
        let types = op.infer(&Inputs::new(&facts, 2)).unwrap();
        let y = op.eval(&[Some(x)]).unwrap();
        for (t, y) in types.iter().zip(&y) {
            assert_eq!((t.dtype, &t.shape), (y.dtype(), y.shape()));
        }
        (y[0].to_f64_vec().unwrap(), y.get(1).and_then(Tensor::to_i64_vec))
    }

    fn iota(shape: &[usize]) -> Tensor {
        Tensor::from_fn(shape, |i| i as f32)
    }

    #[test]
    fn max_with_positions_in_both_orders() {
        let mut op = pool(MAX, Window { strides: Some(vec![2, 2]), ..Window::of(&[2, 2]) });
        assert_eq!(run(&op, &iota(&[1, 2, 2, 4])), (vec![5., 7., 13., 15.], Some(vec![5, 7, 13, 15])));
        op.kind = Kind::Max { column_major: true };
        // Element (h, w) is at h + 2w.
        assert_eq!(run(&op, &iota(&[1, 1, 2, 4])).1, Some(vec![3, 7]));
    }

    #[test]
    fn max_ignores_padding_and_keeps_nan() {
        let op = pool(MAX, Window { pads: Some(vec![1, 1]), ..Window::of(&[3]) });
        let x = Tensor::new::<f32>([1, 1, 3], vec![-3., -2., -1.]).unwrap();
        assert_eq!(run(&op, &x).0, [-2., -1., -1.]);
        let x = Tensor::new::<f32>([1, 1, 3], vec![1., f32::NAN, 2.]).unwrap();
        let op = pool(MAX, Window::of(&[3]));
        let (y, places) = run(&op, &x);
        assert!(y[0].is_nan() && places == Some(vec![1]));
    }

    #[test]
    fn max_of_bytes() {
        let x = Tensor::new::<i8>([1, 1, 3], vec![-128, -5, 3]).unwrap();
        assert_eq!(run(&pool(MAX, Window::of(&[2])), &x).0, [-5., 3.]);
    }

    #[test]
    fn averages_count_or_ignore_padding() {
        let window = Window { pads: Some(vec![1, 1]), strides: Some(vec![2]), ..Window::of(&[3]) };
        let x = Tensor::new::<f32>([1, 1, 3], vec![6., 12., 18.]).unwrap();
        let mut op = pool(Kind::Average { include_pad: false }, window);
        assert_eq!(run(&op, &x).0, [9., 15.]);
        op.kind = Kind::Average { include_pad: true };
        assert_eq!(run(&op, &x).0, [6., 10.]);
    }

    #[test]
    fn ceil_mode_windows_divide_by_what_the_padded_image_holds() {
        let window = Window { strides: Some(vec![2]), ..Window::of(&[3]) };
        let x = Tensor::new::<f32>([1, 1, 4], vec![3., 6., 9., 12.]).unwrap();
        let mut op = pool(Kind::Average { include_pad: true }, window);
        op.ceil = true;
        assert_eq!(run(&op, &x).0, [6., 10.5]);
    }

    #[test]
    fn dilated_and_lp() {
        let window = Window { dilations: Some(vec![2]), ..Window::of(&[2]) };
        let x = Tensor::new::<f32>([1, 1, 4], vec![3., 1., -4., 0.]).unwrap();
        assert_eq!(run(&pool(MAX, window.clone()), &x).0, [3., 1.]);
        assert_eq!(run(&pool(Kind::Lp { p: 2 }, window.clone()), &x).0, [5., 1.]);
        assert_eq!(run(&pool(Kind::Lp { p: 1 }, window), &x).0, [7., 1.]);
    }

    #[test]
    fn global_forms() {
        let op = Pool {
            kind: Kind::Average { include_pad: false },
            window: None,
            ceil: false,
            activation: Activation::None,
        };
        assert_eq!(run(&op, &iota(&[1, 2, 2, 2])).0, [1.5, 5.5]);
        let max = Pool { kind: MAX, ..op };
        assert_eq!(run(&max, &iota(&[1, 2, 4])), (vec![3., 7.], None));
    }
}
