//! LSTM and GRU over a sequence in `f32`, one direction: the state's product with packed weights, and the gates in
//! registers. The input's product comes from a matrix product over all steps before.
//!
//! Padding lanes of panels hold zeros throughout: weights, projections and states.

use crate::blob::Blob;
use crate::crew::Hands;
use crate::isa::{Isa, LANES, Level};
use crate::kernels::layer::{self, Known, Shape};
use crate::kernels::{Form, pointer, pointer_mut};
use crate::math::formula::{self, Lanes};
use crate::mem::{Mem, Part};
use crate::operand::{Operand, Space};
use crate::pack;
use crate::spec::{RecurrentKind, RecurrentSpec};

/// A direction of a recurrent operator as an emitted layer states it.
pub trait RecurrentLayer: 'static {
    /// Extents and options.
    type Shape: Shape<RecurrentSpec>;
    /// How the outputs lie to the inputs; always apart.
    const FORM: Form;
    /// Projections of the input with all biases that are added to them, in panels; see [`RecurrentSpec`].
    type X: Operand<Elem = f32>;
    /// Recurrent weights, `pack::Recurrent`.
    type R: Operand<Elem = f32>;
    /// GRU: bias of the candidate's recurrent product, one per unit, padded to panels.
    type Bias: Operand<Elem = f32>;
    /// Hidden state to start from.
    type FirstH: Operand<Elem = f32>;
    /// LSTM: cell state to start from.
    type FirstC: Operand<Elem = f32>;
    /// Hidden states of all steps.
    type Y: Operand<Elem = f32>;
    /// Last hidden state.
    type LastH: Operand<Elem = f32>;
    /// LSTM: last cell state.
    type LastC: Operand<Elem = f32>;
    /// Scratch: `spec.scratch_len()` values.
    type State: Operand<Elem = f32>;
}

const fn absent<T: Operand<Elem = f32>>() -> bool {
    matches!(T::SPACE, Space::Absent)
}

/// Fails the build unless a written operand is there with so many values, apart from all that is read.
const fn prove_write<L: RecurrentLayer, W: Operand<Elem = f32>>(least: usize) {
    if absent::<W>() {
        return;
    }
    assert!(matches!(W::SPACE, Space::Arena), "an output is not in the arena");
    assert!(W::LEN >= least, "an output is too short");
    assert!(!W::SPAN.meets(&L::X::SPAN) && !W::SPAN.meets(&L::R::SPAN), "an output lies over an input");
    assert!(!W::SPAN.meets(&L::Bias::SPAN), "an output lies over the bias");
    assert!(
        !W::SPAN.meets(&L::FirstH::SPAN) && !W::SPAN.meets(&L::FirstC::SPAN),
        "an output lies over a state"
    );
}

const fn prove<L: RecurrentLayer, const N: usize, const M: usize>() {
    let s = &L::Shape::SPEC;
    let lstm = matches!(s.kind, RecurrentKind::Lstm);
    assert!(matches!(L::FORM, Form::Disjoint), "outputs and inputs must lie apart");
    assert!(L::X::LEN >= s.x_end(), "the projections are too short");
    let packed = pack::Recurrent { gates: s.kind.gates(), hidden: s.hidden }.packed_len();
    assert!(L::R::LEN >= packed, "the recurrent weights are too short");
    assert!(lstm || L::Bias::LEN >= pack::padded(s.hidden), "the bias is too short");
    assert!(absent::<L::FirstH>() || L::FirstH::LEN >= s.state_end(), "the first state is too short");
    assert!(absent::<L::FirstC>() || L::FirstC::LEN >= s.state_end(), "the first cell state is too short");
    assert!(!absent::<L::X>() && !absent::<L::R>() && !absent::<L::State>(), "an operand is absent");
    assert!(
        lstm || (!absent::<L::Bias>() && absent::<L::FirstC>() && absent::<L::LastC>()),
        "operands of an LSTM"
    );
    prove_write::<L, L::Y>(s.y_end());
    prove_write::<L, L::LastH>(s.state_end());
    prove_write::<L, L::LastC>(s.state_end());
    prove_write::<L, L::State>(s.scratch_len());
    assert!(
        !L::State::SPAN.meets(&L::Y::SPAN) && !L::State::SPAN.meets(&L::LastH::SPAN),
        "scratch lies over an output"
    );
    assert!(!L::State::SPAN.meets(&L::LastC::SPAN), "scratch lies over an output");
    L::X::SPAN.prove_inside(N, M);
    L::R::SPAN.prove_inside(N, M);
    L::Bias::SPAN.prove_inside(N, M);
    L::FirstH::SPAN.prove_inside(N, M);
    L::FirstC::SPAN.prove_inside(N, M);
    L::Y::SPAN.prove_inside(N, M);
    L::LastH::SPAN.prove_inside(N, M);
    L::LastC::SPAN.prove_inside(N, M);
    L::State::SPAN.prove_inside(N, M);
}

