//! Identifiers out of ONNX names.

use proc_macro2::{Ident, Span};

use super::EmitError;
use crate::schedule::Schedule;

/// A port's identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortName {
    /// Field and argument: `image`.
    pub(super) field: String,
    /// Type alias: `Image`.
    pub(super) alias: String,
    /// `TensorInfo` const: `IMAGE`.
    pub(super) info: String,
}

/// Names that generated modules use for types, which ports must not take.
const TAKEN_TYPES: &[&str] = &[
    "Arena",
    "Blob",
    "Bf16",
    "Bool",
    "Err",
    "F16",
    "F4E2M1",
    "F8E4M3",
    "F8E4M3Uz",
    "F8E5M2",
    "F8E5M2Uz",
    "F8E8M0",
    "FnMut",
    "Inputs",
    "LayerInfo",
    "Level",
    "Model",
    "ModelInfo",
    "None",
    "Ok",
    "Option",
    "Outputs",
    "Part",
    "Probe",
    "Watch",
    "RunError",
    "Self",
    "Shaped",
    "Sized",
    "Some",
    "TensorInfo",
    "Tensors",
    "WeightsError",
];
/// Constants of generated modules that ports must not take.
const TAKEN_CONSTS: &[&str] = &["ARENA_BYTES", "INFO", "INPUTS", "LAYERS", "LEVELS", "OUTPUTS"];

/// What modules of models that carry state use besides.
const OF_STATE: &[&str] = &["STATE", "STATE_BYTES", "State", "StateError"];

const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "union", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

/// An identifier token. `name` comes from this module, so it is valid.
pub(super) fn ident(name: &str) -> Ident {
    Ident::new(name, Span::call_site())
}

/// Lower-case words joined by `_`, out of any name; never empty, a keyword, or starting with a digit.
pub fn sanitise(name: &str, otherwise: &str) -> String {
    let mut text = String::new();
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            if c.is_ascii_uppercase() && after_lower {
                text.push('_');
            }
            after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
            text.push(c.to_ascii_lowercase());
        } else {
            after_lower = false;
            if !text.is_empty() && !text.ends_with('_') {
                text.push('_');
            }
        }
    }
    let text = text.trim_end_matches('_');
    if text.is_empty() {
        otherwise.to_owned()
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        format!("{otherwise}_{text}")
    } else if KEYWORDS.contains(&text) {
        format!("{text}_")
    } else {
        text.to_owned()
    }
}

/// Whether a name given by the user can stand in generated code as it is.
fn is_usable(name: &str) -> bool {
    sanitise(name, "") == name && !name.is_empty() && !name.ends_with('_')
}

/// A module name as the user gave it, or out of the model's name.
pub(super) fn module(given: Option<&str>, model: &str) -> Result<String, EmitError> {
    match given {
        Some(name) if is_usable(name) && name != "rt" => Ok(name.to_owned()),
        Some(name) => Err(EmitError::BadName { name: name.to_owned() }),
        None => {
            let name = sanitise(model, "model");
            Ok(if name == "rt" { "rt_model".to_owned() } else { name })
        }
    }
}

/// Identifiers of the inputs, then of the outputs. `renames` maps ONNX names to identifiers; `stateful` modules use a
/// few names more.
pub(super) fn ports(
    schedule: &Schedule,
    module: &str,
    renames: &[(String, String)],
    stateful: bool,
) -> Result<(Vec<PortName>, Vec<PortName>), EmitError> {
    let mut seen: Vec<(PortName, &str)> = Vec::new();
    let inputs = schedule.inputs.iter().enumerate().map(|(i, p)| (p, format!("input_{i}"), ""));
    let outputs = schedule.outputs.iter().enumerate().map(|(i, p)| {
        // An input handed through keeps its name as an input.
        let through = schedule.inputs.iter().any(|input| input.name == p.name);
        (p, format!("output_{i}"), if through { "_out" } else { "" })
    });
    for (port, otherwise, suffix) in inputs.chain(outputs) {
        let name = match renames.iter().find(|(from, _)| *from == port.name) {
            Some((_, to)) if is_usable(to) => to.clone(),
            Some((_, to)) => return Err(EmitError::BadName { name: to.clone() }),
            None => sanitise(&port.name, &otherwise),
        };
        let name = spell(&format!("{name}{suffix}"), stateful);
        let clash = seen.iter().find(|(other, _)| {
            other.alias == name.alias || other.info == name.info || other.field == name.field
        });
        if let Some((other, onnx)) = clash {
            return Err(EmitError::NameCollision {
                module: module.to_owned(),
                names: [(*onnx).to_owned(), port.name.clone()],
                identifier: other.field.clone(),
            });
        }
        seen.push((name, &port.name));
    }
    let mut names: Vec<PortName> = seen.into_iter().map(|(name, _)| name).collect();
    let outputs = names.split_off(schedule.inputs.len().min(names.len()));
    Ok((names, outputs))
}

