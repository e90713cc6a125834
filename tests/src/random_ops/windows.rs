//! Convolution, pooling, resizing, sampling.

use super::{Draw, Values};
use edgec::ir::DType::{self, F16, F32, F64, I8, I64, U8};

/// Attributes of a window over `space` axes, and the extents that it fits.
struct Window {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
    space: Vec<usize>,
}

fn window(d: &mut Draw, axes: usize, padded: bool) -> Window {
    let mut w =
        Window { kernel: vec![], strides: vec![], dilations: vec![], pads: vec![0; 2 * axes], space: vec![] };
    for axis in 0..axes {
        let kernel = d.random.of(&[1, 2, 3, 3, 5]);
        let dilation = if d.random.once_in(3) { 2 } else { 1 };
        let reach = dilation * (kernel - 1) + 1;
        w.kernel.push(kernel);
        w.dilations.push(dilation);
        w.strides.push(d.random.of(&[1, 1, 2, 3]));
        w.space.push(reach + d.random.below(if axes == 3 { 4 } else { 12 }));
        if padded {
            // Less than the kernel, as pooling demands.
            w.pads[axis] = d.random.below(kernel.min(3));
            w.pads[axis + axes] = d.random.below(kernel.min(3));
        }
    }
    w
}

impl Window {
    fn text(&self) -> String {
        let Window { kernel, strides, dilations, pads, .. } = self;
        format!(
            "kernel_shape = {kernel:?}, strides = {strides:?}, dilations = {dilations:?}, pads = {pads:?}"
        )
    }
}

pub(super) fn conv(d: &mut Draw) {
    let types: &[DType] = &[F32, F32, F32, F32, F64, F16];
    for &dtype in types {
        for axes in [1, 2, 2, 3] {
            let w = window(d, axes, true);
            let group = d.random.of(&[1, 1, 1, 2, 3]);
            let (inner, outer) = (d.random.range(1, 6), d.random.of(&[1, 2, 3, 8, 17]));
            let x = [vec![d.random.range(1, 2), group * inner], w.space.clone()].concat();
            let k = [vec![group * outer, inner], w.kernel.clone()].concat();
            let x = d.data(dtype, &x, Values::Unit);
            let k = d.weight(dtype, &k, Values::Unit);
            let bias = d.weight(dtype, &[group * outer], Values::Unit);
            let op = format!("Conv <group = {group}, {}>", w.text());
            d.node(&op, dtype, &[&x, &k, &bias], 1);

            // Depthwise.
            let w = window(d, axes, true);
            let channels = d.random.range(2, 20);
            let x = [vec![1, channels], w.space.clone()].concat();
            let k = [vec![channels, 1], w.kernel.clone()].concat();
            let x = d.data(dtype, &x, Values::Unit);
            let k = d.weight(dtype, &k, Values::Unit);
            d.node(&format!("Conv <group = {channels}, {}>", w.text()), dtype, &[&x, &k], 1);
        }
        for axes in [1, 2, 3] {
            let mut w = window(d, axes, false);
            w.space = w.space.iter().map(|_| d.random.range(1, 5)).collect();
            let group = d.random.of(&[1, 1, 2]);
            let (inner, outer) = (d.random.range(1, 4), d.random.range(1, 4));
            let x = [vec![1, group * inner], w.space.clone()].concat();
            let k = [vec![group * inner, outer], w.kernel.clone()].concat();
            let x = d.data(dtype, &x, Values::Unit);
            let k = d.weight(dtype, &k, Values::Unit);
            let more: Vec<usize> = w.strides.iter().map(|&s| d.random.below(s)).collect();
            let op = format!("ConvTranspose <group = {group}, output_padding = {more:?}, {}>", w.text());
            d.node(&op, dtype, &[&x, &k], 1);
        }
    }
}

pub(super) fn pool(d: &mut Draw) {
    for dtype in [F32, F64, F16, I8, U8] {
        for axes in [1, 2, 2, 3] {
            let ceil = d.random.below(2);
            let w = window(d, axes, true);
            let shape = [vec![d.random.range(1, 2), d.random.range(1, 20)], w.space.clone()].concat();
            let x = d.data(dtype, &shape, Values::Any);
            d.node(&format!("MaxPool <ceil_mode = {ceil}, {}>", w.text()), dtype, &[&x], 1);
            if !dtype.is_float() {
                continue;
            }
            let w = window(d, axes, true);
            let shape = [vec![d.random.range(1, 2), d.random.range(1, 20)], w.space.clone()].concat();
            let include = d.random.below(2);
            let x = d.data(dtype, &shape, Values::Any);
            let op = format!("AveragePool <ceil_mode = {ceil}, count_include_pad = {include}, {}>", w.text());
            d.node(&op, dtype, &[&x], 1);
            let x = d.data(dtype, &shape, Values::Any);
            d.node(&format!("LpPool <p = 2, {}>", w.text()), dtype, &[&x], 1);
            for op in ["GlobalAveragePool", "GlobalMaxPool"] {
                let x = d.data(dtype, &shape, Values::Any);
                d.node(op, dtype, &[&x], 1);
            }
        }
    }
}

pub(super) fn resize(d: &mut Draw) {
    for dtype in [F32, F64, F16, U8, I8] {
        for _ in 0..6 {
            let mode = d.random.of(&["nearest", "linear", "cubic"]);
            let place = d.random.of(&[
                "half_pixel",
                "asymmetric",
                "align_corners",
                "pytorch_half_pixel",
                "half_pixel_symmetric",
            ]);
            if mode != "nearest" && !dtype.is_float() {
                continue;
            }
            let nearest = d.random.of(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]);
            let anti = if mode == "nearest" { 0 } else { d.random.below(2) };
            let (h, w) = (d.random.range(2, 9), d.random.range(2, 9));
            let x = d.data(dtype, &[1, d.random.range(1, 5), h, w], Values::Any);
            let sizes = [d.random.int(1, 12), d.random.int(1, 12)];
            let sizes = d.ints(&sizes);
            let op = format!(
                "Resize <axes = [2, 3], mode = \"{mode}\", nearest_mode = \"{nearest}\", antialias = {anti}, \
                 coordinate_transformation_mode = \"{place}\">"
            );
            d.node(&op, dtype, &[&x, "", "", &sizes], 1);
        }
    }
}

pub(super) fn sample(d: &mut Draw) {
    for dtype in [F32, F64, F16] {
        for mode in ["nearest", "linear", "cubic"] {
            let padding = d.random.of(&["zeros", "border", "reflection"]);
            let align = d.random.below(2);
            let x = d.data(dtype, &[2, d.random.range(1, 3), 5, 4], Values::Any);
            let at = d.data(dtype, &[2, d.random.range(1, 4), d.random.range(1, 4), 2], Values::Unit);
            let op = format!(
                "GridSample <mode = \"{mode}\", padding_mode = \"{padding}\", align_corners = {align}>"
            );
            // A step of a coordinate in 16 bits is another pixel.
            if dtype == F16 && mode == "nearest" {
                d.inputs.clear();
                continue;
            }
            d.node(&op, dtype, &[&x, &at], 1);
        }
        for mode in ["avg", "max"] {
            let x = d.data(dtype, &[2, d.random.range(1, 3), 7, 6], Values::Any);
            let rois = d.data(dtype, &[3, 4], Values::Whole(0, 6));
            let images = d.data(I64, &[3], Values::Whole(0, 1));
            let op = format!(
                "RoiAlign <mode = \"{mode}\", output_height = 2, output_width = 3, sampling_ratio = 2>"
            );
            d.node(&op, dtype, &[&x, &rois, &images], 1);
        }
    }
}
