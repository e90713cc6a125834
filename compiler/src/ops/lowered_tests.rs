//! What operators lower to, run nest by nest and held against their evaluation: directly, and with
//! operands that arrive transposed, so that strides are put to use.

use super::testing::{f32s, i64s, import};
use super::typed::{from_floats, from_ints};
use super::walk::{pick, positions, strides};
use super::{Fact, Graph, Inputs, binary, importers, transpose, unary};
use crate::ir::{DType, Origin, Shape, Tensor, ValueId, f16};
use crate::kernel::expr::{BinaryFn, CompareFn, Expr, ReduceOp, Scalar, UnaryFn};
use crate::kernel::loops::{Access, Read};
use crate::kernel::{Kernel, Nest, Operand, Param, Routine};
use crate::onnx::Attr;
use crate::schedule::{Control, Region, Schedule, ScheduleOptions, lower};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A scalar while nests run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Num {
    Float(f64),
    Int(i128),
    Bool(bool),
}

impl Num {
    fn float(self) -> f64 {
        match self {
            Num::Float(v) => v,
            Num::Int(v) => v as f64,
            Num::Bool(v) => f64::from(u8::from(v)),
        }
    }

    fn int(self) -> i128 {
        match self {
            Num::Float(v) => v as i128,
            Num::Int(v) => v,
            Num::Bool(v) => v.into(),
        }
    }
}

fn nums(t: &Tensor) -> Vec<Num> {
    let floats = t.to_f64_vec().unwrap();
    match t.dtype() {
        DType::Bool => floats.into_iter().map(|v| Num::Bool(v != 0.0)).collect(),
        d if d.is_int() => t.to_i64_vec().unwrap().into_iter().map(|v| Num::Int(v.into())).collect(),
        _ => floats.into_iter().map(Num::Float).collect(),
    }
}

/// What a graph's outputs hold when its lowered steps have run.
pub(super) fn run_lowered(schedule: &Schedule, inputs: &[Tensor]) -> Vec<Vec<f64>> {
    let mut memory = Memory::new(schedule);
    for (port, t) in schedule.inputs.iter().zip(inputs) {
        let values = nums(t);
        memory.cells.get_mut(&port.operand).unwrap()[..values.len()].copy_from_slice(&values);
    }
    memory.run();
    schedule.outputs.iter().map(|p| memory.cells[&p.operand].iter().map(|n| n.float()).collect()).collect()
}

struct Memory<'s> {
    schedule: &'s Schedule,
    cells: BTreeMap<Operand, Vec<Num>>,
}

impl<'s> Memory<'s> {
    fn new(schedule: &'s Schedule) -> Self {
        let mut cells = BTreeMap::new();
        for (i, c) in schedule.constants.iter().enumerate() {
            let t = Tensor::from_le_bytes(c.dtype, [c.len], &c.bytes).unwrap();
            cells.insert(Operand::Const(crate::kernel::ConstId(i as u32)), nums(&t));
        }
        for (i, b) in schedule.buffers.iter().enumerate() {
            // Not a number: what nobody wrote shows.
            cells.insert(
                Operand::Buffer(crate::kernel::BufferId(i as u32)),
                vec![Num::Float(f64::NAN); b.len],
            );
        }
        Memory { schedule, cells }
    }

    fn run(&mut self) {
        let schedule = self.schedule;
        self.range(0, schedule.steps.len(), &schedule.regions);
    }

    /// Runs the steps of a range, in which `regions` lie.
    fn range(&mut self, first: usize, end: usize, regions: &[Region]) {
        let (mut at, mut rest) = (first, regions);
        while at < end {
            let Some((region, more)) = rest.split_first().filter(|(r, _)| r.first == at) else {
                self.step(at);
                at += 1;
                continue;
            };
            let (inner, behind) = more.split_at(more.iter().take_while(|r| r.first < region.end).count());
            rest = behind;
            match region.control {
                Control::If { condition, otherwise } => {
                    let (a, b) = inner.split_at(inner.partition_point(|r| r.first < otherwise));
                    match self.truth(condition) {
                        true => self.range(at, otherwise, a),
                        false => self.range(otherwise, region.end, b),
                    }
                }
                Control::Repeat { times } => (0..times).for_each(|_| self.range(at, region.end, inner)),
                Control::While { condition } => {
                    while self.truth(condition) {
                        self.range(at, region.end, inner);
                    }
                }
            }
            at = region.end;
        }
    }

