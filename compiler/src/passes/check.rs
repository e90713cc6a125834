//! What must hold after each pass: the structural rules of `ir::verify`, and that every node still
//! infers to the types its results are declared with.

use super::log::describe;
use super::matching::infer;
use crate::ir::verify::verify;
use crate::ops::Graph;

/// Every violated rule.
pub fn violations(graph: &Graph) -> Vec<String> {
    let mut problems = verify(graph);
    // Inference of a graph that is structurally broken says nothing new.
    if problems.is_empty() {
        type_violations(graph, &mut problems);
    }
    problems
}

fn type_violations(graph: &Graph, problems: &mut Vec<String>) {
    for (id, node) in graph.nodes() {
        let types = match infer(graph, &node.op, &node.inputs, node.outputs.len()) {
            Ok(types) => types,
            Err(e) => {
                problems.push(format!("{} no longer infers: {e}", describe(graph, id)));
                continue;
            }
        };
        for (i, output) in node.outputs.iter().enumerate() {
            let Some(v) = *output else { continue };
            let value = graph.value(v);
            match types.get(i) {
                Some(t) if (t.dtype, &t.shape) == (value.dtype, &value.shape) => {}
                Some(t) => problems.push(format!(
                    "`{}` is declared {}{}, but {} infers {}{}",
                    value.name,
                    value.dtype,
                    value.shape,
                    describe(graph, id),
                    t.dtype,
                    t.shape
                )),
                None => problems.push(format!("`{}` is no result of {}", value.name, describe(graph, id))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Shape};
    use crate::kernel::expr::UnaryFn;
    use crate::ops::unary::Unary;

    #[test]
    fn finds_a_wrong_shape_and_a_wrong_type() {
        let mut g = Graph::new("g");
        let x = g.add_input("x", DType::F32, Shape::from([2]));
        let relu = || Unary { function: UnaryFn::Relu }.into();
        let out = |d, s: [usize; 1]| vec![Some(("y".to_owned(), d, Shape::from(s)))];
        g.add_node(relu(), vec![Some(x)], out(DType::F32, [2]), vec![]);
        assert_eq!(violations(&g), [""; 0]);
        g.add_node(relu(), vec![Some(x)], out(DType::F32, [3]), vec![]);
        g.add_node(relu(), vec![Some(x)], out(DType::F64, [2]), vec![]);
        g.add_node(relu(), vec![None], out(DType::F32, [2]), vec![]);
        let found = violations(&g);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("declared f32[3]"), "{}", found[0]);
        assert!(found[2].contains("no longer infers"), "{}", found[2]);
    }
}
