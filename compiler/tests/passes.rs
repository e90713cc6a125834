//! Runs every text file under `tests/passes/`: a model, the passes to run, and the graph they leave.
//!
//! ```text
//! // pass: fuse_activation
//! g (float[1, 2, 4, 4] x) => (y) <…> { c = Conv(x, w)  y = Relu(c) }
//! // ---
//! graph g(%x: f32[1, 2, 4, 4])
//!   …
//! ```
//!
//! `// pass:` takes a list; the passes run once each, in that order. `// known:` lists model inputs that become
//! constants behind the import, which would fold what they lead to. Behind the graph stand the changes and
//! what was declined. `EDGEC_BLESS=1` rewrites the expected part. Whatever a file expects, three things
//! hold for each: the outputs of the interpreter agree before and after (bit for bit where the pass
//! promises it, also for NaN, infinities and zeros of both signs), the graph verifies, and a second run of
//! the last pass changes nothing.

mod support;

use edgec::ops::Graph;
use edgec::passes::{self, PassManager};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use support::{Numbers, agree, import_text, inputs_for};

/// Passes whose results must not differ by a bit.
const EXACT: &[&str] =
    &["canonicalize", "common_subexpressions", "dead_code", "fold", "cancel_transposes", "fuse_pad"];

const SEPARATOR: &str = "// ---";

#[test]
fn text_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes");
    let files = support::files(&root, "onnxtxt");
    assert!(!files.is_empty(), "no tests under {}", root.display());
    let bless = std::env::var_os("EDGEC_BLESS").is_some();
    let mut failures = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        match run(&text) {
            Err(why) => failures.push(format!("{}: {why}", file.display())),
            Ok((head, found)) => {
                let whole = format!("{head}{SEPARATOR}\n{found}");
                if bless {
                    std::fs::write(file, whole).unwrap();
                } else if whole != text {
                    let expected = text.split_once(SEPARATOR).map_or("", |(_, e)| e).trim_start();
                    failures.push(format!("{}\nexpected:\n{expected}\nfound:\n{found}", file.display()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} failed\n{}", failures.len(), files.len(), failures.join("\n\n"));
}

/// Every pass of the pipeline has at least three cases, one of them declined where it can decline.
#[test]
fn every_pass_has_cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/passes");
    for pass in passes::all() {
        let cases: Vec<PathBuf> = support::files(&root.join(pass.name()), "onnxtxt");
        assert!(cases.len() >= 3, "{} has {} cases", pass.name(), cases.len());
    }
}

/// Runs one file; gives the text up to the separator, and what stands behind it.
fn run(text: &str) -> Result<(String, String), String> {
    let head = text.split_once(SEPARATOR).map_or(text, |(head, _)| head);
    let mut head = head.trim_end().to_owned();
    head.push('\n');
    let named = head.lines().find_map(|l| l.strip_prefix("// pass:")).ok_or("no line `// pass: …`")?;
    let all = passes::all();
    let list = named
        .split(',')
        .map(|name| {
            let name = name.trim();
            all.iter().find(|p| p.name() == name).copied().ok_or(format!("no pass is called `{name}`"))
        })
        .collect::<Result<Vec<_>, String>>()?;
    let model: String = head.lines().filter(|l| !l.starts_with("//")).flat_map(|l| [l, "\n"]).collect();
    let mut before = import_text(&model)?;
    if let Some(names) = head.lines().find_map(|l| l.strip_prefix("// known:")) {
        make_known(&mut before, names)?;
    }
    let mut graph = before.clone();
    let mut manager = PassManager::new();
    for pass in &list {
        manager.run_pass(&mut graph, *pass).map_err(|e| e.to_string())?;
    }
    let mut found = graph.to_text();
    write!(found, "{}", manager.log).unwrap();
    let violations = passes::violations(&graph);
    if !violations.is_empty() {
        return Err(format!("{}\n{found}", violations.join("\n")));
    }
    let exact = list.iter().all(|p| EXACT.contains(&p.name()));
    for numbers in [Numbers::Ordinary(1), Numbers::Ordinary(2), Numbers::Special(3)] {
        let inputs = inputs_for(&before, numbers);
        let wanted = edgec::interp::run(&before, &inputs).map_err(|e| format!("before: {e}"))?;
        let got = edgec::interp::run(&graph, &inputs).map_err(|e| format!("after: {e}\n{found}"))?;
        for ((name, _), (w, g)) in before.outputs.iter().zip(wanted.iter().zip(&got)) {
            agree(w, g, if exact { (0.0, 0.0) } else { (1e-4, 1e-5) })
                .map_err(|e| format!("`{name}` differs ({numbers:?}): {e}\n{found}"))?;
        }
    }
    let last = *list.last().ok_or("no passes")?;
    let again = manager.run_pass(&mut graph, last).map_err(|e| e.to_string())?;
    if again > 0 {
        return Err(format!("a second run makes {again} changes\n{found}{}", graph.to_text()));
    }
    Ok((head, found))
}

/// Turns inputs into constants.
fn make_known(graph: &mut Graph, names: &str) -> Result<(), String> {
    let tensors = inputs_for(graph, Numbers::Ordinary(7));
    let given: Vec<_> = graph.inputs.iter().copied().zip(tensors).collect();
    for name in names.split(',').map(str::trim) {
        let found = given.iter().find(|(v, _)| graph.value(*v).name == name);
        let (v, tensor) = found.ok_or(format!("no input is called `{name}`"))?;
        graph.set_constant(*v, tensor.clone());
        graph.inputs.retain(|i| i != v);
    }
    Ok(())
}
