//! The packed layouts of constants: the normative formulas, and packing by them.
//!
//! The compiler packs with these functions, kernels read by the same formulas, and every level of a
//! crate reads the same bytes. Output channels go in *panels*: 16 wide, which is one 512-bit register,
//! two of 256 bits or four of 128. The last panel is zero-filled to 16, or, in convolutions, to 8 when
//! no more than 8 channels are left: that halves weights and work of the 8-channel layers of small
//! models. A tail of 4 would save four more lanes at the price of a third copy of every microkernel.
//!
//! Per-channel vectors (bias, factor, slope) are always filled to multiples of 16 for each group, so that
//! kernels read them without masks.

use crate::isa::LANES;

mod bytes;

pub use bytes::{ConvI8, DepthwiseI8, Requant, Tail};

/// Width of a narrow last panel.
pub const NARROW: usize = 8;

/// A slice had another length than the layout says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongLength {
    /// Elements that the layout needs.
    pub expected: usize,
    /// Elements that were given.
    pub given: usize,
}

impl core::fmt::Display for WrongLength {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} elements expected, {} given", self.expected, self.given)
    }
}

impl core::error::Error for WrongLength {}

fn expect(given: usize, expected: usize) -> Result<(), WrongLength> {
    if given == expected { Ok(()) } else { Err(WrongLength { expected, given }) }
}

/// `channels` rounded up to whole panels of 16.
#[inline(always)]
pub const fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// [`padded`] for lengths: the largest number where there is none, so that a proof against a slot's length fails.
pub const fn padded_len(channels: usize) -> usize {
    match channels.checked_next_multiple_of(LANES) {
        Some(n) => n,
        None => usize::MAX,
    }
}

/// The product for lengths: the largest number where it would overflow.
pub(crate) const fn length(factors: &[usize]) -> usize {
    let mut product = 1usize;
    let mut i = 0;
    while i < factors.len() {
        if factors[i] == 0 {
            return 0;
        }
        product = product.saturating_mul(factors[i]);
        i += 1;
    }
    product
}

/// How channels divide into panels of 16 and a narrow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panels {
    /// Panels of 16; the last may be partly zeros.
    pub wide: usize,
    /// Whether a panel of 8 follows.
    pub narrow: bool,
}

impl Panels {
    /// The panels of `channels` channels.
    #[inline(always)]
    pub const fn of(channels: usize) -> Panels {
        let rest = channels % LANES;
        Panels { wide: channels / LANES + (rest > NARROW) as usize, narrow: rest > 0 && rest <= NARROW }
    }

    /// Lanes of all panels.
    #[inline(always)]
    pub const fn lanes(self) -> usize {
        self.wide * LANES + if self.narrow { NARROW } else { 0 }
    }

    /// Width of the panel that holds `channel`.
    #[inline(always)]
    const fn width(self, channel: usize) -> usize {
        if channel / LANES < self.wide { LANES } else { NARROW }
    }
}

/// Weights of a convolution: `[group][panel][kd][ky][kx][ic][16]`, the last panel of a group 16 or
/// [`NARROW`] wide. The plain order is ONNX's `[oc][ic][kd][ky][kx]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Kernel extents.
    pub kernel: [usize; 3],
    /// Input channels of one group.
    pub in_channels: usize,
    /// Output channels of one group.
    pub out_channels: usize,
    /// Groups.
    pub groups: usize,
}

impl Conv {
    #[inline(always)]
    const fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.kernel[2]
    }

    /// Elements of one output channel.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        self.taps() * self.in_channels
    }

    /// Elements before packing.
    #[inline(always)]
    pub const fn plain_len(&self) -> usize {
        self.groups * self.out_channels * self.rows()
    }

    /// Elements of one packed group.
    #[inline(always)]
    pub const fn group_len(&self) -> usize {
        Panels::of(self.out_channels).lanes() * self.rows()
    }

    /// Elements after packing.
    #[inline(always)]
    pub const fn packed_len(&self) -> usize {
        // Panels are at most 15 lanes wider than the channels.
        let lanes = if self.out_channels > usize::MAX - LANES {
            usize::MAX
        } else {
            Panels::of(self.out_channels).lanes()
        };
        length(&[self.groups, lanes, self.kernel[0], self.kernel[1], self.kernel[2], self.in_channels])
    }

    /// Where output channel `o` of group `g`, input channel `i`, tap `t` (row-major) lies.
    #[inline(always)]
    pub const fn index(&self, g: usize, o: usize, i: usize, t: usize) -> usize {
        let width = Panels::of(self.out_channels).width(o);
        let panel = o / LANES * LANES * self.rows();
        g * self.group_len() + panel + (t * self.in_channels + i) * width + o % LANES
    }

    fn each(&self, mut f: impl FnMut(usize, usize)) {
        let mut plain = 0;
        for g in 0..self.groups {
            for o in 0..self.out_channels {
                for i in 0..self.in_channels {
                    for t in 0..self.taps() {
                        f(plain, self.index(g, o, i, t));
                        plain += 1;
                    }
                }
            }
        }
    }

    /// Packs; lanes without a channel become zero.
    pub fn pack<T: Copy + Default>(&self, plain: &[T], packed: &mut [T]) -> Result<(), WrongLength> {
        expect(plain.len(), self.plain_len())?;
        expect(packed.len(), self.packed_len())?;
        packed.fill(T::default());
        self.each(|from, to| packed[to] = plain[from]);
        Ok(())
    }

    /// Undoes [`Conv::pack`].
    pub fn unpack<T: Copy>(&self, packed: &[T], plain: &mut [T]) -> Result<(), WrongLength> {
        expect(plain.len(), self.plain_len())?;
        expect(packed.len(), self.packed_len())?;
        self.each(|to, from| plain[to] = packed[from]);
        Ok(())
    }
}