    fn truth(&self, condition: Operand) -> bool {
        let Num::Bool(truth) = self.cells[&condition][0] else { panic!("a condition that is not bool") };
        truth
    }

    fn step(&mut self, index: usize) {
        match &self.schedule.steps[index].kernel {
            Kernel::Loops(loops) => loops.nests.iter().for_each(|n| self.nest(n)),
            Kernel::Routine(r) if r.function == "rows::put" => self.put_row(r),
            Kernel::Routine(r) => self.routine(r),
            other => panic!("only loops and routines are run here, not {other:?}"),
        }
    }

    fn routine(&mut self, r: &Routine) {
        let floats = |o: &Operand| self.cells[o].iter().map(|n| n.float()).collect::<Vec<f64>>();
        let (reads, writes) =
            (r.reads.iter().map(floats).collect::<Vec<_>>(), r.writes.iter().map(floats).collect::<Vec<_>>());
        let dtypes = r.writes.iter().map(|o| match o {
            Operand::Buffer(id) => self.schedule.buffers[id.0 as usize].dtype,
            other => panic!("a routine writes {other:?}"),
        });
        let dtypes: Vec<DType> = dtypes.collect();
        let written = super::routine_tests::call(r, dtypes[0], &reads, &writes);
        for ((operand, dtype), values) in r.writes.iter().zip(dtypes).zip(written) {
            let num = |v: f64| if dtype.is_int() { Num::Int(v as i128) } else { Num::Float(v) };
            self.cells.insert(*operand, values.into_iter().map(num).collect());
        }
    }

    fn put_row(&mut self, r: &Routine) {
        let [Param::Usize(outer), Param::Usize(extent), Param::Usize(inner), Param::Bool(backwards)] =
            r.params[..]
        else {
            panic!("other parameters: {:?}", r.params)
        };
        let (number, row) = (self.cells[&r.reads[0]][0].int() as usize, self.cells[&r.reads[1]].clone());
        let place = if backwards { extent - 1 - number } else { number };
        let y = self.cells.get_mut(&r.writes[0]).unwrap();
        for (i, v) in row.into_iter().take(outer * inner).enumerate() {
            y[(i / inner * extent + place) * inner + i % inner] = v;
        }
    }

    fn nest(&mut self, nest: &Nest) {
        let outer = nest.extents.len() - nest.reduce;
        for index in indices(&nest.extents[..outer]) {
            let mut accs: Vec<Option<(Num, usize)>> = vec![None; nest.reductions.len()];
            let mut index = index.clone();
            index.resize(nest.extents.len(), 0);
            let outer_reads = self.reads(nest, &index);
            for (at, inner) in indices(&nest.extents[outer..]).into_iter().enumerate() {
                if nest.reduce == 0 {
                    break;
                }
                index[outer..].copy_from_slice(&inner);
                let reads = self.reads(nest, &index);
                for (acc, r) in accs.iter_mut().zip(&nest.reductions) {
                    let value = eval(&r.value, &reads, &[], &index);
                    *acc = Some(reduce(r.op, *acc, value, at));
                }
            }
            index[outer..].fill(0);
            let accs: Vec<Num> =
                accs.iter().zip(&nest.reductions).map(|(a, r)| finish(r.op, r.dtype, *a)).collect();
            for store in &nest.stores {
                let value = eval(&store.value, &outer_reads, &accs, &index);
                let at = place(&store.access, &index);
                let value = match store.access.dtype {
                    DType::Bool => Num::Bool(value.int() != 0),
                    d if d.is_int() => nums(&from_ints(d, Shape::scalar(), [value.int()]).unwrap())[0],
                    d => nums(&from_floats(d, Shape::scalar(), [value.float()]).unwrap())[0],
                };
                self.cells.get_mut(&store.access.operand).unwrap()[at] = value;
            }
        }
    }

