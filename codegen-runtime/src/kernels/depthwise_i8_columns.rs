//! Depthwise convolution of bytes with 3 by 3 taps on AVX-512: the three taps of a column are three of the four bytes
//! that one instruction multiplies, and a column once brought together serves all outputs of a row that it is under.

use core::arch::x86_64::__m512i;

use crate::isa::{Isa, LANES, ROUND_BASE, V4};
use crate::kernels::conv_i8::Job;
use crate::kernels::depthwise_i8::{vectors, weights};
use crate::num::{quotient, remainder};
use crate::spec::{ConvI8Spec, RequantSteps};

/// Channels of a block.
const BLOCK: usize = 64;

/// Bytes of input rows that one block goes through before the next does: what stays in a second-level cache.
const CHUNK: usize = 128 << 10;

/// Whether this is for convolutions of this spec.
#[inline(always)]
pub(crate) const fn fits(spec: &ConvI8Spec) -> bool {
    let RequantSteps { rescale, add, last } = spec.steps;
    let flat = spec.kernel[0] == 1 && spec.x.extent[0] == 1 && spec.y.extent[0] == 1 && spec.pads[0] == 0;
    let plain = !rescale && !add && !last;
    flat && plain && spec.kernel[1] == 3 && spec.kernel[2] == 3 && spec.dilation[2] == 1
}

/// Goes through the part's rows.
///
/// # Safety
/// The job was proved for a depthwise convolution whose spec [`fits`].
#[inline(always)]
pub(crate) unsafe fn run(isa: V4, job: &Job) {
    // SAFETY: passed on.
    unsafe {
        match job.spec.stride[2] {
            1 => chunks::<1>(isa, job),
            2 => chunks::<2>(isa, job),
            _ => chunks::<3>(isa, job),
        }
    }
}

/// # Safety
/// As for [`run`]; `S` is the stride along rows, or 3 where it is larger.
#[inline(always)]
unsafe fn chunks<const S: usize>(isa: V4, job: &Job) {
    let spec = job.spec;
    let channels = spec.y.channels;
    let (first, last) = job.part.share(spec.y.batch * spec.y.extent[1]);
    let rows = quotient(CHUNK, spec.x.extent[2] * spec.x.strides[2] * spec.stride[1]).max(1);
    let mut start = first;
    while start < last {
        let end = (start + rows).min(last);
        let mut channel = 0;
        while channel < channels {
            // SAFETY: channels and rows are the output's.
            unsafe {
                let block = Block::new(isa, job, channel);
                for row in start..end {
                    block.row::<S>(isa, job, row);
                }
            }
            channel += BLOCK;
        }
        start = end;
    }
}

/// What all pixels of 64 channels have in common.
struct Block {
    /// First channel.
    channel: usize,
    /// Channels that there are.
    count: usize,
    /// Pixels that lie behind one another in 64 bytes; then what is of channels repeats.
    pixels: usize,
    /// Of each column of taps, in block order.
    weights: [[__m512i; 4]; 3],
    biases: [__m512i; 4],
    factors: [__m512i; 4],
    least: f32,
    bounds: [u8; 2],
    fill: [u8; BLOCK],
}

impl Block {
    /// # Safety
    /// The job was proved, and `channel` is the first of a panel.
    #[inline(always)]
    unsafe fn new(isa: V4, job: &Job, channel: usize) -> Block {
        let spec = job.spec;
        let numbers = crate::epilogue_i8::Numbers::new(job.numbers, vectors(spec), spec.steps);
        let count = (spec.y.channels - channel).min(BLOCK);
        let (panels, taps) = (count.div_ceil(LANES), weights(spec).taps());
        let none = isa.splat_i32(0);
        let dense = spec.x.strides[2] == count && spec.y.strides[2] == count && spec.y.channels == count;
        let pixels = if dense && BLOCK.is_multiple_of(count) { quotient(BLOCK, count) } else { 1 };
        let mut columns = [[none; 4]; 3];
        // SAFETY: the vectors are padded to whole panels; of each there are weights for all taps.
        unsafe {
            let [biases, factors] = numbers.from(channel);
            let (biases, factors) = (isa.load_repeated(biases, count), isa.load_repeated(factors, count));
            let w = job.w.add(channel * taps);
            for (x, column) in columns.iter_mut().enumerate() {
                let mut rows = [none; 4];
                for (y, row) in rows.iter_mut().enumerate().take(3) {
                    let from = w.add((3 * y + x) * LANES);
                    *row = isa.load_sixteens(from, taps * LANES, panels, count);
                }
                *column = isa.interleave(rows);
            }
            let last = numbers.last_bounds();
            Block {
                channel,
                count,
                weights: columns,
                pixels,
                biases: isa.block_order(biases),
                factors: isa.block_order(factors),
                least: last.low + ROUND_BASE,
                bounds: [last.most, last.zero],
                fill: [numbers.fill() as u8; BLOCK],
            }
        }
    }

