//! Sliding windows: kernel extents, strides, dilations and pads of convolutions and pools.

use super::OpError;
use crate::onnx::AttrReader;
use std::ops::Range;

/// Largest extent, stride, dilation or pad accepted, so that sums of products stay exact in 64 bits.
const MAX_EXTENT: i64 = 1 << 28;

/// ONNX `auto_pad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoPad {
    /// The `pads` attribute holds.
    NotSet,
    /// No padding.
    Valid,
    /// `ceil(in / stride)` outputs; an odd pad goes behind.
    SameUpper,
    /// `ceil(in / stride)` outputs; an odd pad goes in front.
    SameLower,
}

/// The window attributes as the model gives them.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// `kernel_shape`; a convolution may leave it to the weights.
    pub kernel_shape: Option<Vec<usize>>,
    /// `strides`; 1 along each axis by default.
    pub strides: Option<Vec<usize>>,
    /// `dilations`; 1 along each axis by default.
    pub dilations: Option<Vec<usize>>,
    /// `pads`: all leading ones, then all trailing ones; 0 by default.
    pub pads: Option<Vec<usize>>,
    /// `auto_pad`; anything but `NotSet` overrides `pads`.
    pub auto_pad: AutoPad,
}

/// A window over a certain input: everything resolved, one entry per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taps {
    /// Input extents.
    pub input: Vec<usize>,
    /// Output extents.
    pub output: Vec<usize>,
    /// Kernel extents.
    pub kernel: Vec<usize>,
    /// Distance between windows.
    pub strides: Vec<usize>,
    /// Distance between taps.
    pub dilations: Vec<usize>,
    /// Leading pads.
    pub begin: Vec<usize>,
    /// Trailing pads.
    pub end: Vec<usize>,
}

impl Window {
    /// Reads the attributes that convolutions and pools share.
    pub fn import(attrs: &mut AttrReader<'_>) -> Result<Self, OpError> {
        let auto_pad = match attrs.text("auto_pad")? {
            None | Some("NOTSET" | "") => AutoPad::NotSet,
            Some("VALID") => AutoPad::Valid,
            Some("SAME_UPPER") => AutoPad::SameUpper,
            Some("SAME_LOWER") => AutoPad::SameLower,
            Some(other) => return Err(OpError::invalid(format!("`auto_pad` is `{other}`"))),
        };
        Ok(Window {
            kernel_shape: extents(attrs, "kernel_shape", 1)?,
            strides: extents(attrs, "strides", 1)?,
            dilations: extents(attrs, "dilations", 1)?,
            pads: extents(attrs, "pads", 0)?,
            auto_pad,
        })
    }

    /// A window of these kernel extents with every other attribute at its default.
    pub fn of(kernel: &[usize]) -> Self {
        Window {
            kernel_shape: Some(kernel.to_vec()),
            strides: None,
            dilations: None,
            pads: None,
            auto_pad: AutoPad::NotSet,
        }
    }

    /// Resolves the window for an input of extents `input`. `kernel` overrides `kernel_shape`
    /// (weights), and must agree with it where both are there. `ceil` is the pools' `ceil_mode`.
    pub fn resolve(&self, input: &[usize], kernel: Option<&[usize]>, ceil: bool) -> Result<Taps, OpError> {
        let rank = input.len();
        let kernel = match (&self.kernel_shape, kernel) {
            (Some(a), Some(b)) if a != b => {
                return Err(OpError::invalid(format!("`kernel_shape` is {a:?}, but the weights have {b:?}")));
            }
            (_, Some(k)) => k.to_vec(),
            (Some(k), None) => k.clone(),
            (None, None) => return Err(OpError::invalid("attribute `kernel_shape` is missing")),
        };
        let strides = self.strides.clone().unwrap_or_else(|| vec![1; rank]);
        let dilations = self.dilations.clone().unwrap_or_else(|| vec![1; rank]);
        let pads = self.pads.clone().unwrap_or_else(|| vec![0; 2 * rank]);
        for (name, len, want) in [
            ("kernel_shape", kernel.len(), rank),
            ("strides", strides.len(), rank),
            ("dilations", dilations.len(), rank),
            ("pads", pads.len(), 2 * rank),
        ] {
            if len != want {
                return Err(OpError::invalid(format!(
                    "`{name}` has {len} entries, expected {want} for {rank} spatial axes"
                )));
            }
        }
        let mut taps = Taps {
            input: input.to_vec(),
            output: Vec::with_capacity(rank),
            kernel,
            strides,
            dilations,
            begin: Vec::with_capacity(rank),
            end: Vec::with_capacity(rank),
        };
        for axis in 0..rank {
            let (out, begin, end) = self.axis(&taps, axis, (pads[axis], pads[rank + axis]), ceil)?;
            taps.output.push(out);
            taps.begin.push(begin);
            taps.end.push(end);
        }
        Ok(taps)
    }

