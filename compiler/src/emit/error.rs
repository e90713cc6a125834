//! Why a crate cannot be emitted or written.

use std::fmt;
use std::path::PathBuf;

use crate::diag::{Code, Diagnostic};

/// Why a crate cannot be emitted or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum EmitError {
    /// Two of a model's names become the same identifier.
    NameCollision {
        /// Module of the model.
        module: String,
        /// ONNX names, both.
        names: [String; 2],
        /// What they become.
        identifier: String,
    },
    /// Two models become the same module.
    ModuleCollision {
        /// Names of the models, both.
        names: [String; 2],
        /// The module.
        module: String,
    },
    /// A name given by the user is no Rust identifier.
    BadName {
        /// As given.
        name: String,
    },
    /// The name of a user's module is taken.
    CustomModule {
        /// The module.
        name: String,
    },
    /// A custom operator's function that the package does not hold.
    CustomPath {
        /// As generated code would name it.
        path: String,
    },
    /// An element type that generated code cannot hold.
    ElementType {
        /// The type's short name.
        dtype: &'static str,
        /// Where it appears.
        place: String,
    },
    /// Weights too large for a literal.
    TooLarge {
        /// Bytes of weights.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Weights that the program loads, asked of a macro, which writes no file.
    ExternalInMacro,
    /// The schedule, the plan or emission itself is wrong: a bug of the compiler.
    Internal(String),
    /// The folder holds files that edgec did not write.
    NotOurs(PathBuf),
    /// The output folder holds the current one, which would be replaced under the caller's feet.
    Inside(PathBuf),
    /// The file system refused.
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why it failed.
        error: std::io::Error,
    },
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmitError::NameCollision { module, names: [a, b], identifier } => {
                write!(f, "model `{module}`: `{a}` and `{b}` both become `{identifier}`")
            }
            EmitError::ModuleCollision { names: [a, b], module } => {
                write!(f, "models `{a}` and `{b}` both become module `{module}`")
            }
            EmitError::BadName { name } => write!(f, "`{name}` is not usable as a Rust identifier"),
            EmitError::CustomModule { name } => {
                write!(
                    f,
                    "a module `{name}` of custom operators cannot be: the generated package has one of that name"
                )
            }
            EmitError::CustomPath { path } => write!(f, "the generated package has no function `{path}`"),
            EmitError::ElementType { dtype, place } => {
                write!(f, "element type `{dtype}` of {place} has no form in generated code")
            }
            EmitError::TooLarge { bytes, limit } => {
                write!(f, "{bytes} bytes of weights exceed the {limit} that a macro can hold")
            }
            EmitError::ExternalInMacro => f.write_str("a macro cannot write the weights to a file"),
            EmitError::Internal(what) => write!(f, "emission: {what}"),
            EmitError::NotOurs(path) => {
                write!(f, "`{}` is not empty and holds no `PROVENANCE.json` of edgec", path.display())
            }
            EmitError::Inside(path) => {
                write!(f, "`{}` is replaced as a whole, and the current folder lies in it", path.display())
            }
            EmitError::Io { path, error } => write!(f, "`{}`: {error}", path.display()),
        }
    }
}

impl std::error::Error for EmitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            EmitError::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<EmitError> for Diagnostic {
    fn from(error: EmitError) -> Self {
        let message = error.to_string();
        match &error {
            EmitError::NameCollision { names: [_, second], identifier, .. } => {
                Diagnostic::error(Code::NameCollision, message)
                    .with_help(format!("rename one: `--rename '{second}={identifier}_2'`"))
            }
            EmitError::ModuleCollision { names: [_, second], module } => {
                Diagnostic::error(Code::NameCollision, message).with_help(format!(
                    "give `{second}` another file name, or a `name` in an edgec.toml, such as `{module}_2`"
                ))
            }
            EmitError::BadName { .. } => Diagnostic::error(Code::BadOption, message)
                .with_help("use lower-case letters, digits and `_`, starting with a letter"),
            EmitError::CustomModule { .. } => {
                Diagnostic::error(Code::NameCollision, message).with_help("give the file another name")
            }
            EmitError::CustomPath { path } => {
                let module = path.trim_start_matches("crate::").split("::").next().unwrap_or_default();
                let flag = format!("--custom-source {module}.rs");
                Diagnostic::error(Code::CustomOp, message)
                    .with_help(format!("give the file that holds it: `{flag}`; its name is the module's"))
            }
            EmitError::ElementType { .. } => Diagnostic::error(Code::UnsupportedForm, message),
            EmitError::TooLarge { .. } => Diagnostic::error(Code::TooLarge, message)
                .with_help("compile the model in a build script (`edgec::Config`) or with `edgec build`"),
            EmitError::ExternalInMacro => Diagnostic::error(Code::BadOption, message)
                .with_help("compile the model in a build script (`edgec::Config`) or with `edgec build`"),
            EmitError::Internal(_) => Diagnostic::error(Code::Internal, message),
            EmitError::NotOurs(_) => Diagnostic::error(Code::OutputFolder, message)
                .with_help("name a folder that does not exist yet, or an empty one"),
            EmitError::Inside(_) => {
                Diagnostic::error(Code::OutputFolder, message).with_help("run the command from outside of it")
            }
            // Only writing is emission's: a full disk, a folder that may not be written.
            EmitError::Io { .. } => Diagnostic::error(Code::Environment, message),
        }
    }
}
