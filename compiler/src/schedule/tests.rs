//! Whole small graphs through lowering: which steps there are, and how values lie.

use super::testing::Net;
use super::*;
use crate::kernel::spec::{ConvSpec, View};
use crate::onnx::Attr;

fn lowered(net: &Net) -> Schedule {
    lower(&net.graph, &ScheduleOptions::default()).unwrap()
}

fn with_halo(net: &Net) -> Schedule {
    lower(&net.graph, &ScheduleOptions { halo: true, ..Default::default() }).unwrap()
}

/// Families, with the note of the compiler's own steps.
fn steps(schedule: &Schedule) -> Vec<String> {
    let name = |s: &Step| if s.note.is_empty() { s.kernel.family().to_owned() } else { s.note.clone() };
    schedule.steps.iter().map(name).collect()
}

fn conv(schedule: &Schedule, index: usize) -> &ConvSpec {
    match &schedule.steps[index].kernel {
        Kernel::Conv { spec, .. } => spec,
        other => panic!("step {index} is {}", other.family()),
    }
}

#[test]
fn convolutions_follow_each_other_without_conversion() {
    let mut net = Net::new();
    let x = net.input(&[1, 3, 8, 8]);
    let a = net.conv(x, 8, 3, 1, 1);
    let b = net.relu(a);
    let c = net.depthwise(b, 3, 2, 1);
    let d = net.op("GlobalAveragePool", &[c], &[]);
    let e = net.op("Flatten", &[d], &[]);
    net.output(e);
    let s = lowered(&net);
    assert_eq!(steps(&s), ["Conv", "Loops", "Depthwise", "Pool"]);
    // Few channels are read planar; the elementwise step is one flat loop.
    assert_eq!((conv(&s, 0).x.c_stride, conv(&s, 0).x.strides[2]), (64, 1));
    assert_eq!(conv(&s, 0).y, View::channels_last(1, [1, 8, 8], 8));
    let Kernel::Loops(relu) = &s.steps[1].kernel else { panic!() };
    assert_eq!(relu.nests[0].extents, [512]);
    assert_eq!(s.steps[0].macs, 8 * 8 * 8 * 27);
    assert_eq!(s.steps[0].out_shape, [1, 8, 8, 8]);
    assert_eq!(s.outputs[0].shape, [1, 8]);
}

#[test]
fn transposes_from_channels_last_models_vanish() {
    let mut net = Net::new();
    let x = net.input(&[1, 8, 8, 6]);
    let a = net.transpose(x, &[0, 3, 1, 2]);
    let b = net.conv(a, 8, 3, 1, 1);
    let c = net.transpose(b, &[0, 2, 3, 1]);
    let d = net.reshape(c, &[1, 512]);
    net.output(d);
    let s = lowered(&net);
    assert_eq!(steps(&s), ["Conv"]);
    assert_eq!(conv(&s, 0).x, View::channels_last(1, [1, 8, 8], 6));
}

#[test]
fn one_conversion_serves_all_readers() {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 6, 6]);
    let a = net.conv(x, 4, 1, 1, 0);
    let b = net.conv(x, 4, 3, 1, 1);
    let c = net.op("Add", &[a, b], &[]);
    net.output(c);
    let s = lowered(&net);
    // The addition writes row-major for the caller by itself.
    assert_eq!(steps(&s), ["layout change of `in1`: channels last for `Conv`", "Conv", "Conv", "Loops"]);
    let nhwc = BTreeMap::from([("in1".to_owned(), InputLayout::Nhwc)]);
    let s = lower(&net.graph, &ScheduleOptions { input_layouts: nhwc, ..Default::default() }).unwrap();
    assert_eq!(steps(&s), ["Conv", "Conv", "Loops"]);
    assert_eq!((s.inputs[0].shape.clone(), s.inputs[0].layout), (vec![1, 6, 6, 16], "nhwc"));
}

#[test]
fn a_convolution_of_one_pixel_is_a_product_of_rows() {
    let mut net = Net::new();
    let x = net.input(&[2, 24, 5, 5]);
    let a = net.op("GlobalAveragePool", &[x], &[]);
    let b = net.conv(a, 6, 1, 1, 0);
    let c = net.conv(b, 24, 1, 1, 0);
    net.output(c);
    let s = lowered(&net);
    let products: Vec<_> = s
        .steps
        .iter()
        .filter_map(|step| match &step.kernel {
            Kernel::MatMul { spec, .. } => Some([spec.m, spec.k, spec.n, spec.a_stride, spec.y_stride]),
            _ => None,
        })
        .collect();
    assert_eq!(products, [[2, 24, 6, 24, 6], [2, 6, 24, 6, 24]]);
    assert_eq!(s.steps.iter().filter(|step| step.kernel.family() == "Conv").count(), 0);
}