    fn reads(&self, nest: &Nest, index: &[usize]) -> Vec<Num> {
        let mut values = Vec::new();
        for Read { access, gather } in &nest.reads {
            let mut at = place(access, index) as isize;
            for g in gather {
                let i = eval(&g.index, &values, &[], index).int();
                let i = if i < 0 { i + g.extent as i128 } else { i };
                at += i.clamp(0, g.extent as i128 - 1) as isize * g.stride;
            }
            let cells = &self.cells[&access.operand];
            // Reads of a reduced loop without iterations have nothing to read.
            values.push(cells.get(at as usize).copied().unwrap_or(Num::Float(f64::NAN)));
        }
        values
    }
}

fn indices(extents: &[usize]) -> Vec<Vec<usize>> {
    let steps = strides(extents);
    let split = |p: usize| extents.iter().zip(&steps).map(|(d, s)| p / *s as usize % d).collect();
    positions(extents, &steps, 0).map(split).collect()
}

fn place(access: &Access, index: &[usize]) -> usize {
    let at = access.strides.iter().zip(index).fold(access.offset as isize, |n, (s, &i)| n + s * i as isize);
    usize::try_from(at).unwrap()
}

fn reduce(op: ReduceOp, acc: Option<(Num, usize)>, value: Num, at: usize) -> (Num, usize) {
    let Some((old, best)) = acc else { return (value, at) };
    let two = |f| (both(f, old, value), 0);
    let wins = |side: Ordering, last: bool| {
        let order = value.float().partial_cmp(&old.float());
        if order == Some(side) || last && order == Some(Ordering::Equal) { (value, at) } else { (old, best) }
    };
    match op {
        ReduceOp::Sum => two(BinaryFn::Add),
        ReduceOp::Prod => two(BinaryFn::Mul),
        ReduceOp::Max => two(BinaryFn::Max),
        ReduceOp::Min => two(BinaryFn::Min),
        ReduceOp::Any => (Num::Bool(old.int() + value.int() > 0), 0),
        ReduceOp::All => (Num::Bool(old.int() * value.int() > 0), 0),
        ReduceOp::ArgMax { last } => wins(Ordering::Greater, last),
        ReduceOp::ArgMin { last } => wins(Ordering::Less, last),
    }
}

fn finish(op: ReduceOp, dtype: DType, acc: Option<(Num, usize)>) -> Num {
    let of = |v: f64| if dtype.is_int() { Num::Int(v as i128) } else { Num::Float(v) };
    match (op, acc) {
        (ReduceOp::ArgMax { .. } | ReduceOp::ArgMin { .. }, Some((_, at))) => Num::Int(at as i128),
        (_, Some((v, _))) => v,
        (ReduceOp::Prod, None) => of(1.0),
        (ReduceOp::Max, None) => of(f64::NEG_INFINITY),
        (ReduceOp::Min, None) => of(f64::INFINITY),
        (_, None) => of(0.0),
    }
}

fn both(f: BinaryFn, a: Num, b: Num) -> Num {
    match (a, b) {
        (Num::Int(a), Num::Int(b)) => Num::Int(binary::of_ints(f, a, b, 64)),
        (Num::Bool(a), Num::Bool(b)) => Num::Bool(binary::of_ints(f, a.into(), b.into(), 1) != 0),
        (Num::Float(a), Num::Float(b)) => Num::Float(binary::of_floats(f, a, b)),
        other => panic!("{f:?} of {other:?}"),
    }
}

