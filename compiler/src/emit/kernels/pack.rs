//! Packing → `rt::kernels::pack_rt`.

use super::{Parts, StepCx, spec};
use crate::emit::EmitError;
use crate::kernel::spec::PackSpec;
use crate::kernel::{Kernel, Operand};

pub(super) fn parts(
    cx: &StepCx<'_>,
    kernel: &Kernel,
    spec: &PackSpec,
    x: Operand,
    y: Operand,
) -> Result<Parts, EmitError> {
    cx.kernel(kernel, "pack_rt", "PackLayer", "PackSpec", spec::pack(spec), &[("X", Some(x)), ("Y", Some(y))])
}
