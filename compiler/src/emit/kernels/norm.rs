//! Normalisation → `rt::kernels::norm`.

use super::{Parts, StepCx, spec};
use crate::emit::EmitError;
use crate::kernel::spec::NormSpec;
use crate::kernel::{Kernel, Operand};

/// `affine` is scale and bias.
pub(super) fn parts(
    cx: &StepCx<'_>,
    kernel: &Kernel,
    spec: &NormSpec,
    x: Operand,
    affine: [Option<Operand>; 2],
    y: Operand,
) -> Result<Parts, EmitError> {
    let [scale, bias] = affine;
    let types = [("X", Some(x)), ("Scale", scale), ("Bias", bias), ("Y", Some(y))];
    cx.kernel(kernel, "norm", "NormLayer", "NormSpec", spec::norm(spec), &types)
}