fn eval(e: &Expr, reads: &[Num], accs: &[Num], index: &[usize]) -> Num {
    let go = |e: &Expr| eval(e, reads, accs, index);
    match e {
        Expr::Read(i) => reads[*i],
        Expr::Acc(i) => accs[*i],
        Expr::Index(i) => Num::Int(index[*i] as i128),
        Expr::Const(Scalar::F32(v)) => Num::Float((*v).into()),
        Expr::Const(Scalar::F64(v)) => Num::Float(*v),
        Expr::Const(Scalar::Int(_, v)) => Num::Int((*v).into()),
        Expr::Const(Scalar::U64(v)) => Num::Int((*v).into()),
        Expr::Const(Scalar::Bool(v)) => Num::Bool(*v),
        Expr::Unary(f, x) => match (f, go(x)) {
            (UnaryFn::Not, x) => Num::Bool(x.int() == 0),
            (UnaryFn::IsNaN, x) => Num::Bool(x.float().is_nan()),
            (UnaryFn::IsInf { .. }, x) => Num::Bool(x.float().is_infinite()),
            (f, Num::Int(v)) => Num::Int(unary::of_int(*f, v).unwrap()),
            (f, v) => Num::Float(unary::of_float(*f, v.float())),
        },
        Expr::Binary(f, a, b) => both(*f, go(a), go(b)),
        Expr::Compare(f, a, b) => {
            let order = match (go(a), go(b)) {
                (Num::Int(a), Num::Int(b)) => Some(a.cmp(&b)),
                (Num::Float(a), Num::Float(b)) => a.partial_cmp(&b),
                other => panic!("{f:?} of {other:?}"),
            };
            Num::Bool(match f {
                CompareFn::Equal => order == Some(Ordering::Equal),
                CompareFn::Less => order == Some(Ordering::Less),
                CompareFn::LessOrEqual => order.is_some_and(Ordering::is_le),
                CompareFn::Greater => order == Some(Ordering::Greater),
                CompareFn::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
            })
        }
        Expr::Select(c, a, b) => {
            let Num::Bool(c) = go(c) else { panic!("a condition that is not bool") };
            if c { go(a) } else { go(b) }
        }
        Expr::Quantize { to, value, zero } => {
            let around = libm::rint(go(value).float()).clamp(-1e6, 1e6) + go(zero).float();
            nums(&from_floats(*to, Shape::scalar(), [around]).unwrap())[0]
        }
        Expr::Cast { from, to, value } => {
            let value = go(value);
            assert_eq!(matches!(value, Num::Float(_)), from.is_float(), "a conversion names another type");
            let t = if from.is_float() {
                from_floats(*to, Shape::scalar(), [value.float()])
            } else {
                from_ints(*to, Shape::scalar(), [value.int()])
            };
            nums(&t.unwrap())[0]
        }
    }
}

/// An operator with its operands, and which of these are known at compile time.
/// An operator and its operands; those marked are known at compile time.
pub(super) struct Case<'a> {
    pub(super) op: &'a str,
    pub(super) opset: i64,
    pub(super) attrs: &'a [(&'a str, Attr)],
    pub(super) operands: &'a [(&'a Tensor, bool)],
    pub(super) results: usize,
}

impl Case<'_> {
    pub(super) fn check(&self) {
        for transposed in [false, true] {
            self.check_with(transposed);
        }
    }

    fn check_with(&self, transposed: bool) {
        let op = import(self.op, self.opset, self.attrs, self.operands.len(), self.results).unwrap();
        let mut graph = Graph::new("case");
        let mut given = Vec::new();
        let operands: Vec<Option<ValueId>> = self
            .operands
            .iter()
            .map(|&(t, known)| {
                if known {
                    return Some(graph.add_constant("k", t.clone()));
                }
                if !transposed || t.shape().rank() < 2 {
                    given.push(t.clone());
                    return Some(graph.add_input("x", t.dtype(), t.shape().clone()));
                }
                let shape: Shape = t.shape().iter().rev().copied().collect();
                let steps: Vec<isize> = strides(t.shape()).into_iter().rev().collect();
                given.push(pick(t, shape.clone(), positions(&shape, &steps, 0)).unwrap());
                let x = graph.add_input("x", t.dtype(), shape);
                let outputs = vec![Some(("t".to_owned(), t.dtype(), t.shape().clone()))];
                let flip = transpose::Transpose { perm: None }.into();
                let id = graph.add_node(flip, vec![Some(x)], outputs, vec![Origin::default()]);
                graph.node(id).unwrap().outputs[0]
            })
            .collect();
        let facts: Vec<Option<Fact<'_>>> = self
            .operands
            .iter()
            .map(|&(t, known)| {
                Some(Fact { dtype: t.dtype(), shape: t.shape(), constant: known.then_some(t) })
            })
            .collect();
        let types = op.as_op().infer(&Inputs::new(&facts, self.results)).unwrap();
        let expected =
            op.as_op().eval(&self.operands.iter().map(|(t, _)| Some(*t)).collect::<Vec<_>>()).unwrap();
        let outputs = types.into_iter().map(|t| Some(("y".to_owned(), t.dtype, t.shape))).collect();
        let id = graph.add_node(op, operands, outputs, vec![Origin::default()]);
        let results: Vec<ValueId> = graph.node(id).unwrap().outputs.iter().flatten().copied().collect();
        graph.outputs = results.into_iter().enumerate().map(|(i, v)| (format!("y{i}"), v)).collect();
        let schedule = lower(&graph, &ScheduleOptions::default()).unwrap();
        let found = run_lowered(&schedule, &given);
        for ((port, found), t) in schedule.outputs.iter().zip(&found).zip(&expected) {
            assert_eq!(port.shape, t.shape().dims(), "{}", self.op);
            for (i, (&found, wanted)) in found.iter().zip(nums(t)).enumerate() {
                let wanted = wanted.float();
                let close = found == wanted
                    || found.is_nan() && wanted.is_nan()
                    || (found - wanted).abs() <= 1e-3 * wanted.abs().max(1e-3);
                assert!(
                    close,
                    "{} (transposed: {transposed}): element {i} is {found}, not {wanted}",
                    self.op
                );
            }
        }
    }
}

