//! Runs the ONNX backend suite through generated code and holds it against the committed lists.
//!
//! ```text
//! cargo run --release -p edgec-tests --bin conformance -- [OPTIONS]
//!   --suite DIR      cases exported before (default: exported now, to target/conformance)
//!   --only TEXT      cases whose name contains this; several are separated by commas
//!   --levels LIST    default: scalar,v3
//!   --json FILE      keep what `edgec verify` reported
//!   --report FILE    judge such a report instead of running anything
//!   --bless          take passing cases off the exclusions, write the counts and the book's page
//! ```
//!
//! `EDGEC` names a compiler to use instead of building one. The exit status is 1 where a case that is not
//! excluded fails, or one that is excluded passes, or the written counts are stale.

use edgec_tests::conformance::{
    Case, Exclusions, Judgement, Outcome, by_operator, cases, exclusions, judge, page, summary,
};
use edgec_tests::{compiler, root};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

const EXCLUSIONS: &str = "tests/conformance/exclusions.tsv";
const COUNTS: &str = "compiler/src/cli/conformance.tsv";
const PAGE: &str = "docs/reference/conformance.md";

#[derive(Debug, Default)]
struct Options {
    suite: Option<PathBuf>,
    only: Option<String>,
    levels: Option<String>,
    json: Option<PathBuf>,
    report: Option<PathBuf>,
    bless: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut out = Options::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} takes a value"));
            match word.as_str() {
                "--suite" => out.suite = Some(value()?.into()),
                "--only" => out.only = Some(value()?),
                "--levels" => out.levels = Some(value()?),
                "--json" => out.json = Some(value()?.into()),
                "--report" => out.report = Some(value()?.into()),
                "--bless" => out.bless = true,
                _ => return Err(format!("unknown option {word}")),
            }
        }
        if out.bless && out.only.is_some() {
            return Err("--bless needs the whole suite".to_owned());
        }
        Ok(out)
    }

    fn chosen(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only.split(',').any(|part| name.contains(part)))
    }
}

fn main() -> ExitCode {
    let run = Options::parse(std::env::args().skip(1)).map_err(Into::into).and_then(|o| run(&o));
    match run {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).map_err(|e| format!("{path}: {e}"));
    let cases = cases(&read("tests/conformance/cases.tsv")?)?;
    let listed = exclusions(&read(EXCLUSIONS)?)?;
    let report = match &options.report {
        Some(path) => path.clone(),
        None => verify(options)?,
    };
    let outcomes = outcomes(&std::fs::read_to_string(&report)?)?;
    let mut judgement = judge(&cases, &listed, &outcomes, |name| options.chosen(name));
    let listed = if options.bless { bless(&cases, listed, &outcomes, &mut judgement)? } else { listed };
    print_table(&cases, &outcomes);
    print!("{}", summary(&cases, &outcomes));
    let mut good = judgement.good();
    print_judgement(&judgement);
    if options.only.is_none() {
        for (path, text) in
            [(COUNTS, counts_file(&cases, &outcomes)), (PAGE, page(&cases, &outcomes, &listed))]
        {
            if read(path).is_ok_and(|old| old == text) {
                continue;
            }
            if options.bless {
                std::fs::write(root().join(path), text)?;
                println!("written: {path}");
            } else {
                println!("stale: {path} (run with --bless)");
                good = false;
            }
        }
    }
    Ok(good)
}

/// Exports the suite where no folder was named, and lets `edgec verify` run it; returns its report.
fn verify(options: &Options) -> Result<PathBuf, Box<dyn Error>> {
    let work = root().join("target/conformance");
    let suite = match &options.suite {
        Some(dir) => dir.clone(),
        None => export(&work.join("cases"))?,
    };
    let json = options.json.clone().unwrap_or_else(|| work.join("report.json"));
    if let Some(parent) = json.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let _ = std::fs::remove_file(&json);
    let start = Instant::now();
    let mut command = Command::new(compiler()?);
    command.arg("verify").arg("--suite").arg(&suite).arg("--json").arg(&json);
    command.args(["--level", options.levels.as_deref().unwrap_or("scalar,v3")]);
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    // Its own lines and status say less than the report.
    let output = command.output()?;
    if !json.is_file() {
        return Err(format!("edgec verify: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    println!("ran in {:.0} s", start.elapsed().as_secs_f64());
    Ok(json)
}

fn export(dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let script = root().join("tests/conformance/export.py");
    let status =
        Command::new("python3").arg(script).arg(dir).status().map_err(|e| format!("python3: {e}"))?;
    if status.success() { Ok(dir.to_owned()) } else { Err(format!("exporting the suite: {status}").into()) }
}

/// From the report of `edgec verify --json`.
fn outcomes(report: &str) -> Result<BTreeMap<String, Outcome>, Box<dyn Error>> {
    let report: serde_json::Value = serde_json::from_str(report)?;
    let cases = report["cases"].as_array().ok_or("the report lists no cases")?;
    let outcome = |case: &serde_json::Value| Outcome {
        passed: case["status"] == "passed",
        folded: case["folded"] == true,
        message: case["message"].as_str().unwrap_or_default().to_owned(),
    };
    Ok(cases.iter().map(|c| (c["name"].as_str().unwrap_or_default().to_owned(), outcome(c))).collect())
}

/// Takes cases that pass off the list.
fn bless(
    cases: &[Case],
    mut listed: Exclusions,
    outcomes: &BTreeMap<String, Outcome>,
    judgement: &mut Judgement,
) -> Result<Exclusions, Box<dyn Error>> {
    let path = root().join(EXCLUSIONS);
    let text = std::fs::read_to_string(&path)?;
    listed.retain(|name, _| !judgement.passed.contains(name));
    let keep = |line: &&str| {
        line.split_once('\t').is_none_or(|(name, _)| line.starts_with('#') || listed.contains_key(name))
    };
    let kept: Vec<&str> = text.lines().filter(keep).collect();
    std::fs::write(&path, kept.join("\n") + "\n")?;
    *judgement = judge(cases, &listed, outcomes, |_| true);
    Ok(listed)
}

fn counts_file(cases: &[Case], outcomes: &BTreeMap<String, Outcome>) -> String {
    let mut out =
        "# Cases of the ONNX backend suite: operator, passed, all. Written by `conformance --bless`.\n"
            .to_owned();
    for (op, c) in by_operator(cases, outcomes).iter().filter(|(op, _)| *op != "composite") {
        out.push_str(&format!("{op}\t{}\t{}\n", c.passed(), c.total));
    }
    out
}

fn print_table(cases: &[Case], outcomes: &BTreeMap<String, Outcome>) {
    println!("{:<32} {:>8} {:>8} {:>8}", "operator", "computed", "folded", "cases");
    for (op, c) in by_operator(cases, outcomes) {
        let mark = if c.passed() < c.total { "  <" } else { "" };
        println!("{op:<32} {:>8} {:>8} {:>8}{mark}", c.computed, c.folded, c.total);
    }
}

fn print_judgement(judgement: &Judgement) {
    for (what, lines) in [
        ("failed, though not excluded", &judgement.failed),
        ("passed, though excluded (--bless takes them off the list)", &judgement.passed),
        ("not run", &judgement.missing),
    ] {
        if !lines.is_empty() {
            println!("{} {what}:", lines.len());
            lines.iter().for_each(|line| println!("  {line}"));
        }
    }
}
