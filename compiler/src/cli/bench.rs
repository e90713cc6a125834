//! `edgec bench`: builds the generated code, runs it, times it.

use super::args::BenchArgs;
use super::environment;
use super::harness::{Harness, Place, Runner};
use super::progress::Progress;
use super::yardstick::Peaks;
use crate::config::ModelConfig;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::{DType, Tensor};
use crate::pipeline::{self, Compiled};
use edgec_runtime::Level;
use serde::Serialize;
use std::io::BufRead;
use std::path::Path;

/// What `--json` prints; field names are a contract.
#[derive(Debug, Serialize)]
struct Report {
    level: &'static str,
    threads: usize,
    median_us: f64,
    min_us: f64,
    build_seconds: f64,
    text_bytes: u64,
    binary_bytes: u64,
    /// What `share_of_peak` is a share of, in GOP/s.
    peak_gops: Peaks,
    /// Share of the layers' time in loop nests and routines instead of kernels.
    share_of_loops: f64,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct Layer {
    index: usize,
    kernel: &'static str,
    median_us: f64,
    macs: u64,
    gops: f64,
    /// Of the rate of a matrix product in cache, of the same kind of numbers and measured beside it; 0 without
    /// multiplications.
    share_of_peak: f64,
    nodes: Vec<String>,
}

/// The command.
pub fn bench(args: &BenchArgs) -> Result<(), Diagnostics> {
    let config = args.model.config()?;
    let model = args.model.model(ModelConfig::file(&args.file))?;
    let compiled = pipeline::compile(&model, &config)?;
    let levels = config.effective_levels();
    let level = levels
        .iter()
        .copied()
        .rfind(|l| l.available())
        .ok_or_else(|| environment("this machine has none of the levels asked for"))?;
    let mut harness = Harness::new(args.build_dir.as_deref(), args.threads)?;
    let places = harness.add(&[&compiled], &config)?;
    let place = places.first().cloned().ok_or_else(|| environment("nothing was generated"))?;
    let progress = Progress::wait("building the generated crate");
    let build_seconds = harness.build()?;
    drop(progress);
    let dir = harness.scratch();
    write_inputs(&compiled, &dir)?;
    let mut runner = harness.start(&place.package)?;
    if args.serve {
        return serve(&mut runner, &place, level, &dir);
    }
    let (min_us, median_us, _) = time(&mut runner, &place, level, args.seconds, &dir)?;
    let peaks = Peaks::measure(&compiled, &config, level, args.seconds.min(0.2), &mut harness)?;
    let layers = layers(&mut runner, &place, level, args.seconds, &dir, &compiled, peaks)?;
    let binary = harness.binary(&place.package);
    let report = Report {
        level: level.name(),
        threads: args.threads,
        median_us,
        min_us,
        build_seconds,
        text_bytes: text_bytes(&binary),
        binary_bytes: std::fs::metadata(&binary).map(|m| m.len()).unwrap_or(0),
        peak_gops: peaks,
        share_of_loops: share_of_loops(&layers),
        layers,
    };
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default()));
        return Ok(());
    }
    let mut out = String::new();
    let total: f64 = report.layers.iter().map(|l| l.median_us).sum();
    for l in &report.layers {
        out.push_str(&format!(
            "{:>4}  {:<14} {:>10.2} µs {:>5.1} % {:>8.1} GOP/s {:>4.0} % of peak  {}\n",
            l.index,
            l.kernel,
            l.median_us,
            if total > 0.0 { 100.0 * l.median_us / total } else { 0.0 },
            l.gops,
            100.0 * l.share_of_peak,
            l.nodes.join(" + ")
        ));
    }
    out.push_str(&format!(
        "level {}, {:.2} µs median, {:.2} µs least, {:.0} % of it in loops and routines; built in {:.1} s, text {} bytes\n",
        report.level,
        report.median_us,
        report.min_us,
        100.0 * report.share_of_loops,
        report.build_seconds,
        report.text_bytes
    ));
    super::print(&out);
    Ok(())
}

