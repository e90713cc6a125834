//! A look at a file's wire format before it is decoded.
//!
//! A few bytes of protobuf can stand for a message that takes hundreds in memory, and messages
//! nest. This walk allocates nothing; it counts what decoding would build and how deep, and refuses
//! files beyond the limits, which also keeps decoding's recursion shallow.

use std::fmt;

/// Messages in one file. The largest models that fit a device have some 20,000 nodes with a dozen
/// messages each; decoded, a message takes up to 350 bytes.
const MAX_MESSAGES: usize = 600_000;

/// Entries of repeated scalar and string fields (typed tensor data, attribute lists, names) beyond
/// the bytes of `raw_data`; up to 8 bytes each once decoded.
const MAX_ENTRIES: usize = 20_000_000;

/// What a string counts for: decoded, it takes four times as much as a number.
const STRING_ENTRIES: usize = 4;

/// Depth of messages; a subgraph costs three. Prost itself refuses 100.
const MAX_DEPTH: usize = 90;

/// Why a file is not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanError {
    /// Not well-formed protobuf; the byte where reading stopped.
    Malformed(usize),
    /// More than a limit allows; the text names it.
    Limit(String),
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::Malformed(at) => write!(f, "the data is cut off or damaged at byte {at}"),
            ScanError::Limit(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ScanError {}

/// Kinds of messages as far as the walk must tell them apart.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Model,
    Graph,
    Node,
    Function,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    /// Sequence or optional: field 1 is a type.
    Wrapper,
    Map,
    TensorType,
    Shape,
    /// A message without messages inside.
    Flat,
    /// A string or bytes, one of many.
    Strings,
    /// Packed numbers of so many bytes.
    Fixed(usize),
    /// Packed numbers of varying length.
    Varints,
}

/// What a length-delimited field of a message holds; `None` where decoding skips it.
fn child(kind: Kind, field: u64) -> Option<Kind> {
    use Kind::*;
    Some(match (kind, field) {
        (Model, 8 | 14) => Flat,
        (Model, 7) => Graph,
        (Model, 25) => Function,
        (Graph, 1) | (Function, 7) => Node,
        (Graph, 5) => Tensor,
        (Graph, 15) => Sparse,
        (Graph, 11..=13) | (Function, 12) => ValueInfo,
        (Node, 5) | (Function, 11) => Attribute,
        (Function, 9) => Flat,
        (Node, 1 | 2) | (Function, 4..=6) | (Attribute, 9) | (Tensor, 6) => Strings,
        (Attribute, 5 | 10) | (Sparse, 1 | 2) => Tensor,
        (Attribute, 6 | 11) => Graph,
        (Attribute, 22 | 23) => Sparse,
        (Attribute, 14 | 15) | (ValueInfo, 2) => Type,
        (Attribute, 7) | (Tensor, 4) => Fixed(4),
        (Tensor, 10) => Fixed(8),
        (Attribute, 8) | (Tensor, 1 | 5 | 7 | 11) | (Sparse, 3) => Varints,
        (Tensor, 3 | 13) => Flat,
        (Type, 1 | 8) => TensorType,
        (Type, 4 | 9) => Wrapper,
        (Type, 5) => Map,
        (Type, 7) => Flat,
        (Wrapper, 1) | (Map, 2) => Type,
        (TensorType, 2) => Shape,
        (Shape, 1) => Flat,
        _ => return None,
    })
}

struct Scan<'a> {
    bytes: &'a [u8],
    messages: usize,
    entries: usize,
}

/// Checks that `bytes` are a well-formed message of ModelProto's outline within the limits.
pub fn scan_model(bytes: &[u8]) -> Result<(), ScanError> {
    Scan { bytes, messages: 0, entries: 0 }.message(Kind::Model, 0, bytes.len(), 0)
}

/// As [`scan_model`], for a lone TensorProto.
pub fn scan_tensor(bytes: &[u8]) -> Result<(), ScanError> {
    Scan { bytes, messages: 0, entries: 0 }.message(Kind::Tensor, 0, bytes.len(), 0)
}

