//! Post-training quantization: a float model and sample data become a standard QDQ model.
//!
//! ```text
//! ModelProto ─prepare─▶ Draft ─plan─▶ Plan ─calibrate─▶ Ranges ─insert─▶ ModelProto with Q/DQ pairs
//!   constants, batch norm    roles,      interpreter,    scales, integer constants
//!   into weights             groups      observers
//! ```
//!
//! In: a model with `f32` products (`Conv`, `Gemm`, `MatMul`, …) of constant weights. Out: the same model, inputs and
//! outputs by the same names, with `QuantizeLinear` and `DequantizeLinear` around everything that [`rules`] names. What
//! the backend then makes integer kernels of is no matter here: the result means the same to every runtime.
//! Calibration runs the reference interpreter, so equal data gives equal bytes on every machine.

pub mod accuracy;
pub mod calibrate;
mod choice;
mod draft;
mod insert;
pub mod measure;
mod observe;
mod opset;
mod plan;
mod prepare;
pub mod ranges;
pub mod rules;
mod scale;
pub mod sensitivity;
mod watch;
mod weights;

pub use calibrate::{Input, Samples};
pub use measure::Cost;
pub use ranges::{Quantization, Ranges};
pub use scale::{Activations, Method, Params, Range};

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::frontend;
use crate::onnx::ExternalData;
use crate::onnx::proto::ModelProto;
use draft::Draft;
use observe::{Observed, Wants};
use plan::Plan;
use prepare::Types;
use rules::Role;
use std::collections::{BTreeMap, BTreeSet};
use watch::Watched;

/// Samples below which ranges are guesses.
const FEW_SAMPLES: usize = 50;

/// The share of values outside their range that is worth a word.
const MUCH_CLIPPED: f64 = 0.01;

/// What decides the result, besides data.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// How ranges are chosen.
    pub method: Method,
    /// Form of activations.
    pub activations: Activations,
    /// One scale for all channels of weights.
    pub per_tensor: bool,
    /// Take what rounding of weights shifts off the biases.
    pub bias_correction: bool,
    /// Nodes that stay in float, by name or by the name of a result.
    pub keep_float: BTreeSet<String>,
}

/// A model on the way to integers: prepared and planned.
#[derive(Debug, Clone)]
pub struct Subject {
    draft: Draft,
    plan: Plan,
    import: frontend::Options,
    options: Options,
    sha256: String,
    inputs: Vec<Input>,
    /// Remarks so far.
    pub remarks: Diagnostics,
}

/// A quantized model.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The file's message.
    pub model: ModelProto,
    /// Quantized nodes, in the file's order.
    pub layers: Vec<Layer>,
    /// By quantized value of the float model: the value of this model that holds what its integers stand for.
    pub values: BTreeMap<String, String>,
}

/// A quantized node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name, or that of its first result.
    pub name: String,
    /// Operator.
    pub op_type: String,
    /// The value that it writes, clamp included.
    pub result: String,
}

/// Quantizes a decoded model with ranges found before.
pub fn apply(
    model: ModelProto,
    external: &ExternalData,
    sha256: &str,
    import: frontend::Options,
    ranges: &Ranges,
) -> Result<(ModelProto, Diagnostics), Diagnostics> {
    let subject = Subject::new(model, external, sha256, import, ranges.options())?;
    let (quantized, remarks) = subject.quantize(ranges)?;
    let mut all = subject.remarks;
    all.append(remarks);
    Ok((quantized.model, all))
}

impl Subject {
    /// Prepares a model and decides what is quantized. `import` fixes shapes (and bound inputs) for calibration
    /// only: open dimensions of the model stay open.
    pub fn new(
        model: ModelProto,
        external: &ExternalData,
        sha256: &str,
        import: frontend::Options,
        options: Options,
    ) -> Result<Subject, Diagnostics> {
        let mut draft = Draft::new(model, external)?;
        if draft.opset() < 13 {
            let types = Types::of(&draft, &import)?;
            opset::settle_softmax(&mut draft, &|name| types.floats(name).map(|s| s.dims().to_vec()));
            opset::raise(&mut draft, 13)?;
        }
        prepare::prepare(&mut draft, &import)?;
        let types = Types::of(&draft, &import)?;
        let unknown = options
            .keep_float
            .iter()
            .find(|k| !draft.nodes.iter().any(|n| draft::label(n) == k.as_str() || n.output.contains(k)));
        if let Some(name) = unknown {
            return Err(Diagnostic::error(
                Code::BadOption,
                format!("`--keep-float {name}`: there is no such node"),
            )
            .with_help("`edgec inspect MODEL` lists nodes; a node may also go by the name of its result")
            .into());
        }
        let plan = Plan::new(&draft, &types, &options.keep_float);
        if plan.members.is_empty() {
            return Err(Diagnostic::error(Code::NothingToQuantize, "no node of the model can be quantized")
                .with_help("products of `float` data and constant weights can: `Conv`, `ConvTranspose`, `Gemm`, `MatMul`")
                .into());
        }
        let watched = Watched::new(&draft.to_model(), &BTreeSet::new(), &import)?;
        let inputs = watched
            .inputs()
            .map(|(name, dtype, shape)| Input { name: name.to_owned(), dtype, shape: shape.clone() })
            .collect();
        let mut remarks = watched.remarks.clone();
        for (name, reason) in plan.declined.iter().filter(|(_, r)| r != "`--keep-float`") {
            remarks.push(Diagnostic::note(Code::StaysFloat, format!("`{name}` stays in float: {reason}")));
        }
        Ok(Subject { draft, plan, import, options, sha256: sha256.to_owned(), inputs, remarks })
    }

