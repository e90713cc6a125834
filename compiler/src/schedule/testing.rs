//! Graphs for tests, made of ONNX operators by name.

use crate::ir::{DType, Shape, Tensor, ValueId};
use crate::onnx::{Attr, AttrReader, NodeView};
use crate::ops::{Fact, Graph, Inputs, importers};

/// A graph under construction.
pub(crate) struct Net {
    pub(crate) graph: Graph,
    names: usize,
}

impl Net {
    pub(crate) fn new() -> Self {
        Net { graph: Graph::new("net"), names: 0 }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    pub(crate) fn input(&mut self, shape: &[usize]) -> ValueId {
        let name = self.name("in");
        self.graph.add_input(name, DType::F32, Shape::from(shape))
    }

    pub(crate) fn shape(&self, v: ValueId) -> Vec<usize> {
        self.graph.value(v).shape.to_vec()
    }

    /// Adds a node; its first result.
    pub(crate) fn op(&mut self, op_type: &str, inputs: &[ValueId], attrs: &[(&str, Attr)]) -> ValueId {
        self.ops(op_type, inputs, attrs, 1)[0]
    }

    /// Adds a node with several results.
    pub(crate) fn ops(
        &mut self,
        op_type: &str,
        inputs: &[ValueId],
        attrs: &[(&str, Attr)],
        results: usize,
    ) -> Vec<ValueId> {
        let list = importers();
        let known = list.iter().filter(|i| i.name.domain.is_empty() && i.name.op_type == op_type);
        let importer = known.filter(|i| i.name.since <= 17).max_by_key(|i| i.name.since).expect(op_type);
        let attrs: Vec<(String, Attr)> = attrs.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
        let mut reader = AttrReader::new(&attrs);
        let (present, wanted) = (vec![true; inputs.len()], vec![true; results]);
        let node = NodeView { op_type, domain: "", opset: 17, inputs: &present, outputs: &wanted };
        let op = importer.op(&mut reader, &node).expect(op_type);
        let values: Vec<_> = inputs.iter().map(|&v| self.graph.value(v).clone()).collect();
        let facts: Vec<Option<Fact<'_>>> = values
            .iter()
            .map(|v| Some(Fact { dtype: v.dtype, shape: &v.shape, constant: v.constant.as_ref() }))
            .collect();
        let types = op.as_op().infer(&Inputs::new(&facts, results)).expect(op_type);
        let outputs =
            types.into_iter().take(results).map(|t| Some((self.name(op_type), t.dtype, t.shape))).collect();
        let inputs = inputs.iter().map(|&v| Some(v)).collect();
        let origin =
            crate::ir::Origin { op_type: op_type.to_owned(), name: op_type.to_owned(), ..Default::default() };
        let id = self.graph.add_node(op, inputs, outputs, vec![origin]);
        self.graph.node(id).expect("added").outputs.iter().flatten().copied().collect()
    }

    pub(crate) fn ints(&mut self, values: &[i64]) -> ValueId {
        let name = self.name("ints");
        self.graph.add_constant(name, Tensor::vector(values))
    }

    /// A convolution with zero pads on all sides; weights count up.
    pub(crate) fn conv(
        &mut self,
        x: ValueId,
        out: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
    ) -> ValueId {
        self.grouped(x, out, kernel, stride, pad, 1)
    }

    pub(crate) fn depthwise(&mut self, x: ValueId, kernel: usize, stride: usize, pad: usize) -> ValueId {
        let channels = self.shape(x)[1];
        self.grouped(x, channels, kernel, stride, pad, channels)
    }

    fn grouped(
        &mut self,
        x: ValueId,
        out: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
        groups: usize,
    ) -> ValueId {
        let shape = self.shape(x);
        let space = shape.len() - 2;
        let mut weights = vec![out, shape[1] / groups];
        weights.extend(vec![kernel; space]);
        let name = self.name("w");
        let w = self.graph.add_constant(name, Tensor::from_fn::<f32>(weights, |i| (i % 7) as f32));
        let ints = |n: usize, count: usize| Attr::Ints(vec![n as i64; count]);
        let attrs = [
            ("strides", ints(stride, space)),
            ("pads", ints(pad, 2 * space)),
            ("group", Attr::Int(groups as i64)),
        ];
        self.op("Conv", &[x, w], &attrs)
    }

    pub(crate) fn relu(&mut self, x: ValueId) -> ValueId {
        self.op("Relu", &[x], &[])
    }

    pub(crate) fn concat(&mut self, parts: &[ValueId], axis: i64) -> ValueId {
        self.op("Concat", parts, &[("axis", Attr::Int(axis))])
    }

    pub(crate) fn transpose(&mut self, x: ValueId, perm: &[i64]) -> ValueId {
        self.op("Transpose", &[x], &[("perm", Attr::Ints(perm.to_vec()))])
    }

    pub(crate) fn reshape(&mut self, x: ValueId, shape: &[i64]) -> ValueId {
        let shape = self.ints(shape);
        self.op("Reshape", &[x, shape], &[])
    }

    pub(crate) fn max_pool(&mut self, x: ValueId, kernel: usize, stride: usize) -> ValueId {
        let space = self.shape(x).len() - 2;
        let ints = |n: usize| Attr::Ints(vec![n as i64; space]);
        self.op("MaxPool", &[x], &[("kernel_shape", ints(kernel)), ("strides", ints(stride))])
    }

    /// Channels dealt out over groups, as ShuffleNet does.
    pub(crate) fn shuffle(&mut self, x: ValueId, groups: usize) -> ValueId {
        let dims: Vec<i64> = self.shape(x).iter().map(|&d| d as i64).collect();
        let [n, c, h, w] = dims[..] else { panic!("an image") };
        let split = self.reshape(x, &[n, groups as i64, c / groups as i64, h, w]);
        let dealt = self.transpose(split, &[0, 2, 1, 3, 4]);
        self.reshape(dealt, &dims)
    }

    pub(crate) fn output(&mut self, v: ValueId) {
        let name = self.name("out");
        self.graph.outputs.push((name, v));
    }
}
