//! Raises a model's operator set: per-axis quantization needs version 13, blocks need 21.
//!
//! Only what changed in spelling is rewritten: attributes that became operands, operators that were
//! replaced. Results stay the same. Refused: versions below 7, and the few forms whose meaning has no
//! short equivalent; the message names them.

use super::draft::{self, Draft, int, is_op, is_own, label, node, set_int, set_text, take, text};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::Tensor;
use crate::onnx::proto::NodeProto;

/// The lowest version that is read.
const LOWEST: i64 = 7;

/// Raises the draft to version `to` unless it is there already.
pub fn raise(draft: &mut Draft, to: i64) -> Result<(), Diagnostics> {
    let from = draft.opset();
    if from >= to {
        return Ok(());
    }
    if from < LOWEST {
        return Err(refuse(format!("operator set version {from} cannot be raised to {to}")).into());
    }
    if draft.has_functions() {
        return Err(
            refuse(format!("a model with functions of its own cannot be raised to version {to}")).into()
        );
    }
    let nodes = std::mem::take(&mut draft.nodes);
    draft.nodes = raise_nodes(draft, nodes, from, to)?;
    draft.set_opset(to);
    Ok(())
}

fn refuse(what: String) -> Diagnostic {
    Diagnostic::error(Code::Opset, what).with_help(
        "convert the model with `onnx.version_converter`, or export it again with a newer operator set",
    )
}

fn raise_nodes(
    draft: &mut Draft,
    nodes: Vec<NodeProto>,
    from: i64,
    to: i64,
) -> Result<Vec<NodeProto>, Diagnostics> {
    let mut out = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        for attribute in &mut node.attribute {
            // Operands that a subgraph needs are constants of the main graph, which it can see.
            for graph in attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs) {
                let inner = std::mem::take(&mut graph.node);
                graph.node = raise_nodes(draft, inner, from, to)?;
            }
        }
        if is_own(&node) {
            raise_node(draft, node, from, to, &mut out)?;
        } else {
            out.push(node);
        }
    }
    Ok(out)
}

/// Whether a change that version `at` brought lies on the way.
fn crosses(from: i64, to: i64, at: i64) -> bool {
    from < at && to >= at
}

fn raise_node(
    draft: &mut Draft,
    mut n: NodeProto,
    from: i64,
    to: i64,
    out: &mut Vec<NodeProto>,
) -> Result<(), Diagnostics> {
    let at = |version: i64| crosses(from, to, version);
    match n.op_type.as_str() {
        "BatchNormalization" if at(9) => {
            if int(&n, "spatial", 1) != 1 {
                return Err(at_node("`spatial` = 0 cannot be raised", &n));
            }
            take(&mut n, "spatial");
        }
        "Scan" if at(9) => return Err(at_node("a batched Scan cannot be raised", &n)),
        "Upsample" if at(10) => upsample(draft, &mut n)?,
        "Resize" if at(11) && from >= 10 => {
            n.input.insert(1, String::new());
            set_text(&mut n, "coordinate_transformation_mode", "asymmetric");
            set_text(&mut n, "nearest_mode", "floor");
        }
        "Slice" if at(10) => {
            let [starts, ends, axes] = ["starts", "ends", "axes"].map(|a| ints(&mut n, a));
            push_ints(draft, &mut n, 1, starts.as_deref());
            push_ints(draft, &mut n, 2, ends.as_deref());
            push_ints(draft, &mut n, 3, axes.as_deref());
        }
        "TopK" if at(10) => {
            let k = take(&mut n, "k").and_then(|a| a.i).unwrap_or(0);
            push_ints(draft, &mut n, 1, Some(&[k]));
        }
        "Dropout" if at(12) => drop(take(&mut n, "ratio")),
        "Clip" if at(11) => {
            for (position, name) in [(1, "min"), (2, "max")] {
                if let Some(v) = take(&mut n, name).and_then(|a| a.f) {
                    push(draft, &mut n, position, Tensor::scalar(v));
                }
            }
        }
        "Pad" if at(11) => {
            let pads = ints(&mut n, "pads");
            push_ints(draft, &mut n, 1, pads.as_deref());
            match take(&mut n, "value").and_then(|a| a.f) {
                Some(v) if v != 0.0 => push(draft, &mut n, 2, Tensor::scalar(v)),
                _ => {}
            }
        }
        "Scatter" if at(11) => "ScatterElements".clone_into(&mut n.op_type),
        "Squeeze" | "Unsqueeze" | "ReduceSum" if at(13) => {
            let axes = ints(&mut n, "axes");
            push_ints(draft, &mut n, 1, axes.as_deref());
        }
        "Split" => {
            if at(13) {
                let split = ints(&mut n, "split");
                push_ints(draft, &mut n, 1, split.as_deref());
            }
            if at(18) && n.input.get(1).is_none_or(String::is_empty) {
                let count = n.output.len() as i64;
                set_int(&mut n, "num_outputs", count);
            }
        }
        "Softmax" | "LogSoftmax" | "Hardmax" if at(13) => return softmax(draft, n, out),
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean"
        | "ReduceMin" | "ReduceProd" | "ReduceSumSquare"
            if at(18) =>
        {
            let axes = ints(&mut n, "axes");
            push_ints(draft, &mut n, 1, axes.as_deref());
        }
        "GridSample" if at(20) => match text(&n, "mode") {
            Some("bilinear") => set_text(&mut n, "mode", "linear"),
            Some("bicubic") => set_text(&mut n, "mode", "cubic"),
            _ => {}
        },
        "RoiAlign" if at(16) && text(&n, "coordinate_transformation_mode").is_none() => {
            set_text(&mut n, "coordinate_transformation_mode", "output_half_pixel");
        }
        "GroupNormalization" if at(21) => return Err(at_node("its weights are per group", &n)),
        "DFT" if at(20) => return Err(at_node("`axis` cannot be raised", &n)),
        _ => {}
    }
    out.push(n);
    Ok(())
}

