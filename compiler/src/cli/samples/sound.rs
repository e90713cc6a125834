//! WAV files as samples: each gives as many as the input's length fits into it.

use crate::diag::{Code, Diagnostic};
use crate::ir::{DType, Tensor};
use crate::quant::Input;
use hound::{SampleFormat, WavReader};
use std::path::Path;

/// Numbers that a file may hold.
const MOST: u32 = 1 << 28;

/// Whether a file is named as a sound.
pub fn is_sound(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("wav"))
}

/// Frames of a file, from its beginning on and side by side; what is left over at the end is dropped. Numbers are from -1 to
/// 1; several channels are averaged.
pub fn frames(path: &Path, input: &Input) -> Result<Vec<Tensor>, Diagnostic> {
    let failed = |e: String| Diagnostic::error(Code::TensorData, format!("`{}`: {e}", path.display()));
    if input.dtype != DType::F32 || input.shape.elements() == 0 {
        return Err(failed(format!(
            "input `{}` is {}{}, sounds are for inputs of f32",
            input.name, input.dtype, input.shape
        )));
    }
    let mut reader = WavReader::open(path).map_err(|e| failed(e.to_string()))?;
    let spec = reader.spec();
    if reader.len() > MOST {
        return Err(failed(format!("more than {MOST} numbers")));
    }
    let numbers: Result<Vec<f32>, hound::Error> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect(),
        SampleFormat::Int => {
            let full = 2f32.powi(i32::from(spec.bits_per_sample.clamp(1, 32)) - 1);
            reader.samples::<i32>().map(|s| s.map(|v| v as f32 / full)).collect()
        }
    };
    let numbers = numbers.map_err(|e| failed(e.to_string()))?;
    let channels = usize::from(spec.channels.max(1));
    let mono: Vec<f32> =
        numbers.chunks_exact(channels).map(|c| c.iter().sum::<f32>() / channels as f32).collect();
    let length = input.shape.elements();
    let frames: Result<Vec<Tensor>, _> =
        mono.chunks_exact(length).map(|frame| Tensor::new(input.shape.clone(), frame)).collect();
    let frames = frames.map_err(|e| failed(e.to_string()))?;
    if frames.is_empty() {
        return Err(failed(format!("{} numbers, input `{}` takes {length}", mono.len(), input.name)));
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Shape;
    use hound::{WavSpec, WavWriter};

    fn write(path: &Path, channels: u16, bits: u16, numbers: &[i32]) {
        let spec = WavSpec {
            channels,
            sample_rate: 16_000,
            bits_per_sample: bits,
            sample_format: SampleFormat::Int,
        };
        let mut w = WavWriter::create(path, spec).unwrap();
        numbers.iter().for_each(|&n| w.write_sample(n).unwrap());
        w.finalize().unwrap();
    }

    fn input(shape: &[usize]) -> Input {
        Input { name: "audio".to_owned(), dtype: DType::F32, shape: Shape::from(shape) }
    }

    #[test]
    fn files_are_cut_into_frames() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        write(&path, 1, 16, &[16384, -16384, 0, 32767, 5]);
        let found = frames(&path, &input(&[1, 2])).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].as_slice::<f32>().unwrap(), [0.5, -0.5]);
        write(&path, 2, 24, &[1 << 22, 0, 1 << 22, 1 << 22]);
        assert_eq!(frames(&path, &input(&[2])).unwrap()[0].as_slice::<f32>().unwrap(), [0.25, 0.5]);
    }

    #[test]
    fn short_and_broken_files_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        write(&path, 1, 16, &[1, 2, 3]);
        assert!(frames(&path, &input(&[4])).is_err());
        std::fs::write(&path, b"RIFF....WAVE").unwrap();
        assert!(frames(&path, &input(&[2])).is_err());
    }
}
