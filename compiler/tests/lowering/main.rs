//! Lowering against the reference: operators as the frontend imports them, lowered with known and with
//! run-time operands, in planar and channels-last memory, and simulated step by step.

mod bytes;
mod simulate;

use edgec::ir::{DType, Graph, Origin, Shape, Tensor, ValueId, bf16, f16};
use edgec::kernel::Kernel;
use edgec::kernel::spec::{Activation, Residual};
use edgec::onnx::{Attr, AttrReader, NodeView};
use edgec::ops::fused::Fused;
use edgec::ops::{self, Fact, Inputs, OpKind, importers};
use edgec::schedule::{Schedule, ScheduleOptions, lower};
use simulate::Val;

fn import(op_type: &str, opset: i64, attrs: &[(&str, Attr)], inputs: &[bool], outputs: usize) -> OpKind {
    let list = importers();
    let named = list.iter().filter(|i| i.name.op_type == op_type && i.name.since <= opset);
    let importer = named.max_by_key(|i| i.name.since).unwrap();
    let attrs: Vec<(String, Attr)> = attrs.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
    let node = NodeView { op_type, domain: "", opset, inputs, outputs: &vec![true; outputs] };
    importer.op(&mut AttrReader::new(&attrs), &node).unwrap()
}

/// Reproducible values in -4..=4, in steps of 1/4 so that sums are exact.
fn noise(dtype: DType, shape: &[usize], seed: usize) -> Tensor {
    let at = |i: usize| ((i * 37 + seed * 11 + i * i % 7) % 33) as f64 / 4.0 - 4.0;
    match dtype {
        DType::F32 => Tensor::from_fn(shape, |i| at(i) as f32),
        DType::F64 => Tensor::from_fn(shape, at),
        DType::F16 => Tensor::from_fn(shape, |i| f16::from_f64(at(i))),
        DType::Bf16 => Tensor::from_fn(shape, |i| bf16::from_f64(at(i))),
        DType::I8 => Tensor::from_fn(shape, |i| (at(i) * 31.0) as i8),
        DType::I32 => Tensor::from_fn(shape, |i| (at(i) * 1000.0) as i32),
        DType::U8 => Tensor::from_fn(shape, |i| (at(i) * 31.0 + 124.0) as u8),
        other => panic!("no noise of {other}"),
    }
}

/// An operand of a case.
#[derive(Clone)]
enum Operand {
    /// Given when the model runs, or known, in turns.
    Data(Tensor),
    /// Known always (axes, sizes).
    Known(Tensor),
    Absent,
}
use Operand::{Absent, Data, Known};

fn data(shape: &[usize], seed: usize) -> Operand {
    Data(noise(DType::F32, shape, seed))
}

impl Operand {
    fn tensor(&self) -> Option<&Tensor> {
        match self {
            Data(t) | Known(t) => Some(t),
            Absent => None,
        }
    }
}

/// Adds a node and returns its results.
fn add(graph: &mut ops::Graph, op: OpKind, inputs: &[Option<ValueId>], outputs: usize) -> Vec<ValueId> {
    let types = {
        let facts: Vec<Option<Fact<'_>>> = inputs
            .iter()
            .map(|v| {
                v.map(|v| {
                    let v = graph.value(v);
                    Fact { dtype: v.dtype, shape: &v.shape, constant: v.constant.as_ref() }
                })
            })
            .collect();
        op.as_op().infer(&Inputs::new(&facts, outputs)).unwrap()
    };
    let named = types.into_iter().take(outputs).enumerate();
    let outputs = named.map(|(i, t)| Some((format!("y{i}"), t.dtype, t.shape))).collect();
    let id = graph.add_node(op, inputs.to_vec(), outputs, vec![Origin::default()]);
    graph.node(id).unwrap().outputs.iter().flatten().copied().collect()
}

