//! Decision trees as the attributes of `ai.onnx.ml` operators describe them, and as tables.

use super::OpError;
use super::composite::{INTERNAL, Script};
use super::typed::from_floats;
use crate::ir::{DType, Tensor};
use crate::onnx::AttrReader;
use std::collections::HashMap;

/// Where a branch leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Node(usize),
    Leaf(usize),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Node {
    pub feature: usize,
    pub split: f64,
    /// As `rt::routines::trees` numbers them, without the bit for NaN.
    pub kind: u8,
    /// NaN goes where the comparison holds.
    pub nan_first: bool,
    pub holds: Next,
    pub fails: Next,
}

/// An ensemble.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Forest {
    pub nodes: Vec<Node>,
    pub roots: Vec<Next>,
    /// Targets and weights of each leaf.
    pub leaves: Vec<Vec<(usize, f64)>>,
}

/// Which of a target's scores exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    Always,
    Never,
    Sometimes,
}

fn misfit(what: &str) -> OpError {
    OpError::invalid(format!("the lists of tree attributes do not fit: {what}"))
}

/// A list of floats, or the tensor of doubles that may stand for it.
pub(super) fn numbers(attrs: &mut AttrReader<'_>, name: &str) -> Result<Vec<f64>, OpError> {
    let tensor = attrs.tensor(&format!("{name}_as_tensor"))?;
    let list = attrs.floats(name)?;
    match (tensor, list) {
        (Some(t), _) => {
            t.to_f64_vec().ok_or_else(|| OpError::invalid(format!("`{name}_as_tensor` is no numbers")))
        }
        (None, list) => Ok(list.unwrap_or_default().into_iter().map(f64::from).collect()),
    }
}

impl Forest {
    /// From the attributes of `TreeEnsembleClassifier` (`prefix` "class") and `TreeEnsembleRegressor` ("target").
    pub(super) fn read(attrs: &mut AttrReader<'_>, prefix: &str) -> Result<Self, OpError> {
        let mut ints =
            |name: &str| -> Result<Vec<i64>, OpError> { Ok(attrs.ints(name)?.unwrap_or_default()) };
        let [trees, ids, features] =
            [ints("nodes_treeids")?, ints("nodes_nodeids")?, ints("nodes_featureids")?];
        let [holds, fails] = [ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?];
        let tracks = ints("nodes_missing_value_tracks_true")?;
        let leaf_lists = ["treeids", "nodeids", "ids"].map(|n| ints(&format!("{prefix}_{n}")));
        let [w_trees, w_nodes, w_targets] = leaf_lists;
        let (w_trees, w_nodes, w_targets) = (w_trees?, w_nodes?, w_targets?);
        let splits = numbers(attrs, "nodes_values")?;
        let weights = numbers(attrs, &format!("{prefix}_weights"))?;
        attrs.ignore("nodes_hitrates");
        attrs.ignore("nodes_hitrates_as_tensor");
        let modes = attrs.texts("nodes_modes")?.unwrap_or_default();

        let count = ids.len();
        let lengths = [trees.len(), features.len(), holds.len(), fails.len(), splits.len(), modes.len()];
        if lengths.iter().any(|&n| n != count) || !(tracks.is_empty() || tracks.len() == count) {
            return Err(misfit("one per node"));
        }
        if [w_trees.len(), w_nodes.len(), w_targets.len()].iter().any(|&n| n != weights.len()) {
            return Err(misfit("one per weight"));
        }
        let mut by_id: HashMap<(i64, i64), usize> = HashMap::with_capacity(count);
        for (i, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
            if by_id.insert(key, i).is_some() {
                return Err(OpError::invalid(format!("node {} of tree {} stands twice", key.1, key.0)));
            }
        }
        let mut raw = Raw { nodes: Vec::with_capacity(count), leaves: Vec::new() };
        let mut has_parent = vec![false; count];
        let mut leaf_of: HashMap<usize, usize> = HashMap::new();
        for i in 0..count {
            if modes[i] == "LEAF" {
                leaf_of.insert(i, raw.leaves.len());
                raw.nodes.push(RawNode::Leaf(raw.leaves.len()));
                raw.leaves.push(Vec::new());
                continue;
            }
            let kind = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
                .iter()
                .position(|m| *m == modes[i])
                .ok_or_else(|| OpError::invalid(format!("`nodes_modes` holds `{}`", modes[i])))?;
            let mut child = |id: i64| {
                let at = *by_id.get(&(trees[i], id)).ok_or_else(|| misfit("a branch leads nowhere"))?;
                has_parent[at] = true;
                Ok::<_, OpError>(at)
            };
            raw.nodes.push(RawNode::Branch {
                feature: usize::try_from(features[i]).map_err(|_| misfit("a feature is negative"))?,
                split: splits[i],
                kind: kind as u8,
                nan_first: tracks.get(i).is_some_and(|&t| t != 0),
                holds: child(holds[i])?,
                fails: child(fails[i])?,
            });
        }
        for (i, &w) in weights.iter().enumerate() {
            let node = by_id.get(&(w_trees[i], w_nodes[i])).ok_or_else(|| misfit("a weight without node"))?;
            let target = usize::try_from(w_targets[i]).map_err(|_| misfit("a target is negative"))?;
            // Weights at inner nodes are never reached.
            if let Some(leaf) = leaf_of.get(node).and_then(|&l| raw.leaves.get_mut(l)) {
                leaf.push((target, w));
            }
        }
        let roots = (0..count).filter(|&i| !has_parent[i]).collect::<Vec<_>>();
        let forest = raw.forest(&roots)?;
        // A node that no root leads to has a parent, and that one too.
        if forest.nodes.len() + forest.leaves.len() < count {
            return Err(OpError::invalid("a tree leads back to its own node"));
        }
        Ok(forest)
    }

