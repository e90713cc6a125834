//! `edgec build`.

use super::args::{BuildArgs, ModelArgs, parse_runtime};
use super::cases::positions;
use super::data::{CaseInfo, sample_sets};
use super::quantize::{self, MethodArgs};
use super::{manifest, remark};
use crate::config::{Config, ModelConfig, Source};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::edges::Io;
use crate::emit::{self, Runtime, WeightsAt};
use crate::interp;
use crate::ir::{DType, QuantParams, Table, Tensor};
use crate::pipeline::{self, Compiled};
use std::path::{Path, PathBuf};

/// Samples that a crate carries for its own test: enough to catch a wrong build, few bytes.
const MOST_SAMPLE_BYTES: usize = 256 << 10;

/// What is to be built.
struct Job {
    config: Config,
    output: PathBuf,
    data: Vec<Option<PathBuf>>,
}

/// The command.
pub fn build(args: &BuildArgs) -> Result<(), Diagnostics> {
    let job = job(args)?;
    let mut problems = Diagnostics::new();
    let mut compiled = Vec::new();
    for (i, model) in job.config.models.iter().enumerate() {
        // Problems of all models come together.
        match pipeline::compile(model, &job.config) {
            Ok(mut c) => {
                let data = job.data.get(i).cloned().flatten();
                match add_samples(model, &mut c, data.as_deref()) {
                    Ok(()) => compiled.push(c),
                    Err(d) => problems.append(d),
                }
            }
            Err(d) => problems.append(d),
        }
    }
    if problems.has_errors() {
        return Err(problems);
    }
    let options = job.config.emit_options(compiled.first());
    let units: Vec<_> = compiled.iter().map(Compiled::unit).collect();
    let files = emit::package(&units, &options).map_err(Diagnostic::from)?;
    for c in &compiled {
        remark(&c.remarks);
        if args.model.verbose {
            super::say(&c.log.to_string());
        }
    }
    if args.check {
        let differences = emit::compare(&job.output, &files).map_err(Diagnostic::from)?;
        if differences.is_empty() {
            return Ok(());
        }
        let mut d = Diagnostic::error(Code::Stale, format!("`{}` is not up to date", job.output.display()))
            .with_help("run `edgec build` without `--check` and commit the result");
        for difference in &differences {
            d = d.with_note(difference.to_string());
        }
        return Err(d.into());
    }
    emit::write(&job.output, &files).map_err(Diagnostic::from)?;
    let package = &options.package;
    let mut out = format!("wrote {} ({} files)\n", job.output.display(), files.len());
    for c in &compiled {
        let r = crate::report::report(c);
        out.push_str(&format!(
            "  {}: {} layers, {} MACs, {} bytes of weights, {} bytes of RAM\n",
            c.name,
            r.layers.len(),
            r.macs,
            r.rom_bytes,
            r.ram_bytes
        ));
    }
    out.push_str(&format!(
        "for usable debug builds, add to your workspace's Cargo.toml:\n\n    [profile.dev.package.{package}]\n    opt-level = 3\n"
    ));
    super::print(&out);
    Ok(())
}

/// What an `edgec.toml` says is not said again on the command line.
fn only_manifest(args: &BuildArgs) -> Result<(), Diagnostics> {
    let verbose = ModelArgs { verbose: args.model.verbose, ..ModelArgs::unset() };
    let plain = args.model == verbose
        && args.how == MethodArgs::default()
        && args.quantize.is_none()
        && args.name.is_none()
        && args.data.is_none()
        && args.io == Io::default()
        && args.runtime == "vendored"
        && args.weights == WeightsAt::default();
    if plain {
        return Ok(());
    }
    Err(bad("without a model, options about models and the crate stand in edgec.toml")
        .with_help(
            "write them there, or name a model; `--output`, `--check` and `--verbose` go with an edgec.toml",
        )
        .into())
}

/// `to` as a generated manifest in `from` would name it: relative paths stay relative, whatever the machine.
fn seen_from(from: &Path, to: &Path) -> PathBuf {
    let (Ok(base), Ok(target), true) = (std::path::absolute(from), std::path::absolute(to), to.is_relative())
    else {
        return to.to_owned();
    };
    let clean = |p: &Path| {
        let mut parts: Vec<std::ffi::OsString> = Vec::new();
        for part in p.components() {
            match part {
                std::path::Component::CurDir => {}
                std::path::Component::ParentDir => drop(parts.pop()),
                other => parts.push(other.as_os_str().to_owned()),
            }
        }
        parts
    };
    let (base, target) = (clean(&base), clean(&target));
    let same = base.iter().zip(&target).take_while(|(a, b)| a == b).count();
    let up = base.iter().skip(same).map(|_| std::ffi::OsString::from(".."));
    up.chain(target.iter().skip(same).cloned()).collect()
}

fn bad(message: &str) -> Diagnostic {
    Diagnostic::error(Code::BadOption, message)
}

