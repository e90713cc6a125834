//! Both halves of Winograd's algorithm at every level, with plain products between them, against plain
//! convolutions.

use std::vec;
use std::vec::Vec;

use crate::epilogue::Vectors;
use crate::isa::Isa;
use crate::kernels::layer;
use crate::kernels::testing::{EachLevel, Random, coordinates, each_level, element, epilogue, plain};
use crate::kernels::{winograd_input, winograd_output};
use crate::mem::Part;
use crate::pack::padded;
use crate::spec::{Residual, Scale, View, WinogradInputSpec, WinogradOutputSpec};

/// `G` of F(2, 3) and F(4, 3), as in the paper.
const TWO: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
const FOUR: [[f64; 3]; 6] = [
    [0.25, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

struct Check {
    input: WinogradInputSpec,
    output: WinogradOutputSpec,
    x: Vec<f32>,
    /// `[oc][ic][3][3]`.
    w: Vec<f32>,
    bias: Vec<f32>,
    scale: Vec<f32>,
    slope: Vec<f32>,
    residual: Vec<f32>,
}

impl Check {
    fn reference(&self) -> Vec<f32> {
        let (x, y, inputs) = (&self.input.x, &self.output.y, self.input.x.channels);
        let mut out = vec![7.5; y.end()];
        for (n, [_, h, v]) in coordinates(y) {
            for o in 0..y.channels {
                let mut sum = 0.0f64;
                for t in 0..9 {
                    let row = (self.input.first + h + t / 3).wrapping_sub(self.input.pads[0]);
                    let column = (v + t % 3).wrapping_sub(self.input.pads[1]);
                    if row < x.extent[1] && column < x.extent[2] {
                        for i in 0..inputs {
                            let pixel = self.x[element(x, n, [0, row, column], i)];
                            sum += f64::from(pixel) * f64::from(self.w[(o * inputs + i) * 9 + t]);
                        }
                    }
                }
                let at = element(&self.output.residual, n, [0, h, v], o);
                let e = &self.output.epilogue;
                let addend = if e.residual == Residual::None { 0.0 } else { self.residual[at] };
                let done = plain(e, sum, self.bias[o], self.scale[o], self.slope[o], addend);
                out[element(y, n, [0, h, v], o)] = done as f32;
            }
        }
        out
    }

    /// `G·g·Gᵀ`, plane by plane, `[plane][ic][oc]`.
    fn transformed(&self) -> Vec<f64> {
        let side = self.input.tile + 2;
        let g: &[[f64; 3]] = if self.input.tile == 2 { &TWO } else { &FOUR };
        let (inputs, outputs) = (self.input.x.channels, self.output.y.channels);
        let mut planes = vec![0.0; side * side * inputs * outputs];
        for (p, plane) in planes.chunks_mut(inputs * outputs).enumerate() {
            for i in 0..inputs {
                for o in 0..outputs {
                    plane[i * outputs + o] = (0..9)
                        .map(|t| {
                            let weight = f64::from(self.w[(o * inputs + i) * 9 + t]);
                            g[p / side][t / 3] * weight * g[p % side][t % 3]
                        })
                        .sum();
                }
            }
        }
        planes
    }
}

impl EachLevel for Check {
    fn at<I: Isa>(&mut self, isa: I) {
        let (want, weights) = (self.reference(), self.transformed());
        let side = self.input.tile + 2;
        let (inputs, outputs, rows) = (self.input.x.channels, self.output.y.channels, self.input.rows());
        assert_eq!(rows, self.output.rows());
        for count in [1, 3] {
            let mut planes = vec![f32::NAN; side * side * self.input.plane];
            let out = planes.as_mut_ptr();
            for index in 0..count {
                let part = Part { index, count };
                let job = winograd_input::Job { spec: &self.input, x: self.x.as_ptr(), y: out, part };
                isa.call(layer::SharedCode(job));
            }
            let mut products = vec![f32::NAN; side * side * self.output.plane];
            for p in 0..side * side {
                for row in 0..rows {
                    for o in 0..outputs {
                        let from = p * self.input.plane + row * padded(inputs);
                        let sum: f64 = (0..inputs)
                            .map(|i| f64::from(planes[from + i]) * weights[(p * inputs + i) * outputs + o])
                            .sum();
                        products[p * self.output.plane + row * padded(outputs) + o] = sum as f32;
                    }
                }
            }
            let mut y = vec![7.5; want.len()];
            let out = y.as_mut_ptr();
            for index in 0..count {
                let job = winograd_output::Job {
                    spec: &self.output,
                    x: products.as_ptr(),
                    vectors: Vectors {
                        bias: self.bias.as_ptr(),
                        scale: self.scale.as_ptr(),
                        slope: self.slope.as_ptr(),
                    },
                    residual: self.residual.as_ptr(),
                    y: out,
                    part: Part { index, count },
                };
                isa.call(layer::SharedCode(job));
            }
            for (got, want) in y.iter().zip(&want) {
                let close = (got - want).abs() <= 2e-5 * (1.0 + want.abs());
                assert!(close, "{got}, not {want}, at {} for {:?}", I::LEVEL.name(), self.output);
            }
        }
    }
}

#[test]
fn both_halves_make_a_convolution() {
    let mut random = Random(7);
    for round in 0..60 {
        let tile = random.pick(&[2, 4]);
        let batch = 1 + random.below(2);
        let (height, width) = (1 + random.below(11), 1 + random.below(13));
        let (inputs, outputs) = (random.pick(&[1, 3, 16, 21, 32]), random.pick(&[1, 5, 16, 24, 40]));
        // Rows `first..first + rows` of an output, which may reach over both edges of the image.
        let first = if round % 2 == 0 { 0 } else { random.below(3) * tile };
        let pads = [random.below(2), random.below(2)];
        let image =
            [1, height + first + 2 - pads[0] - random.below(2), width + 2 - pads[1] - random.below(2)];
        let dense = View::channels_last(batch, [1, image[1] + 2, image[2] + 2], inputs + 5);
        let view = View {
            offset: 3 + dense.strides[1] + dense.strides[2],
            extent: image,
            channels: inputs,
            ..dense
        };
        let x = random.pick(&[View::channels_last(batch, image, inputs), view]);
        let (y, residual) = (
            random.view(batch, [1, height, width], outputs),
            random.view(batch, [1, height, width], outputs),
        );
        let patches = [height.div_ceil(tile), width.div_ceil(tile)];
        let rows = batch * patches[0] * patches[1];
        let gap = 16 * random.below(3);
        let e = epilogue(&mut random);
        let factors = if e.scale == Scale::PerChannel { random.values(outputs) } else { vec![1.0; outputs] };
        let (bias, slope) = (random.values(outputs), random.values(outputs));
        let [bias, scale, slope] = [bias, factors, slope].map(|mut v| {
            v.resize(padded(outputs), 0.0);
            v
        });
        each_level(&mut Check {
            input: WinogradInputSpec { x, pads, tile, first, patches, plane: rows * padded(inputs) + gap },
            output: WinogradOutputSpec {
                y,
                residual,
                tile,
                plane: rows * padded(outputs) + gap,
                epilogue: e,
            },
            x: random.values(x.end()),
            w: random.values(outputs * inputs * 9),
            bias,
            scale,
            slope,
            residual: random.values(residual.end()),
        });
    }
}