/// Lowers a node alone. `known` says which data operands are constants; `wrapped` puts a transposition
/// into channels-last memory around operand 0 and result 0.
fn build(
    op: &OpKind,
    operands: &[Operand],
    outputs: usize,
    known: impl Fn(usize) -> bool,
    wrapped: bool,
) -> Schedule {
    let mut graph: ops::Graph = Graph::new("case");
    let mut inputs = Vec::new();
    for (i, operand) in operands.iter().enumerate() {
        inputs.push(match operand {
            Absent => None,
            Known(t) => Some(graph.add_constant(format!("c{i}"), t.clone())),
            Data(t) if known(i) => Some(graph.add_constant(format!("c{i}"), t.clone())),
            Data(t) => Some(graph.add_input(format!("x{i}"), t.dtype(), t.shape().clone())),
        });
    }
    let around = |graph: &mut ops::Graph, v: ValueId| {
        let (dtype, channels, rank) =
            (graph.value(v).dtype, graph.value(v).shape[1], graph.value(v).shape.rank());
        let mut shape = vec![channels, 1];
        shape.resize(rank, 1);
        let ones = Tensor::full(Shape::from(shape), 1f32);
        assert_eq!(dtype, DType::F32);
        let w = graph.add_constant("ones", ones);
        let group = [("group", Attr::Int(channels as i64))];
        let op = import("Conv", 11, &group, &[true, true], 1);
        add(graph, op, &[Some(v), Some(w)], 1)[0]
    };
    if wrapped {
        inputs[0] = inputs[0].map(|v| around(&mut graph, v));
    }
    let mut results = add(&mut graph, op.clone(), &inputs, outputs);
    if wrapped {
        results[0] = around(&mut graph, results[0]);
    }
    graph.outputs = results.iter().enumerate().map(|(i, &v)| (format!("out{i}"), v)).collect();
    assert_eq!(edgec::ir::verify::verify(&graph), Vec::<String>::new());
    lower(&graph, &ScheduleOptions { halo: true, winograd: true, ..ScheduleOptions::default() }).unwrap()
}

fn check(
    schedule: &Schedule,
    operands: &[Operand],
    known: impl Fn(usize) -> bool,
    want: &[Tensor],
    what: &str,
) {
    let given: Vec<&Tensor> = operands
        .iter()
        .enumerate()
        .filter_map(|(i, o)| match o {
            Data(t) if !known(i) => Some(t),
            _ => None,
        })
        .collect();
    let have = simulate::run(schedule, &given);
    for (have, want) in have.iter().zip(want) {
        let tolerance = match want.dtype() {
            DType::F16 => 2e-3,
            DType::Bf16 => 2e-2,
            _ => 2e-5,
        };
        let want: Vec<Val> = match want.dtype() {
            d if d.is_float() => want.to_f64_vec().unwrap().into_iter().map(Val::F).collect(),
            _ => want.to_i64_vec().unwrap().into_iter().map(Val::I).collect(),
        };
        assert_eq!(have.len(), want.len(), "{what}");
        for (i, (h, w)) in have.iter().zip(&want).enumerate() {
            let ok = match (h, w) {
                (Val::F(h), Val::F(w)) => (h - w).abs() <= tolerance * (1.0 + w.abs()) || h == w,
                (h, w) => h == w,
            };
            assert!(ok, "{what}: element {i} is {h:?}, expected {w:?}");
        }
    }
}

/// All ways to lower one node, each simulated and compared with the reference.
fn all(op: &OpKind, operands: &[Operand], outputs: usize) {
    let tensors: Vec<Option<&Tensor>> = operands.iter().map(Operand::tensor).collect();
    let want = op.as_op().eval(&tensors).unwrap();
    let first = operands[0].tensor().unwrap();
    let spatial = (3..=5).contains(&first.shape().rank())
        && (3..=5).contains(&want[0].shape().rank())
        && first.dtype() == DType::F32
        && want[0].dtype() == DType::F32;
    for run_time in [false, true] {
        for wrapped in [false, true] {
            if wrapped && !spatial {
                continue;
            }
            let known = |i: usize| i > 0 && !run_time;
            let what = format!("{op:?}, run-time operands: {run_time}, channels last: {wrapped}");
            let schedule = build(op, operands, outputs, known, wrapped);
            check(&schedule, operands, known, &want, &what);
        }
    }
}

