//! `edgec run`: outputs of the generated code as npy files.

use super::args::RunArgs;
use super::cases::{outputs, positions, words};
use super::data::read_tensor;
use super::environment;
use super::harness::{Answer, Harness};
use super::progress::Progress;
use crate::config::ModelConfig;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::{Data, OutputLength, Table, Tensor};
use crate::onnx::write_npy;
use crate::pipeline;
use std::path::Path;

/// The command.
pub fn run(args: &RunArgs) -> Result<(), Diagnostics> {
    let config = args.model.config()?;
    let mut model = args.model.model(ModelConfig::file(&args.file))?;
    let names = pipeline::input_names(&model)?;
    let mut inputs: Vec<Option<Tensor>> = vec![None; names.len()];
    for (i, text) in args.inputs.iter().enumerate() {
        let (at, file) = match text.rsplit_once('=') {
            Some((name, file)) => (names.iter().position(|n| n == name), file),
            None => (Some(i), text.as_str()),
        };
        let slot = at.and_then(|i| inputs.get_mut(i)).ok_or_else(|| {
            Diagnostic::error(Code::BadOption, format!("`--input {text}`: the model has no such input"))
                .with_help(format!("its inputs: {}", names.join(", ")))
        })?;
        *slot = Some(read_tensor(Path::new(file))?);
    }
    // A sample's shape answers open dimensions, unless the user did.
    for (name, tensor) in names.iter().zip(&inputs) {
        if let Some(tensor) = tensor
            && !model.input_shapes.contains_key(name)
            && model.dims.is_empty()
        {
            model = model.input_shape(name, tensor.shape().to_vec());
        }
    }
    let compiled = pipeline::compile(&model, &config)?;
    super::remark(&compiled.remarks);
    let mut given = Vec::new();
    for (name, tensor) in names.iter().zip(inputs) {
        if model.binds.contains_key(name) {
            continue;
        }
        // A sequence starts with zeros unless its state is given.
        let value = compiled.graph.inputs.get(given.len()).map(|&v| compiled.graph.value(v));
        let zeros = || {
            let value = value.filter(|_| model.stateful.iter().any(|(input, _)| input == name))?;
            let bytes = vec![0; value.shape.iter().product::<usize>() * value.dtype.size()];
            Tensor::from_le_bytes(value.dtype, value.shape.clone(), &bytes).ok()
        };
        let tensor = tensor
            .or_else(zeros)
            .ok_or_else(|| Diagnostic::error(Code::BadOption, format!("input `{name}` is not given")))?;
        let texts = compiled.graph.tables.get(name).and_then(Table::texts);
        given.push(positions(tensor, texts));
    }
    for (tensor, &v) in given.iter().zip(&compiled.graph.inputs) {
        let value = compiled.graph.value(v);
        if tensor.dtype() != value.dtype || tensor.shape() != &value.shape {
            return Err(Diagnostic::error(
                Code::BadOption,
                format!(
                    "input `{}` is {}{}, the file holds {}{}",
                    value.name,
                    value.dtype,
                    value.shape,
                    tensor.dtype(),
                    tensor.shape()
                ),
            )
            .into());
        }
    }
    let levels = config.effective_levels();
    let level = levels.iter().copied().rfind(|l| l.available());
    let level = level.ok_or_else(|| environment("this machine has none of the levels asked for"))?;
    let mut harness = Harness::new(args.build_dir.as_deref(), args.threads)?;
    let places = harness.add(&[&compiled], &config)?;
    let place = places.first().ok_or_else(|| environment("nothing was generated"))?;
    let progress = Progress::wait("building the generated crate");
    harness.build()?;
    drop(progress);
    let (answer, found) = harness
        .start(&place.package)?
        .infer(&place.module, level, &harness.scratch(), &given, &outputs(&compiled))
        .map_err(environment)?;
    if let Answer::Fault(text) = answer {
        super::say(&format!("warning: {text}\n"));
    }
    let found = OutputLength::cut(&compiled.graph.lengths, found);
    let fail = |p: &Path, e: std::io::Error| environment(format!("`{}`: {e}", p.display()));
    std::fs::create_dir_all(&args.output).map_err(|e| fail(&args.output, e))?;
    for (i, (tensor, (name, _))) in found.iter().zip(&compiled.graph.outputs).enumerate() {
        let path = args.output.join(format!("output_{i}.npy"));
        let bytes = write_npy(tensor).ok_or_else(|| {
            Diagnostic::error(
                Code::BadOption,
                format!("`{name}` is {}, which npy files cannot hold", tensor.dtype()),
            )
        })?;
        std::fs::write(&path, bytes).map_err(|e| fail(&path, e))?;
        super::print(&format!("{}  {name}: {}{}\n", path.display(), tensor.dtype(), tensor.shape()));
        // Positions, and what they stand for.
        let texts = compiled.graph.tables.get(name).and_then(Table::texts);
        if let Some(Data::String(words)) =
            texts.and_then(|texts| words(tensor, texts)).as_ref().map(Tensor::data)
        {
            super::print(&format!("  {}\n", words.join(", ")));
        }
    }
    Ok(())
}
