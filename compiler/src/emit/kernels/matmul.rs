//! Matrix products → `rt::kernels::matmul`.

use super::{Parts, StepCx, spec};
use crate::emit::EmitError;
use crate::kernel::spec::MatMulSpec;
use crate::kernel::{EpilogueOperands, Kernel, Operand};

/// `operands` are input, weights, output.
pub(super) fn parts(
    cx: &StepCx<'_>,
    kernel: &Kernel,
    spec: &MatMulSpec,
    operands: [Operand; 3],
    epilogue: &EpilogueOperands,
) -> Result<Parts, EmitError> {
    let [x, w, y] = operands;
    let types = [
        ("A", Some(x)),
        ("W", Some(w)),
        ("Bias", epilogue.bias),
        ("Scale", epilogue.scale),
        ("Slope", epilogue.slope),
        ("Residual", epilogue.residual),
        ("Y", Some(y)),
    ];
    cx.kernel(kernel, "matmul", "MatMulLayer", "MatMulSpec", spec::matmul(spec), &types)
}
