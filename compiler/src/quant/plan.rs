//! Which nodes are quantized, which values get a `QuantizeLinear`/`DequantizeLinear` pair, and which share
//! a scale.

use super::draft::{Draft, Uses, is_op, label};
use super::prepare::Types;
use super::rules::{Role, role};
use std::collections::{BTreeMap, BTreeSet};

/// A quantized node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// How it takes part.
    pub role: Role,
    /// `Add` of constants per column behind a matrix product: its bias.
    pub bias_add: Option<usize>,
    /// The clamp behind it that it computes along.
    pub clamp: Option<usize>,
    /// Results that are quantized: its own, or those of the clamp.
    pub results: Vec<String>,
}

/// What is quantized. Nodes are positions in the draft.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Quantized nodes, clamps and biases that belong to another left out.
    pub members: BTreeMap<usize, Member>,
    /// Positions of those.
    pub fused: BTreeSet<usize>,
    /// By `Add` behind a matrix product: the constant that is its bias.
    pub rows: BTreeMap<usize, String>,
    /// Activations with a pair.
    pub values: BTreeSet<String>,
    /// Nodes with a rule that stay in float, with the reason.
    pub declined: Vec<(String, String)>,
    parents: BTreeMap<String, String>,
}

impl Plan {
    /// Decides. Products are quantized, and all that hangs together with them through results.
    pub fn new(draft: &Draft, types: &Types, keep_float: &BTreeSet<String>) -> Plan {
        let uses = draft.uses();
        let mut declined = Vec::new();
        let mut roles = BTreeMap::new();
        for (i, n) in draft.nodes.iter().enumerate() {
            let rank = n.input.first().and_then(|x| types.floats(x)).map(|s| s.rank());
            let Some(role) = role(n, rank) else { continue };
            match refusal(draft, types, keep_float, i, role) {
                None => drop(roles.insert(i, role)),
                Some(reason) if reason.is_empty() => {}
                Some(reason) => declined.push((label(n).to_owned(), reason)),
            }
        }
        let reached = connected(draft, &uses, &roles);
        roles.retain(|i, _| reached.contains(i));
        let mut plan = Plan { declined, ..Plan::default() };
        for (&i, &role) in &roles {
            if plan.fused.contains(&i) {
                continue;
            }
            let member = plan.member(draft, &uses, types, &roles, i, role);
            plan.members.insert(i, member);
        }
        // A clamp that stands in front of its producer in the file was taken for a node of its own.
        plan.members.retain(|i, _| !plan.fused.contains(i));
        for (i, member) in &plan.members {
            let Some(n) = draft.nodes.get(*i) else { continue };
            let operands = n.input.get(member.role.operands(n)).unwrap_or_default();
            let activations = operands.iter().filter(|x| !draft.constants.contains_key(*x));
            plan.values.extend(activations.chain(&member.results).cloned());
        }
        let same = plan.members.iter().filter(|(_, m)| m.role == Role::Same);
        let pairs: Vec<(String, String)> = same
            .filter_map(|(i, m)| Some((draft.nodes.get(*i)?.input.first()?.clone(), m)))
            .flat_map(|(x, m)| m.results.iter().map(move |y| (x.clone(), y.clone())))
            .collect();
        for (x, y) in pairs {
            plan.share(&x, &y);
        }
        plan
    }

    /// The plan of one member alone: all others stay in float.
    pub fn only(&self, draft: &Draft, i: usize) -> Plan {
        let mut plan = Plan { parents: self.parents.clone(), ..Plan::default() };
        let (Some(member), Some(n)) = (self.members.get(&i), draft.nodes.get(i)) else { return plan };
        let parts = [member.bias_add, member.clamp];
        plan.fused.extend(parts.into_iter().flatten());
        if let Some((add, row)) = member.bias_add.and_then(|a| Some((a, self.rows.get(&a)?))) {
            plan.rows.insert(add, row.clone());
        }
        let operands = n.input.get(member.role.operands(n)).unwrap_or_default();
        let activations = operands.iter().filter(|x| !draft.constants.contains_key(*x));
        plan.values.extend(activations.chain(&member.results).cloned());
        plan.members.insert(i, member.clone());
        plan
    }

    fn member(
        &mut self,
        draft: &Draft,
        uses: &Uses,
        types: &Types,
        roles: &BTreeMap<usize, Role>,
        i: usize,
        role: Role,
    ) -> Member {
        let mut results: Vec<String> = draft
            .nodes
            .get(i)
            .into_iter()
            .flat_map(|n| &n.output)
            .filter(|o| !o.is_empty())
            .cloned()
            .collect();
        let mut member = Member { role, bias_add: None, clamp: None, results: Vec::new() };
        let behind = |results: &[String]| match results {
            [y] => uses.only(y),
            _ => None,
        };
        if let Some((next, operand)) = behind(&results)
            && roles.contains_key(&next)
            && let Some(row) = bias_row(draft, types, i, next, operand)
        {
            member.bias_add = Some(next);
            self.rows.insert(next, row);
        } else if let Some((next, 0)) = behind(&results)
            && role.takes_clamp()
            && roles.get(&next) == Some(&Role::Clamp)
        {
            member.clamp = Some(next);
        }
        let output = |n: usize| draft.nodes.get(n).and_then(|n| n.output.first()).cloned();
        if let Some(add) = member.bias_add {
            results = output(add).into_iter().collect();
            if let Some((next, 0)) = behind(&results)
                && roles.get(&next) == Some(&Role::Clamp)
            {
                member.clamp = Some(next);
            }
        }
        if let Some(clamp) = member.clamp {
            results = output(clamp).into_iter().collect();
        }
        self.fused.extend(member.bias_add.into_iter().chain(member.clamp));
        member.results = results;
        member
    }

