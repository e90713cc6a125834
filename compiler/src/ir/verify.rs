//! Structural checks of a graph. A violation is a bug of the compiler, never of the model.

use super::{Graph, ValueId};

/// Every violated rule: operands known, given or written earlier; each value written once, by the
/// producer it names; known values of their declared type; no dangling output.
pub fn verify<O>(graph: &Graph<O>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut ready = vec![false; graph.value_count()];
    for &input in &graph.inputs {
        set(&mut ready, input);
    }
    let mut seen_nodes = std::collections::BTreeSet::new();
    for &id in graph.order() {
        if !seen_nodes.insert(id) {
            problems.push(format!("node {} stands twice in the order", id.0));
        }
        let Some(node) = graph.node(id) else {
            problems.push(format!("the order names node {}, which was removed", id.0));
            continue;
        };
        for input in node.inputs.iter().flatten() {
            if !usable(graph, &ready, *input) {
                problems.push(format!(
                    "node {} reads `{}` before it is written",
                    id.0,
                    graph.value(*input).name
                ));
            }
        }
        for (i, output) in node.outputs.iter().enumerate() {
            let Some(v) = output else { continue };
            if ready.get(v.0 as usize) == Some(&true) {
                problems.push(format!("`{}` is written twice", graph.value(*v).name));
            }
            if graph.value(*v).producer != Some((id, i)) {
                problems.push(format!(
                    "`{}` names another producer than node {}",
                    graph.value(*v).name,
                    id.0
                ));
            }
            set(&mut ready, *v);
        }
    }
    for (name, v) in &graph.outputs {
        if !usable(graph, &ready, *v) {
            problems.push(format!("output `{name}` is never written"));
        }
    }
    for v in (0..graph.value_count()).map(|i| ValueId(i as u32)) {
        let value = graph.value(v);
        if let Some(t) = &value.constant
            && (t.dtype() != value.dtype || t.shape() != &value.shape)
        {
            problems.push(format!(
                "`{}` is declared {}{} but its tensor is {}{}",
                value.name,
                value.dtype,
                value.shape,
                t.dtype(),
                t.shape()
            ));
        }
    }
    problems
}

fn set(ready: &mut [bool], v: ValueId) {
    if let Some(r) = ready.get_mut(v.0 as usize) {
        *r = true;
    }
}

fn usable<O>(graph: &Graph<O>, ready: &[bool], v: ValueId) -> bool {
    (v.0 as usize) < graph.value_count()
        && (graph.value(v).constant.is_some() || ready.get(v.0 as usize) == Some(&true))
}