    /// From the attributes of `TreeEnsemble`.
    pub(super) fn read_v5(attrs: &mut AttrReader<'_>) -> Result<Self, OpError> {
        let mut ints =
            |name: &str| -> Result<Vec<i64>, OpError> { Ok(attrs.ints(name)?.unwrap_or_default()) };
        let [features, roots, targets] =
            [ints("nodes_featureids")?, ints("tree_roots")?, ints("leaf_targetids")?];
        let [holds, fails] = [ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?];
        let [hold_leaf, fail_leaf] = [ints("nodes_trueleafs")?, ints("nodes_falseleafs")?];
        let tracks = ints("nodes_missing_value_tracks_true")?;
        let mut floats = |name: &str| -> Result<Vec<f64>, OpError> {
            let tensor = attrs.tensor(name)?;
            let values = tensor.map(|t| t.to_f64_vec().ok_or_else(|| misfit(name))).transpose()?;
            Ok(values.unwrap_or_default())
        };
        let [splits, weights, members] =
            [floats("nodes_splits")?, floats("leaf_weights")?, floats("membership_values")?];
        let modes = floats("nodes_modes")?;
        attrs.ignore("nodes_hitrates");
        let count = features.len();
        let lengths = [holds.len(), fails.len(), hold_leaf.len(), fail_leaf.len(), splits.len(), modes.len()];
        if lengths.iter().any(|&n| n != count) || !(tracks.is_empty() || tracks.len() == count) {
            return Err(misfit("one per node"));
        }
        if targets.len() != weights.len() {
            return Err(misfit("one target per leaf"));
        }
        let mut raw = Raw { nodes: Vec::with_capacity(count + weights.len()), leaves: Vec::new() };
        // Sets of members stand behind one another, each ended by NaN.
        let mut sets = members.split(|v| v.is_nan());
        let mut more = Vec::new();
        for i in 0..count {
            let child = |id: i64, leaf: i64| {
                let most = if leaf != 0 { weights.len() } else { count };
                let id =
                    usize::try_from(id).ok().filter(|&id| id < most).ok_or_else(|| misfit("a branch"))?;
                Ok::<_, OpError>(if leaf != 0 { count + id } else { id })
            };
            let branch = |split: f64, kind: u8, fails: usize, holds: usize| {
                let feature = usize::try_from(features[i]).map_err(|_| misfit("a feature is negative"))?;
                let nan_first = tracks.get(i).is_some_and(|&t| t != 0);
                Ok::<_, OpError>(RawNode::Branch { feature, split, kind, nan_first, holds, fails })
            };
            let (holds, fails) = (child(holds[i], hold_leaf[i])?, child(fails[i], fail_leaf[i])?);
            if modes[i] != 6.0 {
                let kind = (0..6u8).find(|&k| f64::from(k) == modes[i]).ok_or_else(|| misfit("a mode"))?;
                raw.nodes.push(branch(splits[i], kind, fails, holds)?);
                continue;
            }
            // Membership is a chain of equalities that share where they lead.
            let set = sets.next().filter(|s| !s.is_empty()).ok_or_else(|| misfit("a set of members"))?;
            let mut next = fails;
            for (k, &member) in set.iter().enumerate().rev() {
                let node = branch(member, 4, next, holds)?;
                if k == 0 {
                    raw.nodes.push(node);
                } else {
                    next = count + weights.len() + more.len();
                    more.push(node);
                }
            }
        }
        for (i, (&target, &w)) in targets.iter().zip(&weights).enumerate() {
            let target = usize::try_from(target).map_err(|_| misfit("a target is negative"))?;
            raw.nodes.push(RawNode::Leaf(i));
            raw.leaves.push(vec![(target, w)]);
        }
        raw.nodes.append(&mut more);
        let roots = roots.into_iter().map(|r| usize::try_from(r).map_err(|_| misfit("a root")));
        raw.forest(&roots.collect::<Result<Vec<_>, _>>()?)
    }

