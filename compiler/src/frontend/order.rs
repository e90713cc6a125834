//! Execution order of a graph's nodes.

use crate::onnx::proto::{GraphProto, NodeProto};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Indices of `nodes` so that each stands behind those whose results it reads (subgraphs included);
/// file order wherever that allows. The error lists nodes that wait for each other.
pub(super) fn execution_order(nodes: &[NodeProto]) -> Result<Vec<usize>, Vec<usize>> {
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            producers.entry(output).or_insert(i);
        }
    }
    let mut sorted = true;
    let mut waits_for: Vec<HashSet<usize>> = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let mut before = HashSet::new();
        names_read(node, &mut |name| {
            if let Some(&p) = producers.get(name) {
                before.insert(p);
                sorted &= p < i;
            }
        });
        waits_for.push(before);
    }
    if sorted {
        return Ok((0..nodes.len()).collect());
    }

    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, before) in waits_for.iter().enumerate() {
        for &p in before {
            if let Some(list) = readers.get_mut(p) {
                list.push(i);
            }
        }
    }
    let mut missing: Vec<usize> = waits_for.iter().map(HashSet::len).collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        missing.iter().enumerate().filter(|(_, m)| **m == 0).map(|(i, _)| Reverse(i)).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &reader in readers.get(i).into_iter().flatten() {
            if let Some(m) = missing.get_mut(reader) {
                *m -= 1;
                if *m == 0 {
                    ready.push(Reverse(reader));
                }
            }
        }
    }
    if order.len() == nodes.len() {
        return Ok(order);
    }
    Err(missing.iter().enumerate().filter(|(_, m)| **m > 0).map(|(i, _)| i).collect())
}

/// Calls `f` with every name that `node` reads from the graph it stands in.
fn names_read<'a>(node: &'a NodeProto, f: &mut dyn FnMut(&'a str)) {
    for name in node.input.iter().filter(|n| !n.is_empty()) {
        f(name);
    }
    for attribute in &node.attribute {
        for graph in attribute.g.iter().map(|g| &**g).chain(&attribute.graphs) {
            captured(graph, f);
        }
    }
}

/// Calls `f` with every name that a subgraph takes from outside, once for each time it is read.
pub(super) fn captured<'a>(graph: &'a GraphProto, f: &mut dyn FnMut(&'a str)) {
    let mut own: HashSet<&str> = graph.input.iter().map(|v| v.name.as_str()).collect();
    own.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    own.extend(graph.node.iter().flat_map(|n| &n.output).map(String::as_str));
    let mut outer = |name: &'a str| {
        if !own.contains(name) {
            f(name);
        }
    };
    for node in &graph.node {
        names_read(node, &mut outer);
    }
    for output in &graph.output {
        outer(&output.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: outputs.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn sorts_and_keeps_file_order_where_it_can() {
        let nodes =
            [node(&["b"], &["c"]), node(&["x"], &["a"]), node(&["a", "x"], &["b"]), node(&[], &["d"])];
        assert_eq!(execution_order(&nodes), Ok(vec![1, 2, 0, 3]));
    }

    #[test]
    fn cycles_are_named() {
        let nodes = [node(&["b"], &["a"]), node(&["a"], &["b"]), node(&["x"], &["c"]), node(&["e"], &["e"])];
        assert_eq!(execution_order(&nodes), Err(vec![0, 1, 3]));
    }
}