    /// Output extent and pads along one axis.
    fn axis(
        &self,
        taps: &Taps,
        axis: usize,
        pads: (usize, usize),
        ceil: bool,
    ) -> Result<(usize, usize, usize), OpError> {
        let too_large = || OpError::Limit("the window's extents are too large".to_owned());
        let (input, stride) = (taps.input[axis], taps.strides[axis]);
        let reach = taps.reach(axis).ok_or_else(too_large)?;
        if stride == 0 || reach == 0 {
            return Err(OpError::invalid("a window extent or stride is zero"));
        }
        match self.auto_pad {
            AutoPad::SameUpper | AutoPad::SameLower => {
                let out = input.div_ceil(stride);
                let needed = match out.checked_sub(1) {
                    None => 0,
                    Some(last) => last
                        .checked_mul(stride)
                        .and_then(|n| n.checked_add(reach))
                        .ok_or_else(too_large)?
                        .saturating_sub(input),
                };
                let less = needed / 2;
                let (begin, end) = match self.auto_pad {
                    AutoPad::SameUpper => (less, needed - less),
                    _ => (needed - less, less),
                };
                Ok((out, begin, end))
            }
            AutoPad::NotSet | AutoPad::Valid => {
                let (begin, end) = if self.auto_pad == AutoPad::Valid { (0, 0) } else { pads };
                let padded =
                    input.checked_add(begin).and_then(|n| n.checked_add(end)).ok_or_else(too_large)?;
                let room = padded.checked_sub(reach).ok_or_else(|| {
                    OpError::invalid(format!(
                        "the window spans {reach} along spatial axis {axis}, but the padded input has {padded}"
                    ))
                })?;
                let mut out = if ceil { room.div_ceil(stride) + 1 } else { room / stride + 1 };
                // A last window that would start in the trailing padding is dropped.
                if ceil && out > 1 && (out - 1).saturating_mul(stride) >= input.saturating_add(begin) {
                    out -= 1;
                }
                Ok((out, begin, end))
            }
        }
    }
}

impl Taps {
    /// Number of spatial axes.
    pub fn rank(&self) -> usize {
        self.input.len()
    }

    /// Input elements that a window spans along an axis; `None` when that overflows.
    fn reach(&self, axis: usize) -> Option<usize> {
        let k = self.kernel[axis].checked_sub(1);
        match k {
            None => Some(0),
            Some(k) => k.checked_mul(self.dilations[axis])?.checked_add(1),
        }
    }

    /// Whether any padding is read.
    pub fn padded(&self) -> bool {
        self.begin.iter().any(|&p| p > 0) || (0..self.rank()).any(|a| self.overrun(a) > 0)
    }

    /// How far the last window reaches behind the input along an axis.
    pub fn overrun(&self, axis: usize) -> usize {
        let last = self.output[axis].saturating_sub(1) * self.strides[axis];
        (last + self.reach(axis).unwrap_or(0)).saturating_sub(self.begin[axis] + self.input[axis])
    }

    /// [`Taps::overrun`] of every axis.
    pub fn overruns(&self) -> Vec<usize> {
        (0..self.rank()).map(|axis| self.overrun(axis)).collect()
    }

    /// Input position of tap `k` of window `o` along an axis, or `None` where it lies in the padding.
    pub fn source(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        let at = (o * self.strides[axis] + k * self.dilations[axis]).checked_sub(self.begin[axis])?;
        (at < self.input[axis]).then_some(at)
    }

    /// Taps of window `o` that lie inside the input along an axis.
    pub fn inside(&self, axis: usize, o: usize) -> Range<usize> {
        self.within(axis, o, self.begin[axis], self.input[axis])
    }

    /// Taps of window `o` that lie inside the padded input along an axis.
    pub fn inside_padded(&self, axis: usize, o: usize) -> Range<usize> {
        self.within(axis, o, 0, self.begin[axis] + self.input[axis] + self.end[axis])
    }

    fn within(&self, axis: usize, o: usize, begin: usize, len: usize) -> Range<usize> {
        let (start, step) = (o * self.strides[axis], self.dilations[axis]);
        let first = begin.saturating_sub(start).div_ceil(step);
        let last = (begin + len).saturating_sub(start).div_ceil(step).min(self.kernel[axis]);
        first.min(last)..last
    }

