//! `edgec explain` and `edgec ops`.

use super::args::OpsArgs;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::frontend::RESOLVED_OPS;
use crate::ops::{INTERNAL, importers};
use std::collections::BTreeMap;

/// All codes as the book prints them.
fn codes_markdown() -> String {
    let mut out = "# Diagnostic codes\n\nPrinted by `edgec explain --markdown`.\n".to_owned();
    for c in Code::ALL {
        out.push_str(&format!("\n## {}: {}\n\n{}\n", c.number(), c.title(), c.explanation()));
    }
    out
}

/// Text of `edgec explain [CODE]`.
pub fn explain(code: Option<&str>, markdown: bool) -> Result<String, Diagnostics> {
    if markdown {
        return Ok(codes_markdown());
    }
    let Some(text) = code else {
        let lines: Vec<String> = Code::ALL.iter().map(|c| format!("{}  {}", c.number(), c.title())).collect();
        return Ok(lines.join("\n"));
    };
    match Code::parse(text) {
        Some(code) => Ok(format!("{}: {}\n\n{}", code.number(), code.title(), code.explanation())),
        None => Err(Diagnostic::error(Code::BadOption, format!("there is no code `{text}`"))
            .with_help("`edgec explain` lists all codes")
            .into()),
    }
}

/// Operator → cases of the ONNX backend suite that pass, and all, as `tests/conformance` counted them.
fn backend_cases() -> BTreeMap<&'static str, (&'static str, &'static str)> {
    let rows = include_str!("conformance.tsv").lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| {
        let mut cells = row.split('\t');
        Some((cells.next()?, (cells.next()?, cells.next()?)))
    })
    .collect()
}

/// Text of `edgec ops`.
pub fn ops(args: &OpsArgs) -> String {
    // (domain, operator) → versions of the definition that are implemented.
    let mut table: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
    for importer in importers().into_iter().filter(|i| i.name.domain != INTERNAL) {
        table.entry((importer.name.domain, importer.name.op_type)).or_default().push(importer.name.since);
    }
    // Constants and control flow are resolved while the file is read; no importer stands for them.
    for (op, versions) in RESOLVED_OPS {
        table.entry(("", op)).or_default().extend(*versions);
    }
    let domain = |d: &str| if d.is_empty() { "ai.onnx".to_owned() } else { d.to_owned() };
    let cases = backend_cases();
    // The suite tests no operators of vendors' domains; some share their names with ONNX's.
    let cases = |d: &str, op: &str| cases.get(op).filter(|_| d.is_empty() || d.starts_with("ai.onnx"));
    if args.json {
        let count = |n: Option<&str>| n.and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
        let rows: Vec<serde_json::Value> = table
            .iter()
            .map(|((d, op), since)| {
                let (passed, all) = cases(d, op).copied().unzip();
                serde_json::json!({
                    "domain": domain(d), "op_type": op, "since": since,
                    "cases_passed": count(passed), "cases": count(all),
                })
            })
            .collect();
        return serde_json::to_string_pretty(&rows).unwrap_or_default();
    }
    let mut out = String::new();
    if args.markdown {
        out.push_str("# Operators\n\nPrinted by `edgec ops --markdown`. A version is the first operator set of a definition. \
             Cases are those of the [ONNX backend suite](conformance.md) that pass through generated code.\n\n");
        out.push_str("| domain | operator | versions | cases |\n|---|---|---|---|\n");
    }
    for ((d, op), since) in &table {
        let versions: Vec<String> = since.iter().map(i64::to_string).collect();
        let cases = cases(d, op).map(|(passed, all)| format!("{passed} of {all}")).unwrap_or_default();
        let line = if args.markdown {
            format!("| {} | {op} | {} | {cases} |\n", domain(d), versions.join(", "))
        } else {
            let line = format!("{:<14} {op:<28} {:<24} {cases}", domain(d), versions.join(", "));
            format!("{}\n", line.trim_end())
        };
        out.push_str(&line);
    }
    if !args.markdown {
        out.push_str(&format!("{} operators\n", table.len()));
    }
    out
}
