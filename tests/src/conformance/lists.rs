//! `cases.tsv` and `exclusions.tsv`.

use std::collections::BTreeMap;

/// How a case counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// In scope, ordinary element types.
    Core,
    /// In scope: bfloat16, 8-, 4- and 2-bit types, `ai.onnx.ml`, `ai.onnx.preview`.
    Extended,
    /// Outputs whose size depends on data; extra.
    Bounded,
    /// Not run.
    Out,
}

impl Tier {
    fn parse(text: &str) -> Option<Tier> {
        Some(match text {
            "core" => Tier::Core,
            "extended" => Tier::Extended,
            "bounded" => Tier::Bounded,
            "out" => Tier::Out,
            _ => return None,
        })
    }
}

/// A line of `cases.tsv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The suite's name.
    pub name: String,
    /// Tested operator, or `composite`.
    pub op: String,
    /// How it counts.
    pub tier: Tier,
}

/// All cases, in the file's order.
pub fn cases(text: &str) -> Result<Vec<Case>, String> {
    rows(text)
        .map(|(at, row)| match row.splitn(4, '\t').collect::<Vec<_>>()[..] {
            [name, op, tier, ..] => {
                let tier = Tier::parse(tier).ok_or_else(|| format!("line {at}: unknown tier `{tier}`"))?;
                Ok(Case { name: name.to_owned(), op: op.to_owned(), tier })
            }
            _ => Err(format!("line {at}: expected name, operator and tier")),
        })
        .collect()
}

/// Cases that are expected to fail, with the reason.
pub type Exclusions = BTreeMap<String, String>;

/// `name<TAB>reason` lines; a reason is required.
pub fn exclusions(text: &str) -> Result<Exclusions, String> {
    let mut list = Exclusions::new();
    for (at, row) in rows(text) {
        let Some((name, reason)) = row.split_once('\t').filter(|(_, r)| !r.trim().is_empty()) else {
            return Err(format!("line {at}: expected name and reason"));
        };
        if list.insert(name.to_owned(), reason.trim().to_owned()).is_some() {
            return Err(format!("line {at}: `{name}` is listed twice"));
        }
    }
    Ok(list)
}

fn rows(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    lines.filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_lists_fit_each_other() {
        let cases = cases(include_str!("../../conformance/cases.tsv")).expect("a valid list");
        let count = |t: Tier| cases.iter().filter(|c| c.tier == t).count();
        assert_eq!((count(Tier::Core), count(Tier::Extended), count(Tier::Bounded)), (1700, 204, 23));
        let excluded = exclusions(include_str!("../../conformance/exclusions.tsv")).expect("a valid list");
        for name in excluded.keys() {
            assert!(cases.iter().any(|c| c.name == *name && c.tier != Tier::Out), "{name} is no case");
        }
    }

    #[test]
    fn a_reason_is_required() {
        assert!(exclusions("# why\ntest_a\tbecause\n").is_ok());
        assert!(exclusions("test_a\n").is_err());
        assert!(exclusions("test_a\t \n").is_err());
        assert!(exclusions("test_a\tx\ntest_a\ty\n").is_err());
    }
}
