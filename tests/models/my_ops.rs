//! Operators of `com.acme`, for models of the tests.

use edgec_runtime::CustomOp;

/// `com.acme.Squash(x, scale?, bias)`: `y = limit · x / (1 + |x|)`, and for each row of `x` where its largest value
/// is, plus the sum of `offsets` and the length of `bias`.
pub fn squash(op: &CustomOp, x: &[f32], scale: &[f32], bias: &[f32], y: &mut [f32], which: &mut [i64]) {
    let limit = op.float("limit").unwrap_or(1.0) * scale.first().unwrap_or(&1.0);
    for (y, x) in y.iter_mut().zip(x) {
        *y = limit * x / (1.0 + x.abs());
    }
    let shift = op.ints("offsets").unwrap_or(&[]).iter().sum::<i64>() + bias.len() as i64;
    let columns = op.input_shape(0).last().copied().unwrap_or(1).max(1);
    for (which, row) in which.iter_mut().zip(x.chunks(columns)) {
        let largest =
            row.iter().enumerate().fold((0, f32::MIN), |l, (i, &v)| if v > l.1 { (i, v) } else { l });
        *which = largest.0 as i64 + shift;
    }
}
