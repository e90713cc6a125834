//! What spatial kernels share: where a window meets the image, and proofs about views in memory.

use crate::kernels::Form;
use crate::num::{ceiling, quotient, remainder};
use crate::operand::{Operand, Space};
use crate::spec::{Residual, View};

/// How a window moves over an image; arrays are depth, height, width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Kernel extents.
    pub kernel: [usize; 3],
    /// Strides.
    pub stride: [usize; 3],
    /// Dilations.
    pub dilation: [usize; 3],
    /// Leading pads.
    pub pads: [usize; 3],
}

/// Kernel values that meet the values of one output.
pub(crate) fn work(y: &View, kernel: [usize; 3]) -> usize {
    y.extent.into_iter().chain(kernel).fold(y.batch.saturating_mul(y.channels), usize::saturating_mul)
}

impl Window {
    /// The taps `first..last` along `axis` that lie inside an image of `extent` for output `at`.
    #[inline(always)]
    pub const fn taps(&self, axis: usize, at: usize, extent: usize) -> (usize, usize) {
        let (kernel, dilation) = (self.kernel[axis], self.dilation[axis]);
        let (start, pad) = (at * self.stride[axis], self.pads[axis]);
        // Tap k reads `start + k·dilation - pad`.
        let first = steps(pad.saturating_sub(start), dilation);
        let last = steps((extent + pad).saturating_sub(start), dilation);
        let last = if last < kernel { last } else { kernel };
        (if first < last { first } else { last }, last)
    }

    /// A lower bound of the coordinates along `axis` that output `at` reads.
    const fn lowest(&self, axis: usize, at: usize) -> usize {
        (at * self.stride[axis]).saturating_sub(self.pads[axis])
    }

    /// The outputs `first..last` along `axis`, of `outputs`, all of whose taps lie inside an image of
    /// `extent`.
    #[inline(always)]
    pub const fn interior(&self, axis: usize, outputs: usize, extent: usize) -> (usize, usize) {
        let reach = (self.kernel[axis] - 1) * self.dilation[axis];
        let first = ceiling(self.pads[axis], self.stride[axis]);
        let last = match (extent + self.pads[axis]).checked_sub(reach + 1) {
            Some(last_start) => quotient(last_start, self.stride[axis]) + 1,
            None => 0,
        };
        let last = if last < outputs { last } else { outputs };
        (if first < last { first } else { last }, last)
    }

    /// Whether all taps of all outputs lie inside the image.
    pub const fn stays_inside(&self, x: &View, y: &View) -> bool {
        let mut axis = 0;
        while axis < 3 {
            let (first, last) = self.interior(axis, y.extent[axis], x.extent[axis]);
            if first > 0 || last < y.extent[axis] {
                return false;
            }
            axis += 1;
        }
        true
    }
}

/// `⌈distance / step⌉`, without a division for the usual step of 1.
#[inline(always)]
const fn steps(distance: usize, step: usize) -> usize {
    if step == 1 { distance } else { ceiling(distance, step) }
}

/// Fails the build unless the window and the two images fit each other, and `x` and `y` their slots.
pub(crate) const fn prove_views<X: Operand, Y: Operand>(window: &Window, x: &View, y: &View) {
    let mut axis = 0;
    while axis < 3 {
        assert!(window.kernel[axis] > 0 && window.stride[axis] > 0, "a window without extent or stride");
        assert!(window.dilation[axis] > 0, "a window without dilation");
        // Positions in the input, borders included, are numbers that can be computed with.
        let last = y.extent[axis].saturating_mul(window.stride[axis]);
        let taps = window.kernel[axis].saturating_mul(window.dilation[axis]);
        let far = last.saturating_add(taps).saturating_add(window.pads[axis]).saturating_add(x.extent[axis]);
        assert!(far <= isize::MAX as usize, "a window beyond all numbers");
        axis += 1;
    }
    assert!(x.batch == y.batch, "input and output differ in images");
    assert!(x.end() <= X::LEN, "the input leaves its slot");
    assert!(y.end() <= Y::LEN, "the output leaves its slot");
    assert!(y.is_injective(), "elements of the output share memory");
    assert!(!matches!(X::SPACE, Space::Absent), "the input is absent");
    assert!(matches!(Y::SPACE, Space::Arena), "the output is not in the arena");
}