#[derive(Clone, Copy)]
struct Job<'a> {
    spec: &'a RecurrentSpec,
    x: *const f32,
    r: *const f32,
    bias: *const f32,
    first_h: Option<*const f32>,
    first_c: Option<*const f32>,
    y: Option<*mut f32>,
    last_h: Option<*mut f32>,
    last_c: Option<*mut f32>,
    state: *mut f32,
}

/// Runs the layer.
///
/// The build fails unless the extents fit the operands, and these lie apart. Steps follow one another: the first part
/// does all.
#[inline(always)]
pub fn run<I: Isa, L: RecurrentLayer, const N: usize, const M: usize>(
    isa: I,
    mem: &mut Mem<N>,
    blob: &Blob<M>,
    part: Part,
) {
    const { prove::<L, N, M>() };
    if part.index != 0 {
        return;
    }
    let (arena, weights) = (mem.ptr(), blob.bytes().as_ptr());
    let job = Job {
        spec: const { &L::Shape::SPEC },
        x: pointer::<L::X>(arena, weights),
        r: pointer::<L::R>(arena, weights),
        bias: pointer::<L::Bias>(arena, weights),
        first_h: (!absent::<L::FirstH>()).then_some(pointer::<L::FirstH>(arena, weights)),
        first_c: (!absent::<L::FirstC>()).then_some(pointer::<L::FirstC>(arena, weights)),
        y: (!absent::<L::Y>()).then_some(pointer_mut::<L::Y>(arena)),
        last_h: (!absent::<L::LastH>()).then_some(pointer_mut::<L::LastH>(arena)),
        last_c: (!absent::<L::LastC>()).then_some(pointer_mut::<L::LastC>(arena)),
        state: pointer_mut::<L::State>(arena),
    };
    // SAFETY: `prove` holds for the shape's spec.
    unsafe { layer::run::<I, _, L::Shape>(isa, Hands::ALONE, job) }
}

impl layer::Job for Job<'_> {
    type Spec = RecurrentSpec;

    #[inline(always)]
    fn shaped<S: Shape<RecurrentSpec>>(self) -> Self {
        Job { spec: const { &S::SPEC }, ..self }
    }

    fn part(self, _part: Part) -> Self {
        self
    }

    fn work(_spec: &RecurrentSpec) -> usize {
        0
    }

    #[inline(always)]
    unsafe fn run<I: Isa, K: Known<RecurrentSpec>>(&self, isa: I) {
        // SAFETY: passed on.
        unsafe {
            match self.spec.kind {
                RecurrentKind::Lstm => sequences::<I, Lstm, 4>(isa, self),
                RecurrentKind::Gru => sequences::<I, Gru, 3>(isa, self),
            }
        }
    }
}

/// What a cell sees of its unit: projections, products with the state, its panel's old hidden and cell state.
struct Unit<I: Isa, const G: usize> {
    x: [I::P; G],
    product: [I::P; G],
    h: I::P,
    c: I::P,
}

/// A cell. A type and not a function that is handed over: what calls such a function is not compiled for the level.
trait Cell<const G: usize> {
    /// New hidden and cell state.
    fn step<I: Isa>(isa: I, unit: Unit<I, G>) -> (I::P, I::P);
}

