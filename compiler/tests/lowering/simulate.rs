//! Runs a schedule step by step with plain loops, one memory per buffer: what kernels are defined to
//! compute, without the kernels.

use edgec::ir::{DType, Tensor, bf16, f16};
use edgec::kernel::expr::{BinaryFn, CompareFn, Expr, ReduceOp, Scalar, UnaryFn};
use edgec::kernel::spec::{
    Activation, ConvSpec, Epilogue, NormKind, PoolKind, RecurrentKind, Residual, Scale, View,
    WinogradInputSpec, WinogradOutputSpec,
};
use edgec::kernel::{Access, EpilogueOperands, Kernel, Nest, Operand, Param, Routine};
use edgec::schedule::Schedule;
use edgec_runtime::pack;

/// A value of any type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Val {
    F(f64),
    I(i64),
    B(bool),
    /// Memory that nobody wrote.
    Unset,
}

impl Val {
    fn f(self) -> f64 {
        match self {
            Val::F(x) => x,
            other => panic!("{other:?} used as a float"),
        }
    }
    fn i(self) -> i64 {
        match self {
            Val::I(x) => x,
            other => panic!("{other:?} used as an integer"),
        }
    }
    fn b(self) -> bool {
        match self {
            Val::B(x) => x,
            other => panic!("{other:?} used as a truth value"),
        }
    }
}

/// Rounds to what memory of that type holds.
fn rounded(dtype: DType, v: Val) -> Val {
    match (dtype, v) {
        (DType::F32, Val::F(x)) => Val::F((x as f32).into()),
        (DType::F64, Val::F(x)) => Val::F(x),
        (DType::F16, Val::F(x)) => Val::F(f16::from_f32(x as f32).into()),
        (DType::Bf16, Val::F(x)) => Val::F(bf16::from_f32(x as f32).into()),
        (DType::Bool, Val::B(x)) => Val::B(x),
        (d, Val::I(x)) if d.is_int() => Val::I(wrapped(d, x)),
        (d, v) => panic!("{v:?} stored as {d}"),
    }
}

fn wrapped(dtype: DType, x: i64) -> i64 {
    match dtype {
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        _ => x,
    }
}

fn values(t: &Tensor) -> Vec<Val> {
    match t.dtype() {
        DType::Bool => t.to_i64_vec().unwrap().into_iter().map(|x| Val::B(x != 0)).collect(),
        d if d.is_int() => t.to_i64_vec().unwrap().into_iter().map(Val::I).collect(),
        _ => t.to_f64_vec().unwrap().into_iter().map(Val::F).collect(),
    }
}

/// The memory of a model that runs.
struct Memory {
    buffers: Vec<Vec<Val>>,
    constants: Vec<Vec<Val>>,
    dtypes: [Vec<DType>; 2],
}

impl Memory {
    fn get(&self, o: Operand, i: usize) -> Val {
        let v = match o {
            Operand::Buffer(b) => self.buffers[b.0 as usize][i],
            Operand::Const(c) => self.constants[c.0 as usize][i],
        };
        assert_ne!(v, Val::Unset, "element {i} of {o:?} is read before it is written");
        v
    }
    fn f(&self, o: Operand, i: usize) -> f64 {
        self.get(o, i).f()
    }
    fn put(&mut self, o: Operand, i: usize, v: Val) {
        let Operand::Buffer(b) = o else { panic!("a constant is written") };
        self.buffers[b.0 as usize][i] = rounded(self.dtypes[0][b.0 as usize], v);
    }
    fn dtype(&self, o: Operand) -> DType {
        match o {
            Operand::Buffer(b) => self.dtypes[0][b.0 as usize],
            Operand::Const(c) => self.dtypes[1][c.0 as usize],
        }
    }
}

