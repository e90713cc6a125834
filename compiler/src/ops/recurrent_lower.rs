//! LSTM, GRU and RNN → kernel steps: a matrix product over all steps and the family `Recurrent` for the usual forms,
//! a routine for any other.

use super::OpError;
use super::nest::{finish_as, read_as, write_as};
use super::recurrent::{B, Extents, FIRST_C, FIRST_H, Kind, LENGTHS, PEEPHOLES, R, Recurrent, W, X};
use super::typed::literal;
use crate::ir::DType;
use crate::kernel::spec::{Epilogue, MatMulSpec, RecurrentKind, RecurrentSpec};
use crate::kernel::{self, EpilogueOperands, Kernel, Operand, Param, Routine};
use crate::schedule::{LowerCx, TensorView};
use edgec_runtime::isa::LANES;
use edgec_runtime::pack;

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
    match fused(op, &e, cx)? {
        true => Ok(()),
        false => plain(op, &e, cx),
    }
}

/// The cell of the kernel family, for the form that exporters write: default activations, no bound, no peepholes.
fn cell(op: &Recurrent) -> Option<RecurrentKind> {
    let own = op.kind.activations();
    let usual = op.ways.iter().all(|w| w.curves.iter().zip(own).all(|(c, name)| c.is(name)));
    if !usual || op.clip.is_some() {
        return None;
    }
    match op.kind {
        Kind::Lstm { input_forget: false } => Some(RecurrentKind::Lstm),
        Kind::Gru { linear_before_reset: true } => Some(RecurrentKind::Gru),
        _ => None,
    }
}

/// A product of the input for all steps, and the cell's kernel, for each direction; whether the operator has that
/// form: `f32`, constant weights, whole sequences.
fn fused(op: &Recurrent, e: &Extents, cx: &mut LowerCx<'_>) -> Result<bool, OpError> {
    let Some(kind) = cell(op) else { return Ok(false) };
    let f32s = |cx: &LowerCx<'_>, i: usize| -> Option<Vec<f32>> {
        cx.constant(i).and_then(|t| t.as_slice::<f32>().map(<[f32]>::to_vec))
    };
    let gates = kind.gates();
    let rows = gates * e.hidden;
    let absent = [LENGTHS, PEEPHOLES].iter().all(|&i| cx.input_type(i).is_none());
    let (Some(w), Some(r)) = (f32s(cx, W), f32s(cx, R)) else { return Ok(false) };
    let b = match cx.input_type(B) {
        Some(_) => f32s(cx, B),
        None => Some(vec![0.0; e.directions * 2 * rows]),
    };
    let Some(b) = b.filter(|_| absent && e.input > 0) else { return Ok(false) };
    let x = cx.read_dense(X)?.operand;
    let given = |cx: &mut LowerCx<'_>, i: usize| -> Result<Option<Operand>, OpError> {
        let there = cx.input_type(i).is_some();
        there.then(|| cx.read_dense(i).map(|v| v.operand)).transpose()
    };
    let (first_h, first_c) = (given(cx, FIRST_H)?, given(cx, FIRST_C)?);
    let wanted = |cx: &mut LowerCx<'_>, i: usize| -> Result<Option<Operand>, OpError> {
        let there = cx.output_type(i).is_some();
        there.then(|| cx.write_dense(i).map(|v| v.operand)).transpose()
    };
    let (y, last_h, last_c) = (wanted(cx, 0)?, wanted(cx, 1)?, wanted(cx, 2)?);
    let width = gates * pack::padded(e.hidden);
    let column = |g: usize, j: usize| (j / LANES * gates + g) * LANES + j % LANES;
    let wrong = |e: pack::WrongLength| OpError::internal(e.to_string());
    for (d, way) in op.ways.iter().enumerate() {
        // Columns in the order of the kernel's panels.
        let layout = pack::Gemm { k: e.input, n: width };
        let mut panels = vec![0f32; layout.packed_len()];
        let mut biases = vec![0f32; width];
        let mut late = vec![0f32; pack::padded(e.hidden)];
        for (g, j) in (0..gates).flat_map(|g| (0..e.hidden).map(move |j| (g, j))) {
            let row = g * e.hidden + j;
            let weights = w.get((d * rows + row) * e.input..).unwrap_or_default();
            for (k, v) in weights.iter().take(e.input).enumerate() {
                set(&mut panels, layout.index(k, column(g, j)), *v);
            }
            let bias = |part: usize| b.get((d * 2 + part) * rows + row).copied().unwrap_or_default();
            // A GRU's reset gate comes between the two biases of its candidate.
            if kind == RecurrentKind::Gru && g == 2 {
                set(&mut biases, column(g, j), bias(0));
                set(&mut late, j, bias(1));
            } else {
                set(&mut biases, column(g, j), bias(0) + bias(1));
            }
        }
        let packing = pack::Recurrent { gates, hidden: e.hidden };
        let mut packed = vec![0f32; packing.packed_len()];
        let plain = r.get(d * rows * e.hidden..(d + 1) * rows * e.hidden).unwrap_or_default();
        packing.pack(plain, &mut packed).map_err(wrong)?;
        let projections = cx.scratch("projections", DType::F32, e.steps * e.batch * width);
        let w = cx.blob("weights of the input", &panels);
        let bias = cx.blob("biases", &biases);
        cx.push(Kernel::MatMul {
            spec: MatMulSpec {
                batch: 1,
                m: e.steps * e.batch,
                n: width,
                k: e.input,
                a_offset: 0,
                a_stride: e.input,
                a_batch: 0,
                w_batch: 0,
                y_offset: 0,
                y_stride: width,
                y_batch: 0,
                r_offset: 0,
                r_stride: 0,
                r_batch: 0,
                epilogue: Epilogue { bias: true, ..Epilogue::NONE },
            },
            a: x,
            w,
            epilogue: EpilogueOperands { bias: Some(bias), ..EpilogueOperands::default() },
            y: projections,
        });
        let h = e.hidden;
        let spec = match op.batch_first {
            false => RecurrentSpec {
                kind,
                steps: e.steps,
                batch: e.batch,
                hidden: h,
                backwards: way.backwards,
                x_step: e.batch * width,
                x_batch: width,
                y_offset: d * e.batch * h,
                y_step: e.directions * e.batch * h,
                y_batch: h,
                state_offset: d * e.batch * h,
                state_batch: h,
            },
            true => RecurrentSpec {
                kind,
                steps: e.steps,
                batch: e.batch,
                hidden: h,
                backwards: way.backwards,
                x_step: width,
                x_batch: e.steps * width,
                y_offset: d * h,
                y_step: e.directions * h,
                y_batch: e.steps * e.directions * h,
                state_offset: d * h,
                state_batch: e.directions * h,
            },
        };
        let r = cx.blob("recurrent weights", &packed);
        let bias = (kind == RecurrentKind::Gru).then(|| cx.blob("bias of the candidate", &late));
        let state = cx.scratch("states", DType::F32, spec.scratch_len());
        let kernel =
            kernel::Recurrent { spec, x: projections, r, bias, first_h, first_c, y, last_h, last_c, state };
        cx.push(Kernel::Recurrent(kernel));
    }
    Ok(true)
}

fn set(values: &mut [f32], at: usize, v: f32) {
    if let Some(slot) = values.get_mut(at) {
        *slot = v;
    }
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
