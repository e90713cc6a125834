//! Plans of whole schedules, judged by a simulation that knows nothing of footprints, and by the check that
//! emitted crates run.

use super::*;
use crate::ir::ValueId;
use crate::kernel::spec::View;
use crate::kernel::{Access, Loops};
use crate::onnx::Attr;
use crate::schedule::testing::Net;
use crate::schedule::{Schedule, ScheduleOptions, lower};
use edgec_runtime::plan;

/// Element positions of a spatial view.
fn of_view(v: &View) -> Vec<usize> {
    let mut list = Vec::new();
    for n in 0..v.batch {
        for d in 0..v.extent[0] {
            for h in 0..v.extent[1] {
                for w in 0..v.extent[2] {
                    for c in 0..v.channels {
                        let space = d * v.strides[0] + h * v.strides[1] + w * v.strides[2];
                        list.push(v.offset + n * v.n_stride + space + c * v.c_stride);
                    }
                }
            }
        }
    }
    list
}

/// Operands, and which elements of them.
type Elements = Vec<(Operand, Vec<usize>)>;

/// The arena as it is filled: for each byte the buffer and step that wrote it last.
struct Arena<'a> {
    schedule: &'a Schedule,
    plan: &'a Plan,
    bytes: Vec<Option<(u32, usize)>>,
    /// Who wrote each element of each buffer last, as if buffers did not share memory.
    own: Vec<Vec<Option<usize>>>,
}

impl<'a> Arena<'a> {
    fn new(schedule: &'a Schedule, plan: &'a Plan) -> Self {
        let own = schedule.buffers.iter().map(|b| vec![None; b.len]).collect();
        Arena { schedule, plan, bytes: vec![None; plan.arena_bytes], own }
    }

    fn span(&self, buffer: u32, element: usize) -> std::ops::Range<usize> {
        let size = self.schedule.buffers[buffer as usize].dtype.size();
        let start = self.plan.offsets[buffer as usize] + element * size;
        start..start + size
    }

    fn write(&mut self, operand: Operand, element: usize, step: usize) {
        let Operand::Buffer(BufferId(b)) = operand else { panic!("a constant is written") };
        self.own[b as usize][element] = Some(step);
        let span = self.span(b, element);
        self.bytes[span].fill(Some((b, step)));
    }

    fn read(&self, operand: Operand, element: usize, step: usize) {
        let Operand::Buffer(BufferId(b)) = operand else { return };
        let name = &self.schedule.buffers[b as usize].name;
        let writer = self.own[b as usize][element];
        assert!(writer.is_some(), "step {step} reads element {element} of `{name}`, which nobody wrote");
        for byte in &self.bytes[self.span(b, element)] {
            assert_eq!(*byte, writer.map(|w| (b, w)), "step {step} reads element {element} of `{name}`");
        }
    }

    fn all(&self, operand: Operand) -> Vec<usize> {
        (0..self.schedule.len_of(operand)).collect()
    }

    fn kernel(&mut self, step: usize) {
        let schedule = self.schedule;
        let (reads, writes): (Elements, Elements) = match &schedule.steps[step].kernel {
            Kernel::Conv { spec, x, epilogue, y, .. } => {
                let mut reads = vec![(*x, of_view(&spec.x))];
                reads.extend(epilogue.residual.map(|r| (r, of_view(&spec.residual))));
                (reads, vec![(*y, of_view(&spec.y))])
            }
            Kernel::Depthwise { spec, x, epilogue, y, .. } => {
                let mut reads = vec![(*x, of_view(&spec.x))];
                reads.extend(epilogue.residual.map(|r| (r, of_view(&spec.residual))));
                (reads, vec![(*y, of_view(&spec.y))])
            }
            Kernel::Pool { spec, x, y } => (vec![(*x, of_view(&spec.x))], vec![(*y, of_view(&spec.y))]),
            Kernel::Softmax { spec, x, y } => {
                let all: Vec<usize> = (0..spec.outer * spec.len * spec.inner).collect();
                (vec![(*x, all.clone())], vec![(*y, all)])
            }
            Kernel::Loops(loops) => return self.loops(loops, step),
            other => panic!("{} is not simulated", other.family()),
        };
        for (operand, elements) in reads {
            elements.into_iter().for_each(|e| self.read(operand, e, step));
        }
        for (operand, elements) in writes {
            elements.into_iter().for_each(|e| self.write(operand, e, step));
        }
    }

