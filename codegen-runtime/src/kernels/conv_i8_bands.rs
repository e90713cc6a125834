//! Bands of an image with its edges written out: so that convolutions of bytes read every tap in place, in fours,
//! wherever its pixel lies and however few channels there are.
//!
//! The copy costs a few cycles for each row, against hundreds for each tile whose taps are looked for one by one.

use core::mem::MaybeUninit;

use crate::isa::Isa;
use crate::kernels::conv_i8::{Job, weights};
use crate::kernels::conv_i8_cut::LARGE_WEIGHTS;
use crate::mem::Part;
use crate::num::{ceiling, quotient, remainder};
use crate::spec::{ConvI8Spec, View};

/// Bytes of a band, on the stack.
const BAND: usize = 44 << 10;

/// Bytes behind it that the last four of a row may reach.
const REACH: usize = 64;

/// Rows and columns of the input that a band holds.
#[derive(Clone, Copy)]
struct Rows {
    /// Output rows of a band, but for the last.
    outputs: usize,
    /// Pixels of a row, with its edges.
    width: usize,
}

/// Whether convolutions of this spec go through bands.
#[inline(always)]
pub(crate) const fn pays(spec: &ConvI8Spec) -> bool {
    let flat = spec.kernel[0] == 1 && spec.x.extent[0] == 1 && spec.y.extent[0] == 1 && spec.pads[0] == 0;
    let inputs = quotient(spec.x.channels, spec.groups);
    let fours = inputs.is_multiple_of(4);
    let joined = fours || spec.kernel[2] == 1 || (spec.dilation[2] == 1 && spec.groups == 1);
    let edges = spec.pads[1] > 0
        || spec.pads[2] > 0
        || needed(spec, 1, spec.y.extent[1]) > spec.x.extent[1]
        || needed(spec, 2, spec.y.extent[2]) > spec.x.extent[2];
    let many = spec.y.extent[1].saturating_mul(spec.y.extent[2]) > 1;
    flat && joined && many && (edges || !fours) && rows(spec).outputs > 0
}

/// Input positions along an axis between the first and the last tap of so many outputs.
#[inline(always)]
const fn needed(spec: &ConvI8Spec, axis: usize, outputs: usize) -> usize {
    let taps = spec.kernel[axis].saturating_sub(1).saturating_mul(spec.dilation[axis]);
    outputs.saturating_sub(1).saturating_mul(spec.stride[axis]).saturating_add(taps).saturating_add(1)
}

#[inline(always)]
const fn rows(spec: &ConvI8Spec) -> Rows {
    let width = needed(spec, 2, spec.y.extent[2]);
    let fit = quotient(BAND, width.saturating_mul(spec.x.channels));
    let one = needed(spec, 1, 1);
    let most = if fit < one { 0 } else { quotient(fit - one, spec.stride[1]) + 1 };
    if most == 0 || spec.y.extent[1] <= most {
        let all = if most == 0 { 0 } else { spec.y.extent[1] };
        return Rows { outputs: all, width };
    }
    // All about as high.
    Rows { outputs: ceiling(spec.y.extent[1], ceiling(spec.y.extent[1], most)), width }
}

/// What is done with a band.
pub(crate) trait Each {
    /// Does it, for a job whose taps all lie inside, in dense rows, with [`REACH`] readable bytes behind.
    ///
    /// # Safety
    /// The job was proved, but for its part.
    unsafe fn band<I: Isa>(&self, isa: I, job: &Job);
}

/// Goes through the part's bands.
///
/// # Safety
/// The job was proved, and its spec [`pays`].
#[inline(always)]
pub(crate) unsafe fn run<I: Isa>(isa: I, job: &Job, blocks: usize, each: &impl Each) {
    let spec = job.spec;
    let Rows { outputs, width } = rows(spec);
    let mut buffer = MaybeUninit::<[u8; BAND + REACH]>::uninit();
    let to: *mut u8 = buffer.as_mut_ptr().cast();
    // SAFETY: as many bytes as the buffer has behind a band.
    unsafe { to.add(BAND).write_bytes(0, REACH) };
    // SAFETY: the job was proved.
    let fill = unsafe { job.numbers().fill() } as u8;
    // Parts share the output's rows, or the blocks of channels of every band.
    let large = weights(spec).packed_len() > LARGE_WEIGHTS && blocks >= job.part.count;
    let all = spec.y.batch * spec.y.extent[1];
    let (first, last) = if large { (0, all) } else { job.part.share(all) };
    let part = if large { job.part } else { Part::ALL };
    let mut row = first;
    while row < last {
        let (n, h) = (quotient(row, spec.y.extent[1]), remainder(row, spec.y.extent[1]));
        let count = outputs.min(last - row).min(spec.y.extent[1] - h);
        let copied = needed(spec, 1, count);
        // SAFETY: the rows fit the band, says `rows`; the job was proved.
        unsafe { copy(job, to, fill, n, h * spec.stride[1], copied, width) };
        let x = View::channels_last(1, [1, copied, width], spec.x.channels);
        let band = ConvI8Spec {
            x,
            y: rows_of(&spec.y, n, h, count),
            residual: if spec.steps.add { rows_of(&spec.residual, n, h, count) } else { spec.residual },
            pads: [0; 3],
            ..*spec
        };
        // SAFETY: every tap of these rows lies in the band; the outputs are some of the job's.
        unsafe { each.band(isa, &Job { spec: &band, x: to, x_len: BAND + REACH, part, ..*job }) };
        row += count;
    }
}

/// `count` rows of image `n`.
#[inline(always)]
fn rows_of(view: &View, n: usize, first: usize, count: usize) -> View {
    let offset = view.offset + n * view.n_stride + first * view.strides[1];
    View { offset, batch: 1, extent: [1, count, view.extent[2]], ..*view }
}

/// Copies `count` rows of image `n` from row `first` of the padded image on.
///
/// # Safety
/// The job was proved; `to` is writable for `count · width` pixels.
#[inline(always)]
unsafe fn copy(job: &Job, to: *mut u8, fill: u8, n: usize, first: usize, count: usize, width: usize) {
    let (view, pads, channels) = (&job.spec.x, &job.spec.pads, job.spec.x.channels);
    let left = pads[2].min(width);
    let inner = view.extent[2].min(width - left);
    for i in 0..count {
        // A row above the image wraps to a number beyond its extent.
        let h = (first + i).wrapping_sub(pads[1]);
        // SAFETY: row `i` is one of those that fit; rows below the extent and `inner` pixels are the image's.
        unsafe {
            let to = to.add(i * width * channels);
            if h >= view.extent[1] {
                to.write_bytes(fill, width * channels);
                continue;
            }
            to.write_bytes(fill, left * channels);
            let from = job.x.add(view.offset + n * view.n_stride + h * view.strides[1]);
            let body = to.add(left * channels);
            if view.strides[2] == channels {
                body.copy_from_nonoverlapping(from, inner * channels);
            } else {
                for p in 0..inner {
                    body.add(p * channels).copy_from_nonoverlapping(from.add(p * view.strides[2]), channels);
                }
            }
            body.add(inner * channels).write_bytes(fill, (width - left - inner) * channels);
        }
    }
}
