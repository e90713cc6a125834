//! Runs operators on random shapes, attributes and element types through generated code and holds them against the
//! reference evaluation.
//!
//! ```text
//! cargo run --release -p edgec-tests --bin random_ops -- [OPTIONS]
//!   --seed N         first seed (default 1)
//!   --rounds N       how many seeds (default 1)
//!   --only LIST      families by name, separated by commas
//!   --levels LIST    default: scalar and what this machine has of v3, v4
//! ```
//!
//! The exit status is 1 where a result differs or a node is refused. `EDGEC` names a compiler to use instead of building one.

use edgec_tests::random_ops::{FAMILIES, write};
use edgec_tests::{compiler, root};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(mut words: impl Iterator<Item = String>) -> Result<bool, Box<dyn Error>> {
    let (mut seed, mut rounds, mut only, mut levels) = (1u64, 1u64, None, None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} takes a value"))?;
        match word.as_str() {
            "--seed" => seed = value.parse()?,
            "--rounds" => rounds = value.parse()?,
            "--only" => only = Some(value),
            "--levels" => levels = Some(value),
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    let folder = root().join("target/random_ops");
    let _ = std::fs::remove_dir_all(&folder);
    let (mut labels, mut refused) = (BTreeMap::<String, usize>::new(), Vec::new());
    for seed in seed..seed + rounds {
        for (name, family) in FAMILIES {
            if only.as_deref().is_some_and(|only| !only.split(',').any(|part| part == *name)) {
                continue;
            }
            let written = write(&folder, name, *family, seed)?;
            for label in written.labels {
                *labels.entry(label).or_default() += 1;
            }
            refused.extend(written.refused);
        }
    }
    for node in &refused {
        println!("refused: {node}");
    }
    let nodes: usize = labels.values().sum();
    println!("{nodes} nodes, {} operators and types, seeds {seed} to {}", labels.len(), seed + rounds - 1);
    let mut command = Command::new(compiler()?);
    command.arg("verify").arg("--suite").arg(&folder);
    if let Some(levels) = &levels {
        command.args(["--level", levels]);
    }
    Ok(command.status()?.success() && refused.is_empty())
}
