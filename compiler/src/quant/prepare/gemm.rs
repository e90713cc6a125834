//! Matrix products of one form: `Gemm` with `alpha` and `beta` of 1.

use super::super::draft::{self, Draft, float, int, is_op, take};
use super::{Types, constant_operand, floats, scale_slices};
use crate::ir::Tensor;
use std::collections::BTreeSet;

/// `MatMul` of a matrix and constant weights with `Add` of a constant row is a `Gemm`, whose bias costs no
/// step and no rounding of its own.
pub fn from_matmul(draft: &mut Draft, types: &Types) {
    let uses = draft.uses();
    let mut gone = BTreeSet::new();
    for i in 0..draft.nodes.len() {
        let Some((x, product, weights)) = draft.nodes.get(i).filter(|n| is_op(n, "MatMul")).and_then(|n| {
            Some((n.input.first()?.clone(), n.output.first()?.clone(), n.input.get(1)?.clone()))
        }) else {
            continue;
        };
        let Some((_, w)) = constant_operand(draft, i, 1).filter(|(_, w)| w.shape().rank() == 2) else {
            continue;
        };
        let columns = w.shape().dims().last().copied().unwrap_or(0);
        if types.floats(&x).is_none_or(|s| s.rank() != 2) {
            continue;
        }
        let Some((add, operand)) = uses.only(&product) else { continue };
        let Some(n) = draft.nodes.get(add).filter(|n| is_op(n, "Add")) else { continue };
        let (Some(row), Some(y)) = (n.input.get(1 - operand.min(1)).cloned(), n.output.first().cloned())
        else {
            continue;
        };
        let (name, at) = (draft::label(n).to_owned(), add);
        let Some(values) = floats(draft, &row) else { continue };
        let fits = draft.constants.get(&row).is_some_and(|t| {
            t.shape().rank() <= 2 && t.len() == columns && t.shape().dims().last() == Some(&columns)
        });
        let (true, Ok(bias)) =
            (fits, Tensor::new([columns], values.iter().map(|&v| v as f32).collect::<Vec<f32>>()))
        else {
            continue;
        };
        let bias = draft.add_constant(&format!("{row}_row"), bias);
        // At the place of the sum: every operand is there.
        if let Some(n) = draft.nodes.get_mut(at) {
            *n = draft::node("Gemm", &name, &[&x, &weights, &bias], &[&y]);
        }
        gone.insert(i);
    }
    draft.remove_nodes(&gone);
}

/// Factors go into constants.
pub fn plain(draft: &mut Draft) {
    for i in 0..draft.nodes.len() {
        let Some(n) = draft.nodes.get(i).filter(|n| is_op(n, "Gemm") && int(n, "transA", 0) == 0) else {
            continue;
        };
        for (attribute, operand) in [("alpha", 1), ("beta", 2)] {
            let factor = f64::from(float(n, attribute, 1.0));
            if factor == 1.0 {
                continue;
            }
            let scaled = constant_operand(draft, i, operand).and_then(|(name, t)| {
                let all = vec![factor; t.shape().dims().first().copied().unwrap_or(1)];
                Some((format!("{name}_scaled"), scale_slices(t, 0, &all)?))
            });
            let Some((wish, tensor)) = scaled else { continue };
            let name = draft.add_constant(&wish, tensor);
            if let Some(n) = draft.nodes.get_mut(i) {
                take(n, attribute);
                if let Some(slot) = n.input.get_mut(operand) {
                    *slot = name;
                }
            }
            break;
        }
    }
}
