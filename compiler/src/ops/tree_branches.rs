//! Small ensembles of trees as nested branches: what [`super::tree_sum`] lowers to where that takes fewer bytes than
//! tables and the routine that walks them.
//!
//! Thresholds and weights stay in the blob; only the shape of the trees becomes code.

use super::OpError;
use super::nest::{access, binary, push, read, signed, unary};
use super::tree_sum::{Tables, TreeSum};
use super::typed::literal;
use crate::kernel::Nest;
use crate::kernel::expr::{BinaryFn, CompareFn, Expr, Scalar, UnaryFn};
use crate::kernel::loops::Store;
use crate::schedule::{LowerCx, TensorView};

/// Bytes of an ensemble as code and constants: those of none, and those of each comparison.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    fixed: usize,
    each: usize,
}

impl Bytes {
    const fn of(self, comparisons: usize) -> usize {
        self.fixed + self.each * comparisons
    }
}

// Fitted to whole firmwares for Cortex-M4F, x86-64 and WebAssembly (docs/internals/measurements.md): on each of them the
// lines cross between 20 and 35 comparisons, so that one pair serves all targets.
const BRANCHES: Bytes = Bytes { fixed: 90, each: 22 };
const TABLES: Bytes = Bytes { fixed: 540, each: 6 };

/// Lowers the sums to nested branches; `false`, and nothing is done, where tables are smaller or where what a leaf adds
/// depends on the way to it.
pub(super) fn lower(op: &TreeSum, cx: &mut LowerCx<'_>) -> Result<bool, OpError> {
    let constants: Vec<_> = (0..9).map(|i| cx.constant(i)).collect();
    let tables = Tables::read(op, &constants)?;
    let most = (TABLES.fixed - BRANCHES.fixed) / (BRANCHES.each - TABLES.each);
    if tables.nodes() > most || tables.root.len() > most || op.targets > most {
        return Ok(false);
    }
    let Some((dtype, &[rows, _])) = cx.input_type(0).map(|(dtype, shape)| (dtype, shape.dims())) else {
        return Err(OpError::internal("rows of another rank"));
    };
    let mut trees = Trees { op, tables: &tables, elements: Vec::new(), comparisons: 0 };
    let mut sums = Vec::with_capacity(op.targets);
    for target in 0..op.targets {
        match trees.sum(target, most)? {
            Sum::Of(sum) => sums.push(sum),
            Sum::Unfit => return Ok(false),
        }
    }
    if BRANCHES.of(trees.comparisons) > TABLES.of(tables.nodes()) {
        return Ok(false);
    }

    let (x, split, weight) = (cx.read(0)?, cx.read_dense(2)?, cx.read_dense(8)?);
    let mut reads = Vec::with_capacity(trees.elements.len());
    for element in &trees.elements {
        reads.push(match *element {
            Element::Feature(i) => read(&x, along(&x, 1, i)?, vec![stride(&x, 0)?])?,
            Element::Split(i) => read(&split, along(&split, 0, i)?, vec![0])?,
            Element::Weight(i) => read(&weight, along(&weight, 0, i)?, vec![0])?,
        });
    }
    let reached: Vec<Expr> = sums.iter().map(|sum| Expr::Const(Scalar::Bool(sum.is_some()))).collect();
    let sums: Vec<Expr> = sums.into_iter().map(|sum| sum.unwrap_or_else(|| literal(dtype, 0.0))).collect();
    let mut stores = Vec::new();
    for (result, values) in [(0, sums), (1, reached)] {
        if cx.output_type(result).is_none() {
            continue;
        }
        let to = cx.write(result)?;
        for (t, value) in values.into_iter().enumerate() {
            stores.push(Store { access: access(&to, along(&to, 1, t)?, vec![stride(&to, 0)?])?, value });
        }
    }
    push(cx, Nest { extents: vec![rows], reduce: 0, reads, reductions: Vec::new(), stores });
    Ok(true)
}

fn stride(view: &TensorView, axis: usize) -> Result<isize, OpError> {
    view.strides.get(axis).copied().ok_or_else(|| OpError::internal("a view of another rank"))
}

/// Distance of entry `i` along an axis.
fn along(view: &TensorView, axis: usize, i: usize) -> Result<isize, OpError> {
    Ok(signed(i)?.saturating_mul(stride(view, axis)?))
}

/// What a nest of branches reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Feature(usize),
    Split(usize),
    Weight(usize),
}

/// The sum of a target as an expression.
enum Sum {
    /// `None` where no tree weighs the target.
    Of(Option<Expr>),
    /// Some leaves of a tree weigh the target and others don't, or twice, or there are too many comparisons.
    Unfit,
}

struct Trees<'t> {
    op: &'t TreeSum,
    tables: &'t Tables,
    /// What the expressions read, by number.
    elements: Vec<Element>,
    /// In all expressions together.
    comparisons: usize,
}