/// Outputs of a schedule for these inputs, row-major in the ports' shapes.
pub fn run(schedule: &Schedule, inputs: &[&Tensor]) -> Vec<Vec<Val>> {
    let constant = |c: &edgec::kernel::Constant| {
        assert_eq!(c.bytes.len(), c.len * c.dtype.size());
        values(&Tensor::from_le_bytes(c.dtype, [c.len], &c.bytes).unwrap())
    };
    let mut m = Memory {
        buffers: schedule.buffers.iter().map(|b| vec![Val::Unset; b.len]).collect(),
        constants: schedule.constants.iter().map(constant).collect(),
        dtypes: [
            schedule.buffers.iter().map(|b| b.dtype).collect(),
            schedule.constants.iter().map(|c| c.dtype).collect(),
        ],
    };
    for (port, tensor) in schedule.inputs.iter().zip(inputs) {
        assert_eq!(port.shape, tensor.shape().dims());
        for (i, v) in values(tensor).into_iter().enumerate() {
            m.put(port.operand, i, v);
        }
    }
    for step in &schedule.steps {
        execute(&mut m, &step.kernel);
    }
    let output =
        |p: &edgec::schedule::Port| (0..p.shape.iter().product()).map(|i| m.get(p.operand, i)).collect();
    schedule.outputs.iter().map(output).collect()
}

fn execute(m: &mut Memory, kernel: &Kernel) {
    match kernel {
        Kernel::Loops(loops) => {
            for o in loops.reads() {
                assert!(!loops.writes().contains(&o), "a step of loops reads what it writes");
            }
            loops.nests.iter().for_each(|n| nest(m, n));
        }
        Kernel::Conv { spec, x, w, epilogue, y } => conv(m, spec, [*x, *w, *y], epilogue),
        Kernel::Depthwise { spec: s, x, w, epilogue, y } => {
            let layout = pack::Depthwise { kernel: s.kernel, channels: s.y.channels };
            each(&s.y, |n, at, c| {
                let mut acc = 0f64;
                taps(s.kernel, |t, k| {
                    if let Some(i) = source(&s.x, n, at, k, (s.stride, s.dilation, s.pads), c / s.multiplier)
                    {
                        acc += m.f(*x, i) * m.f(*w, layout.index(c, t));
                    }
                });
                let r = index(&s.residual, n, at, c);
                let v = finish(m, acc, &s.epilogue, epilogue, c, r);
                m.put(*y, index(&s.y, n, at, c), Val::F(v));
            });
        }
        Kernel::MatMul { spec: s, a, w, epilogue, y } => {
            let layout = pack::Gemm { k: s.k, n: s.n };
            for b in 0..s.batch {
                for i in 0..s.m {
                    for j in 0..s.n {
                        let row = s.a_offset + b * s.a_batch + i * s.a_stride;
                        let acc = (0..s.k)
                            .map(|p| m.f(*a, row + p) * m.f(*w, b * s.w_batch + layout.index(p, j)))
                            .sum();
                        let r = s.r_offset + b * s.r_batch + i * s.r_stride + j;
                        let v = finish(m, acc, &s.epilogue, epilogue, j, r);
                        m.put(*y, s.y_offset + b * s.y_batch + i * s.y_stride + j, Val::F(v));
                    }
                }
            }
        }
        Kernel::Pool { spec: s, x, y } => each(&s.y, |n, at, c| {
            let (mut best, mut sum, mut inside, mut padded) = (f64::NEG_INFINITY, 0.0, 0, 0);
            taps(s.kernel, |_, k| {
                let reach = |d: usize| at[d] * s.stride[d] + k[d] * s.dilation[d];
                if (0..3).all(|d| reach(d) < s.pads[d] + s.x.extent[d] + s.pads_end[d]) {
                    padded += 1;
                }
                if let Some(i) = source(&s.x, n, at, k, (s.stride, s.dilation, s.pads), c) {
                    inside += 1;
                    best = best.max(m.f(*x, i));
                    sum += m.f(*x, i);
                }
            });
            let v = match s.kind {
                PoolKind::Max => best,
                PoolKind::AverageExcludePad => sum / f64::from(inside),
                PoolKind::AverageIncludePad => sum / f64::from(padded),
            };
            m.put(*y, index(&s.y, n, at, c), Val::F(activate(s.activation, v, 0.0)));
        }),
        Kernel::Softmax { spec: s, x, y } => {
            for o in 0..s.outer {
                for i in 0..s.inner {
                    let at = |l: usize| (o * s.len + l) * s.inner + i;
                    let x: Vec<f64> = (0..s.len).map(|l| m.f(*x, at(l))).collect();
                    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = x.iter().map(|v| (v - max).exp()).sum();
                    for (l, v) in x.iter().enumerate() {
                        let v = if s.log { v - max - sum.ln() } else { (v - max).exp() / sum };
                        m.put(*y, at(l), Val::F(v));
                    }
                }
            }
        }
        Kernel::Norm { spec: s, x, scale, bias, y } => {
            assert_eq!((s.scale, s.bias), (scale.is_some(), bias.is_some()));
            for r in 0..s.rows {
                let x: Vec<f64> = (0..s.len).map(|i| m.f(*x, r * s.len + i)).collect();
                let n = s.len as f64;
                let mean = if s.kind == NormKind::Layer { x.iter().sum::<f64>() / n } else { 0.0 };
                let var = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
                for (i, v) in x.iter().enumerate() {
                    let scaled =
                        (v - mean) / (var + f64::from(s.epsilon)).sqrt() * scale.map_or(1.0, |o| m.f(o, i));
                    m.put(*y, r * s.len + i, Val::F(scaled + bias.map_or(0.0, |o| m.f(o, i))));
                }
            }
        }
        Kernel::Pack { spec: s, x, y } => {
            let layout = pack::Gemm { k: s.k, n: s.n };
            for i in 0..s.batch * layout.packed_len() {
                m.put(*y, i, Val::F(0.0));
            }
            for b in 0..s.batch {
                for k in 0..s.k {
                    for n in 0..s.n {
                        let v = m.get(*x, s.offset + b * s.batch_stride + k * s.k_stride + n * s.n_stride);
                        m.put(*y, b * layout.packed_len() + layout.index(k, n), v);
                    }
                }
            }
        }
        Kernel::ConvI8(_) | Kernel::DepthwiseI8(_) => panic!("bytes are compared whole, with generated code"),
        Kernel::Recurrent(r) => recurrent(m, r),
        Kernel::WinogradInput { spec, x, y } => winograd_input(m, spec, *x, *y),
        Kernel::WinogradOutput { spec, x, epilogue, y } => winograd_output(m, spec, [*x, *y], epilogue),
        Kernel::Routine(r) => routine(m, r),
        Kernel::Custom(_) => panic!("only generated code calls functions of the user"),
    }
}