/// Gates i, o, f, c.
struct Lstm;

impl Cell<4> for Lstm {
    #[inline(always)]
    fn step<I: Isa>(isa: I, unit: Unit<I, 4>) -> (I::P, I::P) {
        let [i, o, f, g] = unit.product;
        let (i, o, f) = (sigmoid(isa, i), sigmoid(isa, o), sigmoid(isa, f));
        let c = isa.fmadd(f, unit.c, isa.mul(i, tanh(isa, g)));
        (isa.mul(o, tanh(isa, c)), c)
    }
}

/// Gates z, r, h.
struct Gru;

impl Cell<3> for Gru {
    #[inline(always)]
    fn step<I: Isa>(isa: I, unit: Unit<I, 3>) -> (I::P, I::P) {
        let [z, r, product] = unit.product;
        let (z, r) = (sigmoid(isa, z), sigmoid(isa, r));
        let new = tanh(isa, isa.fmadd(r, product, unit.x[2]));
        (isa.fmadd(z, isa.sub(unit.h, new), new), unit.c)
    }
}

#[inline(always)]
fn sigmoid<I: Isa>(isa: I, v: I::P) -> I::P {
    formula::sigmoid(Lanes::new(isa, v)).v
}

#[inline(always)]
fn tanh<I: Isa>(isa: I, v: I::P) -> I::P {
    formula::tanh(Lanes::new(isa, v)).v
}

/// # Safety
/// The job was proved, and `G` is its kind's number of gates.
#[inline(always)]
unsafe fn sequences<I: Isa, C: Cell<G>, const G: usize>(isa: I, job: &Job) {
    let s = job.spec;
    let width = pack::padded(s.hidden);
    let c = job.state.wrapping_add(2 * width);
    for n in 0..s.batch {
        let state = s.state_offset + n * s.state_batch;
        let (mut now, mut next) = (job.state, job.state.wrapping_add(width));
        // SAFETY: `hidden` values from `state` on lie in first and last states, `3·width` in the scratch.
        unsafe {
            first(isa, job.first_h, state, now, s.hidden);
            first(isa, job.first_c, state, c, s.hidden);
        }
        for i in 0..s.steps {
            let t = if s.backwards { s.steps - 1 - i } else { i };
            let x = job.x.wrapping_add(t * s.x_step + n * s.x_batch);
            let y = job.y.map(|y| y.wrapping_add(s.y_offset + t * s.y_step + n * s.y_batch));
            // SAFETY: step and sample are below their extents, and `now`, `next` and `c` are panels of `hidden`
            // units apart from each other.
            unsafe { step::<I, C, G>(isa, job, x, [now, next, c], y) };
            core::mem::swap(&mut now, &mut next);
        }
        // SAFETY: as above.
        unsafe {
            last(isa, now, job.last_h, state, s.hidden);
            last(isa, c, job.last_c, state, s.hidden);
        }
    }
}

/// Panels of a state, or zeros.
///
/// # Safety
/// `from` has `hidden` values from `at`, `to` the panels of them.
#[inline(always)]
unsafe fn first<I: Isa>(isa: I, from: Option<*const f32>, at: usize, to: *mut f32, hidden: usize) {
    let mut j = 0;
    while j < hidden {
        let v = match from {
            // SAFETY: `hidden - j` values follow, of which at most those are read.
            Some(from) => unsafe { isa.load_n(from.wrapping_add(at + j), (hidden - j).min(LANES)) },
            None => isa.zero(),
        };
        // SAFETY: panel of unit `j`.
        unsafe { isa.store(to.wrapping_add(j), v) };
        j += LANES;
    }
}

/// A state out of its panels.
///
/// # Safety
/// As of [`first`].
#[inline(always)]
unsafe fn last<I: Isa>(isa: I, from: *const f32, to: Option<*mut f32>, at: usize, hidden: usize) {
    let Some(to) = to else { return };
    let mut j = 0;
    while j < hidden {
        // SAFETY: panel of unit `j`; at most `hidden - j` values are written.
        unsafe {
            let v = isa.load(from.wrapping_add(j));
            isa.store_n(to.wrapping_add(at + j), v, (hidden - j).min(LANES));
        }
        j += LANES;
    }
}

