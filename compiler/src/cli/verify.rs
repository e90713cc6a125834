//! `edgec verify`: the generated code against recorded outputs.

use super::args::VerifyArgs;
use super::cases::{Ready, cases, prepare};
use super::compare::{Difference, compare};
use super::data::SampleSet;
use super::diverge::Probe;
use super::packages::{Packages, in_parallel};
use super::progress::Progress;
use crate::config::Config;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::{DType, Tensor};
use crate::pipeline::Compiled;
use serde::Serialize;
use std::collections::BTreeMap;

/// Cases compiled before they are handed on: few enough that their weights fit in memory together.
const BATCH: usize = 32;

/// Failed cases whose first diverging node is looked for: each is built again.
const MOST_LOOKED_INTO: usize = 4;

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Passed,
    Failed,
    Unsupported,
    Error,
}

/// One case's line of the report; field names are a contract.
#[derive(Debug, Clone, Serialize)]
struct CaseReport {
    name: String,
    status: Status,
    /// The whole output was known at compile time.
    folded: bool,
    max_abs_err: f64,
    max_rel_err: f64,
    /// Kernel calls.
    steps: usize,
    message: String,
    first_diverging_node: Option<String>,
    levels: Vec<&'static str>,
    /// Level and sample of the first failure.
    #[serde(skip)]
    failed_at: Option<&'static str>,
    #[serde(skip)]
    failed_set: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    unsupported: usize,
    cases: Vec<CaseReport>,
}

/// The command.
pub fn verify(args: &VerifyArgs) -> Result<(), Diagnostics> {
    let base = args.model.config()?;
    let cases = cases(args)?;
    if cases.is_empty() {
        return Err(Diagnostic::error(Code::BadOption, "no case found")
            .with_help("a case is a folder with a model.onnx and set_0/input_0.npy, output_0.npy")
            .into());
    }
    let mut reports: BTreeMap<usize, CaseReport> = BTreeMap::new();
    let mut packages = Packages::new(args.build_dir.as_deref(), base.clone(), args.threads)?;
    let mut ready = Vec::new();
    let progress = Progress::count("compiling", cases.len());
    for (b, batch) in cases.chunks(BATCH).enumerate() {
        let prepared = in_parallel(batch, |(_, case)| {
            case.as_ref().map_err(Clone::clone).and_then(|case| prepare(case, args, &base))
        });
        for (k, (prepared, (name, _))) in prepared.into_iter().zip(batch).enumerate() {
            let i = b * BATCH + k;
            progress.step();
            match prepared {
                Ok((r, compiled)) if args.interpret => {
                    reports.insert(i, interpret(&r, &compiled));
                }
                Ok((r, compiled)) => {
                    packages.add(i, compiled);
                    ready.push((i, r));
                }
                // One model alone: its diagnostics are the answer. In a suite the others go on.
                Err(d) if args.suite.is_none() => return Err(d),
                Err(d) => {
                    reports.insert(i, refused(name, &d));
                }
            }
        }
    }
    drop(progress);
    if !args.interpret {
        let again = |i: usize| {
            let (_, case) = cases.get(i)?;
            prepare(case.as_ref().ok()?, args, &base).ok().map(|(_, compiled)| compiled)
        };
        packages.build(again)?;
        let mut looked = 0;
        let progress = Progress::count("running", ready.len());
        for (i, r) in &ready {
            progress.step();
            let mut report = generated(&mut packages, *i, r);
            if report.status == Status::Failed && looked < MOST_LOOKED_INTO {
                looked += 1;
                look_into(&mut report, r, again(*i), &base);
            }
            reports.insert(*i, report);
        }
    }
    finish(args, reports.into_values().collect())
}

/// Finds the node at which a failed case goes wrong, or says that it is not the generated code that does.
fn look_into(report: &mut CaseReport, ready: &Ready<'_>, compiled: Option<Compiled>, base: &Config) {
    let levels = base.effective_levels();
    let level = levels.iter().copied().find(|l| report.failed_at == Some(l.name()));
    let set = ready.case.sets.iter().find(|s| report.failed_set.as_deref() == Some(s.name.as_str()));
    let (Some(compiled), Some(level), Some(set)) = (compiled, level, set) else { return };
    let _progress = Progress::wait(&format!("looking for the first node of `{}` that differs", report.name));
    let found = ready.inputs(set).and_then(|inputs| {
        Probe::new(&compiled, &inputs, &levels).and_then(|probe| probe.first(&inputs, level, base))
    });
    match found {
        Ok(Some(node)) => report.first_diverging_node = Some(node),
        Ok(None) => report.message.push_str(
            "\nevery intermediate value agrees with the reference evaluation, which differs from the record too, \
             or the differences add up below the tolerance",
        ),
        Err(e) => report.message.push_str(&format!("\nthe node could not be found: {e}")),
    }
}

fn refused(name: &str, d: &Diagnostics) -> CaseReport {
    let unsupported = d.iter().any(|d| {
        matches!(
            d.code,
            Code::UnsupportedOp | Code::UnsupportedForm | Code::NotConstant | Code::OpenDim | Code::Opset
        )
    });
    CaseReport {
        name: name.to_owned(),
        status: if unsupported { Status::Unsupported } else { Status::Error },
        folded: false,
        max_abs_err: 0.0,
        max_rel_err: 0.0,
        steps: 0,
        message: d.to_string().trim_end().to_owned(),
        first_diverging_node: None,
        levels: Vec::new(),
        failed_at: None,
        failed_set: None,
    }
}

