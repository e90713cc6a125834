//! The command line: clap → Config → pipeline → report or diagnostics, and nothing else.

mod args;
mod bench;
mod build;
mod cases;
mod compare;
mod data;
mod diverge;
mod explain;
mod harness;
mod inspect;
mod manifest;
mod packages;
mod progress;
mod quantize;
mod run;
mod samples;
mod verify;
mod yardstick;

use crate::diag::{Code, Diagnostic, Diagnostics, Severity};
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a command ended, as the exit status tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Success,
    /// The model or the data is at fault.
    Model,
    /// The command line is.
    Usage,
    /// No cargo, disk full.
    Environment,
    /// `build --check` found a stale crate.
    Stale,
    /// Over a budget.
    Budget,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Model => 1,
            Exit::Usage => 2,
            Exit::Environment => 3,
            Exit::Stale => 4,
            Exit::Budget => 5,
        }
    }

    /// What the command line gets wrong before all else, else what was said first.
    fn of(diagnostics: &Diagnostics) -> Exit {
        let mut exit = Exit::Success;
        for d in diagnostics.iter().filter(|d| d.severity == Severity::Error) {
            let this = match d.code {
                Code::BadOption | Code::OutputFolder => Exit::Usage,
                Code::Environment => Exit::Environment,
                Code::Stale => Exit::Stale,
                Code::Budget => Exit::Budget,
                _ => Exit::Model,
            };
            if exit == Exit::Success || this == Exit::Usage {
                exit = this;
            }
        }
        exit
    }
}

/// Runs the command line and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are not errors; clap knows where each belongs.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { Exit::Usage.code() } else { 0 });
        }
    };
    let result = match &cli.command {
        Command::Build(args) => build::build(args),
        Command::Inspect(args) => inspect::inspect(args),
        Command::Verify(args) => verify::verify(args),
        Command::Bench(args) => bench::bench(args),
        Command::Run(args) => run::run(args),
        Command::Quantize(args) => quantize::quantize(args),
        Command::Ops(args) => {
            print(&explain::ops(args));
            Ok(())
        }
        Command::Explain { code, markdown } => {
            explain::explain(code.as_deref(), *markdown).map(|text| print(&format!("{}\n", text.trim_end())))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "edgec", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(())
        }
    };
    match result {
        Ok(()) if OUTPUT_LOST.load(Ordering::Relaxed) => {
            say("error: standard output cannot be written\n");
            ExitCode::from(Exit::Environment.code())
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(diagnostics) => {
            say(&diagnostics.to_string());
            ExitCode::from(Exit::of(&diagnostics).code())
        }
    }
}

/// Whether something meant for standard output could not be written.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// To standard output; a closed pipe (`| head`) ends quietly.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if written.is_err_and(|e| e.kind() != std::io::ErrorKind::BrokenPipe) {
        OUTPUT_LOST.store(true, Ordering::Relaxed);
    }
}

/// To standard error, where nobody can be told that it is closed.
fn say(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Remarks and warnings of a successful run, on standard error.
fn remark(diagnostics: &Diagnostics) {
    for d in diagnostics.iter() {
        say(&format!("{d}\n"));
    }
}

fn environment(message: impl Into<String>) -> Diagnostics {
    Diagnostic::error(Code::Environment, message).into()
}
