//! Texts of a model: generated code handles positions in tables, and holds the tables.

use std::sync::Arc;

/// The texts of a table.
pub type Texts = Arc<[String]>;

/// What the numbers or the columns of an input or output stand for.
#[derive(Debug, Clone, PartialEq)]
pub enum Table {
    /// The elements, `i64`, are positions in this table. Other positions, at inputs, stand for texts that are not in it.
    Texts(Texts),
    /// The last axis has a column for each key of what was a dictionary.
    Columns(Keys),
}

/// Keys of a dictionary.
#[derive(Debug, Clone, PartialEq)]
pub enum Keys {
    /// Numbers.
    Ints(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
}

impl Table {
    /// The table's texts, where that is what it holds.
    pub fn texts(&self) -> Option<&[String]> {
        match self {
            Table::Texts(texts) => Some(texts),
            Table::Columns(_) => None,
        }
    }
}
