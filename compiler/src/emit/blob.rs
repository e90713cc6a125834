//! Constants → weights files: which file each lies in, and where.

use crate::kernel::{ConstId, Constant, Operand};
use crate::schedule::Schedule;

use super::EmitError;

/// Every constant starts at a multiple of this, the widest vector there is.
const ALIGN: usize = 64;
/// Weights up to this size are one file; larger ones are split between layers, since rustc keeps
/// several copies of an included file in memory.
pub(super) const ONE_FILE: usize = 16 << 20;

/// The files of a model's weights.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Blobs {
    /// Bytes of each file; at least one, possibly empty.
    pub(super) files: Vec<Vec<u8>>,
    /// For each constant, its file and first byte.
    pub(super) places: Vec<(usize, usize)>,
}

impl Blobs {
    /// Lays out constants in their order; those that one step reads share a file. One file unless `split`.
    pub(super) fn new(schedule: &Schedule, split: bool) -> Self {
        let constants = &schedule.constants;
        let total: usize = constants.iter().map(|c| c.bytes.len().next_multiple_of(ALIGN)).sum();
        let limit = if total <= ONE_FILE || !split { usize::MAX } else { ONE_FILE };
        let mut files = vec![Vec::new()];
        let mut places = vec![(0, 0); constants.len()];
        for group in groups(schedule) {
            let of_group = |&i: &usize| constants.get(i).map(|c| (i, c));
            let bytes: usize =
                group.iter().filter_map(of_group).map(|(_, c)| c.bytes.len().next_multiple_of(ALIGN)).sum();
            if files.last().is_some_and(|f| !f.is_empty() && f.len().saturating_add(bytes) > limit) {
                files.push(Vec::new());
            }
            let index = files.len() - 1;
            for (i, constant) in group.iter().filter_map(of_group) {
                if let (Some(file), Some(place)) = (files.last_mut(), places.get_mut(i)) {
                    *place = (index, append(file, constant));
                }
            }
        }
        Blobs { files, places }
    }

    /// File and first byte of a constant.
    pub(super) fn place(&self, id: ConstId) -> Result<(usize, usize), EmitError> {
        self.places
            .get(id.0 as usize)
            .copied()
            .ok_or_else(|| EmitError::Internal(format!("no constant {}", id.0)))
    }

    /// The file that a kernel's constants lie in; the first where it reads none.
    pub(super) fn file_of(&self, operands: &[Operand]) -> Result<usize, EmitError> {
        for operand in operands {
            if let Operand::Const(id) = operand {
                return Ok(self.place(*id)?.0);
            }
        }
        Ok(0)
    }

    /// Bytes of all files.
    pub(super) fn total(&self) -> usize {
        self.files.iter().map(Vec::len).sum()
    }
}

/// Appends at the next aligned position, which it returns.
fn append(file: &mut Vec<u8>, constant: &Constant) -> usize {
    file.resize(file.len().next_multiple_of(ALIGN), 0);
    let at = file.len();
    file.extend_from_slice(&constant.bytes);
    at
}

/// Constants that must share a file, in the order of their first member.
fn groups(schedule: &Schedule) -> Vec<Vec<usize>> {
    let count = schedule.constants.len();
    let mut leader: Vec<usize> = (0..count).collect();
    let find = |leader: &[usize], mut i: usize| {
        while let Some(&next) = leader.get(i).filter(|&&next| next != i) {
            i = next;
        }
        i
    };
    for step in &schedule.steps {
        let mut first = None;
        for operand in step.kernel.reads() {
            let Operand::Const(id) = operand else { continue };
            let i = find(&leader, id.0 as usize);
            let f = find(&leader, *first.get_or_insert(i));
            // The smaller index leads, so that groups keep the order of the constants.
            if let Some(slot) = leader.get_mut(i.max(f)) {
                *slot = i.min(f);
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); count];
    for i in 0..count {
        if let Some(group) = groups.get_mut(find(&leader, i)) {
            group.push(i);
        }
    }
    groups.retain(|g| !g.is_empty());
    groups
}
