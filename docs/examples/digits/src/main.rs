//! Handwritten digits: predictions of the generated crate beside the labels.

use std::error::Error;
use std::path::Path;

/// Elements of a version-1 `.npy` file, whose header ends with a line break.
fn npy<const N: usize>(path: &Path) -> Result<Vec<[u8; N]>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    Ok(bytes[header..].chunks_exact(N).map(|c| c.try_into().unwrap_or([0; N])).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fixtures/digits/samples");
    let pixels: Vec<f32> = npy::<4>(&samples.join("test_x.npy"))?.into_iter().map(f32::from_le_bytes).collect();
    let labels: Vec<i64> = npy::<8>(&samples.join("test_y.npy"))?.into_iter().map(i64::from_le_bytes).collect();

    let mut model = digits::Model::boxed();
    let (mut right, mut shown) = (0, 0);
    for (image, &label) in pixels.chunks_exact(64).zip(&labels) {
        model.image_mut().as_flattened_mut().as_flattened_mut().copy_from_slice(image);
        let out = model.invoke();
        let best = out.probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let (digit, confidence) = best.ok_or("no classes")?;
        right += usize::from(digit as i64 == label);
        if shown < 10 {
            println!("predicted {digit} ({:.0} %), label {label}", 100.0 * confidence);
            shown += 1;
        }
    }
    println!("{right} of {} right ({:.1} %)", labels.len(), 100.0 * right as f64 / labels.len() as f64);
    Ok(())
}