impl Scan<'_> {
    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, ScanError> {
        let start = *at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = match self.bytes.get(*at) {
                Some(&b) if *at < end => b,
                _ => return Err(ScanError::Malformed(start)),
            };
            *at += 1;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ScanError::Malformed(start))
    }

    fn message(&mut self, kind: Kind, mut at: usize, end: usize, depth: usize) -> Result<(), ScanError> {
        self.messages += 1;
        if self.messages > MAX_MESSAGES {
            return Err(ScanError::Limit(format!("the file holds more than {MAX_MESSAGES} messages")));
        }
        if depth > MAX_DEPTH {
            return Err(ScanError::Limit(format!(
                "subgraphs or types nest too deeply (more than {MAX_DEPTH} levels of messages)"
            )));
        }
        while at < end {
            let start = at;
            let key = self.varint(&mut at, end)?;
            let field = key >> 3;
            match key & 7 {
                0 => {
                    self.varint(&mut at, end)?;
                    self.count(1)?;
                }
                1 => at = skip(at, 8, end)?,
                5 => {
                    at = skip(at, 4, end)?;
                    self.count(1)?;
                }
                2 => {
                    let length = usize::try_from(self.varint(&mut at, end)?)
                        .map_err(|_| ScanError::Malformed(start))?;
                    let stop = skip(at, length, end)?;
                    match child(kind, field) {
                        None => {}
                        Some(Kind::Strings) => self.count(STRING_ENTRIES)?,
                        Some(Kind::Fixed(size)) => self.count(length / size)?,
                        Some(Kind::Varints) => {
                            let values = self.bytes.get(at..stop).unwrap_or_default();
                            self.count(values.iter().filter(|&&b| b & 0x80 == 0).count())?;
                        }
                        Some(inner) => self.message(inner, at, stop, depth + 1)?,
                    }
                    at = stop;
                }
                _ => return Err(ScanError::Malformed(start)),
            }
        }
        Ok(())
    }

    fn count(&mut self, entries: usize) -> Result<(), ScanError> {
        self.entries += entries;
        if self.entries > MAX_ENTRIES {
            return Err(ScanError::Limit(format!(
                "the file holds more than {MAX_ENTRIES} numbers outside `raw_data`"
            )));
        }
        Ok(())
    }
}

fn skip(at: usize, by: usize, end: usize) -> Result<usize, ScanError> {
    at.checked_add(by).filter(|&stop| stop <= end).ok_or(ScanError::Malformed(at))
}

#[cfg(test)]
mod tests {
    use super::super::proto::*;
    use super::*;
    use prost::Message;

    #[test]
    fn deep_subgraphs_are_refused_not_overflowed() {
        let mut bytes = Vec::new();
        for _ in 0..2000 {
            // graph { node { attribute { g { … } } } }
            for tag in [0x32u8, 0x2a, 0x0a] {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
                outer.append(&mut bytes);
                bytes = outer;
            }
        }
        let mut model = vec![0x3a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut model);
        model.append(&mut bytes);
        assert!(matches!(scan_model(&model), Err(ScanError::Limit(_))));
    }

    #[test]
    fn many_empty_messages_are_refused() {
        let mut graph: Vec<u8> = Vec::new();
        for _ in 0..MAX_MESSAGES + 1 {
            graph.extend([0x0a, 0]);
        }
        let mut model = vec![0x3a];
        prost::encoding::encode_varint(graph.len() as u64, &mut model);
        model.append(&mut graph);
        assert!(matches!(scan_model(&model), Err(ScanError::Limit(_))));
    }

    #[test]
    fn a_cut_file_is_malformed() {
        let model = ModelProto {
            ir_version: 8,
            graph: Some(GraphProto { name: "g".into(), ..Default::default() }),
            ..Default::default()
        };
        let bytes = model.encode_to_vec();
        assert_eq!(scan_model(&bytes), Ok(()));
        assert!(matches!(scan_model(&bytes[..bytes.len() - 1]), Err(ScanError::Malformed(_))));
    }
}