    /// Whether features and targets lie inside their bounds.
    pub(super) fn check(&self, width: usize, targets: usize) -> Result<(), OpError> {
        if let Some(n) = self.nodes.iter().find(|n| n.feature >= width) {
            return Err(OpError::invalid(format!("a tree reads feature {} of {width}", n.feature)));
        }
        match self.leaves.iter().flatten().find(|(t, _)| *t >= targets) {
            Some((t, _)) => Err(OpError::invalid(format!("a leaf weighs target {t} of {targets}"))),
            None => Ok(()),
        }
    }

    /// Whether every row gets a weight for a target.
    pub(super) fn reached(&self, target: usize) -> Reached {
        let has = |l: usize| self.leaves.get(l).is_some_and(|l| l.iter().any(|(t, _)| *t == target));
        if !(0..self.leaves.len()).any(has) {
            return Reached::Never;
        }
        // A tree all of whose leaves weigh the target decides. Branches may share where they lead, so that each
        // node is looked at once, after what is below it.
        let mut known: Vec<Option<bool>> = vec![None; self.nodes.len()];
        let known_of = |known: &[Option<bool>], next: Next| match next {
            Next::Leaf(l) => Some(has(l)),
            Next::Node(n) => known.get(n).copied().unwrap_or(Some(false)),
        };
        for &root in &self.roots {
            let mut pending = vec![root];
            while let Some(&next) = pending.last() {
                let Next::Node(n) = next else { break };
                let (Some(node), None) = (self.nodes.get(n), known_of(&known, next)) else {
                    pending.pop();
                    continue;
                };
                match (known_of(&known, node.holds), known_of(&known, node.fails)) {
                    (Some(a), Some(b)) => {
                        if let Some(entry) = known.get_mut(n) {
                            *entry = Some(a && b);
                        }
                        pending.pop();
                    }
                    (None, _) => pending.push(node.holds),
                    (_, None) => pending.push(node.fails),
                }
            }
            if known_of(&known, root) == Some(true) {
                return Reached::Always;
            }
        }
        Reached::Sometimes
    }

