//! [Col2Im](https://onnx.ai/onnx/operators/onnx__Col2Im.html): blocks laid over an image, overlaps added. That
//! is a transposed convolution in which each element of a block has a channel of its own.

use super::composite::{Composite, Script};
use super::number::expect_float;
use super::typed::from_floats;
use super::walk::{checked_type, extent};
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `[n, c·block, blocks]`; the image's and a block's extents, known at compile time.
pub struct Col2Im;

impl Composite for Col2Im {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("Col2Im", 18)];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        expect_float(x.dtype)?;
        let known = |i: usize, what: &str| -> Result<Vec<usize>, OpError> {
            let list = inputs.known_ints(i, what)?.unwrap_or_default();
            list.into_iter().map(extent).collect()
        };
        let (image, block) = (known(1, "image_shape")?, known(2, "block_shape")?);
        let rank = image.len();
        let mut list = |name: &str, len: usize, default: i64| -> Result<Vec<usize>, OpError> {
            let list = attrs.ints(name)?.unwrap_or_else(|| vec![default; len]);
            if list.len() != len {
                return Err(OpError::invalid(format!("`{name}` has {} values for {rank} axes", list.len())));
            }
            list.into_iter().map(extent).collect()
        };
        let (strides, dilations) = (list("strides", rank, 1)?, list("dilations", rank, 1)?);
        let pads = list("pads", 2 * rank, 0)?;
        let misfit =
            || OpError::invalid(format!("columns {} for an image {image:?} of blocks {block:?}", x.shape));
        // How many blocks lie along each axis, and what the image has beyond the last one.
        let (mut grid, mut beyond) = (Vec::new(), Vec::new());
        for (i, (&image, &k)) in image.iter().zip(&block).enumerate() {
            let (stride, dilation) = (strides[i].max(1), dilations[i]);
            let reach = k.checked_sub(1).and_then(|k| k.checked_mul(dilation)).ok_or_else(misfit)? + 1;
            let padded = image.saturating_add(pads[i]).saturating_add(pads[rank + i]);
            let free = padded.checked_sub(reach).ok_or_else(misfit)?;
            grid.push(free / stride + 1);
            beyond.push(free % stride);
        }
        let area =
            block.iter().try_fold(1usize, |n, &k| n.checked_mul(k)).filter(|&n| n > 0).ok_or_else(misfit)?;
        let [n, channels, blocks] = *x.shape.dims() else { return Err(misfit()) };
        let same = grid.iter().try_fold(1usize, |n, &g| n.checked_mul(g)) == Some(blocks);
        if block.len() != rank || rank == 0 || channels % area != 0 || !same {
            return Err(misfit());
        }
        let planes = channels / area;
        let mut shape = vec![area, 1];
        shape.extend(&block);
        let weights = checked_type(x.dtype, shape)?.shape;
        let mut unit = vec![0.0; weights.elements()];
        // Channel b writes element b of the block.
        unit.iter_mut().step_by(area + 1).for_each(|w| *w = 1.0);
        let mut s = Script::new(&["x", "image", "block"]);
        let weights = s.tensor(from_floats(x.dtype, weights, unit)?);
        let mut shape = vec![n.checked_mul(planes).ok_or_else(misfit)?, area];
        shape.extend(&grid);
        let columns = s.reshape("x", &shape);
        let op = format!(
            "ConvTranspose <kernel_shape = {block:?}, strides = {strides:?}, dilations = {dilations:?}, pads = \
             {pads:?}, output_padding = {beyond:?}>"
        );
        let y = s.op(&op, &[&columns, &weights]);
        let mut shape = vec![n, planes];
        shape.extend(&image);
        let y = s.reshape(&y, &shape);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run_text};

    #[test]
    fn overlaps_add() {
        let run = |columns: &str, image: &str| {
            run_text(&format!(
                "g () => (y) <float[1, 4, {columns}] x = {{1, 2, 3, 4, 5, 6, 7, 8}}, int64[2] i = {{{image}}}, \
                 int64[2] b = {{2, 2}}> {{ y = Col2Im (x, i, b) }}"
            ))
        };
        // Two blocks, (1 3 / 5 7) and (2 4 / 6 8), side by side with one column in common.
        close(&run("2", "2, 3").unwrap()[0], &[1., 5., 4., 5., 13., 8.]);
        assert!(run("2", "3, 3").is_err(), "four blocks");
        assert!(run("2", "1, 3").is_err(), "less than a block");
    }
}