fn check(op: &str, attrs: &[(&str, Attr)], operands: &[(&Tensor, bool)]) {
    Case { op, opset: 21, attrs, operands, results: 1 }.check();
}

fn data(shape: &[usize]) -> Tensor {
    Tensor::from_fn::<f32>(shape, |i| (i * 7 % 11) as f32 - 4.5)
}

#[test]
fn elementwise() {
    let (x, row) = (data(&[2, 3, 4]), data(&[3, 1]));
    for op in ["Relu", "Sigmoid", "Abs", "Gelu", "IsNaN"] {
        check(op, &[], &[(&x, false)]);
    }
    for op in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Less", "PRelu"] {
        check(op, &[], &[(&x, false), (&row, false)]);
        check(op, &[], &[(&x, false), (&row, true)]);
    }
    let half = Tensor::from_fn::<f16>([2, 3], |i| f16::from_f32(i as f32));
    check("Mean", &[], &[(&half, false); 30]);
    check("Max", &[], &[(&x, false); 13]);
    check("Mean", &[], &[(&half, false), (&half, false)]);
    check("Pow", &[], &[(&data(&[3, 4]), false), (&i64s(&[], &[2]), false)]);
    check("Clip", &[], &[(&x, false), (&f32s(&[], &[-1.0]), false), (&f32s(&[1], &[2.0]), true)]);
    check("Cast", &[("to", Attr::Int(3))], &[(&x, false)]);
    check("Cast", &[("to", Attr::Int(1))], &[(&half, false)]);
    check("Shrink", &[], &[(&i64s(&[2, 2], &[-3, 0, 1, 4]), false)]);
    let c = Tensor::from_fn::<bool>([2, 1, 4], |i| i % 3 == 0);
    check("Where", &[], &[(&c, false), (&x, false), (&row, false)]);
    check("Not", &[], &[(&c, false)]);
    check("And", &[], &[(&c, false), (&c, false)]);
    check("Dropout", &[], &[(&x, false)]);
}

