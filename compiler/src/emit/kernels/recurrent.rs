//! Recurrent cells → `rt::kernels::recurrent`.

use super::{Parts, StepCx, spec};
use crate::emit::EmitError;
use crate::kernel::{Kernel, Recurrent};

pub(super) fn parts(cx: &StepCx<'_>, kernel: &Kernel, r: &Recurrent) -> Result<Parts, EmitError> {
    cx.kernel(
        kernel,
        "recurrent",
        "RecurrentLayer",
        "RecurrentSpec",
        spec::recurrent(&r.spec),
        &[
            ("X", Some(r.x)),
            ("R", Some(r.r)),
            ("Bias", r.bias),
            ("FirstH", r.first_h),
            ("FirstC", r.first_c),
            ("Y", r.y),
            ("LastH", r.last_h),
            ("LastC", r.last_c),
            ("State", Some(r.state)),
        ],
    )
}
