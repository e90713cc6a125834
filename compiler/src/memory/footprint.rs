//! Which elements of its operands a kernel touches: runs of equal length at equal distances.
//!
//! Exact for dense values, rows of images, channel parts of concatenations and interiors of haloed images;
//! where it cannot be exact it covers more, never less.

use crate::kernel::spec::{MatMulSpec, View};
use crate::kernel::{Access, EpilogueOperands, Kernel, Loops, Operand};
use crate::schedule::TensorView;
use edgec_runtime::pack;

/// `rows` runs of `run` elements, one every `pitch`, from `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// First element.
    pub start: usize,
    /// Elements of a run.
    pub run: usize,
    /// Elements from one run to the next; `run` where there is one run.
    pub pitch: usize,
    /// Number of runs; 0 for nothing.
    pub rows: usize,
}

/// What a kernel does to one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Buffer or constant.
    pub operand: Operand,
    /// Its elements.
    pub footprint: Footprint,
    /// Whether they are written, or read.
    pub write: bool,
}

impl Footprint {
    /// No element.
    pub const NOTHING: Footprint = Footprint { start: 0, run: 0, pitch: 0, rows: 0 };

    /// `len` elements from `start`.
    pub fn dense(start: usize, len: usize) -> Self {
        if len == 0 { Self::NOTHING } else { Footprint { start, run: len, pitch: len, rows: 1 } }
    }

    /// Positions `offset + Σ stride·i` for `i < extent` over all loops.
    pub fn of_loops(offset: usize, loops: impl IntoIterator<Item = (usize, isize)>) -> Self {
        let mut start = offset;
        let mut levels = Vec::new();
        for (extent, stride) in loops {
            if extent == 0 {
                return Self::NOTHING;
            }
            if stride < 0 {
                start = start.saturating_sub((extent - 1).saturating_mul(stride.unsigned_abs()));
            }
            if extent > 1 && stride != 0 {
                levels.push((stride.unsigned_abs(), extent));
            }
        }
        levels.sort_unstable();
        let mut print = Self::dense(start, 1);
        for (stride, extent) in levels {
            print.repeat(stride, extent);
        }
        print
    }

    /// Repeats all of it `extent` times every `stride`, which is not below any stride so far.
    fn repeat(&mut self, stride: usize, extent: usize) {
        let end = self.end() - self.start;
        if self.rows == 1 {
            if stride <= self.run {
                *self = Self::dense(self.start, (extent - 1) * stride + self.run);
            } else {
                (self.pitch, self.rows) = (stride, extent);
            }
        } else if stride.is_multiple_of(self.pitch) && self.through(stride, extent) <= end * extent {
            self.rows = self.through(stride, extent) / self.run;
        } else if end < stride {
            // Runs that stand close, as every other channel of a part: taken as one.
            (self.run, self.pitch, self.rows) = (end, stride, extent);
        } else {
            *self = Self::dense(self.start, (extent - 1) * stride + end);
        }
        if self.rows > 1 && self.run >= self.pitch {
            *self = Self::dense(self.start, self.end() - self.start);
        }
    }

    /// Elements of runs at the same pitch all the way through `extent` repetitions every `stride`.
    fn through(&self, stride: usize, extent: usize) -> usize {
        (self.rows + (extent - 1) * (stride / self.pitch)) * self.run
    }

    /// One past the last element; `start` where there is none.
    pub fn end(&self) -> usize {
        if self.rows == 0 { self.start } else { self.start + (self.rows - 1) * self.pitch + self.run }
    }

    /// Whether it is one run.
    pub fn is_dense(&self) -> bool {
        self.rows <= 1
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.rows * self.run
    }

    /// The same from first to last without gaps.
    pub fn hull(&self) -> Self {
        Self::dense(self.start, self.end() - self.start)
    }

    /// Whether both may touch one element. Exact where one has no gaps or both have one pitch.
    pub fn meets(&self, other: &Footprint) -> bool {
        if self.rows == 0 || other.rows == 0 || self.start >= other.end() || other.start >= self.end() {
            return false;
        }
        let pitch = match (self.is_dense(), other.is_dense()) {
            (true, true) => return true,
            (true, false) => other.pitch,
            (false, true) => self.pitch,
            (false, false) if self.pitch == other.pitch => self.pitch,
            (false, false) => return true,
        } as i128;
        // Runs i of self and j of other share an element iff -other.run < apart + (j - i)·pitch < self.run.
        let apart = other.start as i128 - self.start as i128;
        let least = (-(other.run as i128) + 1 - apart).div_euclid(pitch)
            + i128::from((-(other.run as i128) + 1 - apart).rem_euclid(pitch) != 0);
        let most = (self.run as i128 - 1 - apart).div_euclid(pitch);
        least.max(1 - self.rows as i128) <= most.min(other.rows as i128 - 1)
    }
}

/// Elements of a view.
pub fn of_view(view: &TensorView) -> Footprint {
    Footprint::of_loops(view.offset, view.shape.iter().copied().zip(view.strides.iter().copied()))
}

