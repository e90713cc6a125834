//! Writes the plan into the model: `QuantizeLinear` and `DequantizeLinear` around quantized nodes, integer
//! constants in place of floats. The result is standard ONNX: every operator stays what it was, between
//! pairs.

use super::Options;
use super::draft::{Draft, int, is_op, node, set_int};
use super::plan::{Member, Plan};
use super::ranges::Ranges;
use super::rules::Role;
use super::scale::{Params, Range};
use super::weights::{self, Layout};
use crate::ir::{Shape, Tensor};
use crate::onnx::proto::NodeProto;
use std::collections::{BTreeMap, BTreeSet};

/// Scales by the value that leads each group.
pub type Scales = BTreeMap<String, Params>;

/// Rewrites the draft. Returns under which name each quantized value can be read, as what its integers stand for.
pub fn insert(
    draft: &mut Draft,
    plan: &Plan,
    scales: &Scales,
    ranges: &Ranges,
    options: &Options,
) -> BTreeMap<String, String> {
    let uses = draft.uses();
    let kept: BTreeSet<String> = plan.values.iter().filter(|v| uses.kept(v)).cloned().collect();
    let mut writer = Writer {
        written: plan.written_by_member().into_iter().map(str::to_owned).collect(),
        plan,
        scales,
        ranges,
        options,
        kept,
        dequantized: BTreeMap::new(),
        raw: BTreeMap::new(),
        grids: BTreeMap::new(),
        constants: BTreeMap::new(),
        row_biases: BTreeMap::new(),
        out: Vec::new(),
    };
    // Names first: a file may have readers in front of writers.
    for value in &plan.values {
        let keep_name = writer.kept.contains(value) && writer.written.contains(value);
        let (dequantized, raw) = if keep_name {
            (value.clone(), draft.fresh(&format!("{value}_raw")))
        } else {
            (draft.fresh(&format!("{value}_dequantized")), value.clone())
        };
        writer.dequantized.insert(value.clone(), dequantized);
        writer.raw.insert(value.clone(), raw);
    }
    let inputs: Vec<String> = draft.inputs().iter().map(|i| i.name.clone()).collect();
    for name in inputs.iter().filter(|n| plan.values.contains(*n)) {
        writer.pair(draft, name);
    }
    let nodes = std::mem::take(&mut draft.nodes);
    for (i, mut n) in nodes.into_iter().enumerate() {
        if let Some(member) = plan.members.get(&i) {
            writer.member(draft, member, &mut n);
        } else if !plan.fused.contains(&i) {
            writer.outsider(&mut n);
        } else {
            writer.fused(i, &mut n);
        }
        let results: Vec<String> = n.output.iter().filter(|o| plan.values.contains(*o)).cloned().collect();
        for output in &mut n.output {
            if let Some(raw) = writer.raw.get(output) {
                raw.clone_into(output);
            }
        }
        writer.out.push(n);
        for name in results {
            writer.pair(draft, &name);
        }
    }
    draft.nodes = writer.out;
    writer.dequantized
}

struct Writer<'a> {
    plan: &'a Plan,
    scales: &'a Scales,
    ranges: &'a Ranges,
    options: &'a Options,
    /// Values that quantized nodes write.
    written: BTreeSet<String>,
    /// Outputs of the graph and what subgraphs read.
    kept: BTreeSet<String>,
    /// By value: the name of what comes out of its pair.
    dequantized: BTreeMap<String, String>,
    /// By value: the name of what goes into its pair.
    raw: BTreeMap<String, String>,
    /// By leading value: names of scale and zero point.
    grids: BTreeMap<String, (String, String)>,
    /// By constant, axis and scales: what comes out of its `DequantizeLinear`.
    constants: BTreeMap<(String, Option<usize>, Vec<u32>), String>,
    /// By the `Add` behind a matrix product: its bias.
    row_biases: BTreeMap<usize, String>,
    out: Vec<NodeProto>,
}

