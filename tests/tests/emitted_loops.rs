//! Emitted loop nests against a plain evaluation of the same nests: one crate of many small models is built
//! in release, linted, and its recorded samples run at every level.

use edgec::emit::{EmitOptions, Level, Meta, ModelUnit, Runtime, Sample, package, write};
use edgec::ir::{DType, f16};
use edgec::kernel::expr::{BinaryFn, CompareFn, Expr, ReduceOp, Scalar, UnaryFn};
use edgec::kernel::loops::{Gather, Read, Reduction, Store};
use edgec::kernel::{Access, Buffer, BufferId, Kernel, Loops, Nest, Operand};
use edgec::memory::{Plan, PlanTable, StepForm};
use edgec::schedule::{Port, Schedule, Step};
use std::path::Path;
use std::process::Command;

/// A number of any type.
#[derive(Debug, Clone, Copy, PartialEq)]
enum V {
    F(f64),
    I(i64),
    B(bool),
}

impl V {
    fn f(self) -> f64 {
        match self {
            V::F(x) => x,
            V::I(x) => x as f64,
            V::B(x) => x as u8 as f64,
        }
    }
    fn i(self) -> i64 {
        match self {
            V::F(x) => x as i64,
            V::I(x) => x,
            V::B(x) => x as i64,
        }
    }
    fn b(self) -> bool {
        self.f() != 0.0
    }
    fn to(self, dtype: DType) -> V {
        match dtype {
            DType::F32 => V::F(self.f() as f32 as f64),
            DType::F16 => V::F(f16::from_f64(self.f()).to_f64()),
            DType::F64 => V::F(self.f()),
            DType::Bool => V::B(self.b()),
            DType::I8 => V::I(self.i() as i8 as i64),
            DType::I32 => V::I(self.i() as i32 as i64),
            _ => V::I(self.i()),
        }
    }
    fn bytes(self, dtype: DType) -> Vec<u8> {
        match dtype {
            DType::F32 => (self.f() as f32).to_le_bytes().to_vec(),
            DType::F16 => f16::from_f64(self.f()).to_le_bytes().to_vec(),
            DType::Bool => vec![self.b() as u8],
            _ => self.i().to_le_bytes()[..dtype.size()].to_vec(),
        }
    }
}

fn eval(e: &Expr, reads: &[V], accs: &[V], index: &[usize]) -> V {
    let go = |e: &Expr| eval(e, reads, accs, index);
    match e {
        Expr::Read(i) => reads[*i],
        Expr::Acc(i) => accs[*i],
        Expr::Index(i) => V::I(index[*i] as i64),
        Expr::Const(Scalar::F32(x)) => V::F(*x as f64),
        Expr::Const(Scalar::Int(_, x)) => V::I(*x),
        Expr::Unary(UnaryFn::Relu, a) => V::F(go(a).f().max(0.0)),
        Expr::Unary(UnaryFn::Exp, a) => V::F(go(a).f().exp()),
        Expr::Binary(f, a, b) => match (f, go(a), go(b)) {
            (BinaryFn::Add, V::I(a), V::I(b)) => V::I(a.wrapping_add(b)),
            (BinaryFn::Add, a, b) => V::F(a.f() + b.f()),
            (BinaryFn::Mul, a, b) => V::F(a.f() * b.f()),
            (BinaryFn::Div, a, b) => V::F(a.f() / b.f()),
            (f, ..) => panic!("{f:?}"),
        },
        Expr::Compare(CompareFn::Less, a, b) => V::B(go(a).f() < go(b).f()),
        Expr::Select(c, a, b) => {
            if go(c).b() {
                go(a)
            } else {
                go(b)
            }
        }
        Expr::Cast { to, value, .. } => go(value).to(*to),
        Expr::Quantize { to: DType::I8, value, zero } => {
            V::I((go(value).f().round_ties_even() + go(zero).f()).clamp(-128.0, 127.0) as i64)
        }
        e => panic!("{e:?}"),
    }
}

fn position(access: &Access, index: &[usize]) -> isize {
    access.offset as isize + access.strides.iter().zip(index).map(|(s, &i)| s * i as isize).sum::<isize>()
}

fn indices(extents: &[usize]) -> Vec<Vec<usize>> {
    extents.iter().fold(vec![vec![]], |all, &n| {
        all.iter().flat_map(|i| (0..n).map(move |k| [i.as_slice(), &[k]].concat())).collect()
    })
}

