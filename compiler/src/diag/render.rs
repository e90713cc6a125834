//! Diagnostics as text.

use super::{Diagnostic, Diagnostics, NodeRef, Severity};
use std::fmt;

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// Names come from untrusted files: no line breaks or control characters reach the terminal.
fn clean(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut out: String = text
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .take(LONGEST)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = if self.domain.is_empty() { String::new() } else { format!("{}.", clean(&self.domain)) };
        write!(
            f,
            "node {} `{}`: {domain}{} (opset {})",
            self.index,
            clean(&self.name),
            clean(&self.op_type),
            self.opset
        )
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity, self.code, multiline(&self.message))?;
        if let Some(node) = &self.node {
            write!(f, "\n  --> {node}")?;
            if !node.inputs.is_empty() {
                let list: Vec<String> = node
                    .inputs
                    .iter()
                    .map(|(name, ty)| match ty {
                        Some(ty) => format!("{}: {ty}", clean(name)),
                        None => format!("{}: ?", clean(name)),
                    })
                    .collect();
                write!(f, "\n   | inputs  {}", list.join(", "))?;
            }
        }
        for note in &self.notes {
            write!(f, "\n   = note: {}", multiline(note))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n   = help: {}", multiline(help))?,
            None if self.severity == Severity::Error => {
                write!(
                    f,
                    "\n   = help: `edgec explain {}` says what leads to this and what to do",
                    self.code
                )?;
            }
            None => {}
        }
        Ok(())
    }
}

/// As [`clean`], but line breaks of our own stay.
fn multiline(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// As for people: a build script that ends with `?` shows this.
impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{d}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Code, Diagnostic, NodeRef};

    #[test]
    fn names_cannot_forge_lines() {
        let node = NodeRef {
            name: "a\nerror: b\u{1b}[2J".into(),
            op_type: "Conv".into(),
            opset: 13,
            ..NodeRef::default()
        };
        let text = Diagnostic::error(Code::InvalidNode, "strides are zero").at(node).to_string();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
