//! `edgec explain` and `edgec ops`.

use super::args::OpsArgs;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ops::importers;
use std::collections::BTreeMap;

/// Text of `edgec explain [CODE]`.
pub fn explain(code: Option<&str>) -> Result<String, Diagnostics> {
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

/// Text of `edgec ops`.
pub fn ops(args: &OpsArgs) -> String {
    // (domain, operator) → versions of the definition that are implemented.
    let mut table: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
    for importer in importers() {
        table.entry((importer.name.domain, importer.name.op_type)).or_default().push(importer.name.since);
    }
    let domain = |d: &str| if d.is_empty() { "ai.onnx".to_owned() } else { d.to_owned() };
    if args.json {
        let rows: Vec<serde_json::Value> = table
            .iter()
            .map(|((d, op), since)| serde_json::json!({"domain": domain(d), "op_type": op, "since": since}))
            .collect();
        return serde_json::to_string_pretty(&rows).unwrap_or_default();
    }
    let mut out = String::new();
    if args.markdown {
        out.push_str("| domain | operator | versions |\n|---|---|---|\n");
    }
    for ((d, op), since) in &table {
        let versions: Vec<String> = since.iter().map(i64::to_string).collect();
        let line = if args.markdown {
            format!("| {} | {op} | {} |\n", domain(d), versions.join(", "))
        } else {
            format!("{:<14} {op:<28} {}\n", domain(d), versions.join(", "))
        };
        out.push_str(&line);
    }
    if !args.markdown {
        out.push_str(&format!("{} operators\n", table.len()));
    }
    out
}