/// Runs a nest over buffers.
fn run(nest: &Nest, memory: &mut [Vec<V>], dtypes: &[DType]) {
    let outer = nest.extents.len() - nest.reduce;
    let id = |o: Operand| match o {
        Operand::Buffer(b) => b.0 as usize,
        Operand::Const(_) => panic!("no constants here"),
    };
    for out in indices(&nest.extents[..outer]) {
        let mut accs: Vec<Option<V>> = vec![None; nest.reductions.len()];
        let mut best: Vec<f64> = vec![f64::NAN; nest.reductions.len()];
        let mut last_reads = vec![];
        for (k, inner) in indices(&nest.extents[outer..]).into_iter().enumerate() {
            let index = [out.clone(), inner].concat();
            let mut reads: Vec<V> = vec![];
            for r in &nest.reads {
                let mut at = position(&r.access, &index);
                for g in &r.gather {
                    let i = eval(&g.index, &reads, &[], &index).i();
                    let i = if i < 0 { i + g.extent as i64 } else { i }.clamp(0, g.extent as i64 - 1);
                    at += i as isize * g.stride;
                }
                reads.push(memory[id(r.access.operand)][at as usize]);
            }
            for (a, r) in nest.reductions.iter().enumerate() {
                let v = eval(&r.value, &reads, &[], &index);
                accs[a] = Some(match (r.op, accs[a]) {
                    (ReduceOp::ArgMax { last }, old) => {
                        let better = old.is_none() || v.f() > best[a] || (last && v.f() == best[a]);
                        if better {
                            best[a] = v.f();
                        }
                        if better { V::I(k as i64) } else { old.unwrap() }
                    }
                    (_, None) => v,
                    (ReduceOp::Sum, Some(old)) => match (old, v) {
                        (V::I(a), V::I(b)) => V::I(a.wrapping_add(b)),
                        (a, b) => V::F(a.f() + b.f()),
                    },
                    (ReduceOp::Max, Some(old)) => V::F(old.f().max(v.f())),
                    (ReduceOp::Any, Some(old)) => V::B(old.b() | v.b()),
                    (op, _) => panic!("{op:?}"),
                });
            }
            last_reads = reads;
        }
        let accs: Vec<V> = accs.into_iter().map(|a| a.unwrap_or(V::F(0.0))).collect();
        let index = [out.clone(), vec![0; nest.reduce]].concat();
        for s in &nest.stores {
            let v = eval(&s.value, &last_reads, &accs, &index);
            let b = id(s.access.operand);
            memory[b][position(&s.access, &index) as usize] = v.to(dtypes[b]);
        }
    }
}

/// A model made of nests over buffers, of which some are inputs and one is the output.
struct Case {
    name: &'static str,
    /// Element type, length, byte offset.
    buffers: Vec<(DType, usize, usize)>,
    inputs: usize,
    output: usize,
    nests: Vec<Nest>,
    /// What inputs hold, by buffer and position; other than a smooth mix of signs.
    special: Vec<(usize, usize, f64)>,
}

fn access(buffer: u32, dtype: DType, offset: usize, strides: &[isize]) -> Access {
    Access { operand: Operand::Buffer(BufferId(buffer)), dtype, offset, strides: strides.to_vec() }
}

fn read(buffer: u32, dtype: DType, offset: usize, strides: &[isize]) -> Read {
    Read { access: access(buffer, dtype, offset, strides), gather: vec![] }
}

fn store(buffer: u32, dtype: DType, offset: usize, strides: &[isize], value: Expr) -> Store {
    Store { access: access(buffer, dtype, offset, strides), value }
}

fn map(extents: &[usize], reads: Vec<Read>, stores: Vec<Store>) -> Nest {
    Nest { extents: extents.to_vec(), reduce: 0, reads, reductions: vec![], stores }
}

fn add(a: Expr, b: Expr) -> Expr {
    Expr::Binary(BinaryFn::Add, a.into(), b.into())
}

fn reduce(extents: &[usize], op: ReduceOp, dtype: DType, r: Read, s: Store) -> Nest {
    let value = Expr::Read(0);
    Nest {
        extents: extents.to_vec(),
        reduce: 1,
        reads: vec![r],
        reductions: vec![Reduction { op, dtype, value }],
        stores: vec![s],
    }
}

