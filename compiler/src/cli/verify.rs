//! `edgec verify`: the generated code against recorded outputs.

use super::args::VerifyArgs;
use super::compare::{Difference, compare};
use super::data::{CaseInfo, SampleSet, sample_sets};
use super::harness::{Answer, Harness, Place, Runner};
use crate::config::{Config, ModelConfig};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::{DType, Tensor};
use crate::pipeline::{self, Compiled};
use edgec_runtime::Level;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
}

#[derive(Debug, Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    unsupported: usize,
    cases: Vec<CaseReport>,
}

/// A model with its samples.
struct Case {
    name: String,
    model: PathBuf,
    info: CaseInfo,
    sets: Vec<SampleSet>,
}

/// A case that compiled.
struct Ready<'a> {
    case: &'a Case,
    compiled: Compiled,
    /// Positions of the file's inputs that are still inputs.
    inputs: Vec<usize>,
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
    let mut ready = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        match prepare(case, args, &base) {
            Ok(r) => ready.push((i, r)),
            Err(d) => {
                if args.suite.is_none() {
                    return Err(d);
                }
                reports.insert(i, refused(case, &d));
            }
        }
    }
    if args.interpret {
        for (i, r) in &ready {
            reports.insert(*i, interpret(r));
        }
    } else {
        generated(args, &base, &ready, &mut reports)?;
    }
    finish(args, reports.into_values().collect())
}

fn cases(args: &VerifyArgs) -> Result<Vec<Case>, Diagnostics> {
    let io = |p: &Path, e: std::io::Error| Diagnostic::error(Code::Io, format!("`{}`: {e}", p.display()));
    let load = |name: String, model: PathBuf, data: &Path| -> Result<Case, Diagnostics> {
        Ok(Case {
            name,
            info: CaseInfo::beside(model.parent().unwrap_or(data))?,
            sets: sample_sets(data)?,
            model,
        })
    };
    if let Some(file) = &args.file {
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let data = args.data.as_deref().unwrap_or(folder);
        let case = load(ModelConfig::file(file).base_name(), file.clone(), data)?;
        if case.sets.is_empty() {
            return Err(Diagnostic::error(Code::Io, format!("no samples in `{}`", data.display()))
                .with_help("put them in set_0/input_0.npy, output_0.npy, or name a folder with `--data`")
                .into());
        }
        return Ok(vec![case]);
    }
    let Some(suite) = &args.suite else { return Ok(Vec::new()) };
    let mut folders: Vec<PathBuf> = std::fs::read_dir(suite)
        .map_err(|e| io(suite, e))?
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(|p| p.join("model.onnx").is_file())
        .collect();
    folders.sort();
    let wanted: Option<Vec<&str>> = args.only.as_deref().map(|o| o.split(',').collect());
    let mut cases = Vec::new();
    for folder in folders {
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if wanted.as_ref().is_none_or(|w| w.iter().any(|t| name.contains(t))) {
            cases.push(load(name, folder.join("model.onnx"), &folder)?);
        }
    }
    Ok(cases)
}

fn prepare<'a>(case: &'a Case, args: &VerifyArgs, base: &Config) -> Result<Ready<'a>, Diagnostics> {
    let mut model = ModelConfig::file(&case.model);
    for (name, value) in case.info.dims() {
        model = model.dim(name, value);
    }
    model = args.model.model(model)?;
    let names = pipeline::input_names(&model)?;
    let first = case.sets.first();
    for (i, name) in names.iter().enumerate() {
        let sample = first.and_then(|s| s.inputs.get(i)).and_then(Option::as_ref);
        if let Some(sample) = sample {
            if case.info.bind().contains(name) {
                model = model.bind(name, sample.clone());
            } else if !model.input_shapes.contains_key(name) {
                model = model.input_shape(name, sample.shape().to_vec());
            }
        }
    }
    let inputs =
        (0..names.len()).filter(|&i| names.get(i).is_some_and(|n| !model.binds.contains_key(n))).collect();
    let compiled = pipeline::compile(&model, base)?;
    Ok(Ready { case, compiled, inputs })
}

fn refused(case: &Case, d: &Diagnostics) -> CaseReport {
    let unsupported = d.iter().any(|d| {
        matches!(
            d.code,
            Code::UnsupportedOp | Code::UnsupportedForm | Code::NotConstant | Code::OpenDim | Code::Opset
        )
    });
    CaseReport {
        name: case.name.clone(),
        status: if unsupported { Status::Unsupported } else { Status::Error },
        folded: false,
        max_abs_err: 0.0,
        max_rel_err: 0.0,
        steps: 0,
        message: d.to_string().trim_end().to_owned(),
        first_diverging_node: None,
        levels: Vec::new(),
    }
}