/// One step of one sample.
///
/// # Safety
/// `x` has the sample's projections, `y` room for `hidden` values; the states are panels of `hidden` units.
#[inline(always)]
unsafe fn step<I: Isa, C: Cell<G>, const G: usize>(
    isa: I,
    job: &Job,
    x: *const f32,
    [now, next, c]: [*mut f32; 3],
    y: Option<*mut f32>,
) {
    let hidden = job.spec.hidden;
    let (mut j, mut r) = (0, job.r);
    while j < hidden {
        // SAFETY: panel of units from `j`: `G` panels of projections, one of each state and of the bias, and
        // `hidden` rows of `G` panels of weights.
        unsafe {
            let mut projected = [isa.zero(); G];
            for g in 0..G {
                projected[g] = isa.load(x.wrapping_add(j * G + g * LANES));
            }
            let mut start = projected;
            if matches!(job.spec.kind, RecurrentKind::Gru) {
                // Reset before it meets the input.
                start[G - 1] = isa.load(job.bias.wrapping_add(j));
            }
            // More chains where there are registers for them.
            let product = if const { matches!(I::LEVEL, Level::V4) } {
                product::<I, G, 2>(isa, r, now, hidden, start)
            } else {
                product::<I, G, 1>(isa, r, now, hidden, start)
            };
            let unit = Unit {
                x: projected,
                product,
                h: isa.load(now.wrapping_add(j)),
                c: isa.load(c.wrapping_add(j)),
            };
            let (h, cell_state) = C::step(isa, unit);
            isa.store(next.wrapping_add(j), h);
            isa.store(c.wrapping_add(j), cell_state);
            if let Some(y) = y {
                isa.store_n(y.wrapping_add(j), h, (hidden - j).min(LANES));
            }
        }
        r = r.wrapping_add(hidden * G * LANES);
        j += LANES;
    }
}

/// `start + h · r` of a panel's gates; the sum over the state goes through `U` chains.
///
/// # Safety
/// `h` has `hidden` values, `r` as many rows of `G` panels.
#[inline(always)]
unsafe fn product<I: Isa, const G: usize, const U: usize>(
    isa: I,
    r: *const f32,
    h: *const f32,
    hidden: usize,
    start: [I::P; G],
) -> [I::P; G] {
    // Arrays of vectors stay in registers where all indices are constants of unrolled loops.
    let mut chains = [[isa.zero(); G]; U];
    chains[0] = start;
    let mut k = 0;
    while k + U <= hidden {
        for u in 0..U {
            // SAFETY: k + u < hidden.
            chains[u] = unsafe { row(isa, r, h, k + u, chains[u]) };
        }
        k += U;
    }
    if U > 1 {
        while k < hidden {
            // SAFETY: k < hidden.
            chains[0] = unsafe { row(isa, r, h, k, chains[0]) };
            k += 1;
        }
    }
    let mut sum = chains[0];
    for u in 1..U {
        for g in 0..G {
            sum[g] = isa.add(sum[g], chains[u][g]);
        }
    }
    sum
}

/// `chain + h[k] · r[k]`.
///
/// # Safety
/// As of [`product`], and `k < hidden`.
#[inline(always)]
unsafe fn row<I: Isa, const G: usize>(
    isa: I,
    r: *const f32,
    h: *const f32,
    k: usize,
    mut chain: [I::P; G],
) -> [I::P; G] {
    // SAFETY: value `k` and row `k`.
    unsafe {
        let v = isa.splat(*h.wrapping_add(k));
        for g in 0..G {
            chain[g] = isa.fmadd(v, isa.load(r.wrapping_add((k * G + g) * LANES)), chain[g]);
        }
    }
    chain
}

#[cfg(test)]
#[path = "recurrent_tests.rs"]
mod tests;
