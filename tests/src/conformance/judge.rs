//! What a run of the suite means, given the lists.

use super::lists::{Case, Exclusions, Tier};
use std::collections::BTreeMap;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// At every level that was asked for.
    pub passed: bool,
    /// The whole output was known at compile time.
    pub folded: bool,
    /// What went wrong.
    pub message: String,
}

/// A run against the lists. Each list holds lines for people; the run is good when all are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Failed, but not excluded.
    pub failed: Vec<String>,
    /// Excluded, but passed.
    pub passed: Vec<String>,
    /// In the list of cases, but not run.
    pub missing: Vec<String>,
}

impl Judgement {
    /// Whether all went as the lists say.
    pub fn good(&self) -> bool {
        *self == Judgement::default()
    }
}

/// Holds outcomes against the exclusions. `chosen` says which cases were meant to run.
pub fn judge(
    cases: &[Case],
    exclusions: &Exclusions,
    outcomes: &BTreeMap<String, Outcome>,
    chosen: impl Fn(&str) -> bool,
) -> Judgement {
    let mut out = Judgement::default();
    for case in cases.iter().filter(|c| c.tier != Tier::Out && chosen(&c.name)) {
        let name = case.name.clone();
        match (outcomes.get(&case.name), exclusions.contains_key(&case.name)) {
            (None, _) => out.missing.push(name),
            (Some(o), true) if o.passed => out.passed.push(name),
            (Some(o), false) if !o.passed => out.failed.push(format!("{name}\t{}", first_line(&o.message))),
            _ => {}
        }
    }
    out
}

/// Without the code that opens a diagnostic.
fn first_line(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default().trim();
    match line.split_once("]: ") {
        Some((code, rest)) if code.starts_with("error[") => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{cases, exclusions};

    #[test]
    fn listed_cases_must_fail_and_others_pass() {
        let cases = cases("a\tX\tcore\nb\tX\tcore\nc\tX\textended\nd\tX\tout\twhy\ne\tX\tcore\n").unwrap();
        let list = exclusions("b\tslow\nc\tsmall\n").unwrap();
        let outcome = |passed| Outcome { passed, folded: false, message: "error[E0101]: no\nmore".into() };
        let outcomes = [("a", false), ("b", true), ("c", false)].map(|(n, p)| (n.to_owned(), outcome(p)));
        let found = judge(&cases, &list, &outcomes.into(), |_| true);
        assert_eq!(found.failed, ["a\tno"]);
        assert_eq!(found.passed, ["b"]);
        assert_eq!(found.missing, ["e"]);
        assert!(!found.good());
    }
}
