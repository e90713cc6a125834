//! Both halves of Winograd's algorithm → `rt::kernels::{winograd_input, winograd_output}`.

use super::{Parts, StepCx, spec};
use crate::emit::EmitError;
use crate::kernel::spec::{WinogradInputSpec, WinogradOutputSpec};
use crate::kernel::{EpilogueOperands, Kernel, Operand};

pub(super) fn input(
    cx: &StepCx<'_>,
    kernel: &Kernel,
    spec: &WinogradInputSpec,
    x: Operand,
    y: Operand,
) -> Result<Parts, EmitError> {
    let types = [("X", Some(x)), ("Y", Some(y))];
    let value = spec::winograd_input(spec);
    cx.kernel(kernel, "winograd_input", "WinogradInputLayer", "WinogradInputSpec", value, &types)
}

/// `operands` are planes and output.
pub(super) fn output(
    cx: &StepCx<'_>,
    kernel: &Kernel,
    spec: &WinogradOutputSpec,
    [x, y]: [Operand; 2],
    epilogue: &EpilogueOperands,
) -> Result<Parts, EmitError> {
    let types = [
        ("X", Some(x)),
        ("Bias", epilogue.bias),
        ("Scale", epilogue.scale),
        ("Slope", epilogue.slope),
        ("Residual", epilogue.residual),
        ("Y", Some(y)),
    ];
    let value = spec::winograd_output(spec);
    cx.kernel(kernel, "winograd_output", "WinogradOutputLayer", "WinogradOutputSpec", value, &types)
}