fn recurrent(m: &mut Memory, r: &edgec::kernel::Recurrent) {
    let s = &r.spec;
    let (gates, lstm) = (s.kind.gates(), s.kind == RecurrentKind::Lstm);
    let layout = pack::Recurrent { gates, hidden: s.hidden };
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    for n in 0..s.batch {
        let at = s.state_offset + n * s.state_batch;
        let first = |m: &Memory, o: Option<Operand>| -> Vec<f64> {
            (0..s.hidden).map(|j| o.map_or(0.0, |o| m.f(o, at + j))).collect()
        };
        let (mut h, mut c) = (first(m, r.first_h), first(m, r.first_c));
        for i in 0..s.steps {
            let t = if s.backwards { s.steps - 1 - i } else { i };
            let mut new = h.clone();
            for j in 0..s.hidden {
                let column = |g: usize| (j / 16 * gates + g) * 16 + j % 16;
                let x = |g: usize| m.f(r.x, t * s.x_step + n * s.x_batch + column(g));
                let product =
                    |g: usize| (0..s.hidden).map(|k| m.f(r.r, layout.index(g, j, k)) * h[k]).sum::<f64>();
                let gate = |g: usize| sigmoid(x(g) + product(g));
                if lstm {
                    c[j] = gate(2) * c[j] + gate(0) * (x(3) + product(3)).tanh();
                    new[j] = gate(1) * c[j].tanh();
                } else {
                    let late = product(2) + r.bias.map_or(0.0, |b| m.f(b, j));
                    new[j] = (1.0 - gate(0)) * (x(2) + gate(1) * late).tanh() + gate(0) * h[j];
                }
            }
            h = new;
            for (j, v) in h.iter().enumerate() {
                if let Some(y) = r.y {
                    m.put(y, s.y_offset + t * s.y_step + n * s.y_batch + j, Val::F(*v));
                }
            }
        }
        for (operand, values) in [(r.last_h, &h), (r.last_c, &c)] {
            for (j, v) in values.iter().enumerate() {
                if let Some(operand) = operand {
                    m.put(operand, at + j, Val::F(*v));
                }
            }
        }
    }
}