impl Trees<'_> {
    /// The sum of a target, with at most so many comparisons together with those before.
    fn sum(&mut self, target: usize, most: usize) -> Result<Sum, OpError> {
        let join = match self.op.combine {
            0 => BinaryFn::Add,
            1 => BinaryFn::Min,
            _ => BinaryFn::Max,
        };
        let mut sum: Option<Expr> = None;
        for &root in &self.tables.root {
            match self.tree(root, target, most)? {
                Sum::Unfit => return Ok(Sum::Unfit),
                Sum::Of(None) => {}
                Sum::Of(Some(tree)) => {
                    sum = Some(match sum {
                        Some(sum) => binary(join, sum, tree),
                        None => tree,
                    });
                }
            }
        }
        Ok(Sum::Of(sum))
    }

    /// What a tree adds to a target from here on. The depth is bounded by `most`.
    fn tree(&mut self, at: usize, target: usize, most: usize) -> Result<Sum, OpError> {
        if at >= self.tables.nodes() {
            let leaf = self.tables.leaf(at)?;
            let mut weights = leaf.into_iter().filter(|&(t, _)| t == target).map(|(_, i)| i);
            return Ok(match (weights.next(), weights.next()) {
                (None, _) => Sum::Of(None),
                // The minimum and the maximum of the tables take a NaN for no weight.
                (Some(i), None) if !self.tables.weight(i)?.is_nan() => {
                    Sum::Of(Some(self.element(Element::Weight(i))))
                }
                _ => Sum::Unfit,
            });
        }
        if self.comparisons >= most {
            return Ok(Sum::Unfit);
        }
        self.comparisons += 1;
        let node = self.tables.node(at)?;
        let (x, split) = (self.element(Element::Feature(node.feature)), self.element(Element::Split(at)));
        let holds = match self.tree(node.holds, target, most)? {
            Sum::Unfit => return Ok(Sum::Unfit),
            Sum::Of(holds) => holds,
        };
        let fails = match self.tree(node.fails, target, most)? {
            Sum::Unfit => return Ok(Sum::Unfit),
            Sum::Of(fails) => fails,
        };
        Ok(match (holds, fails) {
            (Some(holds), Some(fails)) => {
                let condition = condition(node.kind, node.nan_first, x, split);
                Sum::Of(Some(Expr::Select(Box::new(condition), Box::new(holds), Box::new(fails))))
            }
            (None, None) => Sum::Of(None),
            _ => Sum::Unfit,
        })
    }

    fn element(&mut self, element: Element) -> Expr {
        let known = self.elements.iter().position(|&e| e == element);
        Expr::Read(known.unwrap_or_else(|| {
            self.elements.push(element);
            self.elements.len() - 1
        }))
    }
}