/// Fails the build unless the residual, if there is one, has the output's extents, fits its slot, and
/// either is the output's own memory element by element or keeps away from it.
pub(crate) const fn prove_residual<R: Operand, Y: Operand>(
    form: Form,
    residual: Residual,
    r: &View,
    y: &View,
) {
    if matches!(residual, Residual::None) {
        return;
    }
    assert!(!matches!(R::SPACE, Space::Absent), "the residual is absent");
    let extents = r.extent[0] == y.extent[0] && r.extent[1] == y.extent[1] && r.extent[2] == y.extent[2];
    assert!(extents && r.batch == y.batch && r.channels == y.channels, "the residual has another shape");
    assert!(r.end() <= R::LEN, "the residual leaves its slot");
    let same = matches!(R::SPACE, Space::Arena)
        && R::OFFSET + r.offset * size_of::<R::Elem>() == Y::OFFSET + y.offset * size_of::<Y::Elem>()
        && r.n_stride == y.n_stride
        && r.strides[0] == y.strides[0]
        && r.strides[1] == y.strides[1]
        && r.strides[2] == y.strides[2]
        && r.c_stride == y.c_stride;
    assert!(same || apart::<R, Y>(form, r, y), "the output overlaps its residual");
}

/// Fails the build unless the output keeps away from the input, or may overlap it by `lead` (see
/// [`safe_lead`]).
pub(crate) const fn prove_form<X: Operand, Y: Operand>(form: Form, x: &View, y: &View, lead: Option<isize>) {
    if apart::<X, Y>(form, x, y) {
        return;
    }
    assert!(matches!(form, Form::Overlap), "the output overlaps its input");
    match lead {
        Some(lead) => assert!(
            X::OFFSET as isize - Y::OFFSET as isize >= lead,
            "the output overtakes the input that it overlaps"
        ),
        None => panic!("this layer's output may not overlap its input"),
    }
}

/// Fails the build if the output meets an operand that is read as a whole (weights, vectors).
pub(crate) const fn prove_apart<A: Operand, Y: Operand>(y: &View) {
    if matches!(A::SPACE, Space::Arena) && A::LEN > 0 {
        let (start, end) = touched::<Y>(y);
        assert!(A::SPAN.end <= start || end <= A::OFFSET, "the output overlaps weights or vectors");
    }
}

/// First and one past the last byte that a view touches.
const fn touched<T: Operand>(view: &View) -> (usize, usize) {
    let size = size_of::<T::Elem>();
    (T::OFFSET + view.offset * size, T::OFFSET + view.end() * size)
}

/// Whether two views share no byte: one ends before the other starts, or, for [`Form::Strided`], their
/// channels lie in different parts of each pitch.
const fn apart<A: Operand, B: Operand>(form: Form, a: &View, b: &View) -> bool {
    if !matches!(A::SPACE, Space::Arena) || a.end() == 0 || b.end() == 0 {
        return true;
    }
    let (a_start, a_end) = touched::<A>(a);
    let (b_start, b_end) = touched::<B>(b);
    if a_end <= b_start || b_end <= a_start {
        return true;
    }
    let Form::Strided { pitch } = form else { return false };
    let (a_run, b_run) = (run_bytes::<A>(a, pitch), run_bytes::<B>(b, pitch));
    if pitch == 0 || a_run > pitch || b_run > pitch {
        return false;
    }
    // Windows on a circle of `pitch` bytes: b starts behind a's end and ends before a starts again.
    let distance = (b_start % pitch + pitch - a_start % pitch) % pitch;
    distance >= a_run && distance + b_run <= pitch
}

/// Bytes of one run of channels if every stride is a multiple of `pitch`, otherwise more than `pitch`.
const fn run_bytes<T: Operand>(view: &View, pitch: usize) -> usize {
    let size = size_of::<T::Elem>();
    let strides = [view.n_stride, view.strides[0], view.strides[1], view.strides[2]];
    let extents = [view.batch, view.extent[0], view.extent[1], view.extent[2]];
    let mut i = 0;
    while i < 4 {
        if extents[i] > 1 && !(strides[i] * size).is_multiple_of(pitch) {
            return pitch + 1;
        }
        i += 1;
    }
    ((view.channels - 1) * view.c_stride + 1) * size
}

