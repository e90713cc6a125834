//! Convolutions → `rt::kernels::conv`.

use super::{Parts, StepCx, spec};
use crate::emit::EmitError;
use crate::kernel::spec::ConvSpec;
use crate::kernel::{EpilogueOperands, Kernel, Operand};

/// `operands` are input, weights, output.
pub(super) fn parts(
    cx: &StepCx<'_>,
    kernel: &Kernel,
    spec: &ConvSpec,
    operands: [Operand; 3],
    epilogue: &EpilogueOperands,
) -> Result<Parts, EmitError> {
    let [x, w, y] = operands;
    let types = [
        ("X", Some(x)),
        ("W", Some(w)),
        ("Bias", epilogue.bias),
        ("Scale", epilogue.scale),
        ("Slope", epilogue.slope),
        ("Residual", epilogue.residual),
        ("Y", Some(y)),
    ];
    cx.kernel(kernel, "conv", "ConvLayer", "ConvSpec", spec::conv(spec), &types)
}