#[test]
fn reductions() {
    let x = data(&[2, 3, 4]);
    let positive = Tensor::from_fn::<f32>([2, 3, 4], |i| i as f32 + 0.5);
    let ints = Tensor::from_fn::<i32>([2, 3, 4], |i| i as i32 * 3 - 20);
    for keep in [0, 1] {
        let keepdims = [("keepdims", Attr::Int(keep))];
        for axes in [&[1i64][..], &[0, 2], &[-1], &[]] {
            let axes = Tensor::vector(axes);
            for op in [
                "ReduceL1",
                "ReduceL2",
                "ReduceMax",
                "ReduceMean",
                "ReduceMin",
                "ReduceProd",
                "ReduceSum",
                "ReduceSumSquare",
                "ReduceLogSumExp",
            ] {
                check(op, &keepdims, &[(&x, false), (&axes, true)]);
            }
            for op in ["ReduceMean", "ReduceL2", "ReduceL1", "ReduceMax"] {
                check(op, &keepdims, &[(&ints, false), (&axes, true)]);
            }
            check("ReduceLogSum", &keepdims, &[(&positive, false), (&axes, true)]);
        }
        for (axis, last) in [(0, 0), (1, 1), (-1, 0)] {
            let attrs = [
                ("axis", Attr::Int(axis)),
                ("keepdims", Attr::Int(keep)),
                ("select_last_index", Attr::Int(last)),
            ];
            check("ArgMax", &attrs, &[(&x, false)]);
            check("ArgMin", &attrs, &[(&x, false)]);
        }
    }
    // Each accumulator takes one element.
    let thin = data(&[2, 1, 4]);
    for op in ["ReduceL2", "ReduceLogSumExp", "ReduceMax"] {
        check(op, &[], &[(&thin, false), (&i64s(&[1], &[1]), true)]);
        check(op, &[("noop_with_empty_axes", Attr::Int(1))], &[(&x, false), (&i64s(&[0], &[]), true)]);
    }
    check("ArgMax", &[("axis", Attr::Int(1))], &[(&thin, false)]);
    let truth = Tensor::from_fn::<bool>([2, 3], |i| i == 1);
    check("ReduceMax", &[], &[(&truth, false), (&i64s(&[1], &[1]), true)]);
    check("ReduceMin", &[], &[(&truth, false), (&i64s(&[1], &[1]), true)]);
    let axis = |a| ("axis", Attr::Int(a));
    check("edgec.internal.CumSum", &[axis(1), ("exclusive", Attr::Int(1))], &[(&x, false)]);
    check("edgec.internal.CumSum", &[axis(-1), ("reverse", Attr::Int(1))], &[(&ints, false)]);
    check("edgec.internal.CumProd", &[axis(0), ("exclusive", Attr::Int(1))], &[(&ints, false)]);
    let lengths = Tensor::vector(&[0i64, 2, 1]);
    check("ReverseSequence", &[], &[(&data(&[2, 3, 4]), false), (&lengths, false)]);
    let starts = Tensor::vector(&[2i64, 0]);
    for mode in ["linear", "circular"] {
        let mode = [("mode", Attr::String(mode.into()))];
        let case = [(&data(&[2, 3, 4]), false), (&data(&[2, 2, 4]), false), (&starts, false)];
        Case { op: "TensorScatter", opset: 24, attrs: &mode, operands: &case, results: 1 }.check();
    }
}

#[test]
fn movement() {
    let x = data(&[2, 3, 4]);
    let ints = |v: &[i64]| Tensor::vector(v);
    check("Reshape", &[], &[(&x, false), (&ints(&[4, -1]), true)]);
    check("Flatten", &[("axis", Attr::Int(2))], &[(&x, false)]);
    check("Unsqueeze", &[], &[(&x, false), (&ints(&[0, -1]), true)]);
    check("Transpose", &[("perm", Attr::Ints(vec![1, 2, 0]))], &[(&x, false)]);
    check("Concat", &[("axis", Attr::Int(-2))], &[(&x, false), (&data(&[2, 1, 4]), false), (&x, true)]);
    let bounds = [ints(&[-1, 0]), ints(&[i64::MIN, 3]), ints(&[1, 2]), ints(&[-2, 2])];
    let [starts, ends, axes, steps] = &bounds;
    check("Slice", &[], &[(&x, false), (starts, true), (ends, true), (axes, true), (steps, true)]);
    Case { op: "Split", opset: 18, attrs: &[("axis", Attr::Int(1))], operands: &[(&x, false)], results: 2 }
        .check();
    check("Expand", &[], &[(&data(&[3, 1]), false), (&ints(&[2, 1, 4]), true)]);
    check("Tile", &[], &[(&x, false), (&ints(&[2, 1, 3]), true)]);
    let image = data(&[1, 8, 2, 3]);
    let block = ("blocksize", Attr::Int(2));
    check("DepthToSpace", std::slice::from_ref(&block), &[(&image, false)]);
    check("DepthToSpace", &[block.clone(), ("mode", Attr::String(b"CRD".to_vec()))], &[(&image, false)]);
    check("SpaceToDepth", &[block], &[(&data(&[2, 3, 4, 6]), false)]);
}