    /// Computes a row of all images' rows.
    ///
    /// # Safety
    /// The job was proved, and `row` is one of its.
    #[inline(always)]
    unsafe fn row<const S: usize>(&self, isa: V4, job: &Job, row: usize) {
        let spec = job.spec;
        let (n, h) = (quotient(row, spec.y.extent[1]), remainder(row, spec.y.extent[1]));
        let image = job.x.wrapping_add(spec.x.offset + n * spec.x.n_stride + self.channel);
        // Rows outside of the image are its zero point.
        let mut rows = [(self.fill.as_ptr(), 0); 3];
        for (k, to) in rows.iter_mut().enumerate() {
            let from = (h * spec.stride[1] + k * spec.dilation[1]).wrapping_sub(spec.pads[1]);
            if from < spec.x.extent[1] {
                *to = (image.wrapping_add(from * spec.x.strides[1]), spec.x.strides[2]);
            }
        }
        let y =
            job.y.wrapping_add(spec.y.offset + n * spec.y.n_stride + h * spec.y.strides[1] + self.channel);
        let all = spec.y.extent[2];
        // Outputs all of whose taps are inside of the image.
        let inner = if S == 1 && self.pixels > 1 {
            (spec.pads[2].min(all), (spec.x.extent[2] + spec.pads[2]).saturating_sub(2).min(all))
        } else {
            (0, 0)
        };
        // SAFETY: these are the row's pixels.
        unsafe {
            if inner.0 + self.pixels > inner.1 || S != 1 {
                return self.singly::<S>(isa, spec, &rows, (0, all), y);
            }
            self.singly::<S>(isa, spec, &rows, (0, inner.0), y);
            let mut x = inner.0;
            while x < inner.1 {
                // The last ones end with the row, though some of them were computed before.
                x = x.min(inner.1 - self.pixels);
                let from = x - spec.pads[2];
                let columns = [
                    self.column(isa, &rows, from, BLOCK),
                    self.column(isa, &rows, from + 1, BLOCK),
                    self.column(isa, &rows, from + 2, BLOCK),
                ];
                self.pixel(isa, &columns, y.wrapping_add(x * spec.y.strides[2]), BLOCK);
                x += self.pixels;
            }
            self.singly::<S>(isa, spec, &rows, (inner.1, all), y);
        }
    }

    /// Computes pixels of a row one by one.
    ///
    /// # Safety
    /// The job was proved; the rows are readable as far as the image is wide, and `y` writable for the pixels.
    #[inline(always)]
    unsafe fn singly<const S: usize>(
        &self,
        isa: V4,
        spec: &ConvI8Spec,
        rows: &[(*const u8, usize); 3],
        (start, end): (usize, usize),
        y: *mut u8,
    ) {
        if start >= end {
            return;
        }
        let mut columns = [[isa.splat_i32(0); 4]; 3];
        let mut at = (start * spec.stride[2]).wrapping_sub(spec.pads[2]);
        // SAFETY: columns go as pixels do, and those outside of the image are not read.
        unsafe {
            for (k, column) in columns.iter_mut().enumerate() {
                *column = self.inside(isa, spec, rows, at.wrapping_add(k));
            }
            for x in start..end {
                self.pixel(isa, &columns, y.wrapping_add(x * spec.y.strides[2]), self.count);
                if x + 1 == end {
                    break;
                }
                if S == 1 {
                    columns = [columns[1], columns[2], self.inside(isa, spec, rows, at.wrapping_add(3))];
                    at = at.wrapping_add(1);
                } else if S == 2 {
                    let next = self.inside(isa, spec, rows, at.wrapping_add(3));
                    columns = [columns[2], next, self.inside(isa, spec, rows, at.wrapping_add(4))];
                    at = at.wrapping_add(2);
                } else {
                    at = at.wrapping_add(spec.stride[2]);
                    for (k, column) in columns.iter_mut().enumerate() {
                        *column = self.inside(isa, spec, rows, at.wrapping_add(k));
                    }
                }
            }
        }
    }

    /// The column at `at`, which holds the zero point outside of the image.
    ///
    /// # Safety
    /// The rows are readable as far as the image is wide.
    #[inline(always)]
    unsafe fn inside(
        &self,
        isa: V4,
        spec: &ConvI8Spec,
        rows: &[(*const u8, usize); 3],
        at: usize,
    ) -> [__m512i; 4] {
        // Columns left of the image wrap to numbers beyond its extent.
        if at < spec.x.extent[2] {
            // SAFETY: the column is inside, and has the block's channels.
            unsafe { self.column(isa, rows, at, self.count) }
        } else {
            isa.interleave([isa.splat_bytes(self.fill[0]); 4])
        }
    }

    /// Three bytes of each channel from a column on, and one that does not count.
    ///
    /// # Safety
    /// The rows are readable for `count` bytes at that column.
    #[inline(always)]
    unsafe fn column(
        &self,
        isa: V4,
        rows: &[(*const u8, usize); 3],
        at: usize,
        count: usize,
    ) -> [__m512i; 4] {
        let [a, b, c] = rows;
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b, c) = (
                isa.load_bytes(a.0.wrapping_add(at * a.1), count),
                isa.load_bytes(b.0.wrapping_add(at * b.1), count),
                isa.load_bytes(c.0.wrapping_add(at * c.1), count),
            );
            isa.interleave([a, b, c, c])
        }
    }

    /// # Safety
    /// `y` is writable for `count` values.
    #[inline(always)]
    unsafe fn pixel(&self, isa: V4, columns: &[[__m512i; 4]; 3], y: *mut u8, count: usize) {
        let least = isa.splat(self.least);
        let mut v = self.biases;
        for j in 0..4 {
            for k in 0..3 {
                v[j] = isa.dot(columns[k][j], self.weights[k][j], v[j]);
            }
            let rounded = isa.round_product(isa.to_f32(v[j]), isa.from_bits(self.factors[j]));
            v[j] = isa.sub_i32(isa.bits(isa.max(rounded, least)), isa.bits(least));
        }
        // SAFETY: passed on.
        unsafe { isa.store_block(y, v, self.bounds, count) }
    }
}
