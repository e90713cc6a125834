//! Contiguous rows, 16 values at a time: what softmax and normalisation share.

use crate::isa::{Isa, LANES};
use crate::kernels::Form;
use crate::kernels::spatial::Window;
use crate::kernels::spatial::{prove_apart, prove_form, prove_views};
use crate::operand::Operand;
use crate::spec::View;

const POINT: Window = Window { kernel: [1; 3], stride: [1; 3], dilation: [1; 3], pads: [0; 3] };

/// Dense rows of `len` values.
pub(crate) const fn view(rows: usize, len: usize) -> View {
    View::channels_last(1, [1, 1, rows], len)
}

/// Fails the build unless `rows` rows of `len` values fit `X` and `Y`, and `Y` keeps away from `X`, lies
/// exactly over it, or behind it by `lead` bytes.
pub(crate) const fn prove_rows<X: Operand<Elem = f32>, Y: Operand<Elem = f32>>(
    form: Form,
    rows: usize,
    len: usize,
    lead: isize,
) {
    let view = view(rows, len);
    prove_views::<X, Y>(&POINT, &view, &view);
    if !matches!(form, Form::Overlap) || X::OFFSET != Y::OFFSET {
        prove_form::<X, Y>(form, &view, &view, Some(lead));
    }
}

/// Fails the build unless `A` has `len` values that the rows of `Y` leave alone.
pub(crate) const fn prove_row_operand<A, Y>(wanted: bool, len: usize, rows: usize)
where
    A: Operand<Elem = f32>,
    Y: Operand<Elem = f32>,
{
    if wanted {
        assert!(A::LEN >= len, "scale or bias is too short");
    }
    prove_apart::<A, Y>(&view(rows, len));
}

/// `n ≤ 16` values, the other lanes `fill`.
///
/// # Safety
/// `n` values from `p` are readable.
#[inline(always)]
unsafe fn load_filled<I: Isa>(isa: I, p: *const f32, n: usize, fill: f32) -> I::P {
    let lane = isa.from_array(core::array::from_fn(|i| i as f32));
    // SAFETY: the caller's promise.
    let values = unsafe { isa.load_n(p, n) };
    isa.select(isa.lt(lane, isa.splat(n as f32)), values, isa.splat(fill))
}

/// Joins `map` of every value, lane by lane, in four chains; missing lanes count as `identity`.
///
/// # Safety
/// `len` values from `x` are readable.
#[inline(always)]
pub(crate) unsafe fn reduce<I: Isa>(
    isa: I,
    x: *const f32,
    len: usize,
    identity: f32,
    map: impl Fn(I::P) -> I::P,
    join: impl Fn(I::P, I::P) -> I::P,
) -> I::P {
    const CHAINS: usize = 4;
    let mut chains = [isa.splat(identity); CHAINS];
    let mut i = 0;
    while i + CHAINS * LANES <= len {
        for c in 0..CHAINS {
            // SAFETY: i + CHAINS·16 ≤ len.
            let values = unsafe { isa.load(x.add(i + c * LANES)) };
            chains[c] = join(chains[c], map(values));
        }
        i += CHAINS * LANES;
    }
    let mut c = 0;
    while i < len {
        // SAFETY: i < len, and no more than len - i values are read.
        let values = unsafe {
            if i + LANES <= len {
                map(isa.load(x.add(i)))
            } else {
                let lane = isa.from_array(core::array::from_fn(|i| i as f32));
                let inside = isa.lt(lane, isa.splat((len - i) as f32));
                isa.select(inside, map(isa.load_n(x.add(i), len - i)), isa.splat(identity))
            }
        };
        // No more than four are left; LLVM does not see that.
        chains[c % CHAINS] = join(chains[c % CHAINS], values);
        c += 1;
        i += LANES;
    }
    join(join(chains[0], chains[2]), join(chains[1], chains[3]))
}

/// `y[i] = map(x[i], i)`, 16 values at a time, where `i` is the first of them; the last call may have
/// fewer, the others being `fill`.
///
/// # Safety
/// `len` values from `x` are readable and from `y` writable; if the two overlap, `y` starts at `x` or
/// before it.
#[inline(always)]
pub(crate) unsafe fn map<I: Isa>(
    isa: I,
    x: *const f32,
    y: *mut f32,
    len: usize,
    fill: f32,
    mut map: impl FnMut(I::P, usize) -> I::P,
) {
    let mut i = 0;
    while i + LANES <= len {
        // SAFETY: i + 16 ≤ len.
        unsafe { isa.store(y.add(i), map(isa.load(x.add(i)), i)) };
        i += LANES;
    }
    if i < len {
        // SAFETY: len - i values are left.
        unsafe { isa.store_n(y.add(i), map(load_filled(isa, x.add(i), len - i, fill), i), len - i) };
    }
}
