//! Modules of the user in a generated package: what custom operators call.

use super::model::Module;
use super::{EmitError, EmitOptions, File, ModelUnit, Runtime, names};
use crate::kernel::Kernel;

/// Names that are taken at a package's root.
const TAKEN: &[&str] = &["rt", "alloc", "std", "core"];

/// Refuses modules whose names are taken, and functions that no module of the package holds.
pub(super) fn check(
    modules: &[Module],
    models: &[ModelUnit<'_>],
    options: &EmitOptions,
) -> Result<(), EmitError> {
    for (i, source) in options.custom_sources.iter().enumerate() {
        let name = &source.name;
        if names::sanitise(name, "") != *name {
            return Err(EmitError::BadName { name: name.clone() });
        }
        let twice = options.custom_sources.iter().take(i).any(|s| s.name == *name);
        if twice || TAKEN.contains(&name.as_str()) || modules.iter().any(|m| m.name == *name) {
            return Err(EmitError::CustomModule { name: name.clone() });
        }
    }
    for step in models.iter().flat_map(|m| &m.schedule.steps) {
        let Kernel::Custom(custom) = &step.kernel else { continue };
        let module = custom.path.strip_prefix("crate::").and_then(|p| p.split("::").next());
        if !options.custom_sources.iter().any(|s| Some(s.name.as_str()) == module) {
            let path = custom.path.trim_start_matches("::").to_owned();
            return Err(EmitError::CustomPath { path });
        }
    }
    Ok(())
}

/// The modules' files. Where the runtime is a module too, theirs names it as the package that it is elsewhere.
pub(super) fn files(options: &EmitOptions) -> Vec<File> {
    let alias = match options.runtime {
        Runtime::Module => {
            "\n// Added by edgec: the runtime is a module here.\n#[allow(unused_imports)]\nuse crate::rt as edgec_runtime;\n"
        }
        Runtime::Version(_) | Runtime::Path(_) => "",
    };
    let file = |text: &str| format!("{}\n{alias}", text.trim_end());
    options.custom_sources.iter().map(|s| File::text(format!("src/{}.rs", s.name), file(&s.text))).collect()
}

/// Lines of `lib.rs` that declare the modules.
pub(super) fn declarations(options: &EmitOptions) -> Vec<String> {
    options.custom_sources.iter().map(|s| format!("#[allow(dead_code)]\nmod {};", s.name)).collect()
}
