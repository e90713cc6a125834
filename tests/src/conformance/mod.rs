//! The ONNX backend suite as a test: which cases there are, how a run of them is judged, the tables.
//!
//! The cases themselves come from the pip package `onnx` (`tests/conformance/export.py`); `edgec verify
//! --suite` runs them through generated code. What is kept here is small: the list of cases with the
//! inputs that may be bound, the exclusions with their reasons, and the counts that the book prints.

mod judge;
mod lists;
mod table;

pub use judge::{Judgement, Outcome, judge};
pub use lists::{Case, Exclusions, Tier, cases, exclusions};
pub use table::{Counts, by_operator, counts, page, summary};