/// `matrix · v · matrixᵀ`, element `(i, j)`.
fn both_sides(matrix: &[&[f64]], i: usize, j: usize, v: impl Fn(usize, usize) -> f64) -> f64 {
    let row = |a: usize| matrix[j].iter().enumerate().map(|(b, m)| m * v(a, b)).sum::<f64>();
    matrix[i].iter().enumerate().map(|(a, m)| m * row(a)).sum()
}

fn winograd_input(m: &mut Memory, s: &WinogradInputSpec, x: Operand, y: Operand) {
    let two: &[&[f64]] = &[&[1., 0., -1., 0.], &[0., 1., 1., 0.], &[0., -1., 1., 0.], &[0., 1., 0., -1.]];
    let four: &[&[f64]] = &[
        &[4., 0., -5., 0., 1., 0.],
        &[0., -4., -4., 1., 1., 0.],
        &[0., 4., -4., -1., 1., 0.],
        &[0., -2., -1., 2., 1., 0.],
        &[0., 2., -1., -2., 1., 0.],
        &[0., 4., 0., -5., 0., 1.],
    ];
    let (side, matrix) = (s.tile + 2, if s.tile == 2 { two } else { four });
    let [rows, columns] = s.patches;
    for patch in 0..s.rows() {
        let (n, r, c) = (patch / columns / rows, patch / columns % rows, patch % columns);
        for channel in 0..pack::padded(s.x.channels) {
            let pixel = |a: usize, b: usize| {
                let row = (s.first + r * s.tile + a).wrapping_sub(s.pads[0]);
                let column = (c * s.tile + b).wrapping_sub(s.pads[1]);
                let inside = row < s.x.extent[1] && column < s.x.extent[2] && channel < s.x.channels;
                if inside { m.f(x, index(&s.x, n, [0, row, column], channel)) } else { 0.0 }
            };
            let values: Vec<f64> =
                (0..side * side).map(|p| both_sides(matrix, p / side, p % side, pixel)).collect();
            for (p, v) in values.into_iter().enumerate() {
                m.put(y, p * s.plane + patch * pack::padded(s.x.channels) + channel, Val::F(v));
            }
        }
    }
}

fn winograd_output(m: &mut Memory, s: &WinogradOutputSpec, [x, y]: [Operand; 2], e: &EpilogueOperands) {
    let two: &[&[f64]] = &[&[1., 1., 1., 0.], &[0., 1., -1., -1.]];
    let four: &[&[f64]] = &[
        &[1., 1., 1., 1., 1., 0.],
        &[0., 1., -1., 2., -2., 0.],
        &[0., 1., 1., 4., 4., 0.],
        &[0., 1., -1., 8., -8., 1.],
    ];
    let (side, matrix) = (s.tile + 2, if s.tile == 2 { two } else { four });
    let [rows, columns] = s.patches();
    each(&s.y, |n, at, c| {
        let patch = (n * rows + at[1] / s.tile) * columns + at[2] / s.tile;
        let product =
            |a: usize, b: usize| m.f(x, (a * side + b) * s.plane + patch * pack::padded(s.y.channels) + c);
        let acc = both_sides(matrix, at[1] % s.tile, at[2] % s.tile, product);
        let v = finish(m, acc, &s.epilogue, e, c, index(&s.residual, n, at, c));
        m.put(y, index(&s.y, n, at, c), Val::F(v));
    });
}

