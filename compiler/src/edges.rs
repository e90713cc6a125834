//! A quantized model's edges: whether the caller hands over and gets its integers or real numbers, and which numbers
//! the integers stand for.
//!
//! With [`Io::Native`] the QuantizeLinear behind an input and the DequantizeLinear in front of an output go away, also where
//! data is moved between them and the edge (Reshape, Transpose and the like). Done before all passes, so that the element
//! type is the one that the model names.

use crate::emit::Carried;
use crate::ir::{DType, NodeId, QuantParams, Tensor, ValueId};
use crate::ops::{Graph, Node, OpKind};
use std::collections::BTreeSet;

/// Element types of quantized inputs and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// The model's integers, where an edge is a Q/DQ node
    Native,
    /// Real numbers, as the model says
    #[default]
    Float,
}

impl std::str::FromStr for Io {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "native" => Ok(Io::Native),
            "float" => Ok(Io::Float),
            other => Err(format!("`{other}`: expected `native` or `float`")),
        }
    }
}

/// What the integers at a model's edges stand for, by position; `None` where no node says it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edges {
    /// Of the inputs.
    pub inputs: Vec<Option<QuantParams>>,
    /// Of the outputs.
    pub outputs: Vec<Option<QuantParams>>,
}

/// Settles the edges: with [`Io::Native`] they become integers, but for what is carried from run to run, whose two
/// ends may have scales of their own.
pub fn settle(graph: &mut Graph, io: Io, carried: &[Carried]) -> Edges {
    let mut edges = Edges::default();
    for i in 0..graph.inputs.len() {
        let native = io == Io::Native && carried.iter().all(|c| c.input != i);
        let Some(&v) = graph.inputs.get(i) else { continue };
        let made = if native { native_input(graph, v) } else { None };
        edges.inputs.push(made.or_else(|| stands_for(graph, v)));
    }
    for i in 0..graph.outputs.len() {
        let native = io == Io::Native && carried.iter().all(|c| c.output != i);
        let made = if native { native_output(graph, i) } else { None };
        let Some(&(_, v)) = graph.outputs.get(i) else { continue };
        edges.outputs.push(made.or_else(|| stands_for(graph, v)));
    }
    if io == Io::Native {
        graph.remove_dead();
    }
    edges
}

/// What integers stand for, by the nodes about them, behind or in front of mere movement: the QuantizeLinear that makes
/// them, or the DequantizeLinears that read them, if they agree.
fn stands_for(graph: &Graph, v: ValueId) -> Option<QuantParams> {
    QuantParams::bounds(graph.value(v).dtype)?;
    // A move may change what an axis is.
    let whole = |p: &QuantParams, moved: bool| p.axis.is_none() || !moved;
    let mut made = v;
    while let Some((_, node)) = graph.producer(made) {
        if matches!(node.op, OpKind::Quantize(_)) {
            return params(graph, node).filter(|p| whole(p, made != v));
        }
        moves(graph, node).then_some(())?;
        made = node.inputs.first().copied().flatten()?;
    }
    let users = graph.users();
    let (mut region, mut at) = (vec![made], 0);
    let mut found: Option<QuantParams> = None;
    while let Some(&value) = region.get(at) {
        at += 1;
        for node in users.get(value.0 as usize)?.iter().filter_map(|&id| graph.node(id)) {
            if node.inputs.first() != Some(&Some(value)) {
                continue;
            }
            if moves(graph, node) {
                region.extend(node.outputs.iter().flatten());
            } else if matches!(node.op, OpKind::Dequantize(_)) {
                let own = params(graph, node).filter(|p| whole(p, value != v))?;
                match &found {
                    Some(other) if *other != own => return None,
                    _ => found = Some(own),
                }
            }
        }
    }
    found
}

