//! Convolutions of bytes → `rt::kernels::conv_i8` and `rt::kernels::depthwise_i8`.

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
    let types = [
        ("X", Some(k.x)),
        ("W", Some(k.w)),
        ("Numbers", Some(k.numbers)),
        ("Residual", k.residual),
        ("Y", Some(k.y)),
    ];
    cx.kernel(kernel, family, layer, "ConvI8Spec", spec::bytes(&k.spec), &types)
}