fn routine(m: &mut Memory, r: &Routine) {
    let ("topk::topk", [x], [values, places]) = (r.function, &r.reads[..], &r.writes[..]) else {
        panic!("no simulation of {}", r.function)
    };
    let [Param::Usize(outer), Param::Usize(len), Param::Usize(inner), Param::Usize(k), Param::Bool(largest)] =
        r.params[..]
    else {
        panic!("topk with {:?}", r.params)
    };
    for o in 0..outer {
        for i in 0..inner {
            let from = |l: usize| m.get(*x, (o * len + l) * inner + i);
            let number = |l: usize| match from(l) {
                Val::I(v) => v as f64,
                v => v.f(),
            };
            let mut order: Vec<usize> = (0..len).collect();
            order.sort_by(|&a, &b| {
                let by = number(a).total_cmp(&number(b));
                if largest { by.reverse() } else { by }
            });
            let best: Vec<(usize, Val)> = order.into_iter().take(k).map(|l| (l, from(l))).collect();
            for (n, (l, v)) in best.into_iter().enumerate() {
                m.put(*values, (o * k + n) * inner + i, v);
                m.put(*places, (o * k + n) * inner + i, Val::I(l as i64));
            }
        }
    }
}

fn conv(m: &mut Memory, s: &ConvSpec, [x, w, y]: [Operand; 3], e: &EpilogueOperands) {
    let (ic, oc) = (s.x.channels / s.groups, s.y.channels / s.groups);
    let layout = pack::Conv { kernel: s.kernel, in_channels: ic, out_channels: oc, groups: s.groups };
    let vectors = pack::Vector { channels: oc, groups: s.groups };
    each(&s.y, |n, at, c| {
        let (g, o) = (c / oc, c % oc);
        let mut acc = 0f64;
        taps(s.kernel, |t, k| {
            for i in 0..ic {
                if let Some(from) = source(&s.x, n, at, k, (s.stride, s.dilation, s.pads), g * ic + i) {
                    acc += m.f(x, from) * m.f(w, layout.index(g, o, i, t));
                }
            }
        });
        let r = index(&s.residual, n, at, c);
        let v = finish(m, acc, &s.epilogue, e, vectors.index(g, o), r);
        m.put(y, index(&s.y, n, at, c), Val::F(v));
    });
}

/// Calls `f` with image, position and channel of each element.
fn each(y: &View, mut f: impl FnMut(usize, [usize; 3], usize)) {
    for n in 0..y.batch {
        taps(y.extent, |_, at| (0..y.channels).for_each(|c| f(n, at, c)));
    }
}

fn taps(kernel: [usize; 3], mut f: impl FnMut(usize, [usize; 3])) {
    let mut t = 0;
    for d in 0..kernel[0] {
        for h in 0..kernel[1] {
            for w in 0..kernel[2] {
                f(t, [d, h, w]);
                t += 1;
            }
        }
    }
}

fn index(v: &View, n: usize, at: [usize; 3], c: usize) -> usize {
    v.offset + n * v.n_stride + (0..3).map(|d| at[d] * v.strides[d]).sum::<usize>() + c * v.c_stride
}

fn source(
    x: &View,
    n: usize,
    at: [usize; 3],
    k: [usize; 3],
    (stride, dilation, pads): ([usize; 3], [usize; 3], [usize; 3]),
    c: usize,
) -> Option<usize> {
    let mut from = [0; 3];
    for d in 0..3 {
        from[d] =
            (at[d] * stride[d] + k[d] * dilation[d]).checked_sub(pads[d]).filter(|&i| i < x.extent[d])?;
    }
    Some(index(x, n, from, c))
}

fn finish(m: &Memory, acc: f64, e: &Epilogue, o: &EpilogueOperands, channel: usize, residual: usize) -> f64 {
    let scaled = match e.scale {
        Scale::One => acc,
        Scale::Uniform(s) => acc * f64::from(s),
        Scale::PerChannel => acc * m.f(o.scale.unwrap(), channel),
    };
    let sum = scaled + if e.bias { m.f(o.bias.unwrap(), channel) } else { 0.0 };
    let slope = o.slope.map_or(0.0, |s| m.f(s, channel));
    let addend = || m.f(o.residual.unwrap(), residual);
    match e.residual {
        Residual::None => activate(e.activation, sum, slope),
        Residual::Before => activate(e.activation, sum + addend(), slope),
        Residual::After => activate(e.activation, sum, slope) + addend(),
    }
}

