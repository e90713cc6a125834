//! Where the pixels of a tile lie: the output's pixels as one sequence, cut into tiles.

use crate::kernels::spatial::Window;
use crate::num::{quotient, remainder};
use crate::spec::{Residual, View};

/// Views and window of a spatial kernel, brought into the form that tiles are placed by: rows of a
/// pointwise kernel that follow one another in all views are joined into one.
pub(crate) struct Geometry {
    window: Window,
    /// Batch, depth, height, width of the output.
    extent: [usize; 4],
    /// Depth, height, width of the input.
    image: [usize; 3],
    x: Strides,
    y: Strides,
    residual: Strides,
    /// The outputs of a row all of whose taps lie inside it.
    inside: (usize, usize),
}

/// Batch, depth, height and width strides, and the first element.
#[derive(Clone, Copy)]
struct Strides {
    offset: usize,
    by: [usize; 4],
}

impl Strides {
    #[inline(always)]
    const fn of(view: &View) -> Strides {
        let [d, h, w] = view.strides;
        Strides { offset: view.offset, by: [view.n_stride, d, h, w] }
    }

    #[inline(always)]
    const fn at(&self, [n, d, h, w]: [usize; 4]) -> usize {
        self.offset + n * self.by[0] + d * self.by[1] + h * self.by[2] + w * self.by[3]
    }

    /// Whether `outer` steps over exactly `width` steps of the width axis.
    #[inline(always)]
    const fn joins(&self, outer: usize, width: usize) -> bool {
        self.by[outer] == width * self.by[3]
    }
}

/// The pixels of a tile.
pub(crate) struct Pixels<const P: usize> {
    /// Pixels of the tile that exist; the others repeat the last of these and are not stored.
    pub(crate) count: usize,
    /// Whether all have the same taps inside the image.
    pub(crate) uniform: bool,
    /// Whether that is all taps.
    pub(crate) whole: bool,
    /// Those taps, `first..last` along each axis.
    pub(crate) taps: [(usize, usize); 3],
    /// Elements from the input's first to each pixel's tap 0, which may lie in front of it.
    pub(crate) x: [isize; P],
    /// Coordinates of each pixel's tap 0, wrapping below 0; only where some tap is outside of the image.
    pub(crate) corner: [[usize; 3]; P],
    /// Elements from the output's first to each pixel.
    pub(crate) y: [usize; P],
    /// Elements from the residual's first to each pixel.
    pub(crate) residual: [usize; P],
}

impl<const P: usize> Pixels<P> {
    pub(crate) const EMPTY: Self = Pixels {
        count: 0,
        uniform: true,
        whole: true,
        taps: [(0, 0); 3],
        x: [0; P],
        corner: [[0; 3]; P],
        y: [0; P],
        residual: [0; P],
    };
}

impl Geometry {
    #[inline(always)]
    pub(crate) fn new(window: &Window, x: &View, y: &View, residual: &View, adds: Residual) -> Geometry {
        let mut extent = [y.batch, y.extent[0], y.extent[1], y.extent[2]];
        let mut image = x.extent;
        let (xs, ys) = (Strides::of(x), Strides::of(y));
        let rs = if matches!(adds, Residual::None) { ys } else { Strides::of(residual) };
        let pointwise =
            matches!((window.kernel, window.stride, window.pads), ([1, 1, 1], [1, 1, 1], [0, 0, 0]));
        if pointwise && image[0] == extent[1] && image[1] == extent[2] && image[2] == extent[3] {
            // Height, then depth, then images, as long as each joins all views.
            for outer in [2, 1, 0] {
                let width = extent[3];
                if extent[outer] > 1 {
                    if !(xs.joins(outer, width) && ys.joins(outer, width) && rs.joins(outer, width)) {
                        break;
                    }
                    extent[3] *= extent[outer];
                    extent[outer] = 1;
                }
            }
            image = [extent[1], extent[2], extent[3]];
        }
        let inside = window.interior(2, extent[3], image[2]);
        Geometry { window: *window, extent, image, x: xs, y: ys, residual: rs, inside }
    }