    /// Inputs that samples must have, in order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Finds ranges. `tick` is called after each sample, from any thread.
    pub fn calibrate(
        &self,
        samples: &dyn Samples,
        tick: &(dyn Fn() + Sync),
    ) -> Result<(Ranges, Diagnostics), Diagnostics> {
        let corrects = self.options.bias_correction || self.options.method == Method::Auto;
        let means = if corrects { self.mean_axes() } else { BTreeMap::new() };
        let mut wanted = self.plan.values.clone();
        wanted.extend(means.keys().cloned());
        let watched = Watched::new(&self.draft.to_model(), &wanted, &self.import)?;
        let histogram = self.options.method != Method::MinMax;
        let softmax = self.softmax_operands();
        let fresh = |name: &str| {
            let wants = Wants { histogram, sums: means.get(name).copied(), peaks: softmax.contains(name) };
            wanted.contains(name).then(|| Observed::new(wants))
        };
        let seen = calibrate::observe(&watched, samples, &fresh, tick)?;
        let options = match self.options.method {
            Method::Auto => self.least_loss(&seen, samples)?,
            _ => self.options.clone(),
        };
        Ok((self.choose(&seen, samples.count(), &options), self.warnings(&seen, samples.count(), &options)))
    }

    /// From observations to ranges, as `options` say.
    fn choose(&self, seen: &BTreeMap<String, Observed>, samples: usize, options: &Options) -> Ranges {
        let mut ranges = Ranges::new(&self.sha256, options, samples);
        for (name, seen) in self.plan.values.iter().filter_map(|n| Some((n, seen.get(n)?))) {
            let range = scale::range(seen, options.method, options.activations);
            ranges.values.insert(name.clone(), (range.min, range.max));
        }
        let means = if options.bias_correction { self.mean_axes() } else { BTreeMap::new() };
        for (name, seen) in seen.iter().filter(|(n, _)| means.contains_key(*n)) {
            if let Some(means) = seen.means() {
                ranges.means.insert(name.clone(), means);
            }
        }
        ranges
    }

    /// What is to be said about observations.
    fn warnings(&self, seen: &BTreeMap<String, Observed>, samples: usize, options: &Options) -> Diagnostics {
        let mut remarks = Diagnostics::new();
        if samples < FEW_SAMPLES {
            remarks.push(
                Diagnostic::warning(Code::FewSamples, format!("only {samples} samples to calibrate with"))
                    .with_help("take 100 to 500 that are like those in use, of every class"),
            );
        }
        for (name, seen) in self.plan.values.iter().filter_map(|n| Some((n, seen.get(n)?))) {
            let range = scale::range(seen, options.method, options.activations);
            if seen.strange > 0 {
                let message = format!("`{name}` was NaN or infinite {} times", seen.strange);
                remarks.push(Diagnostic::warning(Code::ConstantRange, message));
            }
            if seen.min >= seen.max {
                let message = format!("`{name}` was always {}: its scale is a guess", seen.min);
                remarks.push(
                    Diagnostic::warning(Code::ConstantRange, message)
                        .with_help("calibrate with samples that reach this part of the model"),
                );
            }
            let counts = seen.histogram.as_ref().filter(|_| seen.peak.is_none());
            let clipped = counts.map_or(0.0, |h| scale::clipped(h, range));
            if clipped > MUCH_CLIPPED {
                let message = format!("{:.1} % of `{name}` lie outside its range", clipped * 100.0);
                remarks.push(
                    Diagnostic::warning(Code::Clipping, message)
                        .with_help("take a higher `--percentile`, or `--method mse`"),
                );
            }
        }
        remarks
    }

    /// Values whose means per channel bias correction needs, with the axis.
    fn mean_axes(&self) -> BTreeMap<String, i64> {
        let mut out = BTreeMap::new();
        for (i, member) in &self.plan.members {
            if let Role::Product { bias: true, depth_axis, .. } = member.role
                && let Some(x) = self.draft.nodes.get(*i).and_then(|n| n.input.first())
            {
                out.insert(x.clone(), depth_axis);
            }
        }
        out
    }

    /// Values that nothing reads but quantized softmaxes over the last axis.
    fn softmax_operands(&self) -> BTreeSet<String> {
        let uses = self.draft.uses();
        let softmax = |i: usize| {
            let node = self.draft.nodes.get(i).is_some_and(|n| draft::is_op(n, "Softmax"));
            node && self.plan.members.contains_key(&i)
        };
        let only = |v: &&String| !uses.kept(v) && uses.readers(v).iter().all(|(i, _)| softmax(*i));
        self.plan.values.iter().filter(|v| !uses.readers(v).is_empty()).filter(only).cloned().collect()
    }