/// Weights of a depthwise convolution: `[panel][kd][ky][kx][16]` over output channels, the last
/// panel 16 or [`NARROW`] wide. The plain order is ONNX's `[oc][1][kd][ky][kx]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depthwise {
    /// Kernel extents.
    pub kernel: [usize; 3],
    /// Output channels: input channels times multiplier.
    pub channels: usize,
}

impl Depthwise {
    /// The same as a convolution of one group whose kernels have one input channel.
    #[inline(always)]
    const fn as_conv(&self) -> Conv {
        Conv { kernel: self.kernel, in_channels: 1, out_channels: self.channels, groups: 1 }
    }

    /// Elements before packing.
    #[inline(always)]
    pub const fn plain_len(&self) -> usize {
        self.as_conv().plain_len()
    }

    /// Elements after packing.
    #[inline(always)]
    pub const fn packed_len(&self) -> usize {
        self.as_conv().packed_len()
    }

    /// Where tap `t` (row-major) of output channel `c` lies.
    #[inline(always)]
    pub const fn index(&self, c: usize, t: usize) -> usize {
        self.as_conv().index(0, c, 0, t)
    }

    /// Packs; lanes without a channel become zero.
    pub fn pack<T: Copy + Default>(&self, plain: &[T], packed: &mut [T]) -> Result<(), WrongLength> {
        self.as_conv().pack(plain, packed)
    }

    /// Undoes [`Depthwise::pack`].
    pub fn unpack<T: Copy>(&self, packed: &[T], plain: &mut [T]) -> Result<(), WrongLength> {
        self.as_conv().unpack(packed, plain)
    }
}

/// Right-hand side of a matrix product: `[panel][k][16]` over columns, the last panel zero-filled.
/// The plain order is `[k][n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gemm {
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
}

impl Gemm {
    /// Elements before packing.
    #[inline(always)]
    pub const fn plain_len(&self) -> usize {
        self.k * self.n
    }

    /// Elements after packing.
    #[inline(always)]
    pub const fn packed_len(&self) -> usize {
        length(&[padded_len(self.n), self.k])
    }

    /// Where row `k`, column `n` lies.
    #[inline(always)]
    pub const fn index(&self, k: usize, n: usize) -> usize {
        (n / LANES * self.k + k) * LANES + n % LANES
    }

    fn each(&self, mut f: impl FnMut(usize, usize)) {
        for k in 0..self.k {
            for n in 0..self.n {
                f(k * self.n + n, self.index(k, n));
            }
        }
    }

    /// Packs; columns beyond `n` become zero.
    pub fn pack<T: Copy + Default>(&self, plain: &[T], packed: &mut [T]) -> Result<(), WrongLength> {
        expect(plain.len(), self.plain_len())?;
        expect(packed.len(), self.packed_len())?;
        packed.fill(T::default());
        self.each(|from, to| packed[to] = plain[from]);
        Ok(())
    }

    /// Undoes [`Gemm::pack`].
    pub fn unpack<T: Copy>(&self, packed: &[T], plain: &mut [T]) -> Result<(), WrongLength> {
        expect(plain.len(), self.plain_len())?;
        expect(packed.len(), self.packed_len())?;
        self.each(|to, from| plain[to] = packed[from]);
        Ok(())
    }
}

/// Recurrent weights: `[panel of units][k][gate][16]`, the last panel zero-filled. The plain order is `[gate][unit][k]`,
/// `k` being the unit whose state comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recurrent {
    /// Gates of a unit.
    pub gates: usize,
    /// Units.
    pub hidden: usize,
}

impl Recurrent {
    /// Elements before packing.
    #[inline(always)]
    pub const fn plain_len(&self) -> usize {
        self.gates * self.hidden * self.hidden
    }

