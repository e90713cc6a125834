//! NumPy archives: several arrays by name.

use crate::diag::{Code, Diagnostic};
use crate::ir::Tensor;
use crate::onnx::read_npy;
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// Bytes that an archive's arrays may take.
const MOST_BYTES: u64 = 4 << 30;
/// Arrays in an archive.
const MOST_ARRAYS: usize = 4096;

/// Whether a file is named as an archive.
pub fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "npz")
}

/// The arrays by name, in the archive's order.
pub fn read(path: &Path) -> Result<Vec<(String, Tensor)>, Diagnostic> {
    let failed = |e: String| Diagnostic::error(Code::TensorData, format!("`{}`: {e}", path.display()));
    let file = std::fs::File::open(path)
        .map_err(|e| Diagnostic::error(Code::Io, format!("`{}`: {e}", path.display())))?;
    let mut archive = ZipArchive::new(file).map_err(|e| failed(e.to_string()))?;
    if archive.len() > MOST_ARRAYS {
        return Err(failed(format!("more than {MOST_ARRAYS} arrays")));
    }
    let (mut arrays, mut left) = (Vec::new(), MOST_BYTES);
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(|e| failed(e.to_string()))?;
        let Some(name) = entry.name().strip_suffix(".npy").map(str::to_owned) else { continue };
        // What the archive says of an array's size is not to be trusted.
        let mut bytes = Vec::new();
        entry.take(left.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| failed(format!("more than {} GiB", MOST_BYTES >> 30)))?;
        let tensor = read_npy(&bytes).map_err(|e| failed(format!("array `{name}`: {e}")))?;
        arrays.push((name, tensor));
    }
    if arrays.is_empty() { Err(failed("no arrays".to_owned())) } else { Ok(arrays) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::write_npy;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    #[test]
    fn arrays_have_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let t = Tensor::new::<f32>([2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let mut w = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
            w.start_file("x.npy", SimpleFileOptions::default().compression_method(method)).unwrap();
            w.write_all(&write_npy(&t).unwrap()).unwrap();
            w.finish().unwrap();
            assert_eq!(read(&path).unwrap(), [("x".to_owned(), t.clone())]);
        }
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(read(&path).is_err());
        }
    }
}
