//! Ensembles of decision trees (`ai.onnx.ml`), walked in tables that the compiler lays out.

use crate::loops::{at, put};
use crate::num::{Number, max, min};
use crate::operand::{Bool, Element};

/// An unsigned integer of a table, as small as its values allow.
pub trait Index: Element {
    /// As a position.
    fn index(self) -> usize;
}

macro_rules! indices {
    ($($t:ty),*) => {$(
        impl Index for $t {
            #[inline(always)]
            fn index(self) -> usize {
                self as usize
            }
        }
    )*};
}

indices!(u8, u16, u32);

/// Bit of a node's kind: NaN takes the first branch.
pub const NAN_FIRST: u8 = 8;

/// Joins, for every row of `x: [rows, width]`, the weights of the leaves that it reaches in each tree.
///
/// Node `i` compares `x[feature[i]]` with `split[i]` as `kind[i]` says: 0 ≤, 1 <, 2 ≥, 3 >, 4 =, 5 ≠, plus
/// [`NAN_FIRST`]; one kind stands for all. It goes on at `child[2i]` where that holds, at `child[2i + 1]`
/// where not; from the number of nodes on, children are leaves. `root` is where each tree starts.
///
/// Leaf `l` has weights `l·per_leaf ..`, or, where `per_leaf` is 0, `start[l] .. start[l + 1]`. The target of
/// weight `k` is `target[k]`; a single entry of `target` is that of each leaf's first weight, and the
/// leaf's others follow. Weights of a target join by `combine`: 0 sum, 1 minimum, 2 maximum. `scores` and
/// `reached`, which tells whether there was any weight, are `[rows, targets]`; nothing reached scores 0.
pub fn join<T: Number + Element, F: Index, C: Index, S: Index, G: Index>(
    x: &[T],
    feature: &[F],
    split: &[T],
    kind: &[u8],
    child: &[C],
    root: &[C],
    start: &[S],
    target: &[G],
    weight: &[T],
    scores: &mut [T],
    reached: &mut [Bool],
    width: usize,
    targets: usize,
    per_leaf: usize,
    combine: usize,
) {
    scores.fill(<T as Element>::ZERO);
    reached.fill(Bool(0));
    if width == 0 || targets == 0 {
        return;
    }
    let rows = scores.chunks_exact_mut(targets).zip(reached.chunks_exact_mut(targets));
    for (x, (scores, reached)) in x.chunks_exact(width).zip(rows) {
        for &root in root {
            let leaf = walk(x, feature, split, kind, child, root.index());
            let (from, to) = if per_leaf > 0 {
                (leaf * per_leaf, (leaf + 1) * per_leaf)
            } else {
                (at(start, leaf).index(), at(start, leaf + 1).index())
            };
            for (k, &w) in weight.get(from..to).unwrap_or_default().iter().enumerate() {
                let t = match target {
                    [first] => first.index() + k,
                    all => at(all, from + k).index(),
                };
                let joined = match (reached.get(t), scores.get(t)) {
                    (Some(Bool(0)), _) => w,
                    (_, Some(&s)) if combine == 1 => min(s, w),
                    (_, Some(&s)) if combine == 2 => max(s, w),
                    (_, Some(&s)) => s.add(w),
                    _ => w,
                };
                put(scores, t, joined);
                put(reached, t, Bool(1));
            }
        }
    }
}

/// The leaf that a row reaches from a node. The compiler has made sure that there is no way round; a
/// walk longer than the table ends all the same.
#[inline]
fn walk<T: Number + Element, F: Index, C: Index>(
    x: &[T],
    feature: &[F],
    split: &[T],
    kind: &[u8],
    child: &[C],
    mut node: usize,
) -> usize {
    let nodes = child.len() / 2;
    for _ in 0..nodes {
        if node >= nodes {
            break;
        }
        let v = at(x, at(feature, node).index());
        let s = at(split, node);
        let kind = match kind {
            [all] => *all,
            each => at(each, node),
        };
        let holds = match kind & 7 {
            0 => v <= s,
            1 => v < s,
            2 => v >= s,
            3 => v > s,
            4 => v == s,
            _ => v != s,
        };
        let is_nan = v.partial_cmp(&v).is_none();
        let first = holds || (is_nan && kind & NAN_FIRST != 0);
        node = at(child, 2 * node + usize::from(!first)).index();
    }
    node.saturating_sub(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_reach_leaves_and_weights_join() {
        // Two stumps over two features; leaves 0 and 1 of the first, 2 and 3 of the second.
        let feature = [0u8, 1];
        let split = [0.5f32, 2.0];
        let child = [2u8, 3, 4, 5];
        let x = [0.5, 9.0, 1.0, 2.0, f32::NAN, f32::NAN];
        let weight = [1.0, 2.0, 10.0, 20.0];
        let (mut scores, mut reached) = ([7.0; 3], [Bool(7); 3]);
        let root = [0u8, 1];
        let no = [0u8];
        join(
            &x,
            &feature,
            &split,
            &[0],
            &child,
            &root,
            &no,
            &no,
            &weight,
            &mut scores,
            &mut reached,
            2,
            1,
            1,
            0,
        );
        assert_eq!(scores, [21.0, 12.0, 22.0]);
        join(
            &x,
            &feature,
            &split,
            &[8, 0],
            &child,
            &root,
            &no,
            &no,
            &weight,
            &mut scores,
            &mut reached,
            2,
            1,
            1,
            1,
        );
        assert_eq!(scores, [1.0, 2.0, 1.0]);
        assert_eq!(reached, [Bool(1); 3]);
    }

    #[test]
    fn leaves_hold_several_weights_or_none() {
        // One tree of two leaves: the first has targets 1 and 0, the second nothing.
        let (start, target, weight) = ([0u8, 2, 2], [1u8, 0], [3.0f32, 4.0]);
        let (mut scores, mut reached) = ([7.0; 4], [Bool(7); 4]);
        let x = [0.0f32, 1.0];
        join(
            &x,
            &[0u8],
            &[0.5],
            &[1],
            &[1u8, 2],
            &[0u8],
            &start,
            &target,
            &weight,
            &mut scores,
            &mut reached,
            1,
            2,
            0,
            0,
        );
        assert_eq!((scores, reached), ([4.0, 3.0, 0.0, 0.0], [Bool(1), Bool(1), Bool(0), Bool(0)]));
    }

    #[test]
    fn damaged_tables_end() {
        let (mut scores, mut reached) = ([0.0f32; 1], [Bool(0); 1]);
        join(
            &[0.0f32],
            &[9u8],
            &[0.5],
            &[0],
            &[0u8, 0],
            &[0u8],
            &[0u8],
            &[0u8],
            &[],
            &mut scores,
            &mut reached,
            1,
            1,
            1,
            0,
        );
        assert_eq!(scores, [0.0]);
    }
}
