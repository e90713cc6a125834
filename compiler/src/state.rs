//! Recurrent state: which outputs come back as inputs, by the user's word (`--stateful h=hn`), and which might, by
//! their names.

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::emit::Carried;
use crate::ops::Graph;
use std::fmt;

/// Why a pair cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// The model has no such input, or it was bound to a constant.
    NoInput {
        /// As given.
        name: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// The model has no such output.
    NoOutput {
        /// As given.
        name: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// Two outputs are to come back as one input.
    InputTwice {
        /// The input.
        name: String,
    },
    /// One output is to come back as two inputs.
    OutputTwice {
        /// The output.
        name: String,
    },
    /// Element types or shapes differ.
    Unlike {
        /// Name of the input, and of the output.
        names: [String; 2],
        /// Type of the input, and of the output, such as `f32[2, 1, 128]`.
        types: [String; 2],
    },
    /// Every output is state: the model would answer nothing.
    NothingLeft,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::NoInput { name, .. } => write!(f, "state: the model has no input `{name}`"),
            StateError::NoOutput { name, .. } => write!(f, "state: the model has no output `{name}`"),
            StateError::InputTwice { name } => write!(f, "state: two outputs come back as input `{name}`"),
            StateError::OutputTwice { name } => write!(f, "state: output `{name}` comes back as two inputs"),
            StateError::Unlike { names: [input, output], types: [wanted, found] } => {
                write!(f, "state: input `{input}` is {wanted}, output `{output}` is {found}")
            }
            StateError::NothingLeft => write!(f, "state: no output is left that is not state"),
        }
    }
}

impl std::error::Error for StateError {}

impl From<StateError> for Diagnostic {
    fn from(error: StateError) -> Self {
        let diagnostic = Diagnostic::error(Code::BadOption, error.to_string());
        match error {
            StateError::NoInput { known, .. } => {
                diagnostic.with_help(format!("its inputs: {}", known.join(", ")))
            }
            StateError::NoOutput { known, .. } => {
                diagnostic.with_help(format!("its outputs: {}", known.join(", ")))
            }
            StateError::Unlike { .. } => {
                diagnostic.with_help("what comes back must have the type and shape of what went in")
            }
            _ => diagnostic,
        }
    }
}

