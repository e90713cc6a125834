//! Look-up of values in tables (`ai.onnx.ml` LabelEncoder).

use crate::loops::put;
use crate::operand::Element;

/// `y[i] = position of x[i] in keys`, or the number of keys where it is none of them.
///
/// `keys` are in increasing order; NaN, where it is a key, is the last, and equals NaN.
pub fn find<T: Element + PartialOrd>(x: &[T], keys: &[T], y: &mut [i64], count: usize) {
    let keys = keys.get(..count).unwrap_or_default();
    for (i, &v) in x.iter().enumerate() {
        let is_nan = v.partial_cmp(&v).is_none();
        // A key that is NaN is below nothing, so that it stays at the end.
        let place = keys.partition_point(|k| *k < v || (is_nan && k.partial_cmp(k).is_some()));
        let found = keys.get(place).is_some_and(|k| *k == v || (is_nan && k.partial_cmp(k).is_none()));
        put(y, i, if found { place as i64 } else { count as i64 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_nan_too() {
        let mut y = [9; 5];
        find(&[2.0f32, f32::NAN, -1.0, 3.0, 7.0], &[-1.0, 2.0, 7.0, f32::NAN], &mut y, 4);
        assert_eq!(y, [1, 3, 0, 4, 2]);
        find(&[5i64, 1, 6, 0, 7], &[1, 5], &mut y, 2);
        assert_eq!(y, [1, 0, 2, 2, 2]);
    }
}