fn activate(a: Activation, x: f64, slope: f64) -> f64 {
    edgec::ops::fused::activate(a, x as f32, slope as f32).into()
}

fn at(a: &Access, index: &[usize]) -> usize {
    assert_eq!(a.strides.len(), index.len(), "one stride for each loop");
    let at = index.iter().zip(&a.strides).fold(a.offset as isize, |at, (&i, &s)| at + i as isize * s);
    usize::try_from(at).expect("an access in front of its operand")
}

fn nest(m: &mut Memory, n: &Nest) {
    let outer = n.extents.len() - n.reduce;
    let mut index = vec![0; n.extents.len()];
    loops(&n.extents[..outer], &mut index, 0, &mut |index| {
        let mut accs: Vec<Option<Val>> = vec![None; n.reductions.len()];
        let mut places = vec![0i64; n.reductions.len()];
        let mut step = 0i64;
        if n.reduce > 0 {
            let inner = n.extents[outer..].to_vec();
            let mut full = index.to_vec();
            loops(&inner, &mut full, outer, &mut |full| {
                let reads = reads(m, n, full);
                for ((acc, place), r) in accs.iter_mut().zip(&mut places).zip(&n.reductions) {
                    let v = eval(&r.value, &reads, &[], full);
                    let before = *acc;
                    *acc = Some(combine(r.op, before, v));
                    if *acc != before {
                        *place = step;
                    }
                }
                step += 1;
            });
        }
        let start = |r: &edgec::kernel::loops::Reduction| match (r.op, r.dtype.is_float()) {
            (ReduceOp::Sum, true) => Val::F(0.0),
            (ReduceOp::Sum, false) => Val::I(0),
            (op, _) => panic!("{op:?} over nothing"),
        };
        let accs: Vec<Val> = accs
            .iter()
            .zip(&places)
            .zip(&n.reductions)
            .map(|((acc, &place), r)| match r.op {
                ReduceOp::ArgMax { .. } => Val::I(place),
                _ => rounded(r.dtype, acc.unwrap_or_else(|| start(r))),
            })
            .collect();
        // Loops that are reduced over stand at zero.
        let reads = reads(m, n, index);
        for s in &n.stores {
            assert_eq!(s.access.dtype, m.dtype(s.access.operand));
            let v = eval(&s.value, &reads, &accs, index);
            m.put(s.access.operand, at(&s.access, index), v);
        }
    });
}

fn loops(extents: &[usize], index: &mut [usize], level: usize, f: &mut dyn FnMut(&[usize])) {
    let Some((&extent, rest)) = extents.split_first() else { return f(index) };
    for i in 0..extent {
        index[level] = i;
        loops(rest, index, level + 1, f);
    }
    index[level] = 0;
}

fn reads(m: &Memory, n: &Nest, index: &[usize]) -> Vec<Val> {
    let mut out: Vec<Val> = Vec::new();
    if n.reduce > 0 && n.extents.contains(&0) {
        return vec![Val::F(0.0); n.reads.len()];
    }
    for r in &n.reads {
        assert_eq!(r.access.dtype, m.dtype(r.access.operand));
        let mut i = at(&r.access, index) as isize;
        for g in &r.gather {
            let p = eval(&g.index, &out, &[], index).i();
            assert!((0..g.extent as i64).contains(&p), "an index outside its axis");
            i += p as isize * g.stride;
        }
        out.push(m.get(r.access.operand, i as usize));
    }
    out
}