/// How far behind the start of the output's slot the start of the input's slot must lie, in bytes
/// (negative: it may lie before it), for the output to be written over the input while it is read.
///
/// The kernel goes through the output's pixels in order (image, depth, height, width), `tile` at most at
/// a time. If `tile` is 0, it reads everything for a tile of any size before it writes that tile; otherwise
/// it may read a tile's input again after parts of the tile were written. So for every pixel `p`, what is
/// written up to `p + tile - 1` must end before the first byte that `p` or a later pixel reads. Every
/// larger distance is safe too. `None` if the output's elements are not in the order of its pixels.
pub const fn safe_lead(window: &Window, x: &View, y: &View, tile: usize, size: usize) -> Option<isize> {
    if !in_pixel_order(y) || x.batch != y.batch {
        return None;
    }
    let [depth, height, width] = y.extent;
    let rows = y.batch * depth * height;
    let total = rows * width;
    if total == 0 {
        return Some(0);
    }
    // Along a row both ends move linearly, but for where the reads leave the padding and where the
    // tile wraps into the next row: the largest difference is at one of these.
    let leaves = window.pads[2].div_ceil(window.stride[2]);
    let wraps = width - tile % width;
    let columns =
        [0, 1, leaves.saturating_sub(1), leaves, leaves + 1, wraps - 1, wraps, wraps + 1, width - 1];
    let mut lead = isize::MIN;
    let mut row = 0;
    while row < rows {
        let mut i = 0;
        while i < columns.len() {
            let pixel = row * width + columns[i];
            if columns[i] < width && pixel + tile > 0 {
                let written = if pixel + tile < total { pixel + tile } else { total };
                let ends = address(y, written - 1) + (y.channels - 1) * y.c_stride + 1;
                let apart = ends as isize - first_read(window, x, y, pixel) as isize;
                lead = if apart > lead { apart } else { lead };
            }
            i += 1;
        }
        row += 1;
    }
    Some(if lead == isize::MIN { isize::MIN / 2 } else { lead * size as isize })
}

/// Image, depth, height and width of an output pixel.
const fn coordinates(view: &View, pixel: usize) -> [usize; 4] {
    let [depth, height, width] = view.extent;
    let row = quotient(pixel, width);
    let plane = quotient(row, height);
    [quotient(plane, depth), remainder(plane, depth), remainder(row, height), remainder(pixel, width)]
}

const fn address(view: &View, pixel: usize) -> usize {
    let [n, d, h, w] = coordinates(view, pixel);
    view.offset + n * view.n_stride + d * view.strides[0] + h * view.strides[1] + w * view.strides[2]
}

/// A lower bound of the elements that a pixel or any later one reads.
const fn first_read(window: &Window, x: &View, y: &View, pixel: usize) -> usize {
    let [n, d, h, w] = coordinates(y, pixel);
    let candidates = [
        (n, d, h, w),
        (n, d, if h + 1 < y.extent[1] { h + 1 } else { h }, if h + 1 < y.extent[1] { 0 } else { w }),
        if d + 1 < y.extent[0] { (n, d + 1, 0, 0) } else { (n, d, h, w) },
        if n + 1 < y.batch { (n + 1, 0, 0, 0) } else { (n, d, h, w) },
    ];
    let mut least = usize::MAX;
    let mut i = 0;
    while i < candidates.len() {
        let (n, d, h, w) = candidates[i];
        let at = x.offset
            + n * x.n_stride
            + window.lowest(0, d) * x.strides[0]
            + window.lowest(1, h) * x.strides[1]
            + window.lowest(2, w) * x.strides[2];
        least = if at < least { at } else { least };
        i += 1;
    }
    least
}

/// Whether each pixel's elements lie behind those of all pixels before it.
const fn in_pixel_order(view: &View) -> bool {
    if view.channels == 0 {
        return false;
    }
    let mut span = (view.channels - 1) * view.c_stride + 1;
    let strides = [view.strides[2], view.strides[1], view.strides[0], view.n_stride];
    let extents = [view.extent[2], view.extent[1], view.extent[0], view.batch];
    let mut i = 0;
    while i < 4 {
        if extents[i] > 1 {
            if strides[i] < span {
                return false;
            }
            span += (extents[i] - 1) * strides[i];
        }
        i += 1;
    }
    true
}