    /// One array of three from a per-axis list: depth, height, width, with `fill` in front.
    /// `None` for more than three axes.
    pub fn spatial(values: &[usize], fill: usize) -> Option<[usize; 3]> {
        let skip = 3usize.checked_sub(values.len())?;
        let mut out = [fill; 3];
        for (to, from) in out.iter_mut().skip(skip).zip(values) {
            *to = *from;
        }
        Some(out)
    }
}

/// A list attribute of extents, none below `least`.
pub(super) fn extents(
    attrs: &mut AttrReader<'_>,
    name: &str,
    least: i64,
) -> Result<Option<Vec<usize>>, OpError> {
    let Some(values) = attrs.ints(name)? else { return Ok(None) };
    if let Some(bad) = values.iter().find(|&&v| v < least || v > MAX_EXTENT) {
        return Err(OpError::invalid(format!("`{name}` holds {bad}, expected {least} to {MAX_EXTENT}")));
    }
    Ok(Some(values.into_iter().map(|v| v as usize).collect()))
}

/// Steps a row-major index; `false` when it wrapped around to zero.
pub(super) fn advance(index: &mut [usize], extents: &[usize]) -> bool {
    for (i, &n) in index.iter_mut().zip(extents).rev() {
        *i += 1;
        if *i < n {
            return true;
        }
        *i = 0;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(strides: usize, dilation: usize, pads: [usize; 2], auto_pad: AutoPad) -> Window {
        Window {
            kernel_shape: Some(vec![3]),
            strides: Some(vec![strides]),
            dilations: Some(vec![dilation]),
            pads: Some(pads.to_vec()),
            auto_pad,
        }
    }

    #[test]
    fn explicit_pads() {
        let t = window(2, 1, [1, 1], AutoPad::NotSet).resolve(&[5], None, false).unwrap();
        assert_eq!((t.output[0], t.inside(0, 0), t.inside(0, 2)), (3, 1..3, 0..2));
        assert_eq!((t.source(0, 0, 0), t.source(0, 1, 0), t.source(0, 2, 2)), (None, Some(1), None));
    }

    #[test]
    fn same_pads_put_the_odd_one_behind_or_in_front() {
        let upper = window(2, 1, [0, 0], AutoPad::SameUpper).resolve(&[6], None, false).unwrap();
        assert_eq!((upper.output[0], upper.begin[0], upper.end[0]), (3, 0, 1));
        let lower = window(2, 1, [0, 0], AutoPad::SameLower).resolve(&[6], None, false).unwrap();
        assert_eq!((lower.output[0], lower.begin[0], lower.end[0]), (3, 1, 0));
        let valid = window(2, 1, [7, 7], AutoPad::Valid).resolve(&[6], None, false).unwrap();
        assert_eq!((valid.output[0], valid.begin[0]), (2, 0));
    }

    #[test]
    fn ceil_mode_drops_windows_that_start_in_the_padding() {
        let t = window(2, 1, [0, 0], AutoPad::NotSet).resolve(&[6], None, true).unwrap();
        assert_eq!((t.output[0], t.overrun(0), t.inside(0, 2)), (3, 1, 0..2));
        // in 4, pads 1+1, kernel 3 stride 4: floor 1, ceil 2, second starts at 4 < 5: kept.
        let t = window(4, 1, [1, 1], AutoPad::NotSet).resolve(&[4], None, true).unwrap();
        assert_eq!(t.output[0], 2);
        // in 3, pads 1+1, stride 4: ceil 2, second starts at 4 >= 4: dropped.
        let t = window(4, 1, [1, 1], AutoPad::NotSet).resolve(&[3], None, true).unwrap();
        assert_eq!(t.output[0], 1);
    }

    #[test]
    fn dilated_taps() {
        let t = window(1, 2, [2, 2], AutoPad::NotSet).resolve(&[4], None, false).unwrap();
        assert_eq!((t.output[0], t.inside(0, 0), t.inside(0, 1), t.inside(0, 3)), (4, 1..3, 1..3, 0..2));
        assert_eq!(t.inside_padded(0, 0), 0..3);
    }

    #[test]
    fn absurd_windows_are_errors() {
        assert!(window(1, 1, [0, 0], AutoPad::NotSet).resolve(&[2], None, false).is_err());
        assert!(window(0, 1, [0, 0], AutoPad::NotSet).resolve(&[4], None, false).is_err());
        assert!(window(1, 1, [0, 0], AutoPad::NotSet).resolve(&[4, 4], None, false).is_err());
        assert!(window(1, usize::MAX, [0, 0], AutoPad::NotSet).resolve(&[4], None, false).is_err());
    }
}