    /// Number of output pixels.
    #[inline(always)]
    pub(crate) fn pixels(&self) -> usize {
        self.extent[0] * self.extent[1] * self.extent[2] * self.extent[3]
    }

    /// Taps along depth and height that lie inside the image for a row.
    #[inline(always)]
    fn row_taps(&self, d: usize, h: usize) -> [(usize, usize); 2] {
        [self.window.taps(0, d, self.image[0]), self.window.taps(1, h, self.image[1])]
    }

    /// Coordinates of tap 0 of an output.
    #[inline(always)]
    fn corner(&self, [_, d, h, w]: [usize; 4]) -> [usize; 3] {
        let Window { stride, pads, .. } = &self.window;
        [
            (d * stride[0]).wrapping_sub(pads[0]),
            (h * stride[1]).wrapping_sub(pads[1]),
            (w * stride[2]).wrapping_sub(pads[2]),
        ]
    }

    /// Elements from the input's first to tap 0 at `corner` of image `n`.
    #[inline(always)]
    fn input(&self, n: usize, corner: [usize; 3]) -> isize {
        let by = &self.x.by;
        (self.x.offset + n * by[0]) as isize
            + corner[0] as isize * by[1] as isize
            + corner[1] as isize * by[2] as isize
            + corner[2] as isize * by[3] as isize
    }

    /// Places the tile of at most `most ≤ P` pixels that starts at pixel `first` of the sequence.
    #[inline(always)]
    pub(crate) fn place<const P: usize>(&self, first: usize, most: usize, tile: &mut Pixels<P>) {
        let [_, depth, height, width] = self.extent;
        let (row, mut w) = (quotient(first, width), remainder(first, width));
        let (mut n, mut d, mut h) = if row < height {
            (0, 0, row)
        } else {
            {
                let plane = quotient(row, height);
                (quotient(plane, depth), remainder(plane, depth), remainder(row, height))
            }
        };
        let left = self.pixels() - first;
        tile.count = if left < most { left } else { most };
        let rows = self.row_taps(d, h);
        let across = (0, self.window.kernel[2]);
        let all_rows = rows == [(0, self.window.kernel[0]), (0, self.window.kernel[1])];
        if w + P <= width {
            // All in one row: everything moves by one step from pixel to pixel.
            let at = [n, d, h, w];
            let corner = self.corner(at);
            let (x, y, r) = (self.input(n, corner), self.y.at(at), self.residual.at(at));
            let step = self.window.stride[2];
            let x_step = (step * self.x.by[3]) as isize;
            for p in 0..P {
                tile.x[p] = x + p as isize * x_step;
                tile.y[p] = y + p * self.y.by[3];
                tile.residual[p] = r + p * self.residual.by[3];
            }
            let inside = self.inside.0 <= w && w + P <= self.inside.1;
            tile.uniform = inside || P == 1;
            tile.whole = inside && all_rows;
            tile.taps =
                [rows[0], rows[1], if inside { across } else { self.window.taps(2, w, self.image[2]) }];
            if !tile.whole {
                for p in 0..P {
                    tile.corner[p] = [corner[0], corner[1], corner[2].wrapping_add(p * step)];
                }
            }
            return;
        }
        tile.uniform = true;
        tile.taps = [rows[0], rows[1], across];
        for p in 0..P {
            let at = [n, d, h, w];
            let corner = self.corner(at);
            tile.corner[p] = corner;
            tile.x[p] = self.input(n, corner);
            tile.y[p] = self.y.at(at);
            tile.residual[p] = self.residual.at(at);
            tile.uniform &= self.inside.0 <= w && w < self.inside.1;
            if p + 1 < tile.count {
                w += 1;
                if w == width {
                    (w, h) = (0, h + 1);
                    if h == height {
                        (h, d) = (0, d + 1);
                        if d == depth {
                            (d, n) = (0, n + 1);
                        }
                    }
                    tile.uniform &= self.row_taps(d, h) == rows;
                }
            }
        }
        tile.whole = tile.uniform && all_rows;
        if P == 1 {
            tile.taps[2] = self.window.taps(2, w, self.image[2]);
        }
    }
}