/// The three spellings of a name; `_tensor` is added to one that the module itself uses.
fn spell(field: &str, stateful: bool) -> PortName {
    let alias: String = field
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
        })
        .collect();
    let info = field.to_ascii_uppercase();
    let of_state = stateful && OF_STATE.iter().any(|n| *n == alias || *n == info);
    if of_state || TAKEN_TYPES.contains(&alias.as_str()) || TAKEN_CONSTS.contains(&info.as_str()) {
        return spell(&format!("{}_tensor", field.trim_end_matches('_')), stateful);
    }
    PortName { field: field.to_owned(), alias, info }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DType;
    use crate::kernel::{BufferId, Operand};
    use crate::schedule::Port;

    #[test]
    fn names_of_any_spelling_become_identifiers() {
        for (onnx, rust) in [
            ("input.1", "input_1"),
            ("Identity:0", "identity_0"),
            ("/head/Softmax_output_0", "head_softmax_output_0"),
            ("inputImage", "input_image"),
            ("type", "type_"),
            ("3", "other_3"),
            ("", "other"),
            ("::", "other"),
            ("größe", "gr_e"),
            ("CLS", "cls"),
        ] {
            assert_eq!(sanitise(onnx, "other"), rust, "{onnx}");
        }
    }

    fn schedule(inputs: &[&str], outputs: &[&str]) -> Schedule {
        let port = |name: &&str| Port {
            name: (*name).to_owned(),
            dtype: DType::F32,
            shape: vec![1],
            layout: "",
            operand: Operand::Buffer(BufferId(0)),
            table: None,
        };
        Schedule {
            name: "m".into(),
            steps: vec![],
            regions: Vec::new(),
            buffers: vec![],
            constants: vec![],
            inputs: inputs.iter().map(port).collect(),
            outputs: outputs.iter().map(port).collect(),
            lengths: Vec::new(),
        }
    }

    #[test]
    fn a_collision_names_both_and_can_be_renamed() {
        let s = schedule(&["x.1", "x:1"], &["y"]);
        let error = ports(&s, "m", &[], false).map_err(|e| e.to_string());
        assert_eq!(error, Err("model `m`: `x.1` and `x:1` both become `x_1`".to_owned()));
        let renamed = ports(&s, "m", &[("x:1".into(), "second".into())], false);
        assert_eq!(renamed.ok().map(|(i, _)| i[1].alias.clone()), Some("Second".to_owned()));
        assert!(ports(&s, "m", &[("x:1".into(), "fn".into())], false).is_err());
    }

    #[test]
    fn names_of_the_module_itself_are_avoided() {
        let (inputs, outputs) =
            ports(&schedule(&["self", "inputs", "x"], &["info", "x"]), "m", &[], false).unwrap();
        assert_eq!(inputs[0].alias, "SelfTensor");
        assert_eq!(inputs[1].field, "inputs_tensor");
        assert_eq!(outputs[0].info, "INFO_TENSOR");
        assert_eq!(outputs[1].field, "x_out");
        let (inputs, _) = ports(&schedule(&["state", "h"], &["y"]), "m", &[], true).unwrap();
        assert_eq!((inputs[0].field.as_str(), inputs[1].field.as_str()), ("state_tensor", "h"));
    }
}