    /// Writes the quantized model.
    pub fn quantize(&self, ranges: &Ranges) -> Result<(Quantized, Diagnostics), Diagnostics> {
        let mut remarks = Diagnostics::new();
        if ranges.model != self.sha256 {
            remarks.push(
                Diagnostic::warning(
                    Code::OtherRanges,
                    "the ranges were found with another version of the model",
                )
                .with_help("calibrate again"),
            );
        }
        let missing: Vec<&String> =
            self.plan.values.iter().filter(|v| !ranges.values.contains_key(*v)).collect();
        if let Some(name) = missing.first() {
            let message = format!("there is no range for `{name}`, nor for {} others", missing.len() - 1);
            return Err(Diagnostic::error(Code::BadOption, message)
                .with_help("the ranges belong to another model, or to other options: calibrate again")
                .into());
        }
        Ok((self.planned(self.plan.clone(), ranges), remarks))
    }

    /// The model with the pairs of a plan.
    fn planned(&self, mut plan: Plan, ranges: &Ranges) -> Quantized {
        share_joins(&self.draft, &mut plan, ranges);
        let mut groups: BTreeMap<String, Range> = BTreeMap::new();
        for value in &plan.values {
            let Some(range) = ranges.get(value) else { continue };
            let group = groups.entry(plan.root(value).to_owned()).or_insert(range);
            *group = group.union(range);
        }
        for (value, range) in fixed(&self.draft, &plan) {
            if let Some(group) = groups.get_mut(plan.root(&value)) {
                *group = group.union(range);
            }
        }
        let scales = groups.into_iter().map(|(n, r)| (n, Params::new(r, self.options.activations))).collect();
        let layers = self.layers();
        let mut draft = self.draft.clone();
        let values = insert::insert(&mut draft, &plan, &scales, ranges, &self.options);
        draft.set_producer("edgec", env!("CARGO_PKG_VERSION"));
        draft.set_metadata("edgec.quantization", &self.summary(ranges));
        if let Some(preprocessing) = &ranges.preprocessing {
            draft.set_metadata("edgec.preprocessing", preprocessing);
        }
        Quantized { model: draft.finish(), layers, values }
    }

    fn summary(&self, ranges: &Ranges) -> String {
        let form = match self.options.activations {
            Activations::Asymmetric => "uint8 asymmetric",
            Activations::Symmetric => "int8 symmetric",
        };
        let weights = if self.options.per_tensor { "per tensor" } else { "per channel" };
        let correction = if ranges.bias_correction { ", biases corrected" } else { "" };
        format!(
            "activations {form}, weights int8 {weights}, {} over {} samples{correction}",
            ranges.method, ranges.samples
        )
    }

    fn layers(&self) -> Vec<Layer> {
        let of = |(i, member): (&usize, &plan::Member)| {
            let n = self.draft.nodes.get(*i)?;
            Some(Layer {
                name: draft::label(n).to_owned(),
                op_type: n.op_type.clone(),
                result: member.results.first()?.clone(),
            })
        };
        self.plan.members.iter().filter_map(of).collect()
    }
}

/// Operands of a `Concat` whose ranges are alike share the result's scale: it is then a copy. Alike: none is
/// narrower than half of all together, so that none loses more than one of its 8 bits.
fn share_joins(draft: &Draft, plan: &mut Plan, ranges: &Ranges) {
    let joins: Vec<usize> =
        plan.members.iter().filter(|(_, m)| m.role == Role::Join).map(|(&i, _)| i).collect();
    for i in joins {
        let Some(n) = draft.nodes.get(i) else { continue };
        let operands = || n.input.iter().filter(|x| plan.values.contains(*x));
        let Some(all) = operands().filter_map(|x| ranges.get(x)).reduce(Range::union) else { continue };
        let alike = operands().filter_map(|x| ranges.get(x)).all(|r| r.width() >= all.width() / 2.0);
        if !alike {
            continue;
        }
        let names: Vec<String> = operands().chain(&n.output).cloned().collect();
        for pair in names.windows(2) {
            if let [a, b] = pair {
                plan.share(a, b);
            }
        }
    }
}

/// Results whose range is known without data: probabilities of a final `Softmax` reach to one.
fn fixed(draft: &Draft, plan: &Plan) -> Vec<(String, Range)> {
    let softmax = |i: &usize| draft.nodes.get(*i).is_some_and(|n| draft::is_op(n, "Softmax"));
    let last = |m: &plan::Member| m.results.iter().any(|r| draft.is_output(r));
    let one = Range::new(0.0, 255.0 / 256.0);
    let of = plan.members.iter().filter(|(i, m)| softmax(i) && last(m));
    of.flat_map(|(_, m)| m.results.iter().map(move |r| (r.clone(), one))).collect()
}