#[test]
fn gathers() {
    let x = data(&[4, 3]);
    let i = i64s(&[2, 2], &[0, -1, 2, 1]);
    for known in [false, true] {
        check("Gather", &[], &[(&x, false), (&i, known)]);
        check("Gather", &[("axis", Attr::Int(1))], &[(&x, false), (&i64s(&[], &[-2]), known)]);
        check("Gather", &[], &[(&x, false), (&Tensor::vector(&[3i32, 2, 1]), known)]);
        check("GatherElements", &[], &[(&x, false), (&i, known)]);
        check("GatherND", &[], &[(&x, false), (&i64s(&[3, 2], &[0, 0, 3, 2, -1, 1]), known)]);
        check(
            "GatherND",
            &[("batch_dims", Attr::Int(1))],
            &[(&x, false), (&i64s(&[4, 1], &[0, 1, 2, 0]), known)],
        );
        check("GatherND", &[], &[(&x, false), (&i64s(&[1, 1], &[2]), known)]);
        let (depth, values) = (i64s(&[], &[3]), f32s(&[2], &[-1.0, 1.0]));
        check("OneHot", &[("axis", Attr::Int(1))], &[(&i, known), (&depth, true), (&values, false)]);
    }
}

#[test]
fn pads_and_positions() {
    let x = data(&[2, 3, 4]);
    let pads = i64s(&[6], &[0, 1, 2, 0, 2, -1]);
    for mode in ["constant", "reflect", "edge", "wrap"] {
        let mode = [("mode", Attr::String(mode.as_bytes().to_vec()))];
        check("Pad", &mode, &[(&x, false), (&pads, true)]);
        // Many turns along two axes: more regions than a step may have.
        check(
            "Pad",
            &mode,
            &[
                (&x, false),
                (&i64s(&[4], &[40, 9, 40, 9]), true),
                (&f32s(&[], &[0.0]), true),
                (&i64s(&[2], &[1, 0]), true),
            ],
        );
    }
    check("Pad", &[], &[(&x, false), (&pads, true), (&f32s(&[], &[3.0]), false)]);
    check("Trilu", &[], &[(&x, false), (&i64s(&[], &[1]), false)]);
    check("Trilu", &[("upper", Attr::Int(0))], &[(&x, false)]);
    check("EyeLike", &[("k", Attr::Int(-1))], &[(&data(&[3, 4]), false)]);
    check("ConstantOfShape", &[], &[(&i64s(&[2], &[2, 3]), true)]);
    check(
        "Range",
        &[],
        &[(&f32s(&[], &[1.0]), true), (&f32s(&[], &[2.0]), true), (&f32s(&[], &[0.3]), true)],
    );
}

#[test]
fn names_are_listed_once() {
    let list = importers();
    for pair in list.windows(2) {
        let [a, b] = pair else { continue };
        assert_ne!(
            (a.name.domain, a.name.op_type, a.name.since),
            (b.name.domain, b.name.op_type, b.name.since)
        );
    }
}

