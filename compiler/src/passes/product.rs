//! Convolutions and matrix products seen alike, and affine steps absorbed into their weights.

use super::matching::{float_tensor, input, output};
use crate::ir::{DType, NodeId, Shape, Tensor, ValueId};
use crate::ops::fused::{Activation, Fused, Residual};
use crate::ops::{Graph, OpKind};

/// Positions of the operands, the same for every product.
pub const WEIGHTS: usize = 1;
/// One value per output channel.
pub const BIAS: usize = 2;
/// Addend of the epilogue.
pub const RESIDUAL: usize = 3;
/// PRelu's slopes.
pub const SLOPES: usize = 4;

/// A node that multiplies with weights and has an epilogue: Conv or MatMul.
#[derive(Debug, Clone)]
pub struct Product {
    /// The node.
    pub node: NodeId,
    /// Its operator.
    pub op: OpKind,
    /// Its epilogue.
    pub fused: Fused,
    /// Its operands.
    pub inputs: Vec<Option<ValueId>>,
    /// Its result.
    pub y: ValueId,
    /// Type of the result's elements.
    pub dtype: DType,
    /// Extents of the result.
    pub shape: Shape,
    /// Axis of the result that weights make; `None` for a product with a vector, which has none.
    pub axis: Option<usize>,
    /// Its extent.
    pub channels: usize,
}