/// Scales and zero points of a QuantizeLinear or DequantizeLinear in `f32` whose integers have 8 or 16 bits.
fn params(graph: &Graph, node: &Node) -> Option<QuantParams> {
    let operand = |i: usize| node.inputs.get(i).copied().flatten();
    let (real, integers, axis, block) = match &node.op {
        OpKind::Quantize(op) => {
            let single = op.precision.is_none_or(|p| p == DType::F32);
            single.then_some(())?;
            (operand(0)?, node.outputs.first().copied().flatten()?, op.axis, op.block)
        }
        OpKind::Dequantize(op) => (node.outputs.first().copied().flatten()?, operand(0)?, op.axis, op.block),
        _ => return None,
    };
    (graph.value(real).dtype == DType::F32).then_some(())?;
    QuantParams::bounds(graph.value(integers).dtype)?;
    let scale = graph.constant(operand(1)?)?;
    let scales = scale.as_slice::<f32>()?.to_vec();
    scales.iter().all(|s| *s > 0.0 && s.is_finite()).then_some(())?;
    let zeros: Vec<i32> = match operand(2) {
        None => vec![0; scales.len()],
        Some(v) => {
            let known = graph.constant(v).and_then(Tensor::to_i64_vec)?;
            known.iter().map(|&z| i32::try_from(z).ok()).collect::<Option<_>>()?
        }
    };
    let shape = graph.value(real).shape.dims();
    let axis = match scales.len() {
        1 => None,
        n => {
            let axis = if axis < 0 { axis.checked_add(shape.len() as i64)? } else { axis };
            let axis = usize::try_from(axis).ok()?;
            (block == 0 && scale.shape().dims().len() == 1 && shape.get(axis) == Some(&n)).then_some(())?;
            Some(axis)
        }
    };
    (zeros.len() == scales.len()).then_some(QuantParams { axis, scales, zeros })
}

/// Whether a node only moves the elements of operand 0, whatever their type, and everything else it reads is known.
fn moves(graph: &Graph, node: &Node) -> bool {
    let plain = matches!(
        &node.op,
        OpKind::Reshape(_)
            | OpKind::Transpose(_)
            | OpKind::Identity(_)
            | OpKind::Slice(_)
            | OpKind::Gather(_)
            | OpKind::Expand(_)
            | OpKind::Tile(_)
            | OpKind::BlockMove(_)
    );
    plain && node.inputs.iter().skip(1).flatten().all(|&v| graph.constant(v).is_some())
}

/// Turns an input of real numbers into integers where one quantization, moved or not, is all that reads it.
fn native_input(graph: &mut Graph, v: ValueId) -> Option<QuantParams> {
    (graph.value(v).dtype == DType::F32).then_some(())?;
    let users = graph.users();
    let (mut region, mut at) = (vec![v], 0);
    let mut quantizers: Vec<(NodeId, ValueId, ValueId)> = Vec::new();
    let mut found: Option<(QuantParams, DType)> = None;
    while let Some(&value) = region.get(at) {
        at += 1;
        if graph.is_output(value) {
            return None;
        }
        for &id in users.get(value.0 as usize)? {
            let node = graph.node(id)?;
            let once = node.inputs.first() == Some(&Some(value))
                && node.inputs.iter().flatten().filter(|&&i| i == value).count() == 1;
            let [Some(result)] = node.outputs.as_slice() else { return None };
            if !once {
                return None;
            }
            if moves(graph, node) {
                region.push(*result);
                continue;
            }
            let own = match node.op {
                OpKind::Quantize(_) => (params(graph, node)?, graph.value(*result).dtype),
                _ => return None,
            };
            if own.0.axis.is_some() || graph.is_output(*result) || found.as_ref().is_some_and(|f| *f != own) {
                return None;
            }
            found = Some(own);
            quantizers.push((id, value, *result));
        }
    }
    let (params, dtype) = found?;
    for value in region {
        graph.value_mut(value).dtype = dtype;
    }
    for (id, from, to) in quantizers {
        for reader in users.get(to.0 as usize).into_iter().flatten() {
            if let Some(node) = graph.node_mut(*reader) {
                node.inputs.iter_mut().flatten().filter(|i| **i == to).for_each(|i| *i = from);
            }
        }
        graph.remove_node(id);
    }
    graph.compact_order();
    Some(params)
}