#[test]
fn quantization() {
    use crate::ir::{F8E4M3, I4, U2};
    let x = Tensor::from_fn::<f32>([4, 5, 6], |i| (i * 37 % 101) as f32 - 50.3);
    let scale = |shape: &[usize]| Tensor::from_fn::<f32>(shape, |i| (i % 5) as f32 + 0.75);
    let (one, row, blocks) = (scale(&[]), scale(&[5]), scale(&[4, 3, 6]));
    let by_block = [("block_size", Attr::Int(2))];
    let zeros = |shape: &[usize]| Tensor::from_fn::<i8>(shape, |i| i as i8 - 3);
    check("QuantizeLinear", &[], &[(&x, false), (&one, true)]);
    check("QuantizeLinear", &[], &[(&x, false), (&one, false), (&zeros(&[]), false)]);
    check("QuantizeLinear", &[], &[(&x, false), (&row, false), (&zeros(&[5]), true)]);
    check("QuantizeLinear", &by_block, &[(&x, false), (&blocks, true), (&zeros(&[4, 3, 6]), false)]);
    check("QuantizeLinear", &[], &[(&x, false), (&one, false), (&Tensor::scalar(F8E4M3(0)), true)]);
    check("QuantizeLinear", &[], &[(&x, false), (&one, false), (&Tensor::scalar(U2(1)), true)]);
    let bytes = Tensor::from_fn::<i8>([4, 5, 6], |i| (i * 7) as i8);
    check("DequantizeLinear", &[], &[(&bytes, true), (&one, true)]);
    check("DequantizeLinear", &[], &[(&bytes, false), (&row, true), (&zeros(&[5]), true)]);
    check("DequantizeLinear", &by_block, &[(&bytes, false), (&blocks, false), (&zeros(&[4, 3, 6]), false)]);
    let few = Tensor::from_fn::<I4>([4, 5, 6], |i| I4((i % 16) as i8 - 8));
    for known in [false, true] {
        let zero = Tensor::from_fn::<I4>([4, 3, 6], |i| I4((i % 3) as i8));
        check("DequantizeLinear", &[], &[(&few, known), (&one, false)]);
        check("DequantizeLinear", &by_block, &[(&few, known), (&blocks, false), (&zero, true)]);
        let outer = [("axis", Attr::Int(0))];
        check("DequantizeLinear", &outer, &[(&few, known), (&scale(&[4]), false)]);
        let outer = [("axis", Attr::Int(0)), ("block_size", Attr::Int(2))];
        check("DequantizeLinear", &outer, &[(&few, known), (&scale(&[2, 5, 6]), false)]);
        let last = [("axis", Attr::Int(2)), ("block_size", Attr::Int(4))];
        check("DequantizeLinear", &last, &[(&few, known), (&scale(&[4, 5, 2]), false)]);
        let odd = Tensor::from_fn::<U2>([3, 8], |i| U2((i % 4) as u8));
        check("DequantizeLinear", &[], &[(&odd, known), (&scale(&[8]), false)]);
    }
}

#[test]
fn integer_products() {
    let bytes = |shape: &[usize]| Tensor::from_fn::<u8>(shape, |i| (i * 73 % 256) as u8);
    let signed = |shape: &[usize]| Tensor::from_fn::<i8>(shape, |i| (i * 37) as i8);
    let (x, w) = (bytes(&[2, 4, 5, 6]), signed(&[6, 2, 3, 2]));
    let attrs = [
        ("group", Attr::Int(2)),
        ("pads", Attr::Ints(vec![1, 0, 1, 1])),
        ("strides", Attr::Ints(vec![2, 1])),
    ];
    let (zero, zeros) = (Tensor::scalar(9u8), signed(&[6]));
    for known in [false, true] {
        check("ConvInteger", &attrs, &[(&x, false), (&w, known)]);
        check("ConvInteger", &attrs, &[(&x, false), (&w, known), (&zero, known), (&zeros, !known)]);
        check(
            "ConvInteger",
            &attrs[..1],
            &[(&x, false), (&w, true), (&zero, known), (&Tensor::scalar(3i8), known)],
        );
    }
    let (a, b) = (bytes(&[2, 3, 4]), signed(&[4, 5]));
    check("MatMulInteger", &[], &[(&a, false), (&b, true)]);
    check("MatMulInteger", &[], &[(&a, false), (&b, false), (&zero, false), (&signed(&[5]), false)]);
    check("MatMulInteger", &[], &[(&a, false), (&b, true), (&bytes(&[3]), true), (&signed(&[1, 5]), true)]);
    check(
        "MatMulInteger",
        &[],
        &[
            (&a, false),
            (&signed(&[2, 4, 5]), false),
            (&bytes(&[2, 3, 1]), false),
            (&signed(&[2, 1, 5]), false),
        ],
    );
    check("MatMulInteger", &[], &[(&bytes(&[4]), false), (&signed(&[2, 4, 5]), false), (&zero, true)]);
    check("MatMulInteger", &[], &[(&a, false), (&signed(&[4]), false)]);
    check("MatMulInteger", &[], &[(&bytes(&[4]), false), (&signed(&[4]), false)]);
}