fn case(op_type: &str, opset: i64, attrs: &[(&str, Attr)], operands: &[Operand], outputs: usize) {
    let present: Vec<bool> = operands.iter().map(|o| o.tensor().is_some()).collect();
    all(&import(op_type, opset, attrs, &present, outputs), operands, outputs);
}

fn ints(values: &[i64]) -> Attr {
    Attr::Ints(values.to_vec())
}

fn text(s: &str) -> Attr {
    Attr::String(s.as_bytes().to_vec())
}

fn typed(dtype: DType, shapes: &[&[usize]]) -> Vec<Operand> {
    shapes.iter().enumerate().map(|(i, s)| Data(noise(dtype, s, i))).collect()
}

#[test]
fn convolutions() {
    let pads = ("pads", ints(&[1, 2, 1, 0]));
    case(
        "Conv",
        11,
        std::slice::from_ref(&pads),
        &[data(&[2, 3, 6, 5], 1), data(&[20, 3, 3, 3], 2), data(&[20], 3)],
        1,
    );
    let strided = [("strides", ints(&[2, 1])), ("dilations", ints(&[1, 2])), pads, ("group", Attr::Int(2))];
    case("Conv", 11, &strided, &[data(&[1, 4, 7, 6], 1), data(&[50, 2, 3, 2], 2), data(&[50], 3)], 1);
    case("Conv", 11, &[("auto_pad", text("SAME_UPPER"))], &[data(&[1, 2, 9], 1), data(&[5, 2, 4], 2)], 1);
    let volume = [("pads", ints(&[1, 0, 1, 0, 1, 1]))];
    case("Conv", 11, &volume, &[data(&[1, 2, 3, 4, 5], 1), data(&[17, 2, 2, 3, 2], 2), data(&[17], 3)], 1);
}

#[test]
fn depthwise_convolutions() {
    for (channels, multiplier) in [(5, 1), (20, 2), (24, 1)] {
        let attrs =
            [("group", Attr::Int(channels)), ("pads", ints(&[1, 1, 1, 1])), ("strides", ints(&[2, 2]))];
        let (c, outputs) = (channels as usize, channels as usize * multiplier);
        case(
            "Conv",
            11,
            &attrs,
            &[data(&[2, c, 5, 6], 1), data(&[outputs, 1, 3, 3], 2), data(&[outputs], 3)],
            1,
        );
    }
}

#[test]
fn convolutions_of_other_types_and_ranks() {
    let attrs = [("pads", ints(&[1, 1])), ("group", Attr::Int(2))];
    for dtype in [DType::F64, DType::F16, DType::Bf16] {
        case("Conv", 22, &attrs, &typed(dtype, &[&[1, 4, 6], &[6, 2, 3], &[6]]), 1);
    }
    case(
        "Conv",
        11,
        &[("pads", ints(&[1; 8]))],
        &[data(&[1, 2, 2, 2, 2, 3], 1), data(&[3, 2, 2, 2, 2, 2], 2)],
        1,
    );
}

#[test]
fn transposed_convolutions() {
    let strided = [
        ("strides", ints(&[2, 1])),
        ("pads", ints(&[1, 0, 0, 1])),
        ("output_padding", ints(&[1, 0])),
        ("dilations", ints(&[1, 2])),
        ("group", Attr::Int(2)),
    ];
    for dtype in [DType::F32, DType::F16, DType::F64] {
        case("ConvTranspose", 22, &strided, &typed(dtype, &[&[2, 4, 3, 4], &[4, 9, 3, 2], &[18]]), 1);
        // Pads wider than the kernel cut the input; so do shapes smaller than the product.
        let cut = [("pads", ints(&[3, 2])), ("strides", ints(&[2]))];
        case("ConvTranspose", 22, &cut, &typed(dtype, &[&[1, 2, 6], &[2, 3, 2]]), 1);
        let shaped = [("output_shape", ints(&[14])), ("strides", ints(&[2]))];
        case("ConvTranspose", 22, &shaped, &typed(dtype, &[&[1, 2, 6], &[2, 3, 2]]), 1);
    }
    case("ConvTranspose", 11, &[], &typed(DType::F32, &[&[1, 2, 2, 3, 2], &[2, 3, 2, 1, 2], &[3]]), 1);
}