/// Whether the first branch is taken, as `rt::routines::trees::join` numbers the kinds.
fn condition(kind: usize, nan_first: bool, x: Expr, split: Expr) -> Expr {
    let compare = |f: CompareFn, x: Expr| Expr::Compare(f, Box::new(x), Box::new(split));
    let holds = match kind {
        0 => compare(CompareFn::LessOrEqual, x.clone()),
        1 => compare(CompareFn::Less, x.clone()),
        2 => compare(CompareFn::GreaterOrEqual, x.clone()),
        3 => compare(CompareFn::Greater, x.clone()),
        4 => compare(CompareFn::Equal, x.clone()),
        _ => unary(UnaryFn::Not, compare(CompareFn::Equal, x.clone())),
    };
    // What is unequal holds for NaN by itself.
    match nan_first && kind < 5 {
        true => binary(BinaryFn::Or, unary(UnaryFn::IsNaN, x), holds),
        false => holds,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lowered_tests::Case;
    use super::super::typed::from_floats;
    use super::*;
    use crate::ir::{DType, Shape, Tensor};
    use crate::kernel::Kernel;
    use crate::onnx::Attr;
    use crate::schedule::{Schedule, ScheduleOptions, lower};

    /// Trees of random shapes, as tables.
    struct Forest {
        dtype: DType,
        targets: usize,
        per_leaf: usize,
        combine: usize,
        tables: [Tensor; 8],
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % n
        }
    }

    impl Forest {
        /// `trees` trees of `each` comparisons of 4 columns; with `sparse`, leaves may lack targets.
        fn random(seed: u64, trees: usize, each: usize, targets: usize, sparse: bool, dtype: DType) -> Self {
            let mut r = Random(seed);
            let (nodes, mut leaves) = (trees * each, 0);
            let mut child = vec![0u16; 2 * nodes];
            let mut roots = Vec::new();
            for tree in 0..trees {
                let first = tree * each;
                let mut open = Vec::new();
                let place = |open: &mut Vec<usize>, node: usize| {
                    open.extend([2 * node, 2 * node + 1]);
                };
                if each > 0 {
                    roots.push(first as u16);
                    place(&mut open, first);
                }
                for node in first + 1..first + each {
                    let slot = open.swap_remove(r.below(open.len()));
                    child[slot] = node as u16;
                    place(&mut open, node);
                }
                if each == 0 {
                    roots.push((nodes + leaves) as u16);
                    leaves += 1;
                }
                for slot in open {
                    child[slot] = (nodes + leaves) as u16;
                    leaves += 1;
                }
            }
            let mut floats = |n: usize| {
                let values: Vec<f64> = (0..n.max(1)).map(|_| r.below(9) as f64 / 2.0 - 2.0).collect();
                from_floats(dtype, [n.max(1)], values).unwrap()
            };
            let split = floats(nodes);
            let mut start = vec![0u16];
            let mut target = Vec::new();
            for leaf in 0..leaves {
                target.extend((0..targets as u16).filter(|&t| !sparse || (leaf + usize::from(t)) % 3 != 0));
                start.push(target.len() as u16);
            }
            let weight = floats(target.len());
            let list = |n: usize, below: usize, r: &mut Random| -> Vec<u8> {
                (0..n.max(1)).map(|_| r.below(below) as u8).collect()
            };
            let feature = list(nodes, 4, &mut r);
            let kind: Vec<u8> =
                list(nodes, 12, &mut r).into_iter().map(|k| if k < 6 { k } else { k + 2 }).collect();
            let regular = !sparse;
            let tables = [
                Tensor::vector(&feature),
                split,
                Tensor::vector(&kind),
                Tensor::vector(if nodes == 0 { &[] } else { child.as_slice() }),
                Tensor::vector(&roots),
                Tensor::vector(&start),
                Tensor::vector(if regular { &[0u16] } else { target.as_slice() }),
                weight,
            ];
            let per_leaf = if regular { targets } else { 0 };
            Forest { dtype, targets, per_leaf, combine: seed as usize % 3, tables }
        }

        fn check(&self) {
            let x = (0..24).map(|i| match i % 7 {
                3 => f64::NAN,
                k => (k * 5 % 9) as f64 / 2.0 - 2.0,
            });
            let x = from_floats(self.dtype, [6, 4], x.collect::<Vec<_>>()).unwrap();
            let mut operands = vec![(&x, false)];
            operands.extend(self.tables.iter().map(|t| (t, true)));
            let attrs = [("targets", self.targets), ("per_leaf", self.per_leaf), ("combine", self.combine)];
            let attrs = attrs.map(|(name, n)| (name, Attr::Int(n as i64)));
            let op = "edgec.internal.TreeSum";
            Case { op, opset: 21, attrs: &attrs, operands: &operands, results: 2 }.check();
        }

        fn lowered(&self) -> Schedule {
            let mut graph = crate::ops::Graph::new("trees");
            let x = graph.add_input("x", self.dtype, [6, 4].into());
            let tables = self.tables.iter().map(|t| Some(graph.add_constant("k", t.clone())));
            let inputs: Vec<_> = std::iter::once(Some(x)).chain(tables.collect::<Vec<_>>()).collect();
            let op = TreeSum { targets: self.targets, per_leaf: self.per_leaf, combine: self.combine };
            let outputs = vec![Some(("y".to_owned(), self.dtype, Shape::from([6, self.targets]))), None];
            let id = graph.add_node(op.into(), inputs, outputs, vec![crate::ir::Origin::default()]);
            let y = graph.node(id).unwrap().outputs[0].unwrap();
            graph.outputs = vec![("y".to_owned(), y)];
            lower(&graph, &ScheduleOptions::default()).unwrap()
        }

        /// Whether the trees become branches.
        fn branches(&self) -> bool {
            matches!(self.lowered().steps[0].kernel, Kernel::Loops(_))
        }
    }

    #[test]
    fn both_forms_give_the_reference_sums() {
        let mut forms = [0; 2];
        for seed in 0..48 {
            let dtype = if seed % 2 == 0 { DType::F32 } else { DType::F64 };
            let (trees, each) = (1 + seed as usize % 3, [0, 1, 3, 7, 12][seed as usize % 5]);
            let forest = Forest::random(seed, trees, each, 1 + seed as usize / 24, seed % 8 == 7, dtype);
            forest.check();
            forms[usize::from(forest.branches())] += 1;
        }
        assert!(forms.iter().all(|&n| n >= 10), "tables and branches: {forms:?}");
    }

    #[test]
    fn the_smaller_form_is_taken() {
        for (trees, each, branches) in
            [(1, 1, true), (1, 15, true), (3, 5, true), (1, 40, false), (8, 7, false)]
        {
            let forest = Forest::random(3, trees, each, 1, false, DType::F32);
            assert_eq!(forest.branches(), branches, "{trees} trees of {each} comparisons");
        }
        // Every target has comparisons of its own.
        assert!(Forest::random(3, 1, 7, 3, false, DType::F32).branches());
        assert!(!Forest::random(3, 1, 7, 6, false, DType::F32).branches());
    }

    #[test]
    fn leaves_that_lack_a_target_keep_the_tables() {
        assert!(!Forest::random(1, 1, 3, 2, true, DType::F32).branches());
    }
}
