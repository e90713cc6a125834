//! A loop as steps: states in memory of their own, copied at the end of each iteration.

use super::OpError;
use super::child;
use super::loop_::{Along, Count, Loop};
use super::nest::{access, add, binary, push, read, scratch};
use super::typed::literal;
use crate::ir::DType;
use crate::kernel::expr::{BinaryFn, CompareFn, Expr, Scalar};
use crate::kernel::loops::{Gather, Read, Store};
use crate::kernel::{Kernel, Nest, Param, Routine};
use crate::schedule::{LowerCx, TensorView};

pub(super) fn lower(op: &Loop, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
    let at = op.layout();
    let operands = cx.node().inputs.len();
    // Whatever iterations read is asked for before the first: a copy made within would be made each time.
    let count = at.count.map(|i| cx.read_dense(i)).transpose()?;
    let condition = at.condition.map(|i| cx.read_dense(i)).transpose()?;
    let wholes: Vec<TensorView> = (at.slices..at.captured).map(|i| cx.read(i)).collect::<Result<_, _>>()?;
    let captured: Vec<TensorView> =
        (at.captured..operands).map(|i| cx.read_dense(i)).collect::<Result<_, _>>()?;
    let states = states(op, cx)?;
    let rows = rows(op, cx)?;
    if matches!(op.count, Count::Known(0)) {
        return Ok(());
    }
    let go = Go::new(op, cx, count, condition)?;
    let numbered = op.numbered && child::reads_input(&op.body, 0);
    let counts = go.limited || numbered || !wholes.is_empty() || rows.iter().any(Option::is_some);
    let number = match counts {
        true => Some(scratch(cx, "iteration", DType::I64, &[])?),
        false => None,
    };
    go.first(cx, number.as_ref())?;
    let region = match (op.count, &go.flag) {
        (Count::Known(times), None) => cx.begin_repeat(times),
        (_, Some(flag)) => cx.begin_while(flag.operand),
        (_, None) => return Err(OpError::internal("a loop without end")),
    };
    let mut given = Vec::new();
    if op.numbered {
        // Nobody reads it where it is not counted.
        given.push(number.clone().unwrap_or_else(|| scalar_of_nothing(cx)));
    }
    given.extend(states.iter().cloned());
    for (whole, &along) in wholes.iter().zip(&op.slices) {
        let number = number.as_ref().ok_or_else(|| OpError::internal("slices without a number"))?;
        given.push(slice(cx, whole, along, number)?);
    }
    given.extend(captured);
    let first_row = usize::from(op.checked) + op.states;
    let wanted =
        |i: usize| i.checked_sub(first_row).is_some_and(|k| rows.get(k).is_some_and(Option::is_some));
    let outputs = cx.inline(&op.body, &given, wanted)?;
    for ((row, to), along) in outputs.iter().skip(first_row).zip(&rows).zip(&op.rows) {
        if let (Some(to), Some(number)) = (to, &number) {
            put_row(cx, number, row, to, *along);
        }
    }
    let goes_on = op.checked.then(|| outputs.first()).flatten();
    let next = outputs.get(usize::from(op.checked)..first_row).unwrap_or(&[]);
    // The condition may lie in a state, the next states in the number of the iteration.
    let counted = go.next(cx, number.as_ref(), goes_on)?;
    let mut copies = carried(cx, next, &states, number.as_ref())?;
    copies.extend(counted.zip(number));
    cx.copy_all(&copies)?;
    cx.end(region);
    Ok(())
}

/// Memory of the states, the results' own where they are wanted, with the first ones in it.
fn states(op: &Loop, cx: &mut LowerCx<'_>) -> Result<Vec<TensorView>, OpError> {
    let first = op.layout().states;
    let mut states = Vec::with_capacity(op.states);
    for k in 0..op.states {
        let initial = cx.read(first + k)?;
        let state = match cx.output_type(k) {
            Some(_) => cx.write_dense(k)?,
            None => scratch(cx, "state", initial.dtype, &initial.shape)?,
        };
        cx.copy(&initial, &state)?;
        states.push(state);
    }
    Ok(states)
}

