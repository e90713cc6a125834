//! Graphs as text, for tests and dumps.

use super::{Graph, ValueId};
use std::fmt::{self, Write};

impl<O: fmt::Debug> Graph<O> {
    /// One line per node: `%3: f32[1, 8] = Op { … }(%0, %1)`, constants as `f32[3]{…}`.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.print(&mut out);
        out
    }

    fn print(&self, out: &mut String) -> fmt::Result {
        write!(out, "graph {}(", self.name)?;
        for (i, &v) in self.inputs.iter().enumerate() {
            let sep = if i > 0 { ", " } else { "" };
            write!(out, "{sep}%{}: {}", self.value(v).name, self.type_text(v))?;
        }
        writeln!(out, ")")?;
        for (_, node) in self.nodes() {
            write!(out, "  ")?;
            for (i, v) in node.outputs.iter().enumerate() {
                let sep = if i > 0 { ", " } else { "" };
                match v {
                    Some(v) => write!(out, "{sep}%{}: {}", self.value(*v).name, self.type_text(*v))?,
                    None => write!(out, "{sep}_")?,
                }
            }
            write!(out, " = {:?}(", node.op)?;
            for (i, v) in node.inputs.iter().enumerate() {
                let sep = if i > 0 { ", " } else { "" };
                match v {
                    Some(v) => write!(out, "{sep}{}", self.operand_text(*v))?,
                    None => write!(out, "{sep}_")?,
                }
            }
            writeln!(out, ")")?;
        }
        for (name, v) in &self.outputs {
            writeln!(out, "  return {name} = {}", self.operand_text(*v))?;
        }
        Ok(())
    }

    fn type_text(&self, v: ValueId) -> String {
        let value = self.value(v);
        format!("{}{}", value.dtype, value.shape)
    }

    fn operand_text(&self, v: ValueId) -> String {
        let value = self.value(v);
        match &value.constant {
            Some(t) => format!("const({t:?})"),
            None => format!("%{}", value.name),
        }
    }
}