/// Elements of a spatial view.
pub fn of_spatial(view: &View) -> Footprint {
    let signed = |s: usize| isize::try_from(s).unwrap_or(isize::MAX);
    let space = view.extent.iter().zip(&view.strides).map(|(&d, &s)| (d, signed(s)));
    let rest = [(view.batch, signed(view.n_stride)), (view.channels, signed(view.c_stride))];
    Footprint::of_loops(view.offset, space.chain(rest))
}

/// Everything a kernel touches; `len` gives an operand's number of elements, for kernels that use all of it.
pub fn of_kernel(kernel: &Kernel, len: impl Fn(Operand) -> usize) -> Vec<Touch> {
    let all = |operand: Operand| Footprint::dense(0, len(operand));
    let read = |operand: Operand, footprint| Touch { operand, footprint, write: false };
    let write = |operand: Operand, footprint| Touch { operand, footprint, write: true };
    let epilogue = |e: &EpilogueOperands, residual: Footprint| {
        let mut list: Vec<Touch> =
            [e.bias, e.scale, e.slope].into_iter().flatten().map(|o| read(o, all(o))).collect();
        list.extend(e.residual.map(|o| read(o, residual)));
        list
    };
    match kernel {
        Kernel::Conv { spec, x, w, epilogue: e, y } => {
            let mut list = vec![read(*x, of_spatial(&spec.x)), read(*w, all(*w))];
            list.extend(epilogue(e, of_spatial(&spec.residual)));
            list.push(write(*y, of_spatial(&spec.y)));
            list
        }
        Kernel::Depthwise { spec, x, w, epilogue: e, y } => {
            let mut list = vec![read(*x, of_spatial(&spec.x)), read(*w, all(*w))];
            list.extend(epilogue(e, of_spatial(&spec.residual)));
            list.push(write(*y, of_spatial(&spec.y)));
            list
        }
        Kernel::ConvI8(k) | Kernel::DepthwiseI8(k) => {
            let mut list = vec![read(k.x, of_spatial(&k.spec.x))];
            list.extend(k.w.map(|w| read(w, all(w))));
            list.push(read(k.numbers, all(k.numbers)));
            list.extend(k.residual.map(|o| read(o, of_spatial(&k.spec.residual))));
            list.push(write(k.y, of_spatial(&k.spec.y)));
            list
        }
        Kernel::MatMul { spec, a, w, epilogue: e, y } => {
            let [left, result, residual] = of_matmul(spec);
            let mut list = vec![read(*a, left), read(*w, all(*w))];
            list.extend(epilogue(e, residual));
            list.push(write(*y, result));
            list
        }
        Kernel::Pool { spec, x, y } => {
            vec![read(*x, of_spatial(&spec.x)), write(*y, of_spatial(&spec.y))]
        }
        Kernel::Softmax { spec, x, y } => {
            let dense = Footprint::dense(0, spec.outer * spec.len * spec.inner);
            vec![read(*x, dense), write(*y, dense)]
        }
        Kernel::Norm { spec, x, scale, bias, y } => {
            let dense = Footprint::dense(0, spec.rows * spec.len);
            let mut list = vec![read(*x, dense)];
            list.extend([*scale, *bias].into_iter().flatten().map(|o| read(o, all(o))));
            list.push(write(*y, dense));
            list
        }
        Kernel::Recurrent(r) => {
            let s = &r.spec;
            let signed = |s: usize| isize::try_from(s).unwrap_or(isize::MAX);
            let y = [(s.steps, signed(s.y_step)), (s.batch, signed(s.y_batch)), (s.hidden, 1)];
            let y = Footprint::of_loops(s.y_offset, y);
            let state =
                Footprint::of_loops(s.state_offset, [(s.batch, signed(s.state_batch)), (s.hidden, 1)]);
            let mut list = vec![read(r.x, all(r.x)), read(r.r, all(r.r))];
            list.extend(r.bias.map(|o| read(o, all(o))));
            list.extend([r.first_h, r.first_c].into_iter().flatten().map(|o| read(o, state)));
            list.extend(r.y.map(|o| write(o, y)));
            list.extend([r.last_h, r.last_c].into_iter().flatten().map(|o| write(o, state)));
            list.push(write(r.state, all(r.state)));
            list
        }
        Kernel::Pack { spec, x, y } => {
            let signed = |s: usize| isize::try_from(s).unwrap_or(isize::MAX);
            let loops = [
                (spec.batch, signed(spec.batch_stride)),
                (spec.k, signed(spec.k_stride)),
                (spec.n, signed(spec.n_stride)),
            ];
            vec![read(*x, Footprint::of_loops(spec.offset, loops)), write(*y, all(*y))]
        }
        Kernel::WinogradInput { spec, x, y } => {
            let channels = pack::padded(spec.x.channels);
            // With what lies between planes, which products of few channels are taken to read.
            let planes = of_planes(spec.tile, spec.plane, spec.rows(), channels, channels).hull();
            vec![read(*x, of_spatial(&spec.x)), write(*y, planes)]
        }
        Kernel::WinogradOutput { spec, x, epilogue: e, y } => {
            let channels = spec.y.channels;
            let planes = of_planes(spec.tile, spec.plane, spec.rows(), pack::padded(channels), channels);
            let mut list = vec![read(*x, planes)];
            list.extend(epilogue(e, of_spatial(&spec.residual)));
            list.push(write(*y, of_spatial(&spec.y)));
            list
        }
        Kernel::Loops(loops) => of_nests(loops),
        Kernel::Routine(r) => {
            let reads = r.reads.iter().map(|&o| read(o, all(o)));
            reads.chain(r.writes.iter().map(|&o| write(o, all(o)))).collect()
        }
        Kernel::Custom(c) => {
            let reads = c.reads.iter().map(|&o| read(o, all(o)));
            reads.chain(c.writes.iter().map(|&o| write(o, all(o)))).collect()
        }
    }
}