    /// Iteration by iteration, so that writing over what a later one reads is seen.
    fn loops(&mut self, loops: &Loops, step: usize) {
        let at = |access: &Access, index: &[usize]| {
            let moved: isize = access.strides.iter().zip(index).map(|(s, &i)| s * i as isize).sum();
            (access.offset as isize + moved) as usize
        };
        for nest in &loops.nests {
            let outer = nest.extents.len() - nest.reduce;
            let index = |mut flat: usize, extents: &[usize]| -> Vec<usize> {
                let mut out: Vec<usize> = extents
                    .iter()
                    .rev()
                    .map(|&d| {
                        let i = flat % d;
                        flat /= d;
                        i
                    })
                    .collect();
                out.reverse();
                out
            };
            for o in 0..nest.extents[..outer].iter().product() {
                let outside = index(o, &nest.extents[..outer]);
                for i in 0..nest.extents[outer..].iter().product() {
                    let mut all = outside.clone();
                    all.extend(index(i, &nest.extents[outer..]));
                    for r in &nest.reads {
                        self.read(r.access.operand, at(&r.access, &all), step);
                    }
                }
                for s in &nest.stores {
                    self.write(s.access.operand, at(&s.access, &outside), step);
                }
            }
        }
    }
}

/// Asserts that every read of a planned schedule sees what was written for it, and that the table passes the
/// runtime's check.
fn judge(schedule: &Schedule, options: &PlanOptions) -> Plan {
    let plan = plan(schedule, options);
    let mut arena = Arena::new(schedule, &plan);
    for port in &schedule.inputs {
        arena.all(port.operand).into_iter().for_each(|e| arena.write(port.operand, e, usize::MAX));
    }
    for step in 0..schedule.steps.len() {
        arena.kernel(step);
    }
    for port in &schedule.outputs {
        arena.all(port.operand).into_iter().for_each(|e| arena.read(port.operand, e, schedule.steps.len()));
    }
    let table = table(schedule, &plan);
    let steps: Vec<plan::Step> = table
        .steps
        .into_iter()
        .map(|s| plan::Step {
            writes: s.writes.leak(),
            reads: s
                .reads
                .into_iter()
                .map(|r| plan::Read { range: r.range, writers: r.writers.leak(), form: r.form })
                .collect::<Vec<_>>()
                .leak(),
        })
        .collect();
    plan::check(&steps, plan.arena_bytes);
    plan
}

