//! Division of extents without a path that panics.
//!
//! Proofs in `const` exclude zero divisors before a kernel runs, but LLVM does not see them across a
//! pointer: with these no panic is left to link, at the cost of a test beside a division.

/// `n / d`, and 0 for `d == 0`.
#[inline(always)]
pub(crate) const fn quotient(n: usize, d: usize) -> usize {
    match n.checked_div(d) {
        Some(q) => q,
        None => 0,
    }
}

/// `n % d`, and 0 for `d == 0`.
#[inline(always)]
pub(crate) const fn remainder(n: usize, d: usize) -> usize {
    match n.checked_rem(d) {
        Some(r) => r,
        None => 0,
    }
}

/// `⌈n / d⌉`, and 0 for `d == 0`.
#[inline(always)]
pub(crate) const fn ceiling(n: usize, d: usize) -> usize {
    if d == 0 { 0 } else { n.div_ceil(d) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_operators_but_for_zero() {
        assert_eq!((quotient(7, 2), remainder(7, 2), ceiling(7, 2)), (3, 1, 4));
        assert_eq!((quotient(7, 0), remainder(7, 0), ceiling(7, 0)), (0, 0, 0));
    }
}