#[test]
fn one_dimensional_signals_are_spatial_too() {
    let mut net = Net::new();
    let x = net.input(&[1, 1, 32]);
    let a = net.conv(x, 4, 5, 2, 2);
    let b = net.max_pool(a, 2, 2);
    net.output(b);
    let s = lowered(&net);
    assert_eq!(steps(&s), ["Conv", "Pool", "output `out5`"]);
    assert_eq!(conv(&s, 0).y, View::channels_last(1, [1, 1, 16], 4));
}

#[test]
fn parts_of_a_concatenation_are_produced_in_place() {
    let mut net = Net::new();
    let x = net.input(&[1, 4, 6, 6]);
    let a = net.conv(x, 4, 1, 1, 0);
    let b = net.conv(a, 8, 3, 1, 1);
    let c = net.concat(&[a, b], 1);
    let d = net.conv(c, 5, 1, 1, 0);
    let e = net.concat(&[c, d], 1);
    let f = net.conv(e, 2, 1, 1, 0);
    net.output(f);
    let s = lowered(&net);
    assert_eq!(steps(&s)[..4], ["Conv", "Conv", "Conv", "Conv"]);
    // All parts lie in one buffer of 17 channels.
    assert_eq!((conv(&s, 0).y.offset, conv(&s, 0).y.strides[2]), (0, 17));
    assert_eq!((conv(&s, 1).y.offset, conv(&s, 1).y.strides[2]), (4, 17));
    assert_eq!((conv(&s, 2).x.channels, conv(&s, 2).x.strides[2]), (12, 17));
    assert_eq!((conv(&s, 2).y.offset, conv(&s, 2).y.strides[2]), (12, 17));
    assert_eq!(conv(&s, 3).x, View::channels_last(1, [1, 6, 6], 17));
    let plan = crate::memory::plan(&s, &s_options().memory());
    assert_eq!(plan.forms[1], crate::memory::StepForm::Strided { pitch: 68 });
}

fn s_options() -> ScheduleOptions {
    ScheduleOptions::default()
}

#[test]
fn heads_of_detectors_are_written_where_they_are_joined() {
    let mut net = Net::new();
    let x = net.input(&[1, 4, 8, 8]);
    let mut heads = Vec::new();
    for stride in [1, 2] {
        let y = net.conv(x, 6, 1, stride, 0);
        let t = net.transpose(y, &[0, 2, 3, 1]);
        heads.push(net.reshape(t, &[1, -1, 2]));
    }
    let all = net.concat(&heads, 1);
    net.output(all);
    let s = lowered(&net);
    assert_eq!(steps(&s), ["Conv", "Conv"]);
    assert_eq!((conv(&s, 0).y.offset, conv(&s, 1).y.offset), (0, 384));
    assert_eq!(s.outputs[0].shape, [1, 240, 2]);
}

#[test]
fn what_must_not_share_memory_is_copied() {
    let mut net = Net::new();
    let x = net.input(&[2, 6]);
    let a = net.relu(x);
    let flat = net.reshape(a, &[12]);
    let again = net.reshape(x, &[3, 4]);
    let twice = net.concat(&[a, a], 0);
    for v in [a, flat, again, x, twice] {
        net.output(v);
    }
    let s = lowered(&net);
    let mut seen = Vec::new();
    for port in s.inputs.iter().chain(&s.outputs) {
        assert!(!seen.contains(&port.operand), "{} shares memory", port.name);
        seen.push(port.operand);
    }
    assert_eq!(s.outputs.len(), 5);
}

#[test]
fn constant_outputs_lie_in_the_blob() {
    let mut net = Net::new();
    let c = net.ints(&[1, 2, 3]);
    net.output(c);
    let s = lowered(&net);
    assert!(matches!(s.outputs[0].operand, Operand::Const(_)));
    assert!(s.steps.is_empty());
}

#[test]
fn halos_replace_pads_where_they_are_cheap() {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 48, 48]);
    let a = net.conv(x, 8, 1, 1, 0);
    let b = net.conv(a, 8, 3, 1, 1);
    let c = net.depthwise(a, 5, 1, 2);
    let d = net.op("Add", &[b, c], &[]);
    let e = net.op("GlobalAveragePool", &[d], &[]);
    net.output(e);
    assert_eq!(conv(&lowered(&net), 2).pads, [0, 1, 1]);
    let s = with_halo(&net);
    assert!(steps(&s).contains(&"zeros around `Conv3`".to_owned()), "{:?}", steps(&s));
    let specs: Vec<&ConvSpec> = s
        .steps
        .iter()
        .filter_map(|s| if let Kernel::Conv { spec, .. } = &s.kernel { Some(spec) } else { None })
        .collect();
    // The rim is two wide for the depthwise reader; the other starts one further inside.
    let (w, h) = (8, 52 * 8);
    assert_eq!((specs[0].y.offset, specs[0].y.strides), (2 * h + 2 * w, [48 * h, h, w]));
    let three = specs.iter().find(|s| s.kernel == [1, 3, 3]).unwrap();
    assert_eq!((three.x.offset, three.x.extent, three.pads), (h + w, [1, 50, 50], [0; 3]));
}

