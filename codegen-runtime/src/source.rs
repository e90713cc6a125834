//! Source text.