fn cases() -> Vec<Case> {
    use DType::{Bool, F16, F32, I8, I32, I64};
    let r = Expr::Read;
    let relu = |e: Expr| Expr::Unary(UnaryFn::Relu, e.into());
    let case =
        |name, buffers, inputs, output, nests| Case { name, buffers, inputs, output, nests, special: vec![] };
    let argmax = |name, last| Case {
        special: vec![(0, 3, 50.0), (0, 9, 50.0), (0, 37, 60.0)],
        ..case(
            name,
            vec![(F32, 60, 0), (I64, 3, 256)],
            1,
            1,
            vec![reduce(
                &[3, 20],
                ReduceOp::ArgMax { last },
                F32,
                read(0, F32, 0, &[20, 1]),
                store(1, I64, 0, &[1, 0], Expr::Acc(0)),
            )],
        )
    };
    let gathered = |index| Read {
        access: access(1, F32, 0, &[0, 1]),
        gather: vec![Gather { index, extent: 5, stride: 12, proven: true }],
    };
    vec![
        case(
            "broadcast",
            vec![(F32, 70, 0), (F32, 7, 320), (F32, 70, 384)],
            2,
            2,
            vec![map(
                &[10, 7],
                vec![read(0, F32, 0, &[7, 1]), read(1, F32, 0, &[0, 1])],
                vec![store(2, F32, 0, &[7, 1], relu(add(r(0), r(1))))],
            )],
        ),
        case(
            "in_place",
            vec![(F32, 64, 0), (F32, 64, 0)],
            1,
            1,
            vec![map(
                &[64],
                vec![read(0, F32, 0, &[1])],
                vec![store(1, F32, 0, &[1], Expr::Unary(UnaryFn::Exp, r(0).into()))],
            )],
        ),
        case(
            "beside_itself",
            vec![(F32, 35, 0), (F32, 70, 192)],
            1,
            1,
            vec![
                map(&[5, 7], vec![read(0, F32, 0, &[7, 1])], vec![store(1, F32, 0, &[14, 1], r(0))]),
                map(&[5, 7], vec![read(1, F32, 0, &[14, 1])], vec![store(1, F32, 7, &[14, 1], r(0))]),
            ],
        ),
        case(
            "ahead",
            vec![(F32, 40, 64), (F32, 40, 0)],
            1,
            1,
            vec![map(&[40], vec![read(0, F32, 0, &[1])], vec![store(1, F32, 0, &[1], add(r(0), r(0)))])],
        ),
        case(
            "transpose",
            vec![(F32, 35, 0), (F32, 35, 192)],
            1,
            1,
            vec![map(&[5, 7], vec![read(0, F32, 0, &[1, 5])], vec![store(1, F32, 0, &[7, 1], r(0))])],
        ),
        case(
            "flip",
            vec![(I32, 30, 0), (I32, 30, 128)],
            1,
            1,
            vec![map(
                &[3, 10],
                vec![read(0, I32, 29, &[-10, -1])],
                vec![store(1, I32, 0, &[10, 1], add(r(0), Expr::Const(Scalar::Int(I32, -7))))],
            )],
        ),
        case(
            "copy_and_fill",
            vec![(F32, 32, 0), (F32, 48, 128)],
            1,
            1,
            vec![
                map(&[4, 4], vec![], vec![store(1, F32, 8, &[12, 1], Expr::Const(Scalar::F32(0.5)))]),
                map(&[4, 8], vec![read(0, F32, 0, &[8, 1])], vec![store(1, F32, 0, &[12, 1], r(0))]),
            ],
        ),
        case(
            "parts_of_one_buffer",
            vec![(F32, 16, 0), (F32, 32, 64)],
            1,
            1,
            vec![
                map(&[4, 4], vec![read(0, F32, 0, &[4, 1])], vec![store(1, F32, 0, &[8, 1], r(0))]),
                map(
                    &[4, 4],
                    vec![read(1, F32, 0, &[8, 1])],
                    vec![store(1, F32, 4, &[8, 1], add(r(0), r(0)))],
                ),
            ],
        ),
        case(
            "sum_rows",
            vec![(F32, 3 * 53, 0), (F32, 3, 640)],
            1,
            1,
            vec![reduce(
                &[3, 53],
                ReduceOp::Sum,
                F32,
                read(0, F32, 0, &[53, 1]),
                store(1, F32, 0, &[1, 0], Expr::Acc(0)),
            )],
        ),
        case(
            "sum_few",
            vec![(I64, 21, 0), (I64, 3, 192)],
            1,
            1,
            vec![reduce(
                &[3, 7],
                ReduceOp::Sum,
                I64,
                read(0, I64, 0, &[7, 1]),
                store(1, I64, 0, &[1, 0], Expr::Acc(0)),
            )],
        ),
        case(
            "max_columns",
            vec![(F32, 9 * 70, 0), (F32, 70, 2560)],
            1,
            1,
            vec![reduce(
                &[70, 9],
                ReduceOp::Max,
                F32,
                read(0, F32, 0, &[1, 70]),
                store(1, F32, 0, &[1, 0], Expr::Acc(0)),
            )],
        ),
        case(
            "quantize",
            vec![(F32, 40, 0), (I8, 40, 192)],
            1,
            1,
            vec![map(
                &[40],
                vec![read(0, F32, 0, &[1])],
                vec![store(
                    1,
                    I8,
                    0,
                    &[1],
                    Expr::Quantize {
                        to: I8,
                        value: Expr::Binary(BinaryFn::Mul, r(0).into(), Expr::Const(Scalar::F32(4.5)).into())
                            .into(),
                        zero: Expr::Const(Scalar::Int(I32, -3)).into(),
                    },
                )],
            )],
        ),
        case(
            "any_of_bools",
            vec![(F32, 40, 0), (Bool, 40, 192), (Bool, 2, 256)],
            1,
            2,
            vec![
                map(
                    &[40],
                    vec![read(0, F32, 0, &[1])],
                    vec![store(
                        1,
                        Bool,
                        0,
                        &[1],
                        Expr::Compare(CompareFn::Less, r(0).into(), Expr::Const(Scalar::F32(-20.0)).into()),
                    )],
                ),
                reduce(
                    &[2, 20],
                    ReduceOp::Any,
                    Bool,
                    read(1, Bool, 0, &[20, 1]),
                    store(2, Bool, 0, &[1, 0], Expr::Acc(0)),
                ),
            ],
        ),
        argmax("argmax_first", false),
        argmax("argmax_last", true),
        case(
            "halves",
            vec![(F16, 24, 0), (F32, 24, 64), (F16, 24, 192)],
            2,
            2,
            vec![map(
                &[24],
                vec![read(0, F16, 0, &[1]), read(1, F32, 0, &[1])],
                vec![store(
                    2,
                    F16,
                    0,
                    &[1],
                    Expr::Select(
                        Expr::Compare(CompareFn::Less, r(0).into(), r(1).into()).into(),
                        r(0).into(),
                        Expr::Cast { from: F32, to: F16, value: r(1).into() }.into(),
                    ),
                )],
            )],
        ),
        Case {
            special: (0..6).map(|i| (0, i, [0.0, 4.0, -1.0, 2.0, 9.0, -9.0][i])).collect(),
            ..case(
                "gather_rows",
                vec![(I64, 6, 0), (F32, 60, 64), (F32, 72, 320)],
                2,
                2,
                vec![map(
                    &[6, 12],
                    vec![read(0, I64, 0, &[1, 0]), gathered(r(0))],
                    vec![store(2, F32, 0, &[12, 1], r(1))],
                )],
            )
        },
        Case {
            special: (0..6).map(|i| (0, i, [0.0, 4.0, -1.0, 2.0, 1.0, 3.0][i])).collect(),
            ..case(
                "gather_elements",
                vec![(I32, 6, 0), (F32, 60, 64), (F32, 6, 320)],
                2,
                2,
                vec![map(
                    &[6],
                    vec![
                        read(0, I32, 0, &[1]),
                        Read {
                            access: access(1, F32, 2, &[0]),
                            gather: vec![Gather { index: r(0), extent: 5, stride: 12, proven: false }],
                        },
                    ],
                    vec![store(2, F32, 0, &[1], r(1))],
                )],
            )
        },
        case(
            "mean_of_two_axes",
            vec![(F32, 4 * 6 * 5, 0), (F32, 4, 512)],
            1,
            1,
            vec![Nest {
                extents: vec![4, 6, 5],
                reduce: 2,
                reads: vec![read(0, F32, 0, &[30, 5, 1])],
                reductions: vec![Reduction { op: ReduceOp::Sum, dtype: F32, value: r(0) }],
                stores: vec![store(
                    1,
                    F32,
                    0,
                    &[1, 0, 0],
                    Expr::Binary(BinaryFn::Div, Expr::Acc(0).into(), Expr::Const(Scalar::F32(30.0)).into()),
                )],
            }],
        ),
    ]
}

