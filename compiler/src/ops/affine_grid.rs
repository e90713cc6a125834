//! [AffineGrid](https://onnx.ai/onnx/operators/onnx__AffineGrid.html): the positions of an image's pixels,
//! each in `-1..=1`, moved by a matrix per sample.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::typed::from_floats;
use super::walk::{checked_type, extent};
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `theta: [n, d, d + 1]` with `d` 2 or 3; the image's shape `[n, c, …]`, known at compile time.
/// Result: `[n, …, d]`, the last spatial axis first in `d`.
pub struct AffineGrid;

impl Composite for AffineGrid {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("AffineGrid", 20)];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let corners = attrs.int_or("align_corners", 0)? != 0;
        let theta = inputs.required(0)?;
        expect_float(theta.dtype)?;
        let size = inputs.known_ints(1, "size")?.unwrap_or_default();
        let image = size.iter().skip(2).map(|&d| extent(d)).collect::<Result<Vec<usize>, _>>()?;
        let batch = size.first().copied().unwrap_or(0);
        let d = image.len();
        if !matches!(d, 2 | 3) || theta.shape.dims() != [extent(batch)?, d, d + 1] {
            return Err(OpError::invalid(format!("matrices {} for an image {size:?}", theta.shape)));
        }
        let pixels = image.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
        let pixels = pixels.ok_or_else(|| OpError::Limit("an image beyond any memory".to_owned()))?;
        // Also says whether the table fits in memory.
        let table = checked_type(theta.dtype, [pixels, d + 1])?;
        let place = |i: usize, n: usize| match (corners, n) {
            (true, 1) => -1.0,
            (true, _) => -1.0 + 2.0 * i as f64 / (n - 1) as f64,
            (false, _) => (2 * i + 1) as f64 / n as f64 - 1.0,
        };
        let mut rows = Vec::with_capacity(table.shape.elements());
        for p in 0..pixels {
            let mut rest = p;
            // Last axis first: x, then y, then z; and 1 for the translation.
            for &n in image.iter().rev() {
                rows.push(place(rest % n, n));
                rest /= n;
            }
            rows.push(1.0);
        }
        let mut s = Script::new(&["theta", "size"]);
        let grid = s.tensor(from_floats(theta.dtype, table.shape, rows)?);
        let matrix = s.op("Transpose <perm = [0, 2, 1]>", &["theta"]);
        let moved = s.op("MatMul", &[&grid, &matrix]);
        let mut shape = vec![extent(batch)?];
        shape.extend(&image);
        shape.push(d);
        let y = s.reshape(&moved, &shape);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_text};

    #[test]
    fn pixels_move_by_the_matrix() {
        let grid = |attrs: &str| {
            run_text(&format!(
                "g () => (y) <float[1, 2, 3] theta = {{2, 0, 10, 0, 1, 20}}, int64[4] size = {{1, 1, 1, 2}}> \
                 {{ y = AffineGrid {attrs} (theta, size) }}"
            ))
        };
        // Pixels at x = -0.5 and 0.5, y = 0.
        close(&grid("").unwrap()[0], &[9., 20., 11., 20.]);
        close(&grid("<align_corners = 1>").unwrap()[0], &[8., 19., 12., 19.]);
        assert!(
            run_text(
                "g () => (y) <float[1, 2, 2] theta = {2, 0, 10, 0}, int64[4] size = {1, 1, 1, 2}> \
             { y = AffineGrid (theta, size) }"
            )
            .is_err()
        );
    }
}
