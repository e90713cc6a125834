//! Pooling → `rt::kernels::pool`.

use super::{Parts, StepCx, spec};
use crate::emit::EmitError;
use crate::kernel::spec::PoolSpec;
use crate::kernel::{Kernel, Operand};

pub(super) fn parts(
    cx: &StepCx<'_>,
    kernel: &Kernel,
    spec: &PoolSpec,
    x: Operand,
    y: Operand,
) -> Result<Parts, EmitError> {
    cx.kernel(kernel, "pool", "PoolLayer", "PoolSpec", spec::pool(spec), &[("X", Some(x)), ("Y", Some(y))])
}