#[test]
fn sums_of_products() {
    let cases: &[(&str, &[&[usize]])] = &[
        ("bij,bjk->bik", &[&[2, 3, 4], &[2, 4, 5]]),
        ("bhqd,bhkd->bhqk", &[&[1, 2, 3, 4], &[1, 2, 5, 4]]),
        ("...ij->...ji", &[&[2, 3, 4]]),
        ("ii,i->i", &[&[3, 3], &[3]]),
        ("i,j,ij", &[&[3], &[4], &[3, 4]]),
    ];
    for (equation, shapes) in cases {
        for dtype in [DType::F32, DType::F16, DType::I32] {
            case("Einsum", 12, &[("equation", text(equation))], &typed(dtype, shapes), 1);
        }
    }
}

#[test]
fn best_of_an_axis() {
    let k = Known(Tensor::vector(&[3i64]));
    for dtype in [DType::F32, DType::F16, DType::F64, DType::I32, DType::U8] {
        for (axis, largest) in [(-1, 1), (1, 0), (0, 1)] {
            let attrs = [("axis", Attr::Int(axis)), ("largest", Attr::Int(largest))];
            let x = Data(noise(dtype, &[4, 3, 5], 3));
            case("TopK", 11, &attrs, &[x, k.clone()], 2);
        }
    }
}

fn fused(residual: Residual) -> Fused {
    Fused { scale: Some(0.5), residual, activation: Activation::PRelu }
}

#[test]
fn fused_convolutions() {
    for residual in [Residual::Before, Residual::After] {
        for (channels, groups, dtype) in [(4, 1, DType::F32), (4, 4, DType::F32), (4, 2, DType::F16)] {
            let op = import("Conv", 22, &[("group", Attr::Int(groups))], &[true; 2], 1);
            let OpKind::Conv(conv) = op else { panic!("not a convolution") };
            let op = ops::conv::Conv { fused: fused(residual), ..conv }.into();
            let (c, o) = (channels, 20);
            let w: &[usize] = &[o, c / groups as usize, 1, 1];
            all(&op, &typed(dtype, &[&[1, c, 3, 2], w, &[o], &[1, o, 3, 2], &[o]]), 1);
        }
    }
    // Five spatial axes have no kernel.
    let op = import("Conv", 22, &[], &[true; 2], 1);
    let OpKind::Conv(conv) = op else { panic!("not a convolution") };
    let op = ops::conv::Conv { fused: fused(Residual::Before), ..conv }.into();
    let (x, y): (&[usize], &[usize]) = (&[1, 2, 1, 2, 1, 2], &[1, 3, 1, 2, 1, 2]);
    all(&op, &typed(DType::F32, &[x, &[3, 2, 1, 1, 1, 1], &[3], y, &[3]]), 1);
}

