//! Softmax → `rt::kernels::softmax`.

use super::{Parts, StepCx, spec};
use crate::emit::EmitError;
use crate::kernel::spec::SoftmaxSpec;
use crate::kernel::{Kernel, Operand};

pub(super) fn parts(
    cx: &StepCx<'_>,
    kernel: &Kernel,
    spec: &SoftmaxSpec,
    x: Operand,
    y: Operand,
) -> Result<Parts, EmitError> {
    cx.kernel(
        kernel,
        "softmax",
        "SoftmaxLayer",
        "SoftmaxSpec",
        spec::softmax(spec),
        &[("X", Some(x)), ("Y", Some(y))],
    )
}