/// The pairs as positions in the graph's inputs and outputs, in the order of the inputs. All problems come at once.
pub fn resolve(graph: &Graph, pairs: &[(String, String)]) -> Result<Vec<Carried>, Vec<StateError>> {
    let mut errors = Vec::new();
    let mut found: Vec<Carried> = Vec::new();
    let inputs: Vec<&str> = graph.inputs.iter().map(|&v| graph.value(v).name.as_str()).collect();
    let outputs: Vec<&str> = graph.own_outputs().iter().map(|(name, _)| name.as_str()).collect();
    let all = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
    for (from, to) in pairs {
        let input = inputs.iter().position(|n| n == from);
        let output = outputs.iter().position(|n| n == to);
        if input.is_none() {
            errors.push(StateError::NoInput { name: from.clone(), known: all(&inputs) });
        }
        if output.is_none() {
            errors.push(StateError::NoOutput { name: to.clone(), known: all(&outputs) });
        }
        let (Some(input), Some(output)) = (input, output) else { continue };
        if found.iter().any(|c| c.input == input) {
            errors.push(StateError::InputTwice { name: from.clone() });
        }
        if found.iter().any(|c| c.output == output) {
            errors.push(StateError::OutputTwice { name: to.clone() });
        }
        if let Some(types) = unlike(graph, input, output) {
            errors.push(StateError::Unlike { names: [from.clone(), to.clone()], types });
        }
        found.push(Carried { input, output });
    }
    if errors.is_empty() && !found.is_empty() && found.len() == outputs.len() {
        errors.push(StateError::NothingLeft);
    }
    found.sort_by_key(|c| c.input);
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

/// [`resolve`], for people.
pub(crate) fn resolve_or_say(graph: &Graph, pairs: &[(String, String)]) -> Result<Vec<Carried>, Diagnostics> {
    resolve(graph, pairs).map_err(|errors| Diagnostics(errors.into_iter().map(Diagnostic::from).collect()))
}

/// The types of an input and an output, where they are not the same.
fn unlike(graph: &Graph, input: usize, output: usize) -> Option<[String; 2]> {
    let input = graph.value(*graph.inputs.get(input)?);
    // A state has one shape in every run.
    let open = graph.lengths.iter().any(|l| l.output == output);
    let output = graph.value(graph.outputs.get(output)?.1);
    let same = !open && input.dtype == output.dtype && input.shape == output.shape;
    (!same).then(|| [input, output].map(|v| format!("{}{}", v.dtype, v.shape)))
}

/// Pairs that are alike in type and shape and look like state by their names (`h`/`hn`, `state`/`stateN`,
/// `cache`/`cache_out`, `past.0.key`/`present.0.key`), in the order of the inputs. Names are no proof.
pub fn propose(graph: &Graph) -> Vec<(String, String)> {
    let mut taken = vec![false; graph.own_outputs().len()];
    let mut pairs = Vec::new();
    for (i, &v) in graph.inputs.iter().enumerate() {
        let name = &graph.value(v).name;
        let Some(stem) = stem(name, BEFORE) else { continue };
        let fits = |o: usize, output: &str| {
            self::stem(output, AFTER).as_ref() == Some(&stem) && unlike(graph, i, o).is_none()
        };
        let output = graph
            .own_outputs()
            .iter()
            .enumerate()
            .find(|(o, (output, _))| taken.get(*o) == Some(&false) && output != name && fits(*o, output));
        if let Some((o, (output, _))) = output {
            if let Some(t) = taken.get_mut(o) {
                *t = true;
            }
            pairs.push((name.clone(), output.clone()));
        }
    }
    // A pair that leaves nothing to answer is no proposal.
    if pairs.len() == graph.own_outputs().len() { Vec::new() } else { pairs }
}

/// Words that say of an input that it comes from before.
const BEFORE: &[&str] =
    &["in", "input", "prev", "previous", "past", "old", "last", "init", "initial", "0", "i"];
/// Words that say of an output that it goes to the next run.
const AFTER: &[&str] =
    &["out", "output", "next", "new", "present", "cur", "current", "updated", "n", "o", "1"];
/// Words, or their beginnings, that name state.
const STATE: &[&str] = &[
    "state", "hidden", "cell", "cache", "buf", "mem", "hist", "carry", "context", "ctx", "kv", "key",
    "value", "rnn", "lstm", "gru", "memory",
];
/// Whole names of state.
const SHORT: &[&str] = &["h", "c", "s", "hx", "cx", "hc", "z"];

/// A name's words without those in `markers` at its ends; `None` where nothing is left that names state.
fn stem(name: &str, markers: &[&str]) -> Option<Vec<String>> {
    let all = words(name);
    let mut words = all.as_slice();
    let is = |w: &String| markers.contains(&w.as_str());
    // One word at an end: `h_0` is `h`, `layer_0_h_0` keeps its layer.
    if let [rest @ .., last] = words
        && is(last)
        && !rest.is_empty()
    {
        words = rest;
    } else if let [first, rest @ ..] = words
        && is(first)
        && !rest.is_empty()
    {
        words = rest;
    }
    let names_state = |w: &String| STATE.iter().any(|s| w.starts_with(s)) || SHORT.contains(&w.as_str());
    let mut words = words.to_vec();
    // `past_key_values.0.key` and `present.0.key`.
    words.retain(|w| w != "values");
    if words.iter().filter(|w| *w == "key").count() > 1 {
        let first = words.iter().position(|w| w == "key").unwrap_or(0);
        words.remove(first);
    }
    words.iter().any(names_state).then_some(words)
}

/// Lower-case words: at other characters, at capitals, where digits begin or end, and with a single `n`, `x`-less,
/// split off the end (`hn`, `stateN`).
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = ' ';
    for c in name.chars() {
        let kind = |c: char| (c.is_ascii_digit(), c.is_alphanumeric());
        let begins =
            !last.is_alphanumeric() || kind(c) != kind(last) || (c.is_uppercase() && !last.is_uppercase());
        if c.is_alphanumeric() {
            let lower = c.to_lowercase();
            match words.last_mut() {
                Some(word) if !begins => word.extend(lower),
                _ => words.push(lower.collect()),
            }
        }
        last = c;
    }
    if let [.., word] = words.as_slice()
        && let Some(rest) = word.strip_suffix('n')
        && SHORT.contains(&rest)
    {
        let rest = rest.to_owned();
        words.pop();
        words.extend([rest, "n".to_owned()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Shape};

    fn graph(inputs: &[(&str, &[usize])], outputs: &[(&str, &[usize])]) -> Graph {
        let mut graph = Graph::new("g");
        let shape = |dims: &[usize]| Shape::from(dims.to_vec());
        for (name, dims) in inputs {
            graph.add_input(*name, DType::F32, shape(dims));
        }
        for (name, dims) in outputs {
            let v = graph.add_constant(*name, crate::ir::Tensor::from_fn(shape(dims), |_| 0f32));
            graph.outputs.push(((*name).to_owned(), v));
        }
        graph
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn pairs_become_positions_in_the_order_of_inputs() {
        let g = graph(&[("x", &[1]), ("h", &[2]), ("c", &[2])], &[("cn", &[2]), ("y", &[1]), ("hn", &[2])]);
        let found = resolve(&g, &pairs(&[("c", "cn"), ("h", "hn")]));
        assert_eq!(found, Ok(vec![Carried { input: 1, output: 2 }, Carried { input: 2, output: 0 }]));
        assert_eq!(resolve(&g, &[]), Ok(Vec::new()));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let g = graph(&[("x", &[1]), ("h", &[2])], &[("y", &[1]), ("hn", &[2])]);
        let wrong = pairs(&[("h", "hn"), ("h", "y"), ("g", "hn"), ("x", "hn"), ("x", "z")]);
        let errors = resolve(&g, &wrong).unwrap_err();
        let known: Vec<String> = vec!["x".into(), "h".into()];
        assert_eq!(
            errors,
            [
                StateError::InputTwice { name: "h".into() },
                StateError::Unlike {
                    names: ["h".into(), "y".into()],
                    types: ["f32[2]".into(), "f32[1]".into()]
                },
                StateError::NoInput { name: "g".into(), known },
                StateError::OutputTwice { name: "hn".into() },
                StateError::Unlike {
                    names: ["x".into(), "hn".into()],
                    types: ["f32[1]".into(), "f32[2]".into()]
                },
                StateError::NoOutput { name: "z".into(), known: vec!["y".into(), "hn".into()] },
            ]
        );
        let g = graph(&[("h", &[2])], &[("hn", &[2])]);
        assert_eq!(resolve(&g, &pairs(&[("h", "hn")])), Err(vec![StateError::NothingLeft]));
        let said = Diagnostic::from(StateError::NoInput { name: "g".into(), known: vec!["x".into()] });
        assert_eq!(said.message, "state: the model has no input `g`");
        assert_eq!(said.help.as_deref(), Some("its inputs: x"));
    }

    #[test]
    fn names_of_many_exporters_are_recognised() {
        for (input, output, yes) in [
            ("h", "hn", true),
            ("h0", "hn", true),
            ("h_0", "h_n", true),
            ("state", "stateN", true),
            ("hidden", "hidden_out", true),
            ("hidden_in", "hidden_out", true),
            ("conv_cache", "conv_cache_out", true),
            ("prev_state", "next_state", true),
            ("initial_c", "c_n", true),
            ("past_key_values.0.key", "present.0.key", true),
            ("past_key_values.0.key", "present.1.key", false),
            ("lstm1_h", "lstm2_h_out", false),
            ("h", "cn", false),
            ("image", "image_out", false),
            ("input", "output", false),
            ("x", "xn", false),
        ] {
            let g = graph(&[("input0", &[2]), (input, &[2])], &[("y", &[2]), (output, &[2])]);
            let expected = if yes { pairs(&[(input, output)]) } else { Vec::new() };
            assert_eq!(propose(&g), expected, "{input}, {output}");
        }
        let g = graph(&[("h", &[2]), ("x", &[1])], &[("hn", &[3]), ("y", &[1])]);
        assert_eq!(propose(&g), Vec::new(), "of another shape");
    }
}
