//! What a model carries from one run to the next.

use crate::mem::Arena;

/// `N` bytes of carried state, apart from the arena, which models that run in turns may share.
///
/// All zero when new, so that a `static` one lies in `.bss`; zeros are also how a sequence starts.
#[repr(transparent)]
pub struct State<const N: usize>(Arena<N>);

/// Saved bytes that are not of this model's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateError {
    /// Bytes of the state.
    pub expected: usize,
    /// Bytes given.
    pub found: usize,
}

impl core::fmt::Display for StateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes where a state has {}", self.found, self.expected)
    }
}

impl core::error::Error for StateError {}

impl<const N: usize> State<N> {
    /// The state that a sequence starts with: zeros.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        State(Arena::new())
    }

    /// Starts a new sequence: all zeros.
    pub fn reset(&mut self) {
        self.0.bytes_mut().fill(0);
    }

    /// The whole state, to keep and to [`load`](State::load) again: little-endian elements, the parts in the order
    /// of the model's inputs, each at a multiple of 8 bytes.
    pub fn save(&self) -> &[u8; N] {
        self.0.bytes()
    }

    /// Goes back to a saved state of the same model.
    ///
    /// # Errors
    /// `saved` is not as long as the state, which stays as it is.
    pub fn load(&mut self, saved: &[u8]) -> Result<(), StateError> {
        let from: &[u8; N] = saved.try_into().map_err(|_| StateError { expected: N, found: saved.len() })?;
        *self.0.bytes_mut() = *from;
        Ok(())
    }

    /// Memory as a state.
    pub fn of(memory: &Arena<N>) -> &Self {
        // SAFETY: `State<N>` is `repr(transparent)` over `Arena<N>`.
        unsafe { &*(&raw const *memory).cast() }
    }

    /// Memory as a state, to write.
    pub fn of_mut(memory: &mut Arena<N>) -> &mut Self {
        // SAFETY: `State<N>` is `repr(transparent)` over `Arena<N>`, borrowed exclusively.
        unsafe { &mut *(&raw mut *memory).cast() }
    }

    /// The memory, to keep the state in.
    pub fn memory(&mut self) -> &mut Arena<N> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operand::Slot;

    #[test]
    fn a_state_is_saved_and_loaded() {
        let mut state = State::<16>::new();
        *state.memory().write::<Slot<i32, 8, 2>>() = [7, -1];
        let saved = *state.save();
        assert_eq!(&saved[8..], &[7, 0, 0, 0, 255, 255, 255, 255]);
        state.reset();
        assert_eq!(state.save(), &[0; 16]);
        assert_eq!(state.load(&saved[..9]), Err(StateError { expected: 16, found: 9 }));
        assert_eq!(state.save(), &[0; 16]);
        assert_eq!(state.load(&saved), Ok(()));
        assert_eq!(State::of_mut(state.memory()).memory().write::<Slot<i32, 8, 2>>(), &mut [7, -1]);
    }
}