/// Left-hand side, result and residual.
fn of_matmul(s: &MatMulSpec) -> [Footprint; 3] {
    let signed = |s: usize| isize::try_from(s).unwrap_or(isize::MAX);
    let matrix = |offset, columns, row, batch| {
        Footprint::of_loops(offset, [(s.batch, signed(batch)), (s.m, signed(row)), (columns, 1)])
    };
    [
        matrix(s.a_offset, s.k, s.a_stride, s.a_batch),
        matrix(s.y_offset, s.n, s.y_stride, s.y_batch),
        matrix(s.r_offset, s.n, s.r_stride, s.r_batch),
    ]
}

/// Planes of `rows` rows of `channels`, a row every `pitch`.
fn of_planes(tile: usize, plane: usize, rows: usize, pitch: usize, channels: usize) -> Footprint {
    let signed = |s: usize| isize::try_from(s).unwrap_or(isize::MAX);
    let planes = (tile + 2) * (tile + 2);
    Footprint::of_loops(0, [(planes, signed(plane)), (rows, signed(pitch)), (channels, 1)])
}

fn of_nests(loops: &Loops) -> Vec<Touch> {
    let mut list = Vec::new();
    for nest in &loops.nests {
        let outer = nest.extents.len().saturating_sub(nest.reduce);
        let of = |access: &Access, extents: &[usize]| {
            Footprint::of_loops(access.offset, extents.iter().copied().zip(access.strides.iter().copied()))
        };
        for r in &nest.reads {
            let operand = r.access.operand;
            // An index read at run time is clamped to its axis.
            let loops = nest.extents.iter().copied().zip(r.access.strides.iter().copied());
            let gathers = r.gather.iter().map(|g| (g.extent, g.stride));
            let footprint = Footprint::of_loops(r.access.offset, loops.chain(gathers));
            list.push(Touch { operand, footprint, write: false });
        }
        for s in &nest.stores {
            let footprint = of(&s.access, nest.extents.get(..outer).unwrap_or(&[]));
            list.push(Touch { operand: s.access.operand, footprint, write: true });
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements of a footprint, one by one.
    fn elements(f: &Footprint) -> Vec<usize> {
        (0..f.rows).flat_map(|r| (0..f.run).map(move |i| f.start + r * f.pitch + i)).collect()
    }

    #[test]
    fn known_shapes_are_exact() {
        assert_eq!(Footprint::of_loops(5, [(4, 12), (3, 4), (4, 1)]), Footprint::dense(5, 48));
        // A channel part of an image: 4 of 10 channels.
        let part = Footprint::of_loops(3, [(2, 60), (6, 10), (4, 1)]);
        assert_eq!(part, Footprint { start: 3, run: 4, pitch: 10, rows: 12 });
        // The interior of a haloed image.
        let inside = Footprint::of_loops(21, [(4, 18), (4, 3), (3, 1)]);
        assert_eq!(inside, Footprint { start: 21, run: 12, pitch: 18, rows: 4 });
        // Backwards.
        assert_eq!(Footprint::of_loops(7, [(8, -1)]), Footprint::dense(0, 8));
        assert_eq!(Footprint::of_loops(7, [(0, 1), (4, 9)]), Footprint::NOTHING);
    }

    #[test]
    fn footprints_cover_their_loops_and_meet_as_sets_do() {
        let mut seed = 1u32;
        let mut next = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % n
        };
        for _ in 0..3000 {
            let mut one = || {
                let loops: Vec<(usize, isize)> =
                    (0..3).map(|_| (1 + next(4) as usize, next(13) as isize)).collect();
                let offset = next(20) as usize;
                let mut places = vec![offset];
                for &(d, s) in &loops {
                    places = places.iter().flat_map(|&p| (0..d).map(move |i| p + i * s as usize)).collect();
                }
                let print = Footprint::of_loops(offset, loops);
                let covered = elements(&print);
                assert!(places.iter().all(|p| covered.contains(p)), "{print:?} misses some of {places:?}");
                print
            };
            let (a, b) = (one(), one());
            let shared = elements(&a).iter().any(|x| elements(&b).contains(x));
            let exact = a.is_dense() || b.is_dense() || a.pitch == b.pitch;
            assert!(a.meets(&b) || !shared, "{a:?} and {b:?} share elements");
            assert!(!exact || a.meets(&b) == shared, "{a:?} and {b:?}");
        }
    }
}
