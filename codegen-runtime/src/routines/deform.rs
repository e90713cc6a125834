//! ONNX DeformConv.

use super::real::Real;
use crate::loops::{at, put};
use crate::math::double::floor;
use crate::num::{quotient, remainder};

/// Convolution of `x: [batch, groups · group_in, depth, height, width]` with `w: [groups · group_out, group_in, taps]`, whose taps `offset:
/// [batch, offset_groups, taps, axes, output]` moves and `mask: [batch, offset_groups, taps, output]` scales, plus `bias`, into `y`.
///
/// `table` holds for depth, height and width: extents of input, output and kernel, stride, dilation and leading pad; the last
/// `axes` of the three have offsets. Beyond the input lie zeros. `column` holds a value per channel and tap.
pub fn deform_conv<T: Real>(
    x: &[T],
    w: &[T],
    offset: &[T],
    bias: &[T],
    mask: &[T],
    table: &[i64],
    y: &mut [T],
    column: &mut [T],
    batch: usize,
    groups: usize,
    group_in: usize,
    group_out: usize,
    offset_groups: usize,
    axes: usize,
    biased: bool,
    masked: bool,
) {
    let lines = [0, 1, 2].map(|axis| Line::new(table, axis));
    let [input, output, taps] =
        [|l: &Line| l.input, |l: &Line| l.output, |l: &Line| l.kernel].map(|f| lines.iter().map(f).product());
    let (channels, outputs): (usize, usize) = (groups * group_in, groups * group_out);
    let shared = quotient(channels, offset_groups);
    for n in 0..batch {
        for point in 0..output {
            for part in 0..offset_groups * taps {
                let (first, tap) = (quotient(part, taps) * shared, remainder(part, taps));
                let own = n * offset_groups * taps + part;
                let moved = |axis: usize| match (axis + axes).checked_sub(3) {
                    Some(a) => at(offset, (own * axes + a) * output + point).wide(),
                    None => 0.0,
                };
                let pairs = around(&lines, point, tap, moved);
                let scale = if masked { at(mask, own * output + point).wide() } else { 1.0 };
                for c in first..first + shared {
                    let mut sum = 0.0;
                    for (place, weight) in corners(&lines, &pairs) {
                        sum += at(x, (n * channels + c) * input + place).wide() * weight;
                    }
                    put(column, c * taps + tap, T::narrow(sum * scale));
                }
            }
            for m in 0..outputs {
                let from = quotient(m, group_out) * group_in * taps;
                let mut sum = if biased { at(bias, m).wide() } else { 0.0 };
                for k in 0..group_in * taps {
                    sum += at(w, m * group_in * taps + k).wide() * at(column, from + k).wide();
                }
                put(y, (n * outputs + m) * output + point, T::narrow(sum));
            }
        }
    }
}

/// One spatial axis.
struct Line {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    begin: usize,
}

impl Line {
    fn new(table: &[i64], axis: usize) -> Line {
        let [input, output, kernel, stride, dilation, begin] =
            [0, 1, 2, 3, 4, 5].map(|i| at(table, axis * 6 + i) as usize);
        Line { input, output, kernel, stride, dilation, begin }
    }
}

/// Of each axis the two elements around a tap's position, with their weights. Those outside have none.
fn around(
    lines: &[Line; 3],
    mut point: usize,
    mut tap: usize,
    moved: impl Fn(usize) -> f64,
) -> [[(usize, f64); 2]; 3] {
    let mut pairs = [[(0, 0.0); 2]; 3];
    for (axis, (line, pair)) in lines.iter().zip(&mut pairs).enumerate().rev() {
        let (o, k) = (remainder(point, line.output), remainder(tap, line.kernel));
        (point, tap) = (quotient(point, line.output), quotient(tap, line.kernel));
        let fixed = (o * line.stride + k * line.dilation) as f64 - line.begin as f64;
        let place = fixed + moved(axis);
        let low = floor(place);
        let inside = |p: f64| p >= 0.0 && p < line.input as f64;
        let part = place - low;
        let side = |p: f64, weight: f64| if inside(p) { (p as usize, weight) } else { (0, 0.0) };
        *pair = [side(low, 1.0 - part), side(low + 1.0, part)];
    }
    pairs
}

/// Elements that a tap reads, and their weights; those without weight are left out, whatever they hold.
fn corners(lines: &[Line; 3], pairs: &[[(usize, f64); 2]; 3]) -> impl Iterator<Item = (usize, f64)> {
    let [_, rows, columns] = lines;
    let (height, width) = (rows.input, columns.input);
    let [depth, row, column] = *pairs;
    depth
        .into_iter()
        .flat_map(move |d| row.into_iter().flat_map(move |r| column.into_iter().map(move |c| (d, r, c))))
        .map(move |(d, r, c)| ((d.0 * height + r.0) * width + c.0, d.1 * r.1 * c.1))
        .filter(|&(_, weight)| weight != 0.0)
}

#[cfg(test)]
mod tests {
    use super::deform_conv;

    #[test]
    fn moved_taps() {
        let (x, w) = ([1.0f32, 2.0, 4.0], [1.0, 10.0]);
        let table = [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 3, 2, 2, 1, 1, 0];
        let (mut y, mut column) = ([0.0; 2], [0.0; 2]);
        let mut run = |offset: &[f32; 4], bias: &[f32], mask: &[f32]| {
            let given = (!bias.is_empty(), !mask.is_empty());
            deform_conv(
                &x,
                &w,
                offset,
                bias,
                mask,
                &table,
                &mut y,
                &mut column,
                1,
                1,
                1,
                1,
                1,
                1,
                given.0,
                given.1,
            );
            y
        };
        assert_eq!(run(&[0.5, 0.0, 0.0, 1.0], &[], &[]), [21.5, 2.0]);
        assert_eq!(run(&[0.5, 0.0, 0.0, 1.0], &[100.0], &[2.0, 1.0, 0.0, 1.0]), [103.0, 102.0]);
        assert_eq!(run(&[f32::NAN, 1e30, -1e30, f32::INFINITY], &[], &[]), [0.0, 0.0]);
        deform_conv::<f64>(&[], &[], &[], &[], &[], &[], &mut [], &mut [], 2, 2, 2, 2, 0, 3, true, true);
    }
}
