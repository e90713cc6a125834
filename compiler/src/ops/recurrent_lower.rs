//! LSTM, GRU and RNN → kernel steps: a routine for any form.

use super::OpError;
use super::nest::{finish_as, read_as, write_as};
use super::recurrent::{B, Extents, FIRST_C, FIRST_H, Kind, LENGTHS, PEEPHOLES, R, Recurrent, W, X};
use super::typed::literal;
use crate::ir::DType;
use crate::kernel::{Kernel, Operand, Param, Routine};
use crate::schedule::{LowerCx, TensorView};

/// Emits the steps.
pub(super) fn lower(op: &Recurrent, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
    let shape = |cx: &LowerCx<'_>, i: usize| cx.input_type(i).map(|(_, s)| s.clone());
    let (Some(x), Some(r)) = (shape(cx, X), shape(cx, R)) else {
        return Err(OpError::internal("a recurrent operator without operands"));
    };
    let e = op.extents(&x, &r)?;
    if e.steps == 0 || e.batch == 0 || e.hidden == 0 {
        return without_steps(cx);
    }
    plain(op, &e, cx)
}

/// Nothing happens: last states are the first ones.
fn without_steps(cx: &mut LowerCx<'_>) -> Result<(), OpError> {
    for i in 0..3 {
        let Some((dtype, _)) = cx.output_type(i) else { continue };
        let y = cx.write(i)?;
        let first = FIRST_H + i.saturating_sub(1);
        if i == 0 {
            continue;
        }
        match cx.input_type(first) {
            Some(_) => {
                let from = cx.read(first)?;
                cx.copy(&from, &y)?;
            }
            None => cx.elementwise(&y, &[], literal(dtype, 0.0))?,
        }
    }
    Ok(())
}

/// The type that a layer of this type is computed in.
fn computed(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Result `i` in another type, or scratch where nobody wants it.
fn result(
    cx: &mut LowerCx<'_>,
    i: usize,
    dtype: DType,
    len: usize,
) -> Result<(Operand, Option<TensorView>), OpError> {
    if cx.output_type(i).is_none() {
        return Ok((cx.scratch("unwanted", dtype, len), None));
    }
    let view = write_as(cx, i, dtype)?;
    Ok((view.operand, Some(view)))
}

/// Any form, by the runtime's routine.
fn plain(op: &Recurrent, e: &Extents, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
    let dtype = cx.input_type(X).map_or(DType::F32, |(d, _)| computed(d));
    // Operands that are absent or empty read as zeros beyond their end.
    let nothing = match dtype {
        DType::F64 => cx.blob("nothing", &[0f64]),
        _ => cx.blob("nothing", &[0f32]),
    };
    let mut reads = Vec::new();
    for i in [X, W, R, B, LENGTHS, FIRST_H, FIRST_C, PEEPHOLES] {
        let there = cx.input_type(i).is_some_and(|(_, s)| !s.contains(&0));
        reads.push(match (there, i) {
            (true, LENGTHS) => cx.read_dense(i)?.operand,
            (true, _) => read_as(cx, i, dtype)?.operand,
            (false, LENGTHS) => cx.blob("no lengths", &[0i32]),
            (false, _) => nothing,
        });
    }
    let curves: Vec<f32> =
        op.ways.iter().flat_map(|w| &w.curves).flat_map(|c| [c.code(), c.alpha, c.beta]).collect();
    reads.push(cx.blob("activations", &curves));
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let (all, one) = (product(&e.all(op.batch_first)), product(&e.one(op.batch_first)));
    let results = [(0, all), (1, one), (2, one)]
        .into_iter()
        .map(|(i, len)| result(cx, i, dtype, len))
        .collect::<Result<Vec<_>, _>>()?;
    let mut writes: Vec<Operand> = results.iter().map(|(operand, _)| *operand).collect();
    writes.push(cx.scratch("gates", dtype, op.kind.gates() * e.hidden));
    let kind = match op.kind {
        Kind::Lstm { input_forget } => usize::from(input_forget),
        Kind::Gru { linear_before_reset } => 2 + usize::from(linear_before_reset),
        Kind::Rnn => 4,
    };
    let extents = [kind, e.steps, e.batch, e.input, e.hidden, e.directions];
    let backwards = op.ways.first().is_some_and(|w| w.backwards);
    let flags = [backwards, op.batch_first, cx.input_type(LENGTHS).is_some()];
    let params = extents.map(Param::Usize).into_iter().chain(flags.map(Param::Bool));
    cx.push(Kernel::Routine(Routine {
        function: "recurrent::recurrent",
        reads,
        writes,
        params: params.chain([Param::F32(op.clip.unwrap_or(f32::INFINITY))]).collect(),
        fallible: false,
    }));
    for (i, (_, view)) in results.into_iter().enumerate() {
        if let Some(view) = view {
            finish_as(cx, i, view)?;
        }
    }
    Ok(())
}
