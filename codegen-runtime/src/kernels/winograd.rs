//! Winograd's minimal filtering for 3×3 kernels, F(2×2, 3×3) and F(4×4, 3×3): the transforms of one dimension.
//!
//! After A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: an output patch is
//! `Aᵀ·[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A`. The compiler computes `G·g·Gᵀ`; points are 0, ±1, ∞ and 0, ±1, ±2, ∞.

use crate::isa::{Isa, LANES};
use crate::operand::{Operand, Space};
use crate::spec::View;

/// Values of a patch along one side, at most.
pub(crate) const MOST: usize = 6;

/// One dimension of a transform; of arrays only the first values count.
pub(crate) trait Points: 'static {
    /// Outputs along a side.
    const TILE: usize;
    /// Values of a patch along a side.
    const SIDE: usize = Self::TILE + 2;

    /// `Bᵀ·d`.
    fn input<I: Isa>(isa: I, d: [I::P; MOST]) -> [I::P; MOST];

    /// `Aᵀ·m`.
    fn output<I: Isa>(isa: I, m: [I::P; MOST]) -> [I::P; MOST];
}

/// F(2×2, 3×3).
pub(crate) struct Two;

impl Points for Two {
    const TILE: usize = 2;

    #[inline(always)]
    fn input<I: Isa>(isa: I, d: [I::P; MOST]) -> [I::P; MOST] {
        let zero = isa.zero();
        [isa.sub(d[0], d[2]), isa.add(d[1], d[2]), isa.sub(d[2], d[1]), isa.sub(d[1], d[3]), zero, zero]
    }

    #[inline(always)]
    fn output<I: Isa>(isa: I, m: [I::P; MOST]) -> [I::P; MOST] {
        let zero = isa.zero();
        let (sum, difference) = (isa.add(m[1], m[2]), isa.sub(m[1], m[2]));
        [isa.add(m[0], sum), isa.sub(difference, m[3]), zero, zero, zero, zero]
    }
}

/// F(4×4, 3×3).
pub(crate) struct Four;

impl Points for Four {
    const TILE: usize = 4;

    #[inline(always)]
    fn input<I: Isa>(isa: I, d: [I::P; MOST]) -> [I::P; MOST] {
        let (two, four, minus_five) = (isa.splat(2.0), isa.splat(4.0), isa.splat(-5.0));
        // d4 - 4·d2, d3 - 4·d1; d4 - d2, 2·(d3 - d1).
        let (even, odd) = (isa.fmadd(isa.neg(four), d[2], d[4]), isa.fmadd(isa.neg(four), d[1], d[3]));
        let (e, o) = (isa.sub(d[4], d[2]), isa.mul(two, isa.sub(d[3], d[1])));
        [
            isa.fmadd(four, d[0], isa.fmadd(minus_five, d[2], d[4])),
            isa.add(even, odd),
            isa.sub(even, odd),
            isa.add(e, o),
            isa.sub(e, o),
            isa.fmadd(four, d[1], isa.fmadd(minus_five, d[3], d[5])),
        ]
    }

    #[inline(always)]
    fn output<I: Isa>(isa: I, m: [I::P; MOST]) -> [I::P; MOST] {
        let (two, four, eight, zero) = (isa.splat(2.0), isa.splat(4.0), isa.splat(8.0), isa.zero());
        let (s1, d1) = (isa.add(m[1], m[2]), isa.sub(m[1], m[2]));
        let (s2, d2) = (isa.add(m[3], m[4]), isa.sub(m[3], m[4]));
        [
            isa.add(m[0], isa.add(s1, s2)),
            isa.fmadd(two, d2, d1),
            isa.fmadd(four, s2, s1),
            isa.add(isa.fmadd(eight, d2, d1), m[5]),
            zero,
            zero,
        ]
    }
}

/// Fails the build unless planes of `rows` rows, for `channels` channels, fit the slot one after another.
pub(crate) const fn prove_planes<T: Operand>(tile: usize, plane: usize, rows: usize, channels: usize) {
    assert!(tile == 2 || tile == 4, "no such tile");
    assert!(rows > 0 && plane >= rows.saturating_mul(crate::pack::padded_len(channels)), "planes overlap");
    assert!(plane.saturating_mul((tile + 2) * (tile + 2)) <= T::LEN, "the planes leave their slot");
    assert!(matches!(T::SPACE, Space::Arena), "the planes are not in the arena");
}

/// Fails the build unless a view is one of images of depth 1.
pub(crate) const fn prove_image(view: &View) {
    assert!(view.extent[0] == 1 && view.extent[1] > 0 && view.extent[2] > 0, "not an image");
}

/// Channels of a chunk of 16 that starts at `c`.
#[inline(always)]
pub(crate) fn lanes(channels: usize, c: usize) -> usize {
    if channels - c < LANES { channels - c } else { LANES }
}