/// Turns an output of real numbers into the integers that it is made of.
fn native_output(graph: &mut Graph, index: usize) -> Option<QuantParams> {
    let y = graph.outputs.get(index)?.1;
    (graph.value(y).dtype == DType::F32 && graph.constant(y).is_none()).then_some(())?;
    let users = graph.users();
    // From the output backwards to the DequantizeLinear.
    let mut moved: Vec<NodeId> = Vec::new();
    let mut values: BTreeSet<ValueId> = BTreeSet::new();
    let mut v = y;
    let (params, integers) = loop {
        let (id, node) = graph.producer(v)?;
        let x = node.inputs.first().copied().flatten()?;
        if matches!(node.op, OpKind::Dequantize(_)) {
            break (params(graph, node)?, x);
        }
        let read = users.get(v.0 as usize).map_or(0, Vec::len);
        let times = graph.outputs.iter().filter(|(_, o)| *o == v).count();
        // Between the integers and the edge nobody else looks.
        let alone = if v == y { read == 0 && times == 1 } else { read == 1 && times == 0 };
        (moves(graph, node) && node.outputs.len() == 1 && alone).then_some(())?;
        moved.push(id);
        values.insert(v);
        v = x;
    };
    let dtype = graph.value(integers).dtype;
    // What the caller gives, or what is known, would be an output as it is.
    let computed = graph.value(integers).producer.is_some() && graph.constant(integers).is_none();
    (computed && (params.axis.is_none() || moved.is_empty())).then_some(())?;
    match moved.last() {
        None => graph.outputs.get_mut(index)?.1 = integers,
        Some(&first) => {
            *graph.node_mut(first)?.inputs.first_mut()? = Some(integers);
            for value in values {
                graph.value_mut(value).dtype = dtype;
            }
        }
    }
    Some(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ModelConfig};
    use crate::onnx::text::parse_model;
    use crate::pipeline::{Compiled, compile};
    use prost::Message;

    fn compiled(body: &str, io: Io) -> Compiled {
        let text = format!(
            "<ir_version: 10, opset_import: [\"\" : 21]> g (float[1, 4] x, float[1, 4] h) => (float[1, 4] y, float[1, 4] hn)
             <float s = {{0.5}}, float t = {{0.25}}, uint8 z = {{3}}> {{ {body} hn = Add(h, h) }}"
        );
        let bytes = parse_model(&text).expect("it parses").encode_to_vec();
        compile(&ModelConfig::bytes("m.onnx", bytes).io(io), &Config::new()).expect("it compiles")
    }

    fn types(c: &Compiled) -> [DType; 2] {
        [&c.schedule.inputs, &c.schedule.outputs].map(|ports| ports.first().expect("a port").dtype)
    }

    const PLAIN: &str = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = Neg(d)
        rq = QuantizeLinear(r, t, z) y = DequantizeLinear(rq, t, z)";

    #[test]
    fn native_edges_are_the_integers() {
        let c = compiled(PLAIN, Io::Native);
        assert_eq!(types(&c), [DType::U8, DType::U8]);
        let params = |scale: f32| Some(QuantParams { axis: None, scales: vec![scale], zeros: vec![3] });
        assert_eq!(c.meta.inputs, [params(0.5), None]);
        assert_eq!(c.meta.outputs, [params(0.25), None]);
        assert!(!c.graph.nodes().any(|(_, n)| matches!(n.op, OpKind::Quantize(_) | OpKind::Dequantize(_))));
        let float = compiled(PLAIN, Io::Float);
        assert_eq!(types(&float), [DType::F32, DType::F32]);
        assert_eq!((float.meta.inputs, float.meta.outputs), (vec![None, None], vec![None, None]));
    }

    #[test]
    fn an_input_that_is_read_as_it_is_stays() {
        let body = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = Add(d, x)
            rq = QuantizeLinear(r, t, z) y = DequantizeLinear(rq, t, z)";
        assert_eq!(types(&compiled(body, Io::Native)), [DType::F32, DType::U8]);
        let body = "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)";
        // The quantized input itself would be the output: nothing would be computed.
        assert_eq!(types(&compiled(body, Io::Native)), [DType::U8, DType::F32]);
    }

    #[test]
    fn integers_of_the_model_are_known_behind_moves() {
        let text = "<ir_version: 10, opset_import: [\"\" : 21]> g (int8[2, 3] x, int8[2] z) => (uint8[6] y)
            <float s = {0.5}, int8 o = {3}, uint8 p = {4}, int64[1] all = {-1}>
            { t = Transpose(x) d = DequantizeLinear(t, s, o) r = Sqrt(d) q = QuantizeLinear(r, s, p) y = Reshape(q, all) }";
        let bytes = parse_model(text).expect("it parses").encode_to_vec();
        let c = compile(&ModelConfig::bytes("m.onnx", bytes), &Config::new()).expect("it compiles");
        let params = |zero: i32| Some(QuantParams { axis: None, scales: vec![0.5], zeros: vec![zero] });
        assert_eq!((c.meta.inputs, c.meta.outputs), (vec![params(3), None], vec![params(4)]));
    }
}
