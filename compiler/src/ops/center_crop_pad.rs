//! [CenterCropPad](https://onnx.ai/onnx/operators/onnx__CenterCropPad.html): the middle of an axis that is too
//! long, zeros around one that is too short. Of an odd difference the smaller part lies in front.

use super::composite::{Composite, Script};
use super::walk::{axes, extent};
use super::{Body, Inputs, OnnxName, OpError};
use crate::onnx::{AttrReader, NodeView};

/// Operands: `x`, and the extents of the axes (known at compile time).
pub struct CenterCropPad;

impl Composite for CenterCropPad {
    const NAMES: &'static [OnnxName] = &[OnnxName::onnx("CenterCropPad", 18)];

    fn body(attrs: &mut AttrReader<'_>, _node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let x = inputs.required(0)?;
        let rank = x.shape.rank();
        let at = match attrs.ints("axes")? {
            Some(list) => axes(&list, rank)?,
            None => (0..rank).collect(),
        };
        let wanted = inputs.known_ints(1, "shape")?.unwrap_or_default();
        if wanted.len() != at.len() {
            return Err(OpError::invalid(format!("{} extents for {} axes", wanted.len(), at.len())));
        }
        let (mut from, mut to) = (vec![0i64; rank], x.shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
        let mut pads = vec![0i64; 2 * rank];
        for (&axis, &wanted) in at.iter().zip(&wanted) {
            extent(wanted)?;
            let have = x.shape.get(axis).map_or(0, |&d| d as i64);
            let half = (wanted - have).abs() / 2;
            if wanted < have {
                (from[axis], to[axis]) = (half, half + wanted);
            } else {
                (pads[axis], pads[rank + axis]) = (half, wanted - have - half);
            }
        }
        let mut s = Script::new(&["x", "shape"]);
        let [from, to] = [from, to].map(|v| s.ints(&v));
        let cropped = s.op("Slice", &["x", &from, &to]);
        let pads = s.ints(&pads);
        let y = s.op("Pad", &[&cropped, &pads]);
        s.finish(&[&y])
    }
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::run_text;
    use super::super::testing::f32s;
    use crate::ir::Tensor;

    fn run(attrs: &str, shape: &[i64]) -> Option<Tensor> {
        let list = shape.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let text = format!(
            "g () => (y) <float[1, 4] x = {{1, 2, 3, 4}}, int64[{}] s = {{{list}}}> \
             {{ y = CenterCropPad {attrs} (x, s) }}",
            shape.len()
        );
        run_text(&text).ok()?.pop()
    }

    #[test]
    fn the_smaller_part_lies_in_front() {
        assert_eq!(run("", &[1, 3]).unwrap(), f32s(&[1, 3], &[1., 2., 3.]));
        assert_eq!(run("", &[2, 2]).unwrap(), f32s(&[2, 2], &[2., 3., 0., 0.]));
        assert_eq!(run("<axes = [-1]>", &[7]).unwrap(), f32s(&[1, 7], &[0., 1., 2., 3., 4., 0., 0.]));
        assert!(run("", &[3]).is_none(), "an extent per axis");
        assert!(run("<axes = [2]>", &[3]).is_none());
    }
}