fn at_node(what: &str, n: &NodeProto) -> Diagnostics {
    refuse(format!("node `{}` ({}): {what}", label(n), n.op_type)).into()
}

fn ints(n: &mut NodeProto, name: &str) -> Option<Vec<i64>> {
    take(n, name).map(|a| a.ints)
}

/// Sets operand `position` to a constant, with absent operands in front of it.
fn push(draft: &mut Draft, n: &mut NodeProto, position: usize, tensor: Tensor) {
    let name = draft.add_constant(&format!("{}_operand{position}", label(n)), tensor);
    if n.input.len() <= position {
        n.input.resize(position + 1, String::new());
    }
    if let Some(slot) = n.input.get_mut(position) {
        *slot = name;
    }
}

fn push_ints(draft: &mut Draft, n: &mut NodeProto, position: usize, values: Option<&[i64]>) {
    if let Some(values) = values {
        push(draft, n, position, Tensor::vector(values));
    }
}

/// `Upsample` is what `Resize` does with asymmetric coordinates, rounded down.
fn upsample(draft: &mut Draft, n: &mut NodeProto) -> Result<(), Diagnostics> {
    let scales = take(n, "scales").map(|a| a.floats);
    match (scales, n.input.get(1).cloned()) {
        (Some(scales), _) => push(draft, n, 2, Tensor::vector(&scales)),
        (None, Some(name)) => {
            n.input.truncate(1);
            n.input.extend([String::new(), name]);
        }
        (None, None) => return Err(at_node("it has no scales", n)),
    }
    "Resize".clone_into(&mut n.op_type);
    set_text(n, "coordinate_transformation_mode", "asymmetric");
    set_text(n, "nearest_mode", "floor");
    Ok(())
}

/// Before version 13 a softmax ran over all axes from `axis` on, as one: flattened, run, and shaped back.
fn softmax(draft: &mut Draft, mut n: NodeProto, out: &mut Vec<NodeProto>) -> Result<(), Diagnostics> {
    let axis = int(&n, "axis", 1);
    let (Some(x), Some(y)) = (n.input.first().cloned(), n.output.first().cloned()) else {
        return Err(at_node("it has no operand", &n));
    };
    set_int(&mut n, "axis", -1);
    if axis == -1 {
        out.push(n);
        return Ok(());
    }
    // Zeros keep the axes in front.
    let Ok(kept) = usize::try_from(axis) else {
        return Err(at_node("a negative `axis` over several axes cannot be raised", &n));
    };
    let name = label(&n).to_owned();
    let target: Vec<i64> = std::iter::repeat_n(0, kept).chain([-1]).collect();
    let target = draft.add_constant(&format!("{name}_rows"), Tensor::vector(&target));
    let [shape, flat, result] = ["shape", "flat", "result"].map(|s| draft.fresh(&format!("{name}_{s}")));
    out.push(node("Shape", "", &[&x], &[&shape]));
    out.push(node("Reshape", "", &[&x, &target], &[&flat]));
    if let (Some(i), Some(o)) = (n.input.first_mut(), n.output.first_mut()) {
        (*i, *o) = (flat, result.clone());
    }
    out.push(n);
    out.push(node("Reshape", "", &[&result, &shape], &[&y]));
    Ok(())
}

/// Softmax over the last axis needs no reshaping; known ranks tell before the set is raised.
pub fn settle_softmax(draft: &mut Draft, rank_of: &dyn Fn(&str) -> Option<Vec<usize>>) {
    if draft.opset() >= 13 {
        return;
    }
    for n in &mut draft.nodes {
        if !["Softmax", "LogSoftmax", "Hardmax"].iter().any(|op| is_op(n, op)) {
            continue;
        }
        let Some(shape) = n.input.first().and_then(|x| rank_of(x)) else { continue };
        let axis = draft::int(n, "axis", 1);
        let from = if axis < 0 { axis + shape.len() as i64 } else { axis };
        let Ok(from) = usize::try_from(from) else { continue };
        if from + 1 == shape.len() {
            set_int(n, "axis", -1);
        } else if axis < 0 {
            set_int(n, "axis", from as i64);
        }
    }
}