/// Memory of the rows that are wanted, zero: what says that all of it was written also says so where an iteration
/// writes but one row, or where there are fewer iterations than rows.
fn rows(op: &Loop, cx: &mut LowerCx<'_>) -> Result<Vec<Option<TensorView>>, OpError> {
    let mut rows = Vec::with_capacity(op.rows.len());
    for k in 0..op.rows.len() {
        let row = match cx.output_type(op.states + k) {
            Some((dtype, _)) => {
                let row = cx.write_dense(op.states + k)?;
                cx.elementwise(&row, &[], literal(dtype, 0.0))?;
                Some(row)
            }
            None => None,
        };
        rows.push(row);
    }
    Ok(rows)
}

/// Whether there is another iteration.
struct Go {
    /// Where that stands; `None` for loops whose number of iterations is known.
    flag: Option<TensorView>,
    /// The number of iterations, and whether that limits them.
    count: Option<TensorView>,
    known: Option<i64>,
    limited: bool,
    /// The first condition.
    condition: Option<TensorView>,
}

impl Go {
    fn new(
        op: &Loop,
        cx: &mut LowerCx<'_>,
        count: Option<TensorView>,
        condition: Option<TensorView>,
    ) -> Result<Self, OpError> {
        let known = match op.count {
            Count::Known(n) => Some(i64::try_from(n).unwrap_or(i64::MAX)),
            Count::Given { most } => most.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
            Count::Unbounded => None,
        };
        let runs_on = condition.is_some() || count.is_some();
        let flag = if runs_on { Some(scratch(cx, "goes on", DType::Bool, &[])?) } else { None };
        let limited = runs_on && (known.is_some() || count.is_some());
        Ok(Go { flag, count, known, limited, condition })
    }

    /// Decides on the first iteration, whose number is 0.
    fn first(&self, cx: &mut LowerCx<'_>, number: Option<&TensorView>) -> Result<(), OpError> {
        self.decide(cx, number, whole(0), &[], self.condition.as_ref())
    }

    /// Decides on the next iteration; its number.
    fn next(
        &self,
        cx: &mut LowerCx<'_>,
        number: Option<&TensorView>,
        goes_on: Option<&TensorView>,
    ) -> Result<Option<TensorView>, OpError> {
        let Some(number) = number else {
            self.decide(cx, None, whole(0), &[], goes_on)?;
            return Ok(None);
        };
        let next = scratch(cx, "next iteration", DType::I64, &[])?;
        let counted = add(Expr::Read(0), whole(1));
        self.decide(cx, Some(&next), counted, std::slice::from_ref(number), goes_on)?;
        Ok(Some(next))
    }

    /// `number`, and `number < count && condition`; `reads` is what `number` reads.
    fn decide(
        &self,
        cx: &mut LowerCx<'_>,
        to: Option<&TensorView>,
        number: Expr,
        reads: &[TensorView],
        condition: Option<&TensorView>,
    ) -> Result<(), OpError> {
        let mut reads = reads.to_vec();
        let below = |limit: Expr| Expr::Compare(CompareFn::Less, Box::new(number.clone()), Box::new(limit));
        let mut all = self.known.map(|n| below(whole(n)));
        let mut both = |e: Expr| {
            all = Some(match all.take() {
                Some(a) => binary(BinaryFn::And, a, e),
                None => e,
            });
        };
        if let Some(count) = &self.count {
            reads.push(single(count));
            both(below(Expr::Read(reads.len() - 1)));
        }
        if let Some(condition) = condition {
            reads.push(single(condition));
            both(Expr::Read(reads.len() - 1));
        }
        let goes_on = all.unwrap_or(Expr::Const(Scalar::Bool(true)));
        let mut stores = Vec::new();
        for (to, value) in [(to, number), (self.flag.as_ref(), goes_on)] {
            if let Some(to) = to {
                stores.push(Store { access: access(to, 0, Vec::new())?, value });
            }
        }
        if stores.is_empty() {
            return Ok(());
        }
        let reads = if self.flag.is_some() { &reads[..] } else { reads.get(..1).unwrap_or(&[]) };
        let reads = reads.iter().map(|view| read(view, 0, Vec::new())).collect::<Result<_, _>>()?;
        push(cx, Nest { extents: Vec::new(), reduce: 0, reads, reductions: Vec::new(), stores });
        Ok(())
    }
}