fn combine(op: ReduceOp, acc: Option<Val>, v: Val) -> Val {
    let Some(acc) = acc else { return v };
    match (op, acc, v) {
        (ReduceOp::Sum, Val::F(a), Val::F(b)) => Val::F(a + b),
        (ReduceOp::Sum, Val::I(a), Val::I(b)) => Val::I(a.wrapping_add(b)),
        (ReduceOp::Max | ReduceOp::ArgMax { .. }, Val::F(a), Val::F(b)) => Val::F(if b > a { b } else { a }),
        (ReduceOp::Max | ReduceOp::ArgMax { .. }, Val::I(a), Val::I(b)) => Val::I(a.max(b)),
        other => panic!("no simulation of {other:?}"),
    }
}

fn eval(e: &Expr, reads: &[Val], accs: &[Val], index: &[usize]) -> Val {
    let go = |e: &Expr| eval(e, reads, accs, index);
    match e {
        Expr::Read(i) => reads[*i],
        Expr::Acc(i) => accs[*i],
        Expr::Index(i) => Val::I(index[*i] as i64),
        Expr::Const(Scalar::F32(x)) => Val::F((*x).into()),
        Expr::Const(Scalar::F64(x)) => Val::F(*x),
        Expr::Const(Scalar::Int(_, x)) => Val::I(*x),
        Expr::Const(Scalar::U64(x)) => Val::I(*x as i64),
        Expr::Const(Scalar::Bool(x)) => Val::B(*x),
        Expr::Select(c, a, b) => {
            if go(c).b() {
                go(a)
            } else {
                go(b)
            }
        }
        Expr::Compare(f, a, b) => {
            let (a, b) = (go(a), go(b));
            Val::B(match (f, a, b) {
                (CompareFn::Equal, a, b) => a == b,
                (CompareFn::Less, Val::F(a), Val::F(b)) => a < b,
                (CompareFn::Less, Val::I(a), Val::I(b)) => a < b,
                other => panic!("no simulation of {other:?}"),
            })
        }
        Expr::Quantize { to, value, zero } => {
            let zero = match go(zero) {
                Val::I(zero) => zero as f64,
                other => other.f(),
            };
            let bits = 8 * to.size() as u32 - 1;
            let lowest = if to.is_signed_int() { -f64::from(1u32 << bits) } else { 0.0 };
            let rounded = go(value).f().round_ties_even() + zero;
            Val::I(rounded.clamp(lowest, lowest + f64::from(2u32 << bits) - 1.0) as i64)
        }
        Expr::Cast { to, value, .. } => match (go(value), to.is_float()) {
            (Val::I(x), true) => Val::F(x as f64),
            (Val::F(x), false) => Val::I(x as i64),
            (v, _) => rounded(*to, v),
        },
        Expr::Unary(f, a) => {
            let x = go(a).f();
            Val::F(match f {
                UnaryFn::Abs => x.abs(),
                UnaryFn::Exp => x.exp(),
                UnaryFn::Log => x.ln(),
                UnaryFn::Sqrt => x.sqrt(),
                UnaryFn::Reciprocal => 1.0 / x,
                UnaryFn::Relu => x.max(0.0),
                UnaryFn::Tanh => x.tanh(),
                other => panic!("no simulation of {other:?}"),
            })
        }
        Expr::Binary(f, a, b) => match (go(a), go(b)) {
            (Val::F(a), Val::F(b)) => Val::F(match f {
                BinaryFn::Add => a + b,
                BinaryFn::Sub => a - b,
                BinaryFn::Mul => a * b,
                BinaryFn::Div => a / b,
                BinaryFn::Pow => a.powf(b),
                BinaryFn::Max => a.max(b),
                BinaryFn::Min => a.min(b),
                BinaryFn::PRelu => {
                    if a < 0.0 {
                        a * b
                    } else {
                        a
                    }
                }
                other => panic!("no simulation of {other:?}"),
            }),
            (Val::I(a), Val::I(b)) => Val::I(match f {
                BinaryFn::Add => a.wrapping_add(b),
                BinaryFn::Sub => a.wrapping_sub(b),
                BinaryFn::Mul => a.wrapping_mul(b),
                BinaryFn::Div => a / b,
                BinaryFn::Mod => a.rem_euclid(b),
                other => panic!("no simulation of {other:?}"),
            }),
            other => panic!("operands of different types: {other:?}"),
        },
    }
}