    /// Adds the sums of all trees over rows `x`: scores and, where asked for, whether each was reached.
    pub(super) fn sums(
        &self,
        s: &mut Script,
        x: &str,
        dtype: DType,
        targets: usize,
        combine: usize,
    ) -> Result<(String, String), OpError> {
        let nodes = self.nodes.len();
        let number = |n: &Next| match *n {
            Next::Node(n) => n,
            Next::Leaf(l) => nodes + l,
        };
        let children: Vec<usize> =
            self.nodes.iter().flat_map(|n| [number(&n.holds), number(&n.fails)]).collect();
        let roots: Vec<usize> = self.roots.iter().map(number).collect();
        let widest = children.iter().chain(&roots).copied().max().unwrap_or(0);
        let kinds: Vec<usize> =
            self.nodes.iter().map(|n| usize::from(n.kind) + if n.nan_first { 8 } else { 0 }).collect();
        let kinds = uniform(kinds);
        let per_leaf = match self.leaves.first().map(Vec::len) {
            Some(n) if n > 0 && self.leaves.iter().all(|l| l.len() == n) => n,
            _ => 0,
        };
        let flat: Vec<(usize, f64)> = self.leaves.iter().flatten().copied().collect();
        let mut starts = vec![0];
        if per_leaf == 0 {
            let mut end = 0;
            starts.extend(self.leaves.iter().map(|l| {
                end += l.len();
                end
            }));
        }
        // Targets that follow one another from the same first one need no list.
        let first = flat.first().map_or(0, |(t, _)| *t);
        let regular = per_leaf > 0 && flat.chunks(per_leaf).all(|l| (first..).zip(l).all(|(t, w)| t == w.0));
        let targets_of: Vec<usize> =
            if regular { vec![first] } else { flat.iter().map(|(t, _)| *t).collect() };
        // A list of one entry means a rule: a single weight gets a second entry.
        let targets_of = match targets_of.as_slice() {
            [only] if !regular => vec![*only, 0],
            _ => targets_of,
        };
        let features: Vec<usize> = self.nodes.iter().map(|n| n.feature).collect();
        let floats = |v: Vec<f64>| {
            let v = if v.is_empty() { vec![0.0] } else { v };
            from_floats(dtype, [v.len()], v)
        };
        let tables = [
            smallest(&features, 0)?,
            floats(self.nodes.iter().map(|n| n.split).collect())?,
            Tensor::vector(&kinds.iter().map(|&k| k as u8).collect::<Vec<_>>()),
            smallest(&children, widest)?,
            smallest(&roots, widest)?,
            smallest(&starts, 0)?,
            smallest(&targets_of, 0)?,
            floats(flat.iter().map(|(_, w)| *w).collect())?,
        ];
        let tables: Vec<String> = tables.into_iter().map(|t| s.tensor(t)).collect();
        let operands: Vec<&str> = std::iter::once(x).chain(tables.iter().map(String::as_str)).collect();
        let op =
            format!("{INTERNAL}.TreeSum <targets = {targets}, per_leaf = {per_leaf}, combine = {combine}>");
        let mut results = s.ops(&op, &operands, 2);
        let reached = results.pop().unwrap_or_default();
        Ok((results.pop().unwrap_or_default(), reached))
    }
}

/// One entry where all are equal.
fn uniform(list: Vec<usize>) -> Vec<usize> {
    match list.split_first() {
        Some((first, rest)) if rest.iter().all(|v| v == first) => vec![*first],
        Some(_) => list,
        None => vec![0],
    }
}

/// A vector of the smallest unsigned type that holds `least` and every entry; one entry at least.
fn smallest(list: &[usize], least: usize) -> Result<Tensor, OpError> {
    let list = if list.is_empty() { &[0] } else { list };
    let most = list.iter().copied().max().unwrap_or(0).max(least);
    let narrow = |v: &usize| u32::try_from(*v).map_err(|_| OpError::Limit("a tree is too large".to_owned()));
    let wide = list.iter().map(narrow).collect::<Result<Vec<u32>, _>>()?;
    Ok(match most {
        0..=0xff => Tensor::vector(&wide.iter().map(|&v| v as u8).collect::<Vec<_>>()),
        0x100..=0xffff => Tensor::vector(&wide.iter().map(|&v| v as u16).collect::<Vec<_>>()),
        _ => Tensor::vector(&wide),
    })
}

/// Nodes as the file numbers them, leaves among them.
struct Raw {
    nodes: Vec<RawNode>,
    leaves: Vec<Vec<(usize, f64)>>,
}

enum RawNode {
    Branch { feature: usize, split: f64, kind: u8, nan_first: bool, holds: usize, fails: usize },
    Leaf(usize),
}