impl Ready<'_> {
    fn report(&self) -> CaseReport {
        CaseReport {
            name: self.case.name.clone(),
            status: Status::Passed,
            folded: self.compiled.schedule.steps.is_empty(),
            max_abs_err: 0.0,
            max_rel_err: 0.0,
            steps: self.compiled.schedule.steps.len(),
            message: String::new(),
            first_diverging_node: None,
            levels: Vec::new(),
        }
    }

    fn inputs(&self, set: &SampleSet) -> Result<Vec<Tensor>, String> {
        self.inputs
            .iter()
            .map(|&i| {
                set.inputs
                    .get(i)
                    .cloned()
                    .flatten()
                    .ok_or_else(|| format!("sample `{}` lacks input {i}", set.name))
            })
            .collect()
    }

    fn compare(&self, set: &SampleSet, found: &[Tensor]) -> Difference {
        let mut total = Difference::default();
        for (i, found) in found.iter().enumerate() {
            if let Some(expected) = set.outputs.get(i).and_then(Option::as_ref) {
                total.merge(compare(found, expected, self.case.info.tolerance(i, expected.dtype())));
            }
        }
        total
    }

    fn judge(
        &self,
        report: &mut CaseReport,
        what: &str,
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
                    report.message = match (&d.mismatch, d.first) {
                        (Some(m), _) => format!("{what}, {}: {m}", set.name),
                        (None, Some((i, a, b))) => {
                            format!(
                                "{what}, {}: {} elements differ, first at {i}: {a} instead of {b}",
                                set.name, d.wrong
                            )
                        }
                        (None, None) => String::new(),
                    };
                }
            }
        }
    }
}

fn interpret(ready: &Ready<'_>) -> CaseReport {
    let mut report = ready.report();
    for set in &ready.case.sets {
        let found = ready
            .inputs(set)
            .and_then(|inputs| crate::interp::run(&ready.compiled.graph, &inputs).map_err(|e| e.to_string()));
        ready.judge(&mut report, "interpreter", set, found);
    }
    report
}

/// Levels to run: those generated that this machine has.
fn runnable(levels: &[Level]) -> Vec<Level> {
    levels.iter().copied().filter(|l| l.available()).collect()
}

fn generated(
    args: &VerifyArgs,
    base: &Config,
    ready: &[(usize, Ready<'_>)],
    reports: &mut BTreeMap<usize, CaseReport>,
) -> Result<(), Diagnostics> {
    // Kernel calls of a package: enough to share a build of the runtime, few enough that both cores
    // have work to the end.
    const STEPS_PER_PACKAGE: usize = 150;
    let levels = base.effective_levels();
    let mut harness = Harness::new(args.build_dir.as_deref())?;
    let mut places: Vec<Place> = Vec::new();
    let mut group: Vec<&Compiled> = Vec::new();
    let mut steps = 0;
    for (_, r) in ready {
        let own = r.compiled.schedule.steps.len();
        if !group.is_empty() && steps + own > STEPS_PER_PACKAGE {
            places.extend(harness.add(&group, &levels)?);
            group.clear();
            steps = 0;
        }
        group.push(&r.compiled);
        steps += own;
    }
    if !group.is_empty() {
        places.extend(harness.add(&group, &levels)?);
    }
    if places.is_empty() {
        return Ok(());
    }
    eprintln!("building {} models", places.len());
    harness.build()?;
    let dir = harness.scratch();
    let mut runner: Option<(String, Runner)> = None;
    for ((i, r), place) in ready.iter().zip(&places) {
        let mut report = r.report();
        for &level in &runnable(&levels) {
            report.levels.push(level.name());
            for set in &r.case.sets {
                if runner.as_ref().is_none_or(|(p, _)| *p != place.package) {
                    runner = Some((place.package.clone(), harness.start(&place.package)?));
                }
                let Some((_, process)) = runner.as_mut() else { continue };
                let found = r.inputs(set).and_then(|inputs| {
                    process.infer(&place.module, level, &dir, &inputs, &outputs(&r.compiled))
                });
                let crashed = found.is_err();
                let found = found.and_then(|(answer, tensors)| match answer {
                    Answer::Ok => Ok(tensors),
                    Answer::Fault(text) => Err(text),
                });
                r.judge(&mut report, level.name(), set, found);
                if crashed {
                    runner = None;
                }
            }
        }
        reports.insert(*i, report);
    }
    Ok(())
}

/// Types and shapes of a model's outputs.
pub fn outputs(compiled: &Compiled) -> Vec<(DType, Vec<usize>)> {
    compiled
        .graph
        .outputs
        .iter()
        .map(|&(_, v)| {
            let value = compiled.graph.value(v);
            (value.dtype, value.shape.to_vec())
        })
        .collect()
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
        out.push_str(&format!("{status:<12}{:<32}", case.name));
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
