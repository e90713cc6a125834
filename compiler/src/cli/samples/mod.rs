//! Data to calibrate and measure with, from the command line: `[INPUT=]PATH`, once for each input.
//!
//! A path is a `.npy` of one sample or of many (stacked along the first axis), a `.npz` of such arrays by the inputs' names,
//! a folder in the ONNX test layout, an image (JPEG, PNG), a sound (WAV), or a folder of files of one of these kinds.

mod image;
mod npz;
mod prepare;
mod sound;

pub use prepare::PrepareArgs;

use super::data::{read_tensor, sample_sets};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::ir::{DType, Tensor};
use crate::quant::{Input, Samples};
use std::path::{Path, PathBuf};

/// Samples for all inputs.
pub struct Data {
    feeds: Vec<Feed>,
    count: usize,
}

/// Where one input's tensors come from.
enum Feed {
    /// Stacked samples, little-endian.
    Rows { input: Input, bytes: Vec<u8>, count: usize },
    /// One file a sample.
    Files { input: Input, paths: Vec<PathBuf> },
    /// One image a sample.
    Pictures { images: image::Images, paths: Vec<PathBuf> },
    /// Tensors in memory.
    Tensors(Vec<Tensor>),
}

/// What a file of samples is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tensor,
    Image,
    Sound,
}

impl Kind {
    fn of(path: &Path) -> Option<Kind> {
        let tensor = path.extension().is_some_and(|e| e == "npy" || e == "pb");
        match tensor {
            true => Some(Kind::Tensor),
            false if image::is_image(path) => Some(Kind::Image),
            false => sound::is_sound(path).then_some(Kind::Sound),
        }
    }
}

fn bad(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Code::BadOption, message)
}

fn mismatch(path: &Path, tensor: &Tensor, input: &Input) -> Diagnostic {
    Diagnostic::error(
        Code::TensorData,
        format!(
            "`{}`: {}{} does not fit input `{}`, which is {}{}",
            path.display(),
            tensor.dtype(),
            tensor.shape(),
            input.name,
            input.dtype,
            input.shape
        ),
    )
    .with_help("samples have the input's shape, or are stacked along a first axis")
}

/// The tensor in the input's element type; numbers become `f32` where that is asked for, nothing else does.
fn convert(tensor: &Tensor, dtype: DType) -> Option<Tensor> {
    if tensor.dtype() == dtype {
        return Some(tensor.clone());
    }
    if dtype != DType::F32 || tensor.dtype() == DType::String {
        return None;
    }
    let values: Vec<f32> = tensor.to_f64_vec()?.iter().map(|&v| v as f32).collect();
    Tensor::new(tensor.shape().clone(), values).ok()
}

impl Feed {
    /// A tensor of one or more samples.
    fn stacked(path: &Path, tensor: &Tensor, input: &Input) -> Result<Feed, Diagnostic> {
        let wrong = || mismatch(path, tensor, input);
        let tensor_ = convert(tensor, input.dtype).ok_or_else(wrong)?;
        let (have, want) = (tensor.shape().dims(), input.shape.dims());
        let per = input.shape.elements();
        let fits = have == want
            || have.get(1..) == Some(want)
            || !want.is_empty() && have.len() == want.len() && have.get(1..) == want.get(1..);
        if !fits || per == 0 || !tensor.len().is_multiple_of(per) {
            return Err(wrong());
        }
        Ok(Feed::Rows { input: input.clone(), bytes: tensor_.to_le_bytes(), count: tensor.len() / per })
    }

    fn open(path: &Path, input: &Input, prepare: &PrepareArgs) -> Result<Feed, Diagnostic> {
        if !path.is_dir() {
            if image::is_image(path) || sound::is_sound(path) {
                return Feed::files(vec![path.to_owned()], input, prepare);
            }
            if npz::is_npz(path) {
                let arrays = npz::read(path)?;
                let named = arrays.iter().find(|(name, _)| *name == input.name);
                let only = if let [one] = arrays.as_slice() { Some(one) } else { None };
                let (_, tensor) = named.or(only).ok_or_else(|| {
                    let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
                    bad(format!("`{}`: no array `{}` among {}", path.display(), input.name, names.join(", ")))
                })?;
                return Feed::stacked(path, tensor, input);
            }
            return Feed::stacked(path, &read_tensor(path)?, input);
        }
        let mut paths: Vec<PathBuf> = std::fs::read_dir(path)
            .map_err(|e| Diagnostic::error(Code::Io, format!("`{}`: {e}", path.display())))?
            .filter_map(Result::ok)
            .map(|e| e.path())
            .filter(|p| Kind::of(p).is_some())
            .collect();
        paths.sort();
        if paths.is_empty() {
            return Err(bad(format!("`{}` holds no samples", path.display()))
                .with_help("put .npy, .jpg, .png or .wav files there, or set_0/input_0.npy and so on"));
        }
        let kind = paths.first().and_then(|p| Kind::of(p));
        if let Some(other) = paths.iter().find(|p| Kind::of(p) != kind) {
            return Err(bad(format!(
                "`{}` holds files of several kinds: {}",
                path.display(),
                other.display()
            )));
        }
        Feed::files(paths, input, prepare)
    }

    /// Files of one kind, one at least.
    fn files(paths: Vec<PathBuf>, input: &Input, prepare: &PrepareArgs) -> Result<Feed, Diagnostic> {
        Ok(match paths.first().and_then(|p| Kind::of(p)) {
            Some(Kind::Image) => Feed::Pictures { images: image::Images::new(input, prepare)?, paths },
            Some(Kind::Sound) => {
                let mut frames = Vec::new();
                for path in &paths {
                    frames.extend(sound::frames(path, input)?);
                }
                Feed::Tensors(frames)
            }
            _ => Feed::Files { input: input.clone(), paths },
        })
    }

