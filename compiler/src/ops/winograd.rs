//! 3×3 convolutions of stride 1 by Winograd's algorithm: when it pays, its weights, its steps.
//!
//! F(2×2, 3×3) multiplies 16 times for 4 outputs instead of 36 times, F(4×4, 3×3) 36 times for 16 instead of
//! 144 times. After A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
//!
//! F(4×4) is taken only where its error on random input stays below [`MOST_ERROR`] of the largest output.

use super::OpError;
use super::conv::{Conv, Geometry, OWN_OPERANDS};
use super::conv_lower::epilogue;
use super::fused::Residual;
use super::nest::{read_residual, read_spatial, write_spatial};
use super::number::Number;
use crate::ir::DType;
use crate::kernel::spec::{Epilogue, MatMulSpec, View, WinogradInputSpec, WinogradOutputSpec};
use crate::kernel::{EpilogueOperands, Kernel};
use crate::schedule::{LowerCx, SpatialNeed};
use edgec_runtime::isa::LANES;
use edgec_runtime::pack;

/// Largest error of F(4×4) on random input, as a part of the largest output.
const MOST_ERROR: f64 = 2e-5;

/// F(4×4) must be so much faster than what it replaces.
const MUCH: f64 = 1.15;

/// Bytes of planes that are worked on at a time: about half a second-level cache.
const STRIP_BYTES: usize = 512 << 10;

/// Transformed weights up to which F(4×4) is worth its four times larger weights.
const MOST_WEIGHTS: usize = 4 << 20;

/// Output pixels of a patch along one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tile {
    /// F(2×2, 3×3).
    Two,
    /// F(4×4, 3×3).
    Four,
}

impl Tile {
    fn outputs(self) -> usize {
        match self {
            Tile::Two => 2,
            Tile::Four => 4,
        }
    }

    /// Values of a patch along one side.
    fn side(self) -> usize {
        self.outputs() + 2
    }

    fn values(self) -> usize {
        self.side() * self.side()
    }

    /// `G`, a row for each value.
    fn g(self) -> &'static [[f64; 3]] {
        match self {
            Tile::Two => &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
            Tile::Four => &[
                [0.25, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
                [0.0, 0.0, 1.0],
            ],
        }
    }