impl Ready<'_> {
    fn report(&self) -> CaseReport {
        CaseReport {
            name: self.case.name.clone(),
            status: Status::Passed,
            folded: self.steps == 0,
            max_abs_err: 0.0,
            max_rel_err: 0.0,
            steps: self.steps,
            message: String::new(),
            first_diverging_node: None,
            levels: Vec::new(),
            failed_at: None,
            failed_set: None,
        }
    }

    fn compare(&self, set: &SampleSet, found: &[Tensor]) -> Difference {
        let mut total = Difference::default();
        for (i, found) in found.iter().enumerate() {
            if let Some(expected) = set.outputs.get(i).and_then(Option::as_ref) {
                let found = &match expected.dtype() {
                    DType::String => self.as_recorded(i, found),
                    _ => found.clone(),
                };
                let mut one = compare(found, expected, self.case.info.tolerance(i, expected.dtype()));
                if !one.ok() {
                    one.output = self.output_names.get(i).cloned();
                }
                total.merge(one);
            }
        }
        total
    }

    /// What was run but compared with nothing has not passed.
    fn settled(&self, mut report: CaseReport) -> CaseReport {
        let compared = |set: &SampleSet| set.outputs.iter().any(Option::is_some);
        let idle = self.case.sets.iter().find(|s| !compared(s));
        if report.status == Status::Passed && (self.case.sets.is_empty() || idle.is_some()) {
            report.status = Status::Error;
            let of = idle.map(|s| format!(" in `{}`", s.name)).unwrap_or_default();
            report.message = format!(
                "there is no recorded output to compare with{of}: expected `output_0.npy` or `output_0.pb` beside the inputs"
            );
        }
        report
    }

    fn judge(
        &self,
        report: &mut CaseReport,
        what: &'static str,
        set: &SampleSet,
        found: Result<Vec<Tensor>, String>,
    ) {
        match found {
            Err(e) => {
                report.status = Status::Error;
                report.message = format!("{what}: {e}");
            }
            Ok(found) => {
                let d = self.compare(set, &found);
                report.max_abs_err = report.max_abs_err.max(d.max_abs_err);
                report.max_rel_err = report.max_rel_err.max(d.max_rel_err);
                if !d.ok() && report.status == Status::Passed {
                    report.status = Status::Failed;
                    (report.failed_at, report.failed_set) = (Some(what), Some(set.name.clone()));
                    let place =
                        format!("{what}, {}, output `{}`", set.name, d.output.as_deref().unwrap_or_default());
                    report.message = match (&d.mismatch, d.first) {
                        (Some(m), _) => format!("{place}: {m}"),
                        (None, Some((i, a, b))) => {
                            format!("{place}: {} elements differ, first at {i}: {a} instead of {b}", d.wrong)
                        }
                        (None, None) => String::new(),
                    };
                }
            }
        }
    }
}

fn interpret(ready: &Ready<'_>, compiled: &Compiled) -> CaseReport {
    let mut report = ready.report();
    for set in &ready.case.sets {
        let found = ready
            .inputs(set)
            .and_then(|inputs| crate::interp::run(&compiled.graph, &inputs).map_err(|e| e.to_string()));
        ready.judge(&mut report, "interpreter", set, found.map(|f| ready.cut(f)));
    }
    ready.settled(report)
}

fn generated(packages: &mut Packages, number: usize, ready: &Ready<'_>) -> CaseReport {
    let mut report = ready.report();
    for level in packages.runnable() {
        report.levels.push(level.name());
        for set in &ready.case.sets {
            let found =
                ready.inputs(set).and_then(|inputs| packages.infer(number, level, &inputs, &ready.outputs));
            ready.judge(&mut report, level.name(), set, found.map(|f| ready.cut(f)));
        }
    }
    ready.settled(report)
}

fn finish(args: &VerifyArgs, cases: Vec<CaseReport>) -> Result<(), Diagnostics> {
    let count = |s: Status| cases.iter().filter(|c| c.status == s).count();
    let (passed, unsupported) = (count(Status::Passed), count(Status::Unsupported));
    let mut failed = count(Status::Failed) + count(Status::Error);
    let mut skipped = 0;
    if args.allow_unsupported {
        skipped = unsupported;
    } else {
        failed += unsupported;
    }
    let mut out = String::new();
    for case in &cases {
        let status = match case.status {
            Status::Passed => "passed",
            Status::Failed => "FAILED",
            Status::Unsupported => "unsupported",
            Status::Error => "ERROR",
        };
        out.push_str(&format!("{status:<12}{:<32} ", case.name));
        if case.status == Status::Passed {
            let folded = if case.folded { ", folded" } else { "" };
            out.push_str(&format!(
                "max |Δ| {:.3e}, {} steps{folded}, {}",
                case.max_abs_err,
                case.steps,
                case.levels.join(" ")
            ));
        } else {
            out.push_str(&case.message.replace('\n', "\n            "));
            if let Some(node) = &case.first_diverging_node {
                out.push_str(&format!("\n            first diverging node: {node}"));
            }
        }
        out.push('\n');
    }
    out.push_str(&format!("{passed} passed, {failed} failed, {skipped} skipped\n"));
    super::print(&out);
    if let Some(path) = &args.json {
        let report = Report { passed, failed, unsupported, cases };
        let text = serde_json::to_string_pretty(&report).unwrap_or_default();
        std::fs::write(path, text).map_err(|e| super::environment(format!("`{}`: {e}", path.display())))?;
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Diagnostic::error(Code::VerifyFailed, format!("{failed} cases did not pass")).into())
}