impl Raw {
    /// What the roots reach, numbered in the order in which a walk meets it. Ways round are refused.
    fn forest(self, roots: &[usize]) -> Result<Forest, OpError> {
        #[derive(Clone, Copy)]
        enum Step {
            Enter(usize),
            Leave(usize),
        }
        let mut out = Forest::default();
        let mut place: Vec<Option<Next>> = vec![None; self.nodes.len()];
        let mut open = vec![false; self.nodes.len()];
        let mut order = Vec::new();
        for &root in roots {
            let mut pending = vec![Step::Enter(root)];
            while let Some(step) = pending.pop() {
                let at = match step {
                    Step::Leave(at) => {
                        open[at] = false;
                        continue;
                    }
                    Step::Enter(at) => at,
                };
                match self.nodes.get(at) {
                    None => return Err(misfit("a root")),
                    Some(_) if open[at] => return Err(OpError::invalid("a tree leads back to its own node")),
                    Some(_) if place[at].is_some() => {}
                    Some(RawNode::Leaf(l)) => {
                        place[at] = Some(Next::Leaf(out.leaves.len()));
                        out.leaves.push(self.leaves.get(*l).cloned().unwrap_or_default());
                    }
                    Some(RawNode::Branch { holds, fails, .. }) => {
                        place[at] = Some(Next::Node(order.len()));
                        order.push(at);
                        open[at] = true;
                        pending.extend([Step::Leave(at), Step::Enter(*fails), Step::Enter(*holds)]);
                    }
                }
            }
        }
        let found = |at: usize| place.get(at).copied().flatten().ok_or_else(|| misfit("a branch"));
        for at in order {
            if let Some(&RawNode::Branch { feature, split, kind, nan_first, holds, fails }) =
                self.nodes.get(at)
            {
                let (holds, fails) = (found(holds)?, found(fails)?);
                out.nodes.push(Node { feature, split, kind, nan_first, holds, fails });
            }
        }
        out.roots = roots.iter().map(|&r| found(r)).collect::<Result<_, _>>()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(holds: usize, fails: usize) -> RawNode {
        RawNode::Branch { feature: 0, split: 0.5, kind: 0, nan_first: false, holds, fails }
    }

    #[test]
    fn ways_round_are_refused_and_shared_leaves_are_not() {
        let round =
            Raw { nodes: vec![branch(1, 2), branch(0, 2), RawNode::Leaf(0)], leaves: vec![vec![(0, 1.0)]] };
        assert!(round.forest(&[0]).is_err());
        let shared =
            Raw { nodes: vec![branch(1, 2), branch(2, 2), RawNode::Leaf(0)], leaves: vec![vec![(0, 1.0)]] };
        let forest = shared.forest(&[0]).unwrap();
        assert_eq!((forest.nodes.len(), forest.leaves.len()), (2, 1));
        assert_eq!(forest.reached(0), Reached::Always);
        assert_eq!(forest.reached(1), Reached::Never);
    }

    #[test]
    fn shared_branches_are_walked_once() {
        // Sixty nodes both of whose branches lead to the next: 2^60 ways to the leaf.
        let mut nodes: Vec<RawNode> = (1..=60).map(|i| branch(i, i)).collect();
        nodes.push(RawNode::Leaf(0));
        let forest = Raw { nodes, leaves: vec![vec![(0, 1.0), (1, 2.0)]] }.forest(&[0]).unwrap();
        assert_eq!((forest.nodes.len(), forest.leaves.len()), (60, 1));
        assert_eq!([0, 1, 2].map(|t| forest.reached(t)), [Reached::Always, Reached::Always, Reached::Never]);
        // A second leaf that some rows reach, which lacks the target.
        let nodes = vec![branch(1, 2), branch(2, 3), RawNode::Leaf(0), RawNode::Leaf(1)];
        let some = Raw { nodes, leaves: vec![vec![(0, 1.0)], vec![(1, 1.0)]] }.forest(&[0]).unwrap();
        assert_eq!(some.reached(0), Reached::Sometimes);
    }

    #[test]
    fn tables_take_the_smallest_type() {
        assert_eq!(smallest(&[], 0).unwrap(), Tensor::vector(&[0u8]));
        assert_eq!(smallest(&[1, 255], 256).unwrap(), Tensor::vector(&[1u16, 255]));
        assert_eq!(smallest(&[70_000], 0).unwrap(), Tensor::vector(&[70_000u32]));
    }
}
