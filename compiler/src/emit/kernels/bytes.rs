//! Convolutions of bytes → `rt::kernels::conv_i8`, `rt::kernels::depthwise_i8` and `rt::kernels::windows_i8`.

use super::{Parts, StepCx, spec};
use crate::emit::EmitError;
use crate::kernel::{Bytes, Kernel};

pub(super) fn parts(
    cx: &StepCx<'_>,
    kernel: &Kernel,
    k: &Bytes,
    family: &str,
    layer: &str,
) -> Result<Parts, EmitError> {
    let mut types = vec![("X", Some(k.x))];
    if k.w.is_some() {
        types.push(("W", k.w));
    }
    types.extend([("Numbers", Some(k.numbers)), ("Residual", k.residual), ("Y", Some(k.y))]);
    cx.kernel(kernel, family, layer, "ConvI8Spec", spec::bytes(&k.spec), &types)
}
