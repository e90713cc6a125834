//! The least that a plan without overlap needs: the largest sum of live, unpadded tensor bytes.

use super::footprint;
use super::liveness::Life;
use crate::kernel::Operand;
use crate::schedule::Schedule;

/// The largest sum, over the steps, of the bytes of tensors that hold something needed.
///
/// Scratch and copies in another layout count nothing, halos neither. A buffer that is written in parts (a
/// concatenation) counts the parts written so far: that it is there as a whole is the plan's choice.
pub(super) fn lower_bound(schedule: &Schedule, lives: &[Option<Life>]) -> usize {
    let mut written = vec![0usize; schedule.buffers.len()];
    for port in &schedule.inputs {
        if let Operand::Buffer(b) = port.operand
            && let Some(w) = written.get_mut(b.0 as usize)
        {
            *w = usize::MAX;
        }
    }
    let mut most = 0;
    for time in 0..schedule.steps.len() + 2 {
        if let Some(step) = time.checked_sub(1).and_then(|i| schedule.steps.get(i)) {
            for touch in footprint::of_kernel(&step.kernel, |o| schedule.len_of(o)) {
                if let (Operand::Buffer(b), true) = (touch.operand, touch.write)
                    && let Some(w) = written.get_mut(b.0 as usize)
                {
                    *w = w.saturating_add(touch.footprint.elements());
                }
            }
        }
        let alive = schedule.buffers.iter().zip(lives).zip(&written).filter_map(|((b, life), &w)| {
            let here = life.is_some_and(|l| l.start <= time && time <= l.end);
            here.then(|| b.live_len.min(w).saturating_mul(b.dtype.size()))
        });
        most = most.max(alive.fold(0, usize::saturating_add));
    }
    most
}
