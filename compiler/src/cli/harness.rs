//! Builds generated crates in a workspace of their own and talks to a program that runs them.
//!
//! Models are put together into few packages, so that a suite of many small ones takes minutes: each
//! package is what `edgec build` writes for several models, plus a `runner` binary. The runner
//! takes a command a line on standard input and answers with a line, so that one process serves a
//! whole suite and a benchmark's rounds.

use super::environment;
use crate::config::Config;
use crate::diag::{Diagnostic, Diagnostics};
use crate::emit::{EmitOptions, Meta, ModelUnit, Runtime};
use crate::ir::{DType, Tensor};
use crate::pipeline::Compiled;
use edgec_runtime::Level;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

/// A folder of generated packages and their build.
pub struct Harness {
    root: PathBuf,
    /// Threads that models run on.
    threads: usize,
    /// Removes the folder in the end, unless the user named it.
    _temporary: Option<tempfile::TempDir>,
    packages: Vec<String>,
    forgotten: BTreeSet<String>,
}

/// Where a model ended up: its package's runner, and its module there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Package.
    pub package: String,
    /// Module of the model.
    pub module: String,
}

impl Harness {
    /// A harness in `dir`, or in a temporary folder, whose models run on `threads` threads.
    pub fn new(dir: Option<&Path>, threads: usize) -> Result<Self, Diagnostics> {
        let (root, temporary) = match dir {
            Some(dir) => (dir.to_owned(), None),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("edgec-")
                    .tempdir()
                    .map_err(|e| environment(format!("no temporary folder: {e}")))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        Ok(Harness { root, threads, _temporary: temporary, packages: Vec::new(), forgotten: BTreeSet::new() })
    }

    /// Folder for sample data.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Writes a package of these models, as the configuration says; modules go by number.
    pub fn add(&mut self, models: &[&Compiled], config: &Config) -> Result<Vec<Place>, Diagnostics> {
        let package = format!("group{:02}", self.packages.len());
        let modules: Vec<String> = (0..models.len()).map(|i| format!("case{i:03}")).collect();
        // Names of a suite's cases may collide; numbers do not.
        let metas: Vec<Meta> = models
            .iter()
            .zip(&modules)
            .map(|(m, module)| Meta { module: Some(module.clone()), samples: Vec::new(), ..m.meta.clone() })
            .collect();
        let units: Vec<ModelUnit<'_>> =
            models.iter().zip(&metas).map(|(m, meta)| ModelUnit { meta, ..m.unit() }).collect();
        let options =
            EmitOptions { package: package.clone(), runtime: Runtime::Module, ..config.emit_options(None) };
        let files = crate::emit::package(&units, &options).map_err(Diagnostic::from)?;
        let dir = self.root.join("crates").join(&package);
        for file in files.iter().filter(|f| !f.path.starts_with("tests/")) {
            write(&dir.join(&file.path), &file.bytes)?;
        }
        let own = self.root.join("crates").join(format!("{package}-runner"));
        let features = if self.threads > 1 { "\"alloc\", \"std\", \"threads\"" } else { "\"alloc\"" };
        let manifest = format!(
            "[package]\nname = \"{package}-runner\"\nversion = \"0.0.0\"\nedition = \"2021\"\npublish = false\n\n\
             [dependencies]\n{package} = {{ path = \"../{package}\", features = [{features}] }}\n"
        );
        write(&own.join("Cargo.toml"), manifest.as_bytes())?;
        write(&own.join("src/main.rs"), runner(&package, &modules, self.threads).as_bytes())?;
        self.packages.push(package.clone());
        Ok(modules.into_iter().map(|module| Place { package: package.clone(), module }).collect())
    }

    /// Builds all packages in release mode; returns the seconds it took. Where one fails, the others
    /// are still built.
    pub fn build(&self) -> Result<f64, Diagnostics> {
        for package in &self.packages {
            // What an earlier build left must not pass for this one's.
            let _ = std::fs::remove_file(self.binary(package));
        }
        self.cargo(&["--keep-going"])
    }

    /// Builds one package.
    pub fn build_one(&self, package: &str) -> Result<(), Diagnostics> {
        self.cargo(&["--package", &format!("{package}-runner")]).map(drop)
    }

    /// Whether a package's runner is there.
    pub fn built(&self, package: &str) -> bool {
        self.binary(package).is_file()
    }

    /// Leaves packages out of later builds.
    pub fn forget(&mut self, packages: &[String]) {
        self.forgotten.extend(packages.iter().cloned());
    }

    fn cargo(&self, options: &[&str]) -> Result<f64, Diagnostics> {
        let members: Vec<String> = self
            .packages
            .iter()
            .filter(|p| !self.forgotten.contains(*p))
            .flat_map(|p| [format!("\"crates/{p}\""), format!("\"crates/{p}-runner\"")])
            .collect();
        let manifest = format!("[workspace]\nresolver = \"2\"\nmembers = [{}]\n", members.join(", "));
        write(&self.root.join("Cargo.toml"), manifest.as_bytes())?;
        let start = Instant::now();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--release", "--offline", "--quiet"]).args(options).current_dir(&self.root);
        // A caller's target folder would be shared with builds of other flags and features.
        for key in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            cargo.env_remove(key);
        }
        let output = cargo
            .stdin(Stdio::null())
            .output()
            .map_err(|e| environment(format!("`cargo` cannot be started: {e}")))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let tail: Vec<&str> = text.lines().take(60).collect();
            return Err(environment(format!("building the generated crates failed:\n{}", tail.join("\n"))));
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Path of a package's runner.
    pub fn binary(&self, package: &str) -> PathBuf {
        self.root.join("target/release").join(format!("{package}-runner{}", std::env::consts::EXE_SUFFIX))
    }

    /// Starts a package's runner.
    pub fn start(&self, package: &str) -> Result<Runner, Diagnostics> {
        Runner::start(&self.binary(package))
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Diagnostics> {
    let fail = |e: std::io::Error| environment(format!("`{}`: {e}", path.display()));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    // Unchanged files keep their time, so that a kept folder builds incrementally.
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    std::fs::write(path, bytes).map_err(fail)
}

/// A running program of a package.
pub struct Runner {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What an inference said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Ok,
    /// The model reported invalid data.
    Fault(String),
}

impl Runner {
    fn start(binary: &Path) -> Result<Self, Diagnostics> {
        let mut child = Command::new(binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| environment(format!("`{}`: {e}", binary.display())))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| environment("the runner has no output"))?;
        Ok(Runner { child, input, output: BufReader::new(output) })
    }

    /// Sends a line and reads the answer.
    pub fn ask(&mut self, line: &str) -> Result<String, String> {
        let sent = self.input.as_mut().map(|i| writeln!(i, "{line}").and_then(|()| i.flush()));
        let mut answer = String::new();
        let read = self.output.read_line(&mut answer);
        match (sent, read) {
            (Some(Ok(())), Ok(n)) if n > 0 => Ok(answer.trim_end().to_owned()),
            _ => Err(match self.child.wait() {
                Ok(status) => format!("the generated program ended: {status}"),
                Err(e) => format!("the generated program cannot be reached: {e}"),
            }),
        }
    }

    /// Runs one inference with inputs and outputs as files in `dir`.
    pub fn infer(
        &mut self,
        module: &str,
        level: Level,
        dir: &Path,
        inputs: &[Tensor],
        outputs: &[(DType, Vec<usize>)],
    ) -> Result<(Answer, Vec<Tensor>), String> {
        std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
        for (i, tensor) in inputs.iter().enumerate() {
            std::fs::write(dir.join(format!("in_{i}")), tensor.to_le_bytes()).map_err(|e| e.to_string())?;
        }
        let answer = self.ask(&format!("run {module} {} {}", level.name(), dir.display()))?;
        let answer = match answer.split_once(' ') {
            None if answer == "ok" => Answer::Ok,
            Some(("fault", text)) => Answer::Fault(text.to_owned()),
            _ => return Err(answer),
        };
        let tensors = outputs
            .iter()
            .enumerate()
            .map(|(i, (dtype, shape))| {
                let bytes = std::fs::read(dir.join(format!("out_{i}"))).map_err(|e| e.to_string())?;
                Tensor::from_le_bytes(*dtype, shape.clone(), &bytes).map_err(|e| e.to_string())
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok((answer, tensors))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Closing its input ends the runner; kill it if it is busy.
        self.input = None;
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Source of a package's runner. A model alone is the crate itself; several are its modules.
fn runner(package: &str, modules: &[String], threads: usize) -> String {
    let path = |module: &str| match modules {
        [_] => package.to_owned(),
        _ => format!("{package}::{module}"),
    };
    let mut arms = String::new();
    let on_crew = if threads > 1 { ".with_crew(crew())" } else { "" };
    for module in modules {
        // Writing to a String cannot fail.
        let _ = writeln!(
            arms,
            "        \"{module}\" => Ok(Box::new({}::Model::boxed().with_level(level).ok_or(MISSING)?{on_crew})),",
            path(module)
        );
    }
    let any = modules.first().map(|m| path(m)).unwrap_or_default();
    let crew = if threads > 1 { CREW.replace("@THREADS@", &threads.to_string()) } else { String::new() };
    RUNNER.replace("@CREW@\n", &crew).replace("@MODEL@", &any).replace("        @ARMS@\n", &arms)
}

/// The threads that models of a runner share.
const CREW: &str = "
fn crew() -> &'static @MODEL@::Threads {
    static CREW: std::sync::OnceLock<@MODEL@::Threads> = std::sync::OnceLock::new();
    CREW.get_or_init(|| @MODEL@::Threads::new(@THREADS@))
}
";

const RUNNER: &str = include_str!("runner.rs.txt");