fn job(args: &BuildArgs) -> Result<Job, Diagnostics> {
    if args.models.is_empty() {
        only_manifest(args)?;
        let m = manifest::read(Path::new("edgec.toml"))?;
        let output = args.output.clone().unwrap_or(m.output);
        return Ok(Job { config: m.config, output, data: m.data });
    }
    let mut config = args.model.config()?;
    config.package = args.name.clone();
    config.runtime = match (parse_runtime(&args.runtime)?, &args.output) {
        (Runtime::Path(path), Some(output)) => Runtime::Path(seen_from(output, &path)),
        (other, _) => other,
    };
    config.weights = args.weights;
    if args.models.len() > 1 && args.model.ranges.is_some() {
        return Err(bad("`--ranges` is of one model")
            .with_help("name several models and their ranges in an edgec.toml")
            .into());
    }
    for path in &args.models {
        let mut model = args.model.model(ModelConfig::file(path).io(args.io))?;
        if args.quantize.is_some() {
            model.quantization = Some(quantize::settle(&model, &args.how, &args.calibrate)?);
        } else if args.how != MethodArgs::default() {
            return Err(bad("an option says how to quantize, but nothing says to")
                .with_help("add `--quantize int8 --calibrate DATA`")
                .into());
        }
        if let ([_], Some(name)) = (args.models.as_slice(), &args.name) {
            model.name = Some(name.clone());
        }
        config = config.model(model);
    }
    let output = args.output.clone().ok_or_else(|| {
        Diagnostic::error(Code::BadOption, "no output folder").with_help("name one with `-o DIR`")
    })?;
    Ok(Job { config, output, data: vec![args.data.clone(); args.models.len()] })
}

/// A recorded input as the crate takes it: real numbers as integers, where it is quantized.
fn native(tensor: Tensor, edge: Option<(&QuantParams, DType)>) -> Tensor {
    let integers = edge.and_then(|(params, dtype)| params.quantized(&tensor, dtype));
    integers.unwrap_or(tensor)
}

/// Recorded samples for the crate's own test: those of `data`, or those beside the model.
fn add_samples(model: &ModelConfig, compiled: &mut Compiled, data: Option<&Path>) -> Result<(), Diagnostics> {
    let folder = match (data, &model.source) {
        (Some(folder), _) => folder.to_owned(),
        (None, Source::File(path)) => match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
            _ => PathBuf::from("."),
        },
        (None, Source::Bytes { .. }) => return Ok(()),
    };
    let info = CaseInfo::beside(&folder)?;
    let names = pipeline::input_names(model)?;
    let (mut bytes, mut added) = (0, false);
    for set in sample_sets(&folder)? {
        let given: Option<Vec<_>> = names
            .iter()
            .enumerate()
            .filter(|(_, n)| !model.binds.contains_key(*n))
            .map(|(i, _)| set.inputs.get(i).cloned().flatten())
            .collect();
        let expected: Option<Vec<_>> = set.outputs.iter().cloned().collect();
        let (Some(inputs), Some(outputs)) = (given, expected) else { continue };
        let graph = &compiled.graph;
        let texts = |name: &str| graph.tables.get(name).and_then(Table::texts);
        let names = graph.inputs.iter().map(|&v| graph.value(v).name.as_str());
        let inputs: Vec<_> = inputs.into_iter().zip(names).map(|(t, n)| positions(t, texts(n))).collect();
        let names = graph.outputs.iter().map(|(n, _)| n.as_str());
        let mut outputs: Vec<_> =
            outputs.into_iter().zip(names).map(|(t, n)| positions(t, texts(n))).collect();
        // The crate takes integers, the record may hold what they stand for.
        let edges = compiled.meta.inputs.iter().zip(&graph.inputs);
        let inputs: Vec<_> = inputs
            .into_iter()
            .zip(edges.map(Some).chain(std::iter::repeat(None)))
            .map(|(t, edge)| {
                native(t, edge.and_then(|(params, &v)| Some((params.as_ref()?, graph.value(v).dtype))))
            })
            .collect();
        // A sample of other shapes belongs to other options.
        let fits = inputs.iter().zip(&compiled.graph.inputs).all(|(t, &v)| {
            let value = compiled.graph.value(v);
            t.dtype() == value.dtype && t.shape() == &value.shape
        });
        let size: usize = inputs.iter().chain(&outputs).map(|t| t.len() * t.dtype().size()).sum();
        if !fits || outputs.len() != compiled.graph.own_outputs().len() || bytes + size > MOST_SAMPLE_BYTES {
            continue;
        }
        bytes += size;
        let narrow = |t: &Tensor| t.dtype().is_int() && t.dtype().size() == 1;
        let other = outputs.iter().zip(&graph.outputs).any(|(t, (_, v))| t.dtype() != graph.value(*v).dtype);
        if model.quantization.is_some()
            || !compiled.graph.lengths.is_empty()
            || outputs.iter().any(narrow)
            || other
        {
            // What was recorded is the float model's, lacks what lies beyond lengths, or may be a step off.
            outputs = interp::run(&compiled.graph, &inputs).map_err(|e| Diagnostic::from(&e))?;
        }
        // One tolerance for all outputs of floats: the strictest that any of them states. Integers are compared exactly.
        let (mut rtol, mut atol) = (f64::INFINITY, f64::INFINITY);
        for (i, t) in outputs.iter().enumerate().filter(|(_, t)| t.dtype().is_float()) {
            let (r, a) = info.tolerance(i, t.dtype()).parts();
            (rtol, atol) = (rtol.min(r), atol.min(a));
        }
        if rtol.is_infinite() {
            (rtol, atol) = (0.0, 0.0);
        }
        compiled.add_sample(&inputs, &outputs, rtol, atol);
        added = true;
    }
    if !added && data.is_some() {
        let message = format!("no sample in `{}` fits the model", folder.display());
        return Err(Diagnostic::error(Code::BadOption, message)
            .with_help("expected `set_0/input_0.npy` and so on, with all outputs, of the shapes that the options give")
            .into());
    }
    Ok(())
}