    /// `Bᵀ`.
    fn b(self) -> &'static [&'static [f32]] {
        match self {
            Tile::Two => &[
                &[1.0, 0.0, -1.0, 0.0],
                &[0.0, 1.0, 1.0, 0.0],
                &[0.0, -1.0, 1.0, 0.0],
                &[0.0, 1.0, 0.0, -1.0],
            ],
            Tile::Four => &[
                &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
                &[0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
                &[0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
                &[0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
                &[0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
                &[0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
            ],
        }
    }

    /// `Aᵀ`.
    fn a(self) -> &'static [&'static [f32]] {
        match self {
            Tile::Two => &[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, -1.0]],
            Tile::Four => &[
                &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
                &[0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
                &[0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
                &[0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
            ],
        }
    }
}

/// `m · v · mᵀ`, row-major, `v` of `m`'s row length squared.
fn sandwich(m: &[&[f32]], v: &[f32]) -> Vec<f32> {
    let side = m.first().map_or(0, |row| row.len());
    let dot = |a: &[f32], b: &mut dyn Iterator<Item = f32>| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let half: Vec<Vec<f32>> = m
        .iter()
        .map(|row| (0..side).map(|c| dot(row, &mut v.iter().skip(c).step_by(side.max(1)).copied())).collect())
        .collect();
    half.iter().flat_map(|h| m.iter().map(|row| dot(row, &mut h.iter().copied()))).collect()
}

/// The tile to compute a convolution with; `None` where the direct form is as fast or the only one.
pub(super) fn choose(cx: &LowerCx<'_>, dtype: DType, g: &Geometry) -> Result<Option<Tile>, OpError> {
    let plain = |v: &[usize], n: usize| v == [n, n];
    let taps = &g.taps;
    let fits = dtype == DType::F32
        && g.groups == 1
        && plain(&taps.kernel, 3)
        && plain(&taps.strides, 1)
        && plain(&taps.dilations, 1)
        && !g.output().contains(&0)
        && taps.input.iter().all(|&d| d > 0);
    let Some(weights) = cx.constant(1).filter(|_| fits && cx.reorders_sums()) else { return Ok(None) };
    let [direct, two, four] = [cost(g, None), cost(g, Some(Tile::Two)), cost(g, Some(Tile::Four))];
    if four * MUCH < two.min(direct)
        && Tile::Four.values() * g.group_in * g.group_out * size_of::<f32>() <= MOST_WEIGHTS
        && error(Tile::Four, &f32::load(weights)?, g) <= MOST_ERROR
    {
        return Ok(Some(Tile::Four));
    }
    Ok((two < direct).then_some(Tile::Two))
}

/// Cycles of one core with 512-bit vectors, roughly; `None` is the direct form.
fn cost(g: &Geometry, tile: Option<Tile>) -> f64 {
    /// Of a register tile, besides its products.
    const TILE: f64 = 60.0;
    /// Weights that stay in the second-level cache from one inference to the next, if anything does.
    const CACHED: f64 = 1e6;
    /// Bytes of weights per cycle from there, and from beyond; only many rows hide the wait.
    const STREAMS: (f64, f64) = (40.0, 10.5);
    let count = |v: usize| v as f64;
    let (inputs, outputs) = (count(g.group_in), count(g.group_out.div_ceil(LANES)));
    // Two panels of 16 by 14 rows: a cycle for each pair of products.
    let product = |rows: f64, k: f64| (rows / 14.0).ceil() * outputs / 2.0 * (14.0 * k + TILE);
    let weights = |values: f64| {
        let bytes = values * inputs * outputs * count(LANES * size_of::<f32>());
        bytes / if bytes <= CACHED { STREAMS.0 } else { STREAMS.1 }
    };
    let space = g.taps.output.iter();
    match tile {
        None => {
            let pixels = count(g.batch) * space.map(|&d| count(d)).product::<f64>();
            product(pixels, 9.0 * inputs).max(weights(9.0))
        }
        Some(tile) => {
            let patches: f64 = space.map(|&d| count(d.div_ceil(tile.outputs()))).product();
            let (values, rows) = (count(tile.values()), count(g.batch) * patches);
            // Values in and out of the transforms, vector by vector.
            let chunk = match tile {
                Tile::Two => 3.5,
                Tile::Four => 4.5,
            };
            let transforms = rows * values * chunk * ((inputs / count(LANES)).ceil() + outputs);
            values * product(rows, inputs) + weights(values) + transforms
        }
    }
}

/// Largest error on a few patches of random input, against sums in `f64`, as a part of the largest output.
fn error(tile: Tile, weights: &[f32], g: &Geometry) -> f64 {
    const PATCHES: usize = 4;
    let (side, inputs) = (tile.side(), g.group_in);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let patches: Vec<f32> = (0..PATCHES * inputs * tile.values()).map(|_| random()).collect();
    let transformed: Vec<f32> = patches.chunks(tile.values()).flat_map(|d| sandwich(tile.b(), d)).collect();
    let (mut most, mut largest) = (0f64, 0f64);
    for kernels in weights.chunks(inputs.max(1) * 9) {
        let planes: Vec<f32> = kernels.chunks(9).flat_map(|k| plane_weights(tile, k)).collect();
        for p in 0..PATCHES {
            let of_patch = p * inputs * tile.values()..(p + 1) * inputs * tile.values();
            let mut sums = vec![0f32; tile.values()];
            let rows = transformed.get(of_patch.clone()).unwrap_or(&[]).chunks(tile.values());
            for (v, w) in rows.zip(planes.chunks(tile.values())) {
                for (sum, (v, w)) in sums.iter_mut().zip(v.iter().zip(w)) {
                    *sum += v * w;
                }
            }
            let fast = sandwich(tile.a(), &sums);
            for (i, &fast) in fast.iter().enumerate() {
                let (row, column) = (i / tile.outputs(), i % tile.outputs());
                let mut exact = 0f64;
                let pixels = patches.get(of_patch.clone()).unwrap_or(&[]).chunks(tile.values());
                for (d, k) in pixels.zip(kernels.chunks(9)) {
                    for (t, &k) in k.iter().enumerate() {
                        let at = (row + t / 3) * side + column + t % 3;
                        exact += f64::from(k) * d.get(at).copied().map_or(0.0, f64::from);
                    }
                }
                most = most.max((f64::from(fast) - exact).abs());
                largest = largest.max(exact.abs());
            }
        }
    }
    if largest > 0.0 { most / largest } else { f64::from(u8::from(most > 0.0)) }
}

/// `G·k·Gᵀ` of one 3×3 kernel.
fn plane_weights(tile: Tile, kernel: &[f32]) -> Vec<f32> {
    let g = tile.g();
    let value = |a: &[f64; 3], b: &[f64; 3]| {
        kernel
            .iter()
            .enumerate()
            .map(|(t, &k)| {
                let factor = |row: &[f64; 3], i: usize| row.get(i).copied().unwrap_or(0.0);
                factor(a, t / 3) * f64::from(k) * factor(b, t % 3)
            })
            .sum::<f64>() as f32
    };
    g.iter().flat_map(|a| g.iter().map(move |b| (a, b))).map(|(a, b)| value(a, b)).collect()
}

/// Transformed weights: for each value of a patch the packed matrix `[input channel][output channel]`.
fn packed(tile: Tile, weights: &[f32], g: &Geometry) -> Result<Vec<f32>, OpError> {
    let (inputs, outputs) = (g.group_in, g.group_out);
    let layout = pack::Gemm { k: inputs, n: outputs };
    let mut planes = vec![0f32; tile.values() * layout.packed_len()];
    for (pair, kernel) in weights.chunks(9).enumerate() {
        let (o, i) = (pair / inputs.max(1), pair % inputs.max(1));
        for (p, value) in plane_weights(tile, kernel).into_iter().enumerate() {
            if let Some(at) = planes.get_mut(p * layout.packed_len() + layout.index(i, o)) {
                *at = value;
            }
        }
    }
    Ok(planes)
}

/// Elements from plane to plane: an odd number of cache lines, so that planes do not compete for one set.
fn plane(rows: usize, channels: usize) -> usize {
    let len = rows * pack::padded(channels);
    if (len / LANES).is_multiple_of(2) { len + LANES } else { len }
}

/// Emits the steps: per strip of patch rows one transform, one product for each plane, one transform back.
pub(super) fn lower(op: &Conv, cx: &mut LowerCx<'_>, g: &Geometry, tile: Tile) -> Result<(), OpError> {
    let missing = || OpError::internal("Winograd without an image");
    let (Some(&[top, left]), Some(&[height, width])) =
        (g.taps.begin.first_chunk::<2>(), g.taps.output.first_chunk::<2>())
    else {
        return Err(missing());
    };
    let need = SpatialNeed { pads: [0; 3], pads_end: [0; 3], fill: None, planar: false };
    let input = read_spatial(cx, 0, need)?;
    let weights = packed(tile, &f32::load(cx.constant(1).ok_or_else(missing)?)?, g)?;
    // Each strip reads all weights: planes no larger than these cost less than reading them again.
    let strip_bytes = STRIP_BYTES.max(size_of_val(weights.as_slice()));
    let weights = cx.blob("weights", &weights);
    let layout = pack::Vector { channels: g.group_out, groups: 1 };
    let (epilogue, mut operands) = epilogue(cx, &op.fused, layout, 2, OWN_OPERANDS)?;
    let residual = match op.fused.residual {
        Residual::None => None,
        Residual::Before | Residual::After => Some(read_residual(cx, OWN_OPERANDS)?),
    };
    let output = write_spatial(cx, 0)?;
    operands.residual = residual.map(|(operand, _)| operand);
    let residual = residual.map_or(output.view, |(_, view)| view);

    let (rows, columns) = (height.div_ceil(tile.outputs()), width.div_ceil(tile.outputs()));
    let channels = pack::padded(g.group_in) + pack::padded(g.group_out);
    let row_bytes = g.batch * columns * tile.values() * channels * size_of::<f32>();
    let strips = (rows * row_bytes).div_ceil(strip_bytes).clamp(1, rows);
    let per_strip = rows.div_ceil(strips);
    let lines = g.batch * per_strip * columns;
    let (x_plane, y_plane) = (plane(lines, g.group_in), plane(lines, g.group_out));
    let planes = cx.scratch("patches", DType::F32, tile.values() * x_plane);
    let products = cx.scratch("products", DType::F32, tile.values() * y_plane);
    let mut first = 0;
    while first < rows {
        let count = per_strip.min(rows - first);
        let start = first * tile.outputs();
        let y = strip(output.view, start, (count * tile.outputs()).min(height - start));
        let spec = WinogradInputSpec {
            x: input.view,
            pads: [top, left],
            tile: tile.outputs(),
            first: start,
            patches: [count, columns],
            plane: x_plane,
        };
        cx.push(Kernel::WinogradInput { spec, x: input.operand, y: planes });
        cx.push(Kernel::MatMul {
            spec: product(tile, spec.rows(), g, x_plane, y_plane),
            a: planes,
            w: weights,
            epilogue: EpilogueOperands::default(),
            y: products,
        });
        let residual = strip(residual, start, y.extent[1]);
        let spec = WinogradOutputSpec { y, residual, tile: tile.outputs(), plane: y_plane, epilogue };
        cx.push(Kernel::WinogradOutput { spec, x: products, epilogue: operands, y: output.operand });
        first += count;
    }
    output.finish(cx)
}

/// `rows` rows of an image from row `start` on.
fn strip(view: View, start: usize, rows: usize) -> View {
    let [depth, _, width] = view.extent;
    View { offset: view.offset + start * view.strides[1], extent: [depth, rows, width], ..view }
}

/// One product for each plane.
fn product(tile: Tile, rows: usize, g: &Geometry, x_plane: usize, y_plane: usize) -> MatMulSpec {
    let layout = pack::Gemm { k: g.group_in, n: g.group_out };
    MatMulSpec {
        batch: tile.values(),
        m: rows,
        n: g.group_out,
        k: g.group_in,
        a_offset: 0,
        a_stride: pack::padded(g.group_in),
        a_batch: x_plane,
        w_batch: layout.packed_len(),
        y_offset: 0,
        y_stride: pack::padded(g.group_out),
        y_batch: y_plane,
        r_offset: 0,
        r_stride: 0,
        r_batch: 0,
        epilogue: Epilogue::NONE,
    }
}