fn share_of_loops(layers: &[Layer]) -> f64 {
    let time =
        |of: &dyn Fn(&Layer) -> bool| layers.iter().filter(|l| of(l)).map(|l| l.median_us).sum::<f64>();
    let total = time(&|_| true);
    if total > 0.0 { time(&|l| matches!(l.kernel, "Loops" | "Routine")) / total } else { 0.0 }
}

fn serve(runner: &mut Runner, place: &Place, level: Level, dir: &Path) -> Result<(), Diagnostics> {
    super::print("ready\n");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(seconds) = line.trim().parse::<f64>() else {
            return Err(Diagnostic::error(Code::BadOption, format!("`{line}`: expected seconds")).into());
        };
        let (min, median, count) = time(runner, place, level, seconds, dir)?;
        super::print(&format!("{min:.3} {median:.3} {count}\n"));
    }
    Ok(())
}

/// Smallest and median time of an inference in µs, and how often it ran.
pub fn time(
    runner: &mut Runner,
    place: &Place,
    level: Level,
    seconds: f64,
    dir: &Path,
) -> Result<(f64, f64, u64), Diagnostics> {
    let line = format!("bench {} {} {seconds} {}", place.module, level.name(), dir.display());
    let answer = runner.ask(&line).map_err(environment)?;
    let words: Vec<f64> = answer.split(' ').filter_map(|w| w.parse().ok()).collect();
    match words.as_slice() {
        [min, median, count] => Ok((*min, *median, *count as u64)),
        _ => Err(environment(answer)),
    }
}

fn layers(
    runner: &mut Runner,
    place: &Place,
    level: Level,
    seconds: f64,
    dir: &Path,
    compiled: &Compiled,
    peaks: Peaks,
) -> Result<Vec<Layer>, Diagnostics> {
    let line = format!("layers {} {} {seconds} {}", place.module, level.name(), dir.display());
    let answer = runner.ask(&line).map_err(environment)?;
    let times: Vec<f64> = answer.split(' ').filter_map(|w| w.parse().ok()).collect();
    let steps = &compiled.schedule.steps;
    if times.len() != steps.len() {
        return Err(environment(format!("{} times for {} layers: {answer}", times.len(), steps.len())));
    }
    let rate = |us: f64, macs: u64| if us > 0.0 { 2.0 * macs as f64 / (us * 1e3) } else { 0.0 };
    Ok(steps
        .iter()
        .zip(&times)
        .enumerate()
        .map(|(index, (step, &us))| Layer {
            index,
            kernel: step.kernel.family(),
            median_us: us,
            macs: step.macs,
            gops: rate(us, step.macs),
            share_of_peak: peaks.of(&step.kernel).map_or(0.0, |peak| rate(us, step.macs) / peak),
            nodes: step.origins.iter().map(|o| o.name.clone()).collect(),
        })
        .collect())
}

/// Inputs of a fixed pseudo-random sequence: floats in [-1, 1), small integers.
pub fn write_inputs(compiled: &Compiled, dir: &Path) -> Result<(), Diagnostics> {
    std::fs::create_dir_all(dir).map_err(|e| environment(format!("`{}`: {e}", dir.display())))?;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        // xorshift64: speed of kernels depends on extents, not on values, so any spread will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (i, port) in compiled.schedule.inputs.iter().enumerate() {
        let n: usize = port.shape.iter().product();
        let bytes = match port.dtype {
            DType::F32 => {
                Tensor::from_fn([n], |_| (next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).to_le_bytes()
            }
            DType::F64 => {
                Tensor::from_fn([n], |_| (next() >> 40) as f64 / (1u64 << 23) as f64 - 1.0).to_le_bytes()
            }
            // Zero is a valid index, flag and length whatever the model does with it.
            other => vec![0; n * other.size()],
        };
        let path = dir.join(format!("in_{i}"));
        std::fs::write(&path, bytes).map_err(|e| environment(format!("`{}`: {e}", path.display())))?;
    }
    Ok(())
}

/// Size of the executable sections of an ELF file, by binutils' `size`; 0 where that is missing.
fn text_bytes(binary: &Path) -> u64 {
    let Ok(output) = std::process::Command::new("size").arg(binary).output() else { return 0 };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().nth(1).and_then(|l| l.split_whitespace().next()).and_then(|w| w.parse().ok()).unwrap_or(0)
}