#[test]
fn convolutions_by_winograd() {
    // Input and output channels, height and width; outputs of a patch's side, strips.
    let cases = [
        (32, 40, [28, 27], Some((4, 3))),
        (16, 20, [15, 17], Some((4, 1))),
        (128, 96, [14, 15], Some((2, 2))),
        (3, 16, [16, 16], None),
    ];
    for (inputs, outputs, [height, width], want) in cases {
        for residual in [Residual::None, Residual::After] {
            let pads = [("pads", ints(&[1, 0, 1, 1]))];
            let OpKind::Conv(conv) = import("Conv", 22, &pads, &[true; 3], 1) else {
                panic!("no convolution")
            };
            let op: OpKind = ops::conv::Conv { fused: fused(residual), ..conv }.into();
            let y = [2, outputs, height, width - 1];
            let residual = if residual == Residual::None { Absent } else { data(&y, 4) };
            let operands = [
                data(&[2, inputs, height, width], 1),
                data(&[outputs, inputs, 3, 3], 2),
                data(&[outputs], 3),
                residual,
                data(&[outputs], 5),
            ];
            let known = |i: usize| i == 1 || i == 2 || i == 4;
            let schedule = build(&op, &operands, 1, known, false);
            let tiles: Vec<usize> = schedule
                .steps
                .iter()
                .filter_map(|s| match &s.kernel {
                    Kernel::WinogradOutput { spec, .. } => Some(spec.tile),
                    _ => None,
                })
                .collect();
            let (tile, strips) = want.unwrap_or((0, 0));
            assert_eq!(tiles, vec![tile; strips], "{inputs} to {outputs} channels, {height}x{width}");
            let tensors: Vec<Option<&Tensor>> = operands.iter().map(Operand::tensor).collect();
            let want = op.as_op().eval(&tensors).unwrap().remove(0).to_f64_vec().unwrap();
            let given: Vec<&Tensor> = operands
                .iter()
                .enumerate()
                .filter(|(i, _)| !known(*i))
                .filter_map(|(_, o)| o.tensor())
                .collect();
            let have = simulate::run(&schedule, &given).remove(0);
            let most = want.iter().fold(0f64, |most, v| most.max(v.abs()));
            for (have, want) in have.iter().zip(&want) {
                let Val::F(have) = have else { panic!("{have:?}") };
                assert!((have - want).abs() <= 2e-5 * most, "{have}, expected {want}, of at most {most}");
            }
        }
    }
}

#[test]
fn matrix_products() {
    let cases: &[(&[usize], &[usize])] = &[
        (&[3, 5], &[5, 20]),
        (&[5], &[5, 3]),
        (&[3, 5], &[5]),
        (&[5], &[5]),
        (&[2, 3, 5], &[5, 4]),
        (&[2, 3, 5], &[2, 5, 4]),
        (&[2, 3, 4, 5], &[3, 5, 2]),
        (&[3, 4, 5], &[2, 1, 5, 2]),
        (&[2, 1, 4, 5], &[1, 3, 5, 2]),
        (&[4, 5], &[2, 3, 5, 2]),
        (&[2, 3, 5], &[5]),
        (&[5], &[2, 5, 3]),
    ];
    for (a, b) in cases {
        case("MatMul", 13, &[], &typed(DType::F32, &[a, b]), 1);
        for dtype in [DType::F16, DType::F64, DType::I32] {
            case("MatMul", 13, &[], &typed(dtype, &[a, b]), 1);
        }
    }
}

#[test]
fn fused_products() {
    for residual in [&[2, 3, 4][..], &[3, 1], &[4], &[]] {
        let op = ops::matmul::MatMul { fused: fused(Residual::Before) }.into();
        all(&op, &typed(DType::F32, &[&[2, 3, 5], &[5, 4], &[4], residual, &[4]]), 1);
        let op = ops::matmul::MatMul { fused: fused(Residual::After) }.into();
        all(&op, &typed(DType::F32, &[&[2, 3, 5], &[2, 5, 4], &[4], residual, &[4]]), 1);
    }
}

#[test]
fn general_products() {
    let addends: [Option<&[usize]>; 6] =
        [None, Some(&[]), Some(&[17]), Some(&[1, 17]), Some(&[3, 1]), Some(&[3, 17])];
    for (i, addend) in addends.into_iter().enumerate() {
        let (ta, tb) = (i % 2 == 1, i / 2 % 2 == 1);
        let attrs = [
            ("transA", Attr::Int(ta.into())),
            ("transB", Attr::Int(tb.into())),
            ("alpha", Attr::Float(if i % 3 == 0 { 1.0 } else { 2.0 })),
            ("beta", Attr::Float(if i % 3 == 1 { 1.0 } else { -3.0 })),
        ];
        let a: &[usize] = if ta { &[5, 3] } else { &[3, 5] };
        let b: &[usize] = if tb { &[17, 5] } else { &[5, 17] };
        for dtype in [DType::F32, DType::F16, DType::F64, DType::I32] {
            let mut operands = typed(dtype, &[a, b]);
            operands.extend(addend.map(|s| Data(noise(dtype, s, 7))));
            case("Gemm", 13, &attrs, &operands, 1);
        }
    }
}

