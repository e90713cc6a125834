//! Packed layouts of quantized layers.

use super::{Vector, WrongLength, expect, length, padded_len};
use crate::isa::LANES;

/// Weights of a convolution of bytes: `[group][panel][kd][ky][⌈kw·ic / 4⌉][16][4]`, where `kw·ic` is one row of taps
/// with its channels (tap outermost), and lanes and places without a weight are zero. For channels in fours this is
/// `[panel][ky][kx][ic/4][16][4]`. The plain order is ONNX's `[oc][ic][kd][ky][kx]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvI8 {
    /// Kernel extents.
    pub kernel: [usize; 3],
    /// Input channels of one group.
    pub in_channels: usize,
    /// Output channels of one group.
    pub out_channels: usize,
    /// Groups.
    pub groups: usize,
}

impl ConvI8 {
    /// Values of a row of taps.
    #[inline(always)]
    pub const fn run(&self) -> usize {
        self.kernel[2] * self.in_channels
    }

    /// Fours of a row of taps.
    #[inline(always)]
    pub const fn fours(&self) -> usize {
        self.run().div_ceil(4)
    }

    /// Elements of one panel.
    #[inline(always)]
    pub const fn panel_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.fours() * 4 * LANES
    }

    /// Elements of one packed group.
    #[inline(always)]
    pub const fn group_len(&self) -> usize {
        self.out_channels.div_ceil(LANES) * self.panel_len()
    }

    /// Elements before packing.
    #[inline(always)]
    pub const fn plain_len(&self) -> usize {
        self.groups * self.out_channels * self.in_channels * self.taps()
    }

    /// Elements after packing.
    #[inline(always)]
    pub const fn packed_len(&self) -> usize {
        let fours = length(&[self.kernel[2], self.in_channels]).div_ceil(4);
        length(&[self.groups, padded_len(self.out_channels), self.kernel[0], self.kernel[1], fours, 4])
    }

    #[inline(always)]
    const fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.kernel[2]
    }

    /// Where output channel `o` of group `g`, input channel `i`, tap `t` (row-major) lies.
    #[inline(always)]
    pub const fn index(&self, g: usize, o: usize, i: usize, t: usize) -> usize {
        let (row, at) = (t / self.kernel[2], t % self.kernel[2] * self.in_channels + i);
        let four = row * self.fours() + at / 4;
        g * self.group_len() + o / LANES * self.panel_len() + (four * LANES + o % LANES) * 4 + at % 4
    }

    /// Packs; what has no weight becomes zero.
    pub fn pack(&self, plain: &[i8], packed: &mut [i8]) -> Result<(), WrongLength> {
        expect(plain.len(), self.plain_len())?;
        expect(packed.len(), self.packed_len())?;
        packed.fill(0);
        let mut from = plain.iter();
        for g in 0..self.groups {
            for o in 0..self.out_channels {
                for i in 0..self.in_channels {
                    for (t, &weight) in (0..self.taps()).zip(from.by_ref()) {
                        packed[self.index(g, o, i, t)] = weight;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Weights of a depthwise convolution of bytes: `[panel][kd][ky][kx][16]`, the last panel filled with zeros. The
/// plain order is ONNX's `[c][1][kd][ky][kx]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthwiseI8 {
    /// Kernel extents.
    pub kernel: [usize; 3],
    /// Channels.
    pub channels: usize,
}

impl DepthwiseI8 {
    /// Taps of a channel.
    #[inline(always)]
    pub const fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.kernel[2]
    }

    /// Elements after packing.
    #[inline(always)]
    pub const fn packed_len(&self) -> usize {
        length(&[padded_len(self.channels), self.kernel[0], self.kernel[1], self.kernel[2]])
    }

    /// Where tap `t` (row-major) of channel `c` lies.
    #[inline(always)]
    pub const fn index(&self, c: usize, t: usize) -> usize {
        (c / LANES * self.taps() + t) * LANES + c % LANES
    }

    /// Packs; lanes without a channel become zero.
    pub fn pack(&self, plain: &[i8], packed: &mut [i8]) -> Result<(), WrongLength> {
        expect(plain.len(), self.channels * self.taps())?;
        expect(packed.len(), self.packed_len())?;
        packed.fill(0);
        for c in 0..self.channels {
            for t in 0..self.taps() {
                packed[self.index(c, t)] = plain[c * self.taps() + t];
            }
        }
        Ok(())
    }
}

/// The numbers of a requantization, as `i32` or the bits of `f32`: `[bias][factor][tail]`, the first two a
/// [`Vector`] each, the last [`Tail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requant {
    /// Output channels of one group.
    pub channels: usize,
    /// Groups.
    pub groups: usize,
}

/// What a [`Requant`] holds besides its vectors. Bounds are those of the integer without its zero point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tail {
    /// The input's zero point: what taps outside the image read.
    pub fill: u8,
    /// Bounds behind the channel's factor.
    pub first: [f32; 2],
    /// Factor and bounds of [`RequantSteps::rescale`](crate::spec::RequantSteps::rescale).
    pub rescale: [f32; 3],
    /// Factors of the sum so far and of the addend, and the addend's zero point times its factor, negated: the high
    /// parts of these three, the low parts, and bounds, of
    /// [`RequantSteps::add`](crate::spec::RequantSteps::add).
    pub add: [f32; 8],
    /// Factor and bounds of [`RequantSteps::last`](crate::spec::RequantSteps::last).
    pub last: [f32; 3],
    /// The output's zero point.
    pub zero: i32,
}

impl Tail {
    /// Numbers of a tail.
    pub const LEN: usize = 19;

    /// As a [`Requant`] holds it.
    pub fn words(&self) -> [i32; Self::LEN] {
        let mut words = [0; Self::LEN];
        words[0] = i32::from_ne_bytes([self.fill; 4]);
        words[1] = self.zero;
        let floats = self.first.iter().chain(&self.rescale).chain(&self.add).chain(&self.last);
        for (to, v) in words[2..].iter_mut().zip(floats) {
            *to = v.to_bits() as i32;
        }
        words
    }
}

impl Requant {
    /// Elements of one vector.
    #[inline(always)]
    pub const fn vector_len(&self) -> usize {
        Vector { channels: self.channels, groups: self.groups }.packed_len()
    }

    /// Elements in all.
    #[inline(always)]
    pub const fn packed_len(&self) -> usize {
        self.vector_len().saturating_mul(2).saturating_add(Tail::LEN)
    }

    /// Packs.
    pub fn pack(
        &self,
        bias: &[i32],
        factors: &[f32],
        tail: &Tail,
        packed: &mut [i32],
    ) -> Result<(), WrongLength> {
        expect(packed.len(), self.packed_len())?;
        expect(factors.len(), bias.len())?;
        let layout = Vector { channels: self.channels, groups: self.groups };
        let (vectors, end) = packed.split_at_mut(2 * self.vector_len());
        let (first, second) = vectors.split_at_mut(self.vector_len());
        layout.pack(bias, first)?;
        expect(factors.len(), layout.plain_len())?;
        second.fill(0);
        for g in 0..self.groups {
            for c in 0..self.channels {
                second[layout.index(g, c)] = factors[g * self.channels + c].to_bits() as i32;
            }
        }
        end.copy_from_slice(&tail.words());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn bytes_of_a_row_of_taps_go_in_fours() {
        let layout = ConvI8 { kernel: [1, 2, 3], in_channels: 3, out_channels: 17, groups: 2 };
        assert_eq!((layout.run(), layout.fours(), layout.panel_len()), (9, 3, 2 * 3 * 64));
        let plain: Vec<i8> = (0..layout.plain_len()).map(|i| (i % 100) as i8 + 1).collect();
        let mut packed = vec![9; layout.packed_len()];
        layout.pack(&plain, &mut packed).unwrap();
        assert_eq!(packed.iter().filter(|v| **v != 0).count(), plain.len());
        // Group 1, channel 16, input channel 2, tap (1, 2): the last of its row.
        let at = layout.index(1, 16, 2, 5);
        assert_eq!(at, layout.group_len() + layout.panel_len() + (3 + 2) * 64);
        assert_eq!(packed[at], plain[((17 + 16) * 3 + 2) * 6 + 5]);
        // With channels in fours, taps follow one another.
        let layout = ConvI8 { kernel: [1, 1, 2], in_channels: 8, out_channels: 16, groups: 1 };
        assert_eq!(layout.index(0, 3, 5, 1), (2 * 64 + 64) + 3 * 4 + 1);
    }

    #[test]
    fn requantization_holds_vectors_and_tail() {
        let layout = Requant { channels: 2, groups: 2 };
        let tail = Tail {
            fill: 3,
            first: [-1.0, 2.0],
            rescale: [0.5, 0.0, 1.0],
            add: [0.0; 8],
            last: [0.0, 0.0, 7.0],
            zero: -4,
        };
        let mut packed = vec![0; layout.packed_len()];
        layout.pack(&[1, 2, 3, 4], &[1.0, 2.0, 3.0, 4.0], &tail, &mut packed).unwrap();
        assert_eq!((packed[1], packed[16], packed[17]), (2, 3, 4));
        assert_eq!(f32::from_bits(packed[32 + 17] as u32), 4.0);
        assert_eq!((packed[64], packed[65]), (0x0303_0303, -4));
        assert_eq!(packed[82], 0);
        assert_eq!(f32::from_bits(packed[64 + 17] as u32), 7.0);
    }
}