    /// Elements after packing.
    #[inline(always)]
    pub const fn packed_len(&self) -> usize {
        length(&[padded_len(self.hidden), self.hidden, self.gates])
    }

    /// Where the weight of gate `g` of unit `j` for state `k` lies.
    #[inline(always)]
    pub const fn index(&self, g: usize, j: usize, k: usize) -> usize {
        ((j / LANES * self.hidden + k) * self.gates + g) * LANES + j % LANES
    }

    /// Packs; units beyond `hidden` become zero.
    pub fn pack<T: Copy + Default>(&self, plain: &[T], packed: &mut [T]) -> Result<(), WrongLength> {
        expect(plain.len(), self.plain_len())?;
        expect(packed.len(), self.packed_len())?;
        packed.fill(T::default());
        let rows = (0..self.gates).flat_map(|g| (0..self.hidden).map(move |j| (g, j)));
        for (row, (g, j)) in rows.enumerate() {
            for k in 0..self.hidden {
                packed[self.index(g, j, k)] = plain[row * self.hidden + k];
            }
        }
        Ok(())
    }
}

/// A value per output channel: `[group][channels of the group, padded to 16]`. Convolutions have
/// their groups, depthwise convolutions and matrix products one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vector {
    /// Channels of one group.
    pub channels: usize,
    /// Groups.
    pub groups: usize,
}

impl Vector {
    /// Elements before packing.
    #[inline(always)]
    pub const fn plain_len(&self) -> usize {
        self.channels * self.groups
    }

    /// Elements after packing.
    #[inline(always)]
    pub const fn packed_len(&self) -> usize {
        length(&[padded_len(self.channels), self.groups])
    }

    /// Where channel `c` of group `g` lies.
    #[inline(always)]
    pub const fn index(&self, g: usize, c: usize) -> usize {
        g * padded(self.channels) + c
    }

    /// Packs; padding becomes zero.
    pub fn pack<T: Copy + Default>(&self, plain: &[T], packed: &mut [T]) -> Result<(), WrongLength> {
        expect(plain.len(), self.plain_len())?;
        expect(packed.len(), self.packed_len())?;
        packed.fill(T::default());
        for g in 0..self.groups {
            for c in 0..self.channels {
                packed[self.index(g, c)] = plain[g * self.channels + c];
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn panels_divide_channels() {
        for (channels, wide, narrow) in
            [(0, 0, false), (3, 0, true), (8, 0, true), (9, 1, false), (24, 1, true), (33, 2, true)]
        {
            assert_eq!(Panels::of(channels), Panels { wide, narrow });
        }
    }

    #[test]
    fn conv_round_trips_and_fills_with_zeros() {
        for (groups, oc, ic) in [(1, 16, 3), (1, 3, 2), (2, 20, 1), (3, 26, 2)] {
            let layout = Conv { kernel: [1, 2, 3], in_channels: ic, out_channels: oc, groups };
            let plain: Vec<f32> = (1..=layout.plain_len()).map(|v| v as f32).collect();
            let mut packed = vec![9.0; layout.packed_len()];
            layout.pack(&plain, &mut packed).unwrap();
            assert_eq!(packed.iter().filter(|v| **v != 0.0).count(), plain.len());
            let mut back = vec![0.0; plain.len()];
            layout.unpack(&packed, &mut back).unwrap();
            assert_eq!(back, plain);
        }
    }

    #[test]
    fn conv_layout_is_the_documented_one() {
        let layout = Conv { kernel: [1, 1, 2], in_channels: 3, out_channels: 20, groups: 2 };
        assert_eq!(layout.group_len(), 2 * 3 * (16 + 8));
        // Group 1, panel 0, tap 1, input channel 2, lane 5.
        assert_eq!(layout.index(1, 5, 2, 1), 144 + (3 + 2) * 16 + 5);
        // Group 0, the narrow panel.
        assert_eq!(layout.index(0, 17, 2, 1), 96 + (3 + 2) * 8 + 1);
    }

    #[test]
    fn gemm_and_vector_layouts() {
        let layout = Gemm { k: 2, n: 17 };
        let plain: Vec<i32> = (1..=34).collect();
        let mut packed = vec![9; layout.packed_len()];
        layout.pack(&plain, &mut packed).unwrap();
        assert_eq!((packed[16], packed[32], packed[33]), (18, 17, 0));
        let mut back = vec![0; 34];
        layout.unpack(&packed, &mut back).unwrap();
        assert_eq!(back, plain);
        let mut packed = vec![9; 32];
        Vector { channels: 2, groups: 2 }.pack(&[1, 2, 3, 4], &mut packed).unwrap();
        assert_eq!((packed[1], packed[2], packed[17]), (2, 0, 4));
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let layout = Gemm { k: 2, n: 3 };
        assert_eq!(layout.pack(&[0; 5], &mut [0; 32]), Err(WrongLength { expected: 6, given: 5 }));
    }
}