/// A generator of small graphs.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn net(&mut self) -> Net {
        let mut net = Net::new();
        let size = [4, 6, 8, 10, 22][self.below(5)];
        let first = net.input(&[1, 1 + self.below(6), size, size]);
        let mut images = vec![first];
        let mut others: Vec<ValueId> = Vec::new();
        for _ in 0..4 + self.below(12) {
            let x = images[images.len() - 1 - self.below(images.len().min(4))];
            let shape = net.shape(x);
            let same: Vec<ValueId> = images.iter().copied().filter(|&v| net.shape(v) == shape).collect();
            let level: Vec<ValueId> =
                images.iter().copied().filter(|&v| net.shape(v)[2..] == shape[2..]).collect();
            let y = match self.below(13) {
                0 | 1 => net.conv(x, 1 + self.below(20), 3, 1, 1),
                2 => net.conv(x, 1 + self.below(20), 1, 1, 0),
                3 => net.depthwise(x, 3, 1, 1),
                4 if shape[2] >= 4 => net.conv(x, 1 + self.below(8), 3, 2, 1),
                5 if shape[2] >= 4 => net.max_pool(x, 2, 2),
                6 => net.op("Add", &[x, same[self.below(same.len())]], &[]),
                7 | 8 => {
                    let parts: Vec<ValueId> =
                        (0..2 + self.below(2)).map(|_| level[self.below(level.len())]).collect();
                    let axis = if parts.iter().all(|&p| net.shape(p) == shape) { self.below(3) } else { 0 };
                    net.concat(&parts, [1, 2, 3][axis])
                }
                9 if shape[1].is_multiple_of(2) => {
                    let parts = net.ops("Split", &[x], &[("axis", Attr::Int(1))], 2);
                    parts[self.below(2)]
                }
                10 => {
                    let t = net.transpose(x, &[0, 2, 3, 1]);
                    let flat = net.reshape(t, &[1, -1, shape[1] as i64]);
                    others.push(if self.below(2) == 0 { net.op("Softmax", &[flat], &[]) } else { flat });
                    x
                }
                11 if shape[1] >= 4 => {
                    let [from, to] = [net.ints(&[self.below(2) as i64]), net.ints(&[shape[1] as i64])];
                    let [axis, step] = [net.ints(&[1]), net.ints(&[2])];
                    net.op("Slice", &[x, from, to, axis, step], &[])
                }
                12 if shape[1].is_multiple_of(2) => net.shuffle(x, 2),
                _ => net.relu(x),
            };
            if net.shape(y)[2] == net.shape(y)[3] {
                images.push(y);
            } else {
                net.output(y);
            }
        }
        let last = *images.last().unwrap();
        net.output(last);
        if self.below(3) == 0 {
            net.output(images[self.below(images.len())]);
        }
        let channels = others.first().map(|&v| net.shape(v)[2]);
        others.retain(|&v| Some(net.shape(v)[2]) == channels);
        if !others.is_empty() {
            let all = net.concat(&others, 1);
            net.output(all);
        }
        net
    }
}

#[test]
fn random_graphs_keep_what_is_alive() {
    let mut random = Random(1);
    let (mut strided, mut overlap, mut halos) = (0, 0, 0);
    for round in 0..160 {
        let net = random.net();
        let options = ScheduleOptions { halo: round % 2 == 0, ..Default::default() };
        let schedule = lower(&net.graph, &options).unwrap_or_else(|e| panic!("round {round}: {e:?}"));
        let plan = judge(&schedule, &options.memory());
        strided += plan.forms.iter().filter(|f| matches!(f, StepForm::Strided { .. })).count();
        overlap += plan.forms.iter().filter(|f| matches!(f, StepForm::Overlap)).count();
        halos += schedule.steps.iter().filter(|s| s.note.starts_with("zeros")).count();
    }
    assert!(
        strided > 20 && overlap > 100 && halos > 4,
        "{strided} strided, {overlap} overlap, {halos} halos"
    );
}

#[test]
fn a_pointwise_convolution_needs_little_more_than_its_output() {
    let mut net = Net::new();
    let x = net.input(&[1, 8, 48, 48]);
    let nhwc = net.transpose(x, &[0, 2, 3, 1]);
    let _ = nhwc;
    let y = net.conv(x, 16, 1, 1, 0);
    let z = net.op("GlobalAveragePool", &[y], &[]);
    net.output(z);
    let mut options = ScheduleOptions::default();
    options.input_layouts.insert("in1".into(), crate::schedule::InputLayout::Nhwc);
    let schedule = lower(&net.graph, &options).unwrap();
    let plan = judge(&schedule, &options.memory());
    let (x, y) = (48 * 48 * 8 * 4, 48 * 48 * 16 * 4);
    assert_eq!(plan.lower_bound_bytes, x + y);
    assert!(plan.arena_bytes < y + 256, "{} bytes", plan.arena_bytes);
    assert_eq!(plan.forms[0], StepForm::Overlap);
}

#[test]
fn elementwise_chains_run_in_place() {
    let mut net = Net::new();
    let mut x = net.input(&[64, 64]);
    for _ in 0..4 {
        x = net.relu(x);
    }
    net.output(x);
    let schedule = lower(&net.graph, &ScheduleOptions::default()).unwrap();
    let plan = judge(&schedule, &PlanOptions::default());
    assert_eq!((plan.arena_bytes, plan.lower_bound_bytes), (64 * 64 * 4, 2 * 64 * 64 * 4));
    assert!(plan.forms.iter().all(|f| *f == StepForm::Overlap));
}