#[test]
fn halos_are_refused_where_they_cost_too_much_or_others_read() {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 6, 6]);
    let a = net.conv(x, 8, 1, 1, 0);
    let b = net.conv(a, 8, 3, 1, 1);
    net.output(b);
    assert!(!steps(&with_halo(&net)).iter().any(|s| s.starts_with("zeros")), "a rim of 8×8 around 6×6");
    let mut net = Net::new();
    let x = net.input(&[1, 16, 32, 32]);
    let a = net.conv(x, 8, 1, 1, 0);
    let b = net.conv(a, 8, 3, 1, 1);
    let c = net.relu(a);
    net.output(b);
    net.output(c);
    assert!(!steps(&with_halo(&net)).iter().any(|s| s.starts_with("zeros")), "read by a loop nest");
}

#[test]
fn elementwise_chains_take_the_layout_that_moves_least() {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 6, 6]);
    let a = net.relu(x);
    let b = net.op("Sigmoid", &[a], &[]);
    let c = net.conv(b, 8, 3, 1, 1);
    net.output(c);
    // The first elementwise step changes the layout on its way.
    assert_eq!(steps(&lowered(&net)), ["Loops", "Loops", "Conv", "output `out6`"]);
}

#[test]
fn a_channel_shuffle_is_one_copy() {
    let mut net = Net::new();
    let x = net.input(&[1, 3, 8, 8]);
    let a = net.conv(x, 8, 3, 1, 1);
    let b = net.shuffle(a, 2);
    let c = net.depthwise(b, 3, 1, 1);
    let d = net.op("GlobalAveragePool", &[c], &[]);
    net.output(d);
    let s = lowered(&net);
    assert_eq!(steps(&s), ["Conv", "Loops", "Depthwise", "Pool"]);
    assert_eq!(s.steps[1].out_shape, [1, 8, 8, 8]);
}

#[test]
fn every_fault_is_reported() {
    let mut net = Net::new();
    let x = net.input(&[2, 6]);
    let a = net.relu(x);
    net.output(a);
    // A second output that nothing writes.
    let v = net.graph.add_input("lost", DType::F32, crate::ir::Shape::from([1]));
    net.graph.inputs.pop();
    net.output(v);
    let errors = lower(&net.graph, &ScheduleOptions::default()).unwrap_err();
    assert!(!errors.is_empty());
}

#[test]
fn orders_of_execution_keep_little_alive() {
    // Two wide branches, each reduced at once: running both first doubles the peak.
    let mut net = Net::new();
    let x = net.input(&[1, 2, 16, 16]);
    let wide: Vec<_> = (0..3).map(|_| net.conv(x, 32, 1, 1, 0)).collect();
    let small: Vec<_> = wide.into_iter().map(|w| net.op("GlobalAveragePool", &[w], &[])).collect();
    let all = net.concat(&small, 1);
    net.output(all);
    let best = order::best(&net.graph);
    let none = BTreeMap::new();
    let (before, after) =
        (order::peak(&net.graph, net.graph.order(), &none), order::peak(&best, best.order(), &none));
    assert!(after * 2 < before, "{after} of {before}");
    assert!(crate::ir::verify::verify(&best).is_empty());
}

#[test]
fn slices_and_splits_are_views() {
    let mut net = Net::new();
    let x = net.input(&[1, 8, 6, 6]);
    let a = net.conv(x, 8, 3, 1, 1);
    let parts = net.ops("Split", &[a], &[("axis", Attr::Int(1))], 2);
    let b = net.conv(parts[0], 4, 1, 1, 0);
    let c = net.concat(&[b, parts[1]], 1);
    let d = net.conv(c, 2, 1, 1, 0);
    net.output(d);
    let s = lowered(&net);
    // Only the part that stays as it is has to be moved into the concatenation.
    assert_eq!(steps(&s).iter().filter(|s| *s == "Loops").count(), 1, "{:?}", steps(&s));
    assert_eq!((conv(&s, 2).x.channels, conv(&s, 2).x.strides[2]), (4, 8));
}
