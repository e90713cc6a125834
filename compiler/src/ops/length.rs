//! Extents that only a run knows: a result's shape holds the largest that they can be, and a value beside it
//! how many of its elements count.
//!
//! Elements beyond the length are computed like all others and mean nothing. Operators that make such a
//! result (NonZero, NonMaxSuppression) fill them with zeros; what an operator needs of its operands' it says
//! with [`Lengths::cleared`].

use super::{Inputs, OpError};
use crate::ir::Shape;

/// An axis of a result whose extent is a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Along {
    /// The axis.
    pub axis: usize,
    /// The extent of a run.
    pub length: Length,
}

/// How the extent of a run follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// The only element of this result of the same node, an `i64[1]`, says it.
    Result(usize),
    /// That of the operands.
    Same,
    /// Of the operands', those from one position up to another.
    Window {
        /// The first.
        from: usize,
        /// Behind the last.
        to: usize,
    },
    /// So many for each of the operands'.
    Times(usize),
    /// So many more than the operands'.
    Plus(usize),
}

/// Which results have such an axis.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lengths {
    /// By result; those behind the last have none.
    pub results: Vec<Option<Along>>,
    /// Operands whose elements beyond the length must be zeros.
    pub cleared: Vec<usize>,
    /// Whether results hold zeros beyond their lengths if the operands do.
    pub moves: bool,
}

impl Lengths {
    /// One result with the operands' length along an axis.
    pub(super) fn same(axis: usize) -> Self {
        Lengths::one(axis, Length::Same)
    }

    /// One result with a length along an axis.
    pub(super) fn one(axis: usize, length: Length) -> Self {
        Lengths { results: vec![Some(Along { axis, length })], ..Lengths::default() }
    }

    /// Of an operator that only moves elements.
    pub(super) fn moved(self) -> Self {
        Lengths { moves: true, ..self }
    }

    /// Of an operator that wants zeros beyond the length of this operand.
    pub(super) fn clearing(mut self, operand: usize) -> Self {
        self.cleared.push(operand);
        self
    }
}

/// Axes of the operands whose extents are maxima, all of the same length; `None` for those without.
pub type Axes<'a> = &'a [Option<usize>];

/// That of operand `i`.
pub(super) fn of(along: Axes<'_>, i: usize) -> Option<usize> {
    along.get(i).copied().flatten()
}

/// Why an operator does not take such an operand.
pub fn unknown_length(why: &str) -> OpError {
    OpError::unsupported_help(
        format!("{why} has a number of elements that only a run knows"),
        "end the model in front of this operator, which then gives a `Bounded` output, or take a fixed number of \
         elements, as with TopK",
    )
}

/// What all operators say that do not say otherwise: results of fixed extents from operands of fixed extents.
pub(super) fn none(along: Axes<'_>) -> Result<Lengths, OpError> {
    match along.iter().any(Option::is_some) {
        true => Err(unknown_length("an operand")),
        false => Ok(Lengths::default()),
    }
}

/// The result of a function of elements, whose operands broadcast together.
pub(super) fn broadcast(inputs: &Inputs<'_>, along: Axes<'_>) -> Result<Lengths, OpError> {
    let rank = inputs.present().map(|f| f.shape.rank()).max().unwrap_or(0);
    // Axes counted from the end are those of the result.
    let from_end = |i: usize| {
        let (axis, rank) = (of(along, i)?, inputs.get(i)?.shape.rank());
        rank.checked_sub(axis)
    };
    let mut found: Option<usize> = None;
    for back in (0..inputs.len()).filter_map(from_end) {
        if found.is_some_and(|other| other != back) {
            return Err(unknown_length("each of two axes"));
        }
        found = Some(back);
    }
    let Some(back) = found else { return Ok(Lengths::default()) };
    for (i, fact) in (0..inputs.len()).filter_map(|i| Some((i, inputs.get(i)?))) {
        let extent = fact.shape.rank().checked_sub(back).and_then(|a| fact.shape.get(a));
        if of(along, i).is_none() && extent.is_some_and(|&d| d != 1) {
            return Err(unknown_length("an operand beside one of fixed extents"));
        }
    }
    Ok(Lengths::same(rank.saturating_sub(back)))
}

