//! Who may use whom: DESIGN's layering, read off the `use` lines of the compiler.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Module, and the modules of the compiler that it may name. It names nothing else; the doors (`cli`, `config`, `pipeline`) stand above all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("ir", &["ir"]),
    ("onnx", &["onnx", "ir"]),
    ("kernel", &["kernel", "ir"]),
    ("ops", &["ops", "onnx", "kernel", "ir", "schedule"]),
    ("frontend", &["frontend", "ops", "onnx", "kernel", "ir", "diag", "config"]),
    ("interp", &["interp", "ops", "ir", "diag"]),
    ("passes", &["passes", "ops", "interp", "ir", "diag", "kernel"]),
    ("quant", &["quant", "frontend", "interp", "ops", "onnx", "ir", "diag"]),
    ("schedule", &["schedule", "ops", "kernel", "ir", "memory"]),
    ("memory", &["memory", "schedule", "kernel", "ir"]),
    ("emit", &["emit", "schedule", "memory", "kernel", "ir", "diag", "config"]),
    ("diag", &["diag", "ir", "ops"]),
    ("report", &["report", "pipeline", "schedule", "memory", "kernel", "ir", "diag", "passes", "emit"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return out };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            out.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// The file's code, each group of braces of a `use` on one line; without comments and without tests.
fn statements(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut lines = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    let mut open = false;
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            // A module in the file stands at its end; what is declared only is one item.
            match lines.next() {
                Some(item) if item.trim_end().ends_with('{') && item.contains("mod ") => break,
                _ => continue,
            }
        }
        match out.last_mut().filter(|_| open) {
            Some(last) => last.push_str(line.trim()),
            None => out.push(line.to_owned()),
        }
        let whole = out.last().map_or("", |l| l.as_str());
        open = whole.trim_start().trim_start_matches("pub ").starts_with("use ")
            && !whole.trim_end().ends_with(';');
    }
    out
}

/// Modules of the crate that a file names through `crate::…`, tests left out.
fn named(text: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for line in statements(text) {
        for part in line.split("crate::").skip(1) {
            let group = part.strip_prefix('{').and_then(|g| g.split('}').next()).unwrap_or(part);
            for item in group.split(',') {
                let word: String =
                    item.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let ends_module =
                    item.trim().get(word.len()..).is_some_and(|r| r.starts_with("::") || r.is_empty());
                if !word.is_empty() && (ends_module || part.starts_with(&word)) {
                    out.insert(word);
                }
                if !part.starts_with('{') {
                    break;
                }
            }
        }
    }
    out
}

#[test]
fn stages_name_only_what_lies_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compiler/src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, allowed) in ALLOWED {
        for file in sources(&src.join(module)) {
            // Tests may build graphs from text.
            let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.ends_with("tests.rs") || name == "testing.rs" {
                continue;
            }
            seen += 1;
            let text = std::fs::read_to_string(&file).unwrap();
            for name in named(&text) {
                // `crate::rt` in emitted text is no module of ours.
                let ours = src.join(&name).is_dir() || src.join(format!("{name}.rs")).is_file();
                if ours && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{} names crate::{name}", file.strip_prefix(&src).unwrap().display()));
                }
            }
        }
    }
    assert!(seen > 30, "the compiler's sources were not found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_in_the_runtime() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in ["compiler/src", "macros/src", "tests/src"] {
        for file in sources(&root.join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for (i, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let found = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"]
                    .iter()
                    .any(|u| code.contains(u));
                assert!(!found, "{}:{} has unsafe code", file.display(), i + 1);
            }
        }
    }
}
