//! Counts of a run, and the pages made of them.

use super::judge::Outcome;
use super::lists::{Case, Exclusions, Tier};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Cases of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed at every level, something having been computed at run time.
    pub computed: usize,
    /// Passed, the whole output being known at compile time.
    pub folded: usize,
    /// All.
    pub total: usize,
}

impl Counts {
    /// Passed in either way.
    pub fn passed(self) -> usize {
        self.computed + self.folded
    }

    fn add(&mut self, outcome: Option<&Outcome>) {
        self.total += 1;
        match outcome {
            Some(o) if o.passed && o.folded => self.folded += 1,
            Some(o) if o.passed => self.computed += 1,
            _ => {}
        }
    }
}

/// Counts of the cases of some tiers.
pub fn counts(cases: &[Case], outcomes: &BTreeMap<String, Outcome>, tiers: &[Tier]) -> Counts {
    let mut out = Counts::default();
    cases.iter().filter(|c| tiers.contains(&c.tier)).for_each(|c| out.add(outcomes.get(&c.name)));
    out
}

/// Operator → counts of its cases in scope.
pub fn by_operator(cases: &[Case], outcomes: &BTreeMap<String, Outcome>) -> BTreeMap<String, Counts> {
    let mut out: BTreeMap<String, Counts> = BTreeMap::new();
    for case in cases.iter().filter(|c| c.tier != Tier::Out) {
        out.entry(case.op.clone()).or_default().add(outcomes.get(&case.name));
    }
    out
}

/// The totals, a line each.
pub fn summary(cases: &[Case], outcomes: &BTreeMap<String, Outcome>) -> String {
    let mut out = String::new();
    for (what, tiers) in [
        ("core", &[Tier::Core] as &[Tier]),
        ("in scope (core and extended)", &[Tier::Core, Tier::Extended]),
        ("data-dependent sizes, extra", &[Tier::Bounded]),
    ] {
        let c = counts(cases, outcomes, tiers);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{what}: {} of {} passed, {} of these folded to a constant",
            c.passed(),
            c.total,
            c.folded
        );
    }
    out
}

/// The book's page.
pub fn page(cases: &[Case], outcomes: &BTreeMap<String, Outcome>, exclusions: &Exclusions) -> String {
    let mut out = "# Conformance\n\n\
        Cases of the ONNX backend suite (pip package `onnx`, release in `tests/conformance/requirements.txt`) that pass \
        through generated code at the levels `scalar` and `v3`, each within the suite's own tolerances. Printed by \
        `cargo run --release -p edgec-tests --bin conformance -- --bless`; `.ci/run` fails where a case and this page \
        disagree. A case whose whole output was known at compile time is counted as folded. Only inputs that decide \
        shapes are bound as constants; `tests/conformance/cases.tsv` names them.\n\n"
        .to_owned();
    for line in summary(cases, outcomes).lines() {
        let _ = writeln!(out, "- {line}");
    }
    out.push_str("\n| operator | computed | folded | cases |\n|---|---:|---:|---:|\n");
    for (op, c) in by_operator(cases, outcomes) {
        let _ = writeln!(out, "| {op} | {} | {} | {} |", c.computed, c.folded, c.total);
    }
    if !exclusions.is_empty() {
        out.push_str("\n## Cases that do not pass\n\n| case | reason |\n|---|---|\n");
        for (name, reason) in exclusions {
            let _ = writeln!(out, "| {name} | {} |", reason.replace('|', "\\|"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::cases;

    #[test]
    fn folded_cases_are_counted_apart() {
        let cases = cases("a\tX\tcore\nb\tX\tcore\nc\tY\textended\nd\tY\tbounded\n").unwrap();
        let outcome = |passed, folded| Outcome { passed, folded, message: String::new() };
        let outcomes: BTreeMap<String, Outcome> =
            [("a", outcome(true, false)), ("b", outcome(true, true)), ("c", outcome(false, false))]
                .map(|(n, o)| (n.to_owned(), o))
                .into();
        let all = counts(&cases, &outcomes, &[Tier::Core, Tier::Extended]);
        assert_eq!(all, Counts { computed: 1, folded: 1, total: 3 });
        assert_eq!(all.passed(), 2);
        assert_eq!(by_operator(&cases, &outcomes)["Y"], Counts { total: 2, ..Counts::default() });
        assert!(page(&cases, &outcomes, &Exclusions::new()).contains("| X | 1 | 1 | 2 |"));
    }
}