fn unit(case: &Case) -> (Schedule, Plan, Meta) {
    let dtypes: Vec<DType> = case.buffers.iter().map(|b| b.0).collect();
    let mut memory: Vec<Vec<V>> = case
        .buffers
        .iter()
        .enumerate()
        .map(|(b, &(dtype, len, _))| {
            (0..len).map(|i| V::F(((i * 37 + b * 11) % 101) as f64 / 2.0 - 25.0).to(dtype)).collect()
        })
        .collect();
    for &(b, i, v) in &case.special {
        memory[b][i] = V::F(v).to(dtypes[b]);
    }
    let bytes =
        |b: usize, memory: &[Vec<V>]| memory[b].iter().flat_map(|v| v.bytes(dtypes[b])).collect::<Vec<u8>>();
    let inputs = (0..case.inputs).map(|b| bytes(b, &memory)).collect();
    case.nests.iter().for_each(|n| run(n, &mut memory, &dtypes));
    let outputs = vec![bytes(case.output, &memory)];
    let port = |b: usize| Port {
        name: format!("t{b}"),
        dtype: dtypes[b],
        shape: vec![case.buffers[b].1],
        layout: "",
        operand: Operand::Buffer(BufferId(b as u32)),
        table: None,
    };
    let schedule = Schedule {
        name: case.name.into(),
        steps: case
            .nests
            .iter()
            .map(|n| Step {
                kernel: Kernel::Loops(Loops { nests: vec![n.clone()] }),
                origins: vec![],
                note: "a test".into(),
                macs: 0,
                out_shape: vec![case.buffers[case.output].1],
            })
            .collect(),
        regions: Vec::new(),
        buffers: case
            .buffers
            .iter()
            .enumerate()
            .map(|(b, &(dtype, len, _))| Buffer { dtype, len, name: format!("t{b}"), live_len: len })
            .collect(),
        constants: vec![],
        inputs: (0..case.inputs).map(port).collect(),
        outputs: vec![port(case.output)],
        lengths: Vec::new(),
    };
    let end = |&(dtype, len, offset): &(DType, usize, usize)| offset + dtype.size() * len;
    let plan = Plan {
        offsets: case.buffers.iter().map(|b| b.2).collect(),
        arena_bytes: case.buffers.iter().map(end).max().unwrap(),
        lower_bound_bytes: 0,
        forms: vec![StepForm::Disjoint; schedule.steps.len()],
    };
    let sample = Sample { inputs, outputs, rtol: 1e-5, atol: 1e-5 };
    let meta =
        Meta { file: "case.onnx".into(), sha256: "0".repeat(64), samples: vec![sample], ..Meta::default() };
    (schedule, plan, meta)
}

fn cargo(folder: &Path, arguments: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn emitted_nests_compute_what_they_say() {
    let parts: Vec<_> = cases().iter().map(unit).collect();
    let table = PlanTable::default();
    let units: Vec<ModelUnit<'_>> = parts
        .iter()
        .map(|(schedule, plan, meta)| ModelUnit { schedule, plan, table: &table, meta })
        .collect();
    let options = EmitOptions {
        package: "nests".into(),
        levels: vec![Level::V3, Level::V4],
        runtime: Runtime::Module,
        specialise: Default::default(),
        exact: false,
        custom_sources: Vec::new(),
        weights: Default::default(),
    };
    let files = package(&units, &options).unwrap();
    let kept = std::env::var_os("EDGEC_KEEP").map(std::path::PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let folder = kept.unwrap_or_else(|| temporary.path().join("nests"));
    write(&folder, &files).unwrap();
    cargo(&folder, &["test", "--offline", "--release", "--features", "std"]);
    cargo(
        &folder,
        &[
            "clippy",
            "--offline",
            "--all-features",
            "--all-targets",
            "--",
            "-D",
            "warnings",
            "-D",
            "clippy::all",
        ],
    );
}