/// The result of a function of operand 0's elements, of its shape; other operands have fixed extents.
pub(super) fn elements(along: Axes<'_>) -> Result<Lengths, OpError> {
    if along.iter().skip(1).any(Option::is_some) {
        return Err(unknown_length("a parameter"));
    }
    Ok(of(along, 0).map(Lengths::same).unwrap_or_default())
}

/// The axis of `x` as axis `to` of a regrouped shape, which must be made of it and of axes behind it.
pub(super) fn regrouped_axis(x: &Shape, axis: usize, shape: &Shape, to: usize) -> Result<Lengths, OpError> {
    let refuse = || unknown_length("an axis that is joined to others in front of it");
    let (outer, rest) = x.dims().split_at_checked(axis).ok_or_else(refuse)?;
    let (new_outer, new_rest) = shape.dims().split_at_checked(to).ok_or_else(refuse)?;
    let (Some(&most), Some(&extent)) = (rest.first(), new_rest.first()) else { return Err(refuse()) };
    if Shape::from(outer).elements() != Shape::from(new_outer).elements() {
        return Err(refuse());
    }
    let times = extent.checked_div(most).filter(|t| t.checked_mul(most) == Some(extent));
    match times {
        Some(1) => Ok(Lengths::same(to).moved()),
        Some(times) if times > 0 => Ok(Lengths::one(to, Length::Times(times)).moved()),
        _ => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Fact;
    use super::*;
    use crate::ir::DType;

    fn broadcast_of(shapes: &[&[usize]], along: Axes<'_>) -> Result<Lengths, OpError> {
        let shapes: Vec<Shape> = shapes.iter().map(|&s| Shape::from(s)).collect();
        let facts: Vec<_> =
            shapes.iter().map(|shape| Some(Fact { dtype: DType::F32, shape, constant: None })).collect();
        broadcast(&Inputs::new(&facts, 1), along)
    }

    #[test]
    fn functions_of_elements_keep_one_length() {
        assert_eq!(broadcast_of(&[&[6, 3], &[3]], &[Some(0), None]), Ok(Lengths::same(0)));
        assert_eq!(broadcast_of(&[&[6], &[4, 1]], &[Some(0), None]), Ok(Lengths::same(1)));
        assert_eq!(broadcast_of(&[&[6, 3], &[6, 1]], &[Some(0), Some(0)]), Ok(Lengths::same(0)));
        // Six rows stand beside fewer.
        assert!(broadcast_of(&[&[6, 3], &[6, 1]], &[Some(0), None]).is_err());
        // Every one with every other.
        assert!(broadcast_of(&[&[6, 1], &[6]], &[Some(0), Some(0)]).is_err());
        assert_eq!(broadcast_of(&[&[6, 1], &[6]], &[None, None]), Ok(Lengths::default()));
    }

    #[test]
    fn regrouping_keeps_what_lies_in_front() {
        let of =
            |x: &[usize], axis, y: &[usize], to| regrouped_axis(&Shape::from(x), axis, &Shape::from(y), to);
        assert_eq!(of(&[6, 3], 0, &[6, 3, 1], 0), Ok(Lengths::same(0).moved()));
        assert_eq!(of(&[6, 3], 0, &[18], 0), Ok(Lengths::one(0, Length::Times(3)).moved()));
        assert_eq!(of(&[2, 6], 1, &[1, 2, 6], 2), Ok(Lengths::same(2).moved()));
        assert!(of(&[2, 6], 1, &[12], 0).is_err(), "gaps between the rows");
        assert!(of(&[6, 3], 0, &[9, 2], 0).is_err());
    }
}