#[test]
fn pools() {
    let window = [("kernel_shape", ints(&[3, 2])), ("strides", ints(&[2, 2])), ("pads", ints(&[1, 0, 1, 1]))];
    let with = |more: &[(&'static str, Attr)]| [&window[..], more].concat();
    let ceil = ("ceil_mode", Attr::Int(1));
    let x = |dtype| vec![Data(noise(dtype, &[2, 3, 7, 6], 4))];
    for dtype in [DType::F32, DType::F16, DType::F64] {
        case("AveragePool", 22, &with(&[]), &x(dtype), 1);
        case("AveragePool", 22, &with(&[("count_include_pad", Attr::Int(1)), ceil.clone()]), &x(dtype), 1);
        case("LpPool", 22, &with(&[]), &x(dtype), 1);
        case("LpPool", 22, &with(&[("p", Attr::Int(3))]), &x(dtype), 1);
        case("GlobalAveragePool", 1, &[], &x(dtype), 1);
        case("GlobalLpPool", 2, &[], &x(dtype), 1);
    }
    for dtype in [DType::F32, DType::F16, DType::F64, DType::I8, DType::U8] {
        for outputs in [1, 2] {
            case("MaxPool", 12, &with(std::slice::from_ref(&ceil)), &x(dtype), outputs);
            case("MaxPool", 12, &with(&[("storage_order", Attr::Int(1))]), &x(dtype), outputs);
        }
        case("GlobalMaxPool", 1, &[], &x(dtype), 1);
    }
    let dilated = [("kernel_shape", ints(&[3])), ("dilations", ints(&[2]))];
    case("MaxPool", 12, &dilated, &[data(&[1, 2, 8], 1)], 1);
    case("MaxPool", 12, &[("kernel_shape", ints(&[2; 4]))], &[data(&[1, 2, 3, 2, 3, 2], 1)], 1);
}

#[test]
fn softmaxes() {
    for kind in ["Softmax", "LogSoftmax", "Hardmax"] {
        for dtype in [DType::F32, DType::F16, DType::F64] {
            for axis in -4..4 {
                let attrs = [("axis", Attr::Int(axis))];
                case(kind, 13, &attrs, &typed(dtype, &[&[2, 3, 4, 5]]), 1);
                case(kind, 11, &attrs, &typed(dtype, &[&[2, 3, 4, 5]]), 1);
            }
        }
    }
}

#[test]
fn normalisations() {
    for dtype in [DType::F32, DType::F16, DType::F64] {
        let x: &[usize] = &[2, 4, 3, 5];
        for axis in [-1, 1] {
            let attrs = [("axis", Attr::Int(axis))];
            let row = if axis == 1 { &x[1..] } else { &x[3..] };
            case("LayerNormalization", 17, &attrs, &typed(dtype, &[x, row, row]), 1);
            case("LayerNormalization", 17, &attrs, &typed(dtype, &[x, &[5]]), 3);
            case("RMSNormalization", 23, &attrs, &typed(dtype, &[x, row]), 1);
        }
        case("InstanceNormalization", 6, &[], &typed(dtype, &[x, &[4], &[4]]), 1);
        case("GroupNormalization", 21, &[("num_groups", Attr::Int(2))], &typed(dtype, &[x, &[4], &[4]]), 1);
        case("GroupNormalization", 18, &[("num_groups", Attr::Int(2))], &typed(dtype, &[x, &[2], &[2]]), 1);
        case("LpNormalization", 22, &[("axis", Attr::Int(1))], &typed(dtype, &[x]), 1);
        case("LpNormalization", 22, &[("p", Attr::Int(1))], &typed(dtype, &[x]), 1);
        case("MeanVarianceNormalization", 13, &[], &typed(dtype, &[x]), 1);
        for size in [3, 4] {
            case(
                "LRN",
                13,
                &[("size", Attr::Int(size)), ("alpha", Attr::Float(0.5))],
                &typed(dtype, &[x]),
                1,
            );
        }
        let mut operands = typed(dtype, &[x, &[4], &[4], &[4]]);
        operands.push(Data(match dtype {
            DType::F32 => Tensor::vector(&[1f32, 2., 3., 4.]),
            DType::F64 => Tensor::vector(&[1f64, 2., 3., 4.]),
            _ => Tensor::vector(&[1f32, 2., 3., 4.].map(f16::from_f32)),
        }));
        case("BatchNormalization", 15, &[], &operands, 1);
    }
}

#[test]
fn resizes() {
    let floats = |v: &[f32]| Known(Tensor::vector(v));
    for mode in ["nearest", "linear", "cubic"] {
        for coordinates in
            ["half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric", "pytorch_half_pixel"]
        {
            for scales in [[2.0, 3.0], [0.6, 1.0], [1.5, 0.5]] {
                for antialias in [0, i64::from(mode != "nearest")] {
                    let attrs = [
                        ("mode", text(mode)),
                        ("coordinate_transformation_mode", text(coordinates)),
                        ("axes", ints(&[2, 3])),
                        ("antialias", Attr::Int(antialias)),
                        ("exclude_outside", Attr::Int(antialias)),
                    ];
                    case("Resize", 19, &attrs, &[data(&[1, 3, 5, 4], 1), Absent, floats(&scales)], 1);
                }
            }
        }
    }
    let crop = [
        ("mode", text("linear")),
        ("coordinate_transformation_mode", text("tf_crop_and_resize")),
        ("extrapolation_value", Attr::Float(7.0)),
    ];
    let roi = floats(&[0., 0., -0.2, 0.1, 1., 1., 0.7, 1.4]);
    let sizes = Known(Tensor::vector(&[1i64, 2, 4, 3]));
    case("Resize", 13, &crop, &[data(&[1, 2, 5, 4], 1), roi, Absent, sizes.clone()], 1);
    for dtype in [DType::U8, DType::I32, DType::F16, DType::F64] {
        for mode in ["nearest", "linear"] {
            let x = Data(noise(dtype, &[1, 2, 3, 5], 2));
            case("Resize", 13, &[("mode", text(mode))], &[x, Absent, Absent, sizes.clone()], 1);
        }
    }
}

#[test]
fn kernels_are_the_ones_meant() {
    let families = |op_type, opset, attrs: &[(&str, Attr)], operands: &[Operand], run_time: bool| {
        let present = vec![true; operands.len()];
        let op = import(op_type, opset, attrs, &present, 1);
        let schedule = build(&op, operands, 1, |i| i > 0 && !run_time, false);
        schedule.steps.iter().map(|s| s.kernel.family()).collect::<Vec<_>>()
    };
    // A colour image is read as it lies; weights are packed at compile time.
    let rgb = [data(&[1, 3, 8, 8], 1), data(&[8, 3, 3, 3], 2)];
    assert_eq!(families("Conv", 11, &[], &rgb, false)[0], "Conv");
    assert_eq!(families("MatMul", 13, &[], &[data(&[3, 5], 1), data(&[5, 4], 2)], false), ["MatMul"]);
    assert_eq!(families("MatMul", 13, &[], &[data(&[3, 5], 1), data(&[5, 4], 2)], true), ["Pack", "MatMul"]);
    let gemm = [data(&[3, 5], 1), data(&[4, 5], 2), data(&[4], 3)];
    assert_eq!(families("Gemm", 13, &[("transB", Attr::Int(1))], &gemm, false), ["MatMul"]);
    assert_eq!(families("Gemm", 13, &[("transB", Attr::Int(1))], &gemm, true), ["Pack", "MatMul"]);
    assert_eq!(families("Softmax", 13, &[], &[data(&[3, 5], 1)], false), ["Softmax"]);
    let norm = [data(&[3, 5], 1), data(&[5], 2)];
    assert_eq!(families("LayerNormalization", 17, &[], &norm, false), ["Norm"]);
    // Batches of rows against one matrix are one product.
    let op = ops::matmul::MatMul::default().into();
    let schedule = build(&op, &[data(&[2, 3, 5], 1), data(&[5, 4], 2)], 1, |i| i > 0, false);
    let Kernel::MatMul { spec, .. } = &schedule.steps[0].kernel else { panic!("not a product") };
    assert_eq!((spec.batch, spec.m), (1, 6));
}