impl Product {
    /// A node as a product, if it is one.
    pub fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = graph.node(id)?;
        let fused = match &node.op {
            OpKind::Conv(conv) => conv.fused,
            OpKind::MatMul(product) => product.fused,
            _ => return None,
        };
        let y = output(node)?;
        let value = graph.value(y);
        let weights = &graph.value(input(node, WEIGHTS)?).shape;
        let axis = match &node.op {
            OpKind::Conv(_) => Some(1),
            _ if weights.rank() < 2 => None,
            _ => Some(value.shape.rank().checked_sub(1)?),
        };
        let channels = match axis {
            Some(axis) => *value.shape.get(axis)?,
            None => 1,
        };
        Some(Product {
            node: id,
            op: node.op.clone(),
            fused,
            inputs: node.inputs.clone(),
            y,
            dtype: value.dtype,
            shape: value.shape.clone(),
            axis,
            channels,
        })
    }

    /// The product that computes a value.
    pub fn producing(graph: &Graph, v: ValueId) -> Option<Self> {
        Self::of(graph, graph.producer(v)?.0)
    }

    /// Operand `i`.
    pub fn input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// Its operator with another epilogue.
    pub fn with(&self, fused: Fused) -> OpKind {
        let mut op = self.op.clone();
        match &mut op {
            OpKind::Conv(conv) => conv.fused = fused,
            OpKind::MatMul(product) => product.fused = fused,
            _ => {}
        }
        op
    }

    /// Its operands with another one at `i`.
    pub fn inputs_with(&self, i: usize, v: ValueId) -> Vec<Option<ValueId>> {
        let mut inputs = self.inputs.clone();
        put(&mut inputs, i, v);
        inputs
    }

    /// Whether nothing follows the bias yet: neither residual nor activation.
    pub fn is_affine(&self) -> bool {
        self.fused.residual == Residual::None && self.fused.activation == Activation::None
    }

    /// Its bias in `f64`, zeros where there is none; `None` where it is not known.
    fn bias(&self, graph: &Graph) -> Option<Vec<f64>> {
        match self.input(BIAS) {
            None => Some(vec![0.0; self.channels]),
            Some(v) => graph.constant(v)?.to_f64_vec(),
        }
    }

    /// Operands of the same product followed by `y·factor + offset`, for a product with nothing behind
    /// its bias; or why not.
    pub fn absorb_after(&self, graph: &mut Graph, step: &Affine) -> Result<Vec<Option<ValueId>>, String> {
        self.check(graph, step)?;
        let mut inputs = self.inputs.clone();
        let known = self.bias(graph);
        if let Some(factor) = &step.factor {
            let v = self.input(WEIGHTS).ok_or("there are no weights")?;
            let tensor = graph.constant(v).ok_or("the weights are not known")?;
            let scaled = self.scaled(tensor, factor, Side::Output).ok_or("the weights have another shape")?;
            let name = graph.value(v).name.clone();
            put(&mut inputs, WEIGHTS, graph.add_constant(name, scaled));
        }
        if step.offset.is_none() && self.input(BIAS).is_none() {
            return Ok(inputs);
        }
        let bias = known.ok_or("the bias is not known")?;
        let one = |list: &Option<Vec<f64>>, c: usize, default: f64| {
            list.as_ref().map_or(default, |l| l.get(c).copied().unwrap_or(default))
        };
        let bias: Vec<f64> = bias
            .iter()
            .enumerate()
            .map(|(c, b)| b * one(&step.factor, c, 1.0) + one(&step.offset, c, 0.0))
            .collect();
        let new = self.new_bias(graph, &bias)?;
        put(&mut inputs, BIAS, new);
        Ok(inputs)
    }

    /// Operands of the same product over the operand of `x·factor + offset`, where `x` is this product's
    /// first operand and `given` what the step reads; or why not.
    pub fn absorb_before(
        &self,
        graph: &mut Graph,
        step: &Affine,
        given: ValueId,
    ) -> Result<Vec<Option<ValueId>>, String> {
        self.check(graph, step)?;
        let v = self.input(WEIGHTS).ok_or("there are no weights")?;
        let tensor = graph.constant(v).ok_or("the weights are not known")?.clone();
        let mut inputs = self.inputs.clone();
        put(&mut inputs, 0, given);
        if let Some(offset) = step.offset.as_ref().filter(|o| o.iter().any(|&v| v != 0.0)) {
            if self.pads(graph) {
                return Err("the convolution pads with zeros, which would be shifted".to_owned());
            }
            let sums = self.contracted(&tensor, offset).ok_or("the weights have another shape")?;
            let bias = self.bias(graph).ok_or("the bias is not known")?;
            let scale = f64::from(self.fused.scale.unwrap_or(1.0));
            let bias: Vec<f64> = bias.iter().zip(sums).map(|(b, s)| b + s * scale).collect();
            let new = self.new_bias(graph, &bias)?;
            put(&mut inputs, BIAS, new);
        }
        if let Some(factor) = &step.factor {
            let scaled = self.scaled(&tensor, factor, Side::Input).ok_or("the weights have another shape")?;
            let name = graph.value(v).name.clone();
            put(&mut inputs, WEIGHTS, graph.add_constant(name, scaled));
        }
        Ok(inputs)
    }

    fn new_bias(&self, graph: &mut Graph, bias: &[f64]) -> Result<ValueId, String> {
        let tensor = float_tensor(self.dtype, [self.channels], bias).ok_or("the bias is not a float")?;
        let name = match self.input(BIAS) {
            Some(v) => graph.value(v).name.clone(),
            None => format!("{}.bias", graph.value(self.y).name),
        };
        Ok(graph.add_constant(name, tensor))
    }

    /// What must hold for any step to be absorbed.
    fn check(&self, graph: &Graph, step: &Affine) -> Result<(), String> {
        if !matches!(self.dtype, DType::F32 | DType::F64) {
            return Err(format!("weights of type {} would lose precision", self.dtype));
        }
        let finite = |l: &Option<Vec<f64>>| l.iter().flatten().all(|v| v.is_finite());
        if !finite(&step.factor) || !finite(&step.offset) {
            return Err("a factor or offset is not finite".to_owned());
        }
        if self.input(WEIGHTS).is_none_or(|v| graph.value(v).shape.contains(&0)) {
            return Err("there are no weights".to_owned());
        }
        Ok(())
    }

    /// Whether a convolution reads any padding.
    fn pads(&self, graph: &Graph) -> bool {
        let OpKind::Conv(conv) = &self.op else { return false };
        let shapes = self.input(0).zip(self.input(WEIGHTS));
        let taps = shapes.and_then(|(x, w)| {
            let space = graph.value(x).shape.get(2..)?;
            conv.window.resolve(space, graph.value(w).shape.get(2..), false).ok()
        });
        taps.is_none_or(|t| t.padded())
    }

    /// Per weight, the output and input channel it belongs to: `f(weight, output, input)`.
    fn each_weight(&self, weights: &Tensor, mut f: impl FnMut(f64, usize, usize)) -> Option<()> {
        let values = weights.to_f64_vec()?;
        match (&self.op, weights.shape().dims()) {
            (OpKind::Conv(conv), [outputs, group_in, kernel @ ..]) => {
                let taps: usize = kernel.iter().product();
                let per_group = outputs / conv.groups.max(1);
                for (i, &w) in values.iter().enumerate() {
                    let (row, o) = (i / taps.max(1), i / (taps * group_in).max(1));
                    f(w, o, o / per_group.max(1) * group_in + row % group_in);
                }
            }
            (OpKind::MatMul(_), [.., k, n]) => {
                for (i, &w) in values.iter().enumerate() {
                    f(w, i % n, i / n % k);
                }
            }
            (OpKind::MatMul(_), [_]) => {
                for (i, &w) in values.iter().enumerate() {
                    f(w, 0, i);
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Weights times one factor per channel of one side.
    fn scaled(&self, weights: &Tensor, factor: &[f64], side: Side) -> Option<Tensor> {
        let mut out = Vec::with_capacity(weights.len());
        let mut fits = true;
        self.each_weight(weights, |w, o, i| {
            let c = if side == Side::Output { o } else { i };
            fits &= c < factor.len();
            out.push(w * factor.get(c).copied().unwrap_or(1.0));
        })?;
        if fits { float_tensor(weights.dtype(), weights.shape().clone(), &out) } else { None }
    }

    /// Per output channel, the weights times one value per input channel, summed.
    fn contracted(&self, weights: &Tensor, values: &[f64]) -> Option<Vec<f64>> {
        // Batches of weights would need a bias each.
        if matches!(self.op, OpKind::MatMul(_)) && weights.shape().rank() > 2 {
            return None;
        }
        let mut sums = vec![0.0; self.channels];
        let mut fits = true;
        self.each_weight(weights, |w, o, i| match (sums.get_mut(o), values.get(i)) {
            (Some(sum), Some(v)) => *sum += w * v,
            _ => fits = false,
        })?;
        fits.then_some(sums)
    }

    /// Axis of the first operand that is summed over, for steps before the product.
    pub fn input_axis(&self, graph: &Graph) -> Option<usize> {
        match &self.op {
            OpKind::Conv(_) => Some(1),
            _ => graph.value(self.input(0)?).shape.rank().checked_sub(1),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Input,
    Output,
}

/// `x·factor + offset`, one of each per channel; 1 and 0 where absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Affine {
    /// Factors.
    pub factor: Option<Vec<f64>>,
    /// Offsets.
    pub offset: Option<Vec<f64>>,
}

fn put(inputs: &mut Vec<Option<ValueId>>, i: usize, v: ValueId) {
    if inputs.len() <= i {
        inputs.resize(i + 1, None);
    }
    if let Some(slot) = inputs.get_mut(i) {
        *slot = Some(v);
    }
}
