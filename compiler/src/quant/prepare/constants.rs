//! What needs no run time: aliases, nodes of constants, divisions by constants.

use super::super::draft::{Draft, is_op, visit_subgraphs};
use super::super::watch::Watched;
use super::{Options, is_any, tensor};
use crate::diag::Diagnostics;
use std::collections::BTreeSet;

/// `Identity` and `Dropout` (at inference) hand on their operand.
pub fn drop_aliases(draft: &mut Draft) {
    let uses = draft.uses();
    let mut gone = BTreeSet::new();
    for i in 0..draft.nodes.len() {
        let Some(n) = draft.nodes.get(i) else { continue };
        let training = n.input.get(2).is_some_and(|t| !t.is_empty());
        let (Some(x), Some(y)) = (n.input.first().cloned(), n.output.first().cloned()) else { continue };
        let mask = n.output.get(1).is_some_and(|m| !m.is_empty());
        if !is_any(n, &["Identity", "Dropout"]) || training || mask || uses.kept(&y) {
            continue;
        }
        draft.redirect(&y, &x);
        gone.insert(i);
    }
    draft.remove_nodes(&gone);
}

/// Nodes all of whose operands are constants of the file become constants, so that weights behind a
/// `Transpose` are weights. What follows from shapes alone stays: it would fix open dimensions.
pub fn fold(draft: &mut Draft, options: &Options) -> Result<(), Diagnostics> {
    let mut known: BTreeSet<String> = draft.constants.keys().cloned().collect();
    let mut wanted = BTreeSet::new();
    for n in &draft.nodes {
        let mut subgraphs = false;
        visit_subgraphs(n, &mut |_| subgraphs = true);
        let random = n.op_type.starts_with("Random") || is_any(n, &["Bernoulli", "Multinomial"]);
        let quantized = is_any(n, &["QuantizeLinear", "DequantizeLinear"]);
        let all = !n.input.is_empty() && n.input.iter().all(|i| i.is_empty() || known.contains(i));
        if all && !subgraphs && !random && !quantized && n.output.len() == 1 {
            known.extend(n.output.iter().cloned());
            wanted.extend(n.output.iter().cloned());
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let watched = Watched::new(&draft.to_model(), &wanted, options)?;
    let mut gone = BTreeSet::new();
    for (i, n) in draft.nodes.iter().enumerate() {
        let Some(y) = n.output.first().filter(|y| wanted.contains(*y) && !draft.is_output(y)) else {
            continue;
        };
        if let Some(tensor) = watched.known(y) {
            draft.constants.insert(y.clone(), tensor.clone());
            gone.insert(i);
        }
    }
    draft.remove_nodes(&gone);
    Ok(())
}

/// `x / c` is `x · (1/c)`, to a rounding.
pub fn divisions(draft: &mut Draft) {
    for i in 0..draft.nodes.len() {
        let Some(n) = draft.nodes.get(i).filter(|n| is_op(n, "Div")) else { continue };
        let Some(name) = n.input.get(1) else { continue };
        let Some(values) = super::floats(draft, name) else { continue };
        let shape = match draft.constants.get(name) {
            Some(t) => t.shape().clone(),
            None => continue,
        };
        if values.iter().any(|v| *v == 0.0 || !v.is_finite()) {
            continue;
        }
        let inverse: Vec<f64> = values.iter().map(|v| 1.0 / v).collect();
        let Some(inverse) = tensor(&shape, &inverse) else { continue };
        let wish = format!("{name}_inverse");
        let inverse = draft.add_constant(&wish, inverse);
        if let Some(n) = draft.nodes.get_mut(i) {
            "Mul".clone_into(&mut n.op_type);
            if let Some(slot) = n.input.get_mut(1) {
                *slot = inverse;
            }
        }
    }
}