    /// Lets two values have one scale.
    pub fn share(&mut self, a: &str, b: &str) {
        let (a, b) = (self.root(a).to_owned(), self.root(b).to_owned());
        if a != b {
            // The smaller name leads, whatever the order of calls.
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            self.parents.insert(high, low);
        }
    }

    /// The value that stands for all that share its scale.
    pub fn root<'p>(&'p self, name: &'p str) -> &'p str {
        let mut at = name;
        while let Some(parent) = self.parents.get(at) {
            at = parent;
        }
        at
    }

    /// Whether a value is written by a quantized node.
    pub fn written_by_member(&self) -> BTreeSet<&str> {
        self.members.values().flat_map(|m| &m.results).map(String::as_str).collect()
    }
}

/// Why a node with a role is not quantized; an empty reason where its types are not of the kind.
fn refusal(
    draft: &Draft,
    types: &Types,
    keep_float: &BTreeSet<String>,
    i: usize,
    role: Role,
) -> Option<String> {
    let n = draft.nodes.get(i)?;
    let constant = |name: &String| draft.constants.contains_key(name);
    let operands = n.input.get(role.operands(n)).unwrap_or_default();
    let floats = operands.iter().chain(&n.output).all(|v| v.is_empty() || types.floats(v).is_some());
    if operands.is_empty() || !floats || operands.iter().all(constant) {
        return Some(String::new());
    }
    if keep_float.contains(label(n)) || n.output.iter().any(|o| keep_float.contains(o)) {
        return Some("`--keep-float`".to_owned());
    }
    let bounds = n.input.get(1..).unwrap_or_default().iter().filter(|b| !b.is_empty());
    if role == Role::Clamp && !bounds.clone().all(constant) {
        return Some("its bounds are not constant".to_owned());
    }
    if matches!(role, Role::Product { bias: true, .. }) {
        let bias = n.input.get(2).filter(|b| !b.is_empty());
        if n.input.get(1).is_none_or(|w| !constant(w)) {
            return Some("its weights are not constant".to_owned());
        }
        if bias.is_some_and(|b| !constant(b)) {
            return Some("its bias is not constant".to_owned());
        }
        // A bias that is not one number per channel is no bias of an integer kernel.
        let count = super::prepare::output_channels(n, n.input.get(1).and_then(|w| types.floats(w))?);
        if bias.is_some_and(|b| types.floats(b).is_none_or(|s| s.rank() != 1 || Some(s.elements()) != count))
        {
            return Some("its bias is not a row".to_owned());
        }
        if is_op(n, "Gemm") && ["alpha", "beta"].iter().any(|a| super::draft::float(n, a, 1.0) != 1.0) {
            return Some("`alpha` or `beta` is not 1".to_owned());
        }
    }
    None
}

/// The constant row that node `next` adds to the matrix product `i` of constant weights.
fn bias_row(draft: &Draft, types: &Types, i: usize, next: usize, operand: usize) -> Option<String> {
    let product = draft.nodes.get(i).filter(|n| is_op(n, "MatMul"))?;
    let sum = draft.nodes.get(next).filter(|n| is_op(n, "Add"))?;
    let weights = draft.constants.get(product.input.get(1)?).filter(|w| w.shape().rank() == 2)?;
    let columns = *weights.shape().dims().last()?;
    let name = sum.input.get(1 - operand.min(1))?;
    let row = draft.constants.get(name)?;
    let rank = types.floats(product.output.first()?)?.rank();
    let fits =
        row.shape().rank() <= rank && row.shape().dims().last() == Some(&columns) && row.len() == columns;
    fits.then(|| name.clone())
}

/// Nodes that products reach through results, forwards and backwards, over nodes that have a role.
fn connected(draft: &Draft, uses: &Uses, roles: &BTreeMap<usize, Role>) -> BTreeSet<usize> {
    let mut edges: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &i in roles.keys() {
        for y in draft.nodes.get(i).into_iter().flat_map(|n| &n.output) {
            for &(reader, operand) in uses.readers(y) {
                let data = roles.get(&reader).zip(draft.nodes.get(reader));
                if data.is_some_and(|(r, n)| r.operands(n).contains(&operand)) {
                    edges.entry(i).or_default().push(reader);
                    edges.entry(reader).or_default().push(i);
                }
            }
        }
    }
    let mut open: Vec<usize> =
        roles.iter().filter(|(_, r)| matches!(r, Role::Product { .. })).map(|(&i, _)| i).collect();
    let mut reached = BTreeSet::new();
    while let Some(i) = open.pop() {
        if reached.insert(i) {
            open.extend(edges.get(&i).into_iter().flatten());
        }
    }
    reached
}