    fn count(&self) -> usize {
        match self {
            Feed::Rows { count, .. } => *count,
            Feed::Files { paths, .. } | Feed::Pictures { paths, .. } => paths.len(),
            Feed::Tensors(tensors) => tensors.len(),
        }
    }

    fn sample(&self, i: usize) -> Result<Tensor, Diagnostic> {
        // One sample for all, as for an input that is a setting.
        let i = if self.count() == 1 { 0 } else { i };
        let lost = || Diagnostic::error(Code::Internal, format!("no sample {i}"));
        match self {
            Feed::Rows { input, bytes, .. } => {
                let size = input.shape.elements().saturating_mul(input.dtype.size());
                let at = i.saturating_mul(size);
                let part = bytes.get(at..at.saturating_add(size)).ok_or_else(lost)?;
                Tensor::from_le_bytes(input.dtype, input.shape.clone(), part).map_err(|_| lost())
            }
            Feed::Files { input, paths } => {
                let path = paths.get(i).ok_or_else(lost)?;
                let tensor = read_tensor(path)?;
                let one = convert(&tensor, input.dtype).filter(|t| t.len() == input.shape.elements());
                let one = one.and_then(|t| t.reshaped(input.shape.clone()).ok());
                one.ok_or_else(|| mismatch(path, &tensor, input))
            }
            Feed::Pictures { images, paths } => images.read(paths.get(i).ok_or_else(lost)?),
            Feed::Tensors(tensors) => tensors.get(i).cloned().ok_or_else(lost),
        }
    }
}

impl Data {
    /// Opens what the options name, for these inputs; `prepare` says how images become such. `file_inputs` are the names of all inputs of the file, bound
    /// ones included: positions in the ONNX test layout count them.
    pub fn open(
        options: &[String],
        prepare: &PrepareArgs,
        inputs: &[Input],
        file_inputs: &[String],
    ) -> Result<Data, Diagnostics> {
        if let [only] = options
            && Path::new(only).is_dir()
        {
            let sets = sample_sets(Path::new(only))?;
            if !sets.is_empty() {
                return Data::from_sets(Path::new(only), &sets, inputs, file_inputs);
            }
        }
        // An archive without an input's name before it holds arrays for all.
        if let [only] = options
            && npz::is_npz(Path::new(only))
            && inputs.len() > 1
        {
            let all = inputs.iter().map(|input| Feed::open(Path::new(only), input, prepare));
            return Data::new(all.collect::<Result<_, _>>()?);
        }
        let mut feeds: Vec<Option<Feed>> = inputs.iter().map(|_| None).collect();
        let mut next = 0;
        for option in options {
            // A path may hold an equals sign; an input's name in front of one decides.
            let named = option.split_once('=').and_then(|(name, path)| {
                Some((inputs.iter().position(|i| i.name == name)?, Path::new(path)))
            });
            let (at, path) = named.unwrap_or((next, Path::new(option)));
            let (Some(slot), Some(input)) = (feeds.get_mut(at), inputs.get(at)) else {
                return Err(
                    bad(format!("`--calibrate {option}`: the model has {} inputs", inputs.len())).into()
                );
            };
            *slot = Some(Feed::open(path, input, prepare)?);
            next = at + 1;
        }
        let mut all = Vec::with_capacity(inputs.len());
        for (feed, input) in feeds.into_iter().zip(inputs) {
            all.push(feed.ok_or_else(|| {
                bad(format!("there is no data for input `{}`", input.name)).with_help(format!(
                    "add `--calibrate '{0}=FILE'`, or fix it with `--bind '{0}=VALUE'`",
                    input.name
                ))
            })?);
        }
        Data::new(all)
    }

    fn new(feeds: Vec<Feed>) -> Result<Data, Diagnostics> {
        let count = feeds.iter().map(Feed::count).max().unwrap_or(0);
        if feeds.iter().any(|f| f.count() != count && f.count() != 1) {
            let counts: Vec<String> = feeds.iter().map(|f| f.count().to_string()).collect();
            return Err(
                bad(format!("inputs have different numbers of samples: {}", counts.join(", "))).into()
            );
        }
        if count == 0 {
            return Err(bad("there are no samples").into());
        }
        Ok(Data { feeds, count })
    }

    fn from_sets(
        folder: &Path,
        sets: &[super::data::SampleSet],
        inputs: &[Input],
        file_inputs: &[String],
    ) -> Result<Data, Diagnostics> {
        let mut feeds = Vec::new();
        for input in inputs {
            let at = file_inputs.iter().position(|n| *n == input.name);
            let mut tensors = Vec::new();
            for set in sets {
                let tensor =
                    at.and_then(|i| set.inputs.get(i)).and_then(Option::as_ref).ok_or_else(|| {
                        bad(format!(
                            "`{}`: sample `{}` lacks input `{}`",
                            folder.display(),
                            set.name,
                            input.name
                        ))
                    })?;
                let fit = convert(tensor, input.dtype).filter(|t| t.len() == input.shape.elements());
                let fit = fit.and_then(|t| t.reshaped(input.shape.clone()).ok());
                tensors.push(fit.ok_or_else(|| mismatch(&folder.join(&set.name), tensor, input))?);
            }
            feeds.push(Feed::Tensors(tensors));
        }
        Data::new(feeds)
    }
}

impl Samples for Data {
    fn count(&self) -> usize {
        self.count
    }

    fn sample(&self, i: usize) -> Result<Vec<Tensor>, Diagnostic> {
        self.feeds.iter().map(|f| f.sample(i)).collect()
    }
}