/// A whole number as a literal.
fn whole(n: i64) -> Expr {
    Expr::Const(Scalar::Int(DType::I64, n))
}

/// The first element of a view.
fn single(view: &TensorView) -> TensorView {
    TensorView { shape: Vec::new(), strides: Vec::new(), ..view.clone() }
}

/// A number that nobody reads.
fn scalar_of_nothing(cx: &mut LowerCx<'_>) -> TensorView {
    let operand = cx.blob("no iteration", &[0i64]);
    TensorView { operand, dtype: DType::I64, shape: Vec::new(), offset: 0, strides: Vec::new() }
}

/// The slice of the iteration, in memory of its own.
fn slice(
    cx: &mut LowerCx<'_>,
    whole: &TensorView,
    along: Along,
    number: &TensorView,
) -> Result<TensorView, OpError> {
    let (Some(&extent), Some(&stride)) = (whole.shape.get(along.axis), whole.strides.get(along.axis)) else {
        return Err(OpError::internal("a slice along no axis"));
    };
    let mut from = whole.clone();
    from.shape.remove(along.axis);
    from.strides.remove(along.axis);
    let to = scratch(cx, "slice", whole.dtype, &from.shape)?;
    if to.shape.contains(&0) {
        return Ok(to);
    }
    let last = i64::try_from(extent).unwrap_or(i64::MAX).saturating_sub(1);
    let index = match along.backwards {
        true => binary(BinaryFn::Sub, Expr::Const(Scalar::Int(DType::I64, last)), Expr::Read(0)),
        false => Expr::Read(0),
    };
    // The number of an iteration is below the number of slices.
    let gather = vec![Gather { index, extent, stride, proven: true }];
    let nest = Nest {
        extents: from.shape.clone(),
        reduce: 0,
        reads: vec![
            read(number, 0, vec![0; from.shape.len()])?,
            Read { access: access(&from, 0, from.strides.clone())?, gather },
        ],
        reductions: Vec::new(),
        stores: vec![Store { access: access(&to, 0, to.strides.clone())?, value: Expr::Read(1) }],
    };
    push(cx, nest);
    Ok(to)
}

/// Writes the row of the iteration.
fn put_row(cx: &mut LowerCx<'_>, number: &TensorView, row: &TensorView, to: &TensorView, along: Along) {
    let product = |list: Option<&[usize]>| list.unwrap_or(&[]).iter().product::<usize>();
    let (outer, inner) = (product(to.shape.get(..along.axis)), product(to.shape.get(along.axis + 1..)));
    let extent = to.shape.get(along.axis).copied().unwrap_or(0);
    if outer == 0 || inner == 0 || extent == 0 {
        return;
    }
    cx.push(Kernel::Routine(Routine {
        function: "rows::put",
        reads: vec![number.operand, row.operand],
        writes: vec![to.operand],
        params: vec![
            Param::Usize(outer),
            Param::Usize(extent),
            Param::Usize(inner),
            Param::Bool(along.backwards),
        ],
        fallible: false,
    }));
}

/// What is copied over the states at the end of an iteration. What lies in the memory of a state or of the number
/// of the iteration first goes elsewhere: states may change places.
fn carried(
    cx: &mut LowerCx<'_>,
    next: &[TensorView],
    states: &[TensorView],
    number: Option<&TensorView>,
) -> Result<Vec<(TensorView, TensorView)>, OpError> {
    let mut pairs = Vec::with_capacity(next.len());
    for (view, state) in next.iter().zip(states) {
        let overwritten = states.iter().chain(number).any(|s| s.operand == view.operand);
        let from = if overwritten && !view.same_place(state) {
            let aside = scratch(cx, "next state", view.dtype, &view.shape)?;
            cx.copy(view, &aside)?;
            aside
        } else {
            view.clone()
        };
        pairs.push((from, state.clone()));
    }
    Ok(pairs)
}
