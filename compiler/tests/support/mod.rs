//! What the integration tests share: finding files, numbers for inputs, comparing tensors.

#![allow(dead_code)] // each test uses a part

use edgec::frontend;
use edgec::ir::{DType, Element, Shape, Tensor, bf16, f16};
use edgec::onnx::{ExternalData, text::parse_model};
use edgec::ops::Graph;
use std::path::{Path, PathBuf};

/// Every file below a folder with this extension, in order of name.
pub fn files(root: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The graph of a model in textual syntax.
pub fn import_text(text: &str) -> Result<Graph, String> {
    let model = parse_model(text).map_err(|e| e.to_string())?;
    let imported = frontend::load_model(&model, &ExternalData::none(), &frontend::Options::default());
    imported.map(|i| i.graph).map_err(|d| format!("{d:?}"))
}

/// What inputs are filled with, from a seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Numbers {
    /// Between -2 and 2; integers between 0 and 3.
    Ordinary(u64),
    /// The same, mixed with NaN, infinities and zeros of both signs.
    Special(u64),
}

/// A tensor for each of the graph's inputs.
pub fn inputs_for(graph: &Graph, numbers: Numbers) -> Vec<Tensor> {
    let (Numbers::Ordinary(seed) | Numbers::Special(seed)) = numbers;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    graph
        .inputs
        .iter()
        .map(|&v| {
            let value = graph.value(v);
            let float = value.dtype.is_float();
            tensor(value.dtype, &value.shape, || {
                let n = next();
                match (float, numbers, n % 11) {
                    (false, _, _) => (n % 4) as f64,
                    (_, Numbers::Special(_), 0) => f64::NAN,
                    (_, Numbers::Special(_), 1) => f64::INFINITY,
                    (_, Numbers::Special(_), 2) => f64::NEG_INFINITY,
                    (_, Numbers::Special(_), 3) => 0.0,
                    (_, Numbers::Special(_), 4) => -0.0,
                    _ => n as f64 / (1u64 << 53) as f64 * 4.0 - 2.0,
                }
            })
        })
        .collect()
}

fn tensor(dtype: DType, shape: &Shape, mut f: impl FnMut() -> f64) -> Tensor {
    fn of<T: Element>(shape: &Shape, f: &mut dyn FnMut() -> f64) -> Tensor {
        Tensor::from_fn(shape.clone(), |_| T::from_f64(f()))
    }
    let f = &mut f;
    match dtype {
        DType::F32 => of::<f32>(shape, f),
        DType::F64 => of::<f64>(shape, f),
        DType::F16 => of::<f16>(shape, f),
        DType::Bf16 => of::<bf16>(shape, f),
        DType::I8 => of::<i8>(shape, f),
        DType::I16 => of::<i16>(shape, f),
        DType::I32 => of::<i32>(shape, f),
        DType::I64 => of::<i64>(shape, f),
        DType::U8 => of::<u8>(shape, f),
        DType::U16 => of::<u16>(shape, f),
        DType::U32 => of::<u32>(shape, f),
        DType::U64 => of::<u64>(shape, f),
        DType::Bool => of::<bool>(shape, f),
        other => panic!("no test fills inputs of type {other}"),
    }
}

/// Whether `|Δ| ≤ rtol·|wanted| + atol` everywhere; both tolerances 0 ask for equal bits. Integers are
/// always equal; half types may be off by a few roundings of theirs.
pub fn agree(wanted: &Tensor, found: &Tensor, (rtol, atol): (f64, f64)) -> Result<(), String> {
    if (wanted.dtype(), wanted.shape()) != (found.dtype(), found.shape()) {
        return Err(format!(
            "{}{} instead of {}{}",
            found.dtype(),
            found.shape(),
            wanted.dtype(),
            wanted.shape()
        ));
    }
    let (Some(w), Some(f)) = (wanted.to_f64_vec(), found.to_f64_vec()) else {
        return if wanted == found { Ok(()) } else { Err("strings differ".to_owned()) };
    };
    let exact = (rtol, atol) == (0.0, 0.0) || !wanted.dtype().is_float();
    let least = match wanted.dtype() {
        DType::F16 => 4e-3,
        DType::Bf16 => 3e-2,
        _ => 0.0,
    };
    for (i, (&w, &f)) in w.iter().zip(&f).enumerate() {
        let equal = match (w.is_nan(), f.is_nan()) {
            (true, true) => true,
            _ if exact => w.to_bits() == f.to_bits(),
            // Infinities differ from themselves by NaN.
            _ => w == f || (w - f).abs() <= rtol.max(least) * w.abs() + atol.max(least),
        };
        if !equal {
            return Err(format!("element {i} is {f:e} instead of {w:e}"));
        }
    }
    Ok(())
}