impl Writer<'_> {
    fn params(&self, value: &str) -> Option<Params> {
        self.scales.get(self.plan.root(value)).copied()
    }

    fn grid(&mut self, draft: &mut Draft, value: &str) -> Option<(String, String)> {
        let root = self.plan.root(value).to_owned();
        if let Some(grid) = self.grids.get(&root) {
            return Some(grid.clone());
        }
        let params = self.params(value)?;
        let scale = draft.add_constant(&format!("{root}_scale"), Tensor::scalar(params.scale));
        let zero = draft.add_constant(&format!("{root}_zero_point"), integer(params, params.zero_point));
        self.grids.insert(root, (scale.clone(), zero.clone()));
        Some((scale, zero))
    }

    /// `QuantizeLinear` and `DequantizeLinear` behind a value.
    fn pair(&mut self, draft: &mut Draft, value: &str) {
        let Some((scale, zero)) = self.grid(draft, value) else { return };
        let (Some(raw), Some(back)) = (self.raw.get(value), self.dequantized.get(value)) else { return };
        let narrow = draft.fresh(&format!("{value}_quantized"));
        self.out.push(node("QuantizeLinear", "", &[raw, &scale, &zero], &[&narrow]));
        self.out.push(node("DequantizeLinear", "", &[&narrow, &scale, &zero], &[back]));
    }

    /// A node that stays in float reads what quantized nodes write behind its pair.
    fn outsider(&self, n: &mut NodeProto) {
        for name in &mut n.input {
            if self.written.contains(name)
                && let Some(back) = self.dequantized.get(name)
            {
                back.clone_into(name);
            }
        }
    }

    fn member(&mut self, draft: &mut Draft, member: &Member, n: &mut NodeProto) {
        if let Role::Product { .. } = member.role {
            self.product(draft, member, n);
        }
        for k in member.role.operands(n) {
            let Some(name) = n.input.get(k).cloned() else { continue };
            let back = match self.dequantized.get(&name) {
                Some(back) if self.plan.values.contains(&name) => Some(back.clone()),
                _ if draft.constants.contains_key(&name) => self.activation_constant(draft, &name),
                _ => None,
            };
            if let (Some(slot), Some(back)) = (n.input.get_mut(k), back) {
                *slot = back;
            }
        }
    }

    /// Constant operands of a product: weights, and a bias in steps of the sum.
    fn product(&mut self, draft: &mut Draft, member: &Member, n: &mut NodeProto) {
        let Some(x) = n.input.first().and_then(|x| self.params(x)) else { return };
        let Some(name) = n.input.get(1).cloned() else { return };
        let Some(weights) = draft.constants.get(&name).cloned() else { return };
        let bias = n.input.get(2).filter(|b| !b.is_empty()).and_then(|b| draft.constants.get(b)).cloned();
        let mut bias = bias.and_then(|b| b.to_f64_vec());
        // The bias of a matrix product stands in a sum of its own, but scales must fit it all the same.
        let row = member.bias_add.and_then(|add| {
            let tensor = draft.constants.get(self.plan.rows.get(&add)?)?;
            Some((tensor.shape().clone(), tensor.to_f64_vec()?))
        });
        let spread = bias.as_deref().or(row.as_ref().map(|(_, row)| row.as_slice()));
        let axis = self.axis(member.role, n, weights.shape());
        let Some(q) = weights::quantize(&weights, axis, spread.map(|b| (x.scale, b))) else { return };
        if let (Some(means), Some(layout)) =
            (n.input.first().and_then(|v| self.ranges.means.get(v)), layout(n))
            && let Some(shift) = weights::shift(&q, means, layout)
        {
            let bias = bias.get_or_insert_with(|| vec![0.0; shift.len()]);
            bias.iter_mut().zip(&shift).for_each(|(b, s)| *b += s);
        }
        let back = self.weights(draft, &name, axis, &q);
        if let Some(bias) = bias {
            let wish = n.input.get(2).filter(|b| !b.is_empty()).cloned();
            let wish = wish.unwrap_or_else(|| format!("{name}_bias"));
            let b = self.bias(draft, &wish, &bias, x.scale, &q.scales, None);
            n.input.resize(3, String::new());
            if let (Some(slot), Some(b)) = (n.input.get_mut(2), b) {
                *slot = b;
            }
        }
        if let (Some(add), Some((shape, row))) = (member.bias_add, row)
            && let Some(b) = self.bias(draft, &format!("{name}_bias"), &row, x.scale, &q.scales, Some(shape))
        {
            self.row_biases.insert(add, b);
        }
        if let (Some(slot), Some(back)) = (n.input.get_mut(1), back) {
            *slot = back;
        }
    }

    /// Axis for scales of their own, where the weights have one.
    fn axis(&self, role: Role, n: &NodeProto, shape: &Shape) -> Option<usize> {
        let Role::Product { weight_axis, .. } = role else { return None };
        let grouped = is_op(n, "ConvTranspose") && int(n, "group", 1) != 1;
        let matrix = !is_op(n, "MatMul") || shape.rank() == 2;
        (!self.options.per_tensor && !grouped && matrix && shape.rank() >= 2).then_some(weight_axis)
    }

    fn weights(
        &mut self,
        draft: &mut Draft,
        name: &str,
        axis: Option<usize>,
        q: &weights::Weights,
    ) -> Option<String> {
        let key = (name.to_owned(), axis, q.scales.iter().map(|s| s.to_bits()).collect());
        if let Some(back) = self.constants.get(&key) {
            return Some(back.clone());
        }
        let (scales, zeros) = match axis {
            Some(_) => (Tensor::vector(&q.scales), Tensor::vector(&vec![0i8; q.scales.len()])),
            None => (Tensor::scalar(*q.scales.first()?), Tensor::scalar(0i8)),
        };
        let back = self.dequantize(draft, name, q.integers.clone(), scales, zeros, axis);
        self.constants.insert(key, back.clone());
        Some(back)
    }

    fn bias(
        &mut self,
        draft: &mut Draft,
        wish: &str,
        bias: &[f64],
        x: f32,
        scales: &[f32],
        shape: Option<Shape>,
    ) -> Option<String> {
        let (integers, steps) = weights::quantize_bias(bias, x, scales);
        let shape = shape.unwrap_or_else(|| Shape::from([integers.len()]));
        let axis = shape.rank().checked_sub(1).filter(|_| steps.len() > 1);
        let (scales, zeros) = match axis {
            Some(_) => (Tensor::vector(&steps), Tensor::vector(&vec![0i32; steps.len()])),
            None => (Tensor::scalar(*steps.first()?), Tensor::scalar(0i32)),
        };
        Some(self.dequantize(draft, wish, Tensor::new(shape, integers).ok()?, scales, zeros, axis))
    }

    fn dequantize(
        &mut self,
        draft: &mut Draft,
        name: &str,
        integers: Tensor,
        scales: Tensor,
        zeros: Tensor,
        axis: Option<usize>,
    ) -> String {
        let narrow = draft.add_constant(&format!("{name}_quantized"), integers);
        let scale = draft.add_constant(&format!("{name}_scale"), scales);
        let zero = draft.add_constant(&format!("{name}_zero_point"), zeros);
        let back = draft.fresh(&format!("{name}_dequantized"));
        let mut n = node("DequantizeLinear", "", &[&narrow, &scale, &zero], &[&back]);
        if let Some(axis) = axis {
            set_int(&mut n, "axis", axis as i64);
        }
        self.out.push(n);
        back
    }

    /// A constant among activations has their type, and its own range.
    fn activation_constant(&mut self, draft: &mut Draft, name: &str) -> Option<String> {
        let key = (name.to_owned(), None, Vec::new());
        if let Some(back) = self.constants.get(&key) {
            return Some(back.clone());
        }
        let tensor = draft.constants.get(name)?.clone();
        let values = tensor.to_f64_vec()?;
        let fold = |f: fn(f64, f64) -> f64| values.iter().copied().fold(0.0, f) as f32;
        let params = Params::new(Range::new(fold(f64::min), fold(f64::max)), self.options.activations);
        let integers = integers(params, tensor.shape(), &values)?;
        let zero = integer(params, params.zero_point);
        let back = self.dequantize(draft, name, integers, Tensor::scalar(params.scale), zero, None);
        self.constants.insert(key, back.clone());
        Some(back)
    }

    /// The sum with the bias of a matrix product, or a clamp: only the former has an operand to change.
    fn fused(&self, i: usize, n: &mut NodeProto) {
        let (Some(row), Some(back)) = (self.plan.rows.get(&i), self.row_biases.get(&i)) else { return };
        for name in n.input.iter_mut().filter(|n| *n == row) {
            back.clone_into(name);
        }
    }
}

fn layout(n: &NodeProto) -> Option<Layout> {
    match n.op_type.as_str() {
        "Conv" => Some(Layout::Conv { groups: usize::try_from(int(n, "group", 1)).ok()? }),
        "Gemm" => Some(Layout::Matrix { transposed: int(n, "transB", 0) != 0 }),
        _ => None,
    }
}

fn integer(params: Params, v: i32) -> Tensor {
    if params.signed { Tensor::scalar(v as i8) } else { Tensor::scalar(v as u8) }
}

fn integers(params: Params, shape: &Shape, values: &[f64]) -> Option<Tensor> {
    let q = values.iter().map(|&v| params.quantize(v));
    if params.signed {
        Tensor::new(shape.clone(), q.map(|q| q as i8).collect::<Vec<i8>>()).ok()
    } else {
        Tensor::new(shape.clone(), q.map(|q| q as u8).collect::<Vec<u8>>()).ok()
    }
}
