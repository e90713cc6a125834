//! The runtime's own source text, for the compiler that copies it into generated crates.

use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec::Vec;

/// Every source file: its path below `src`, with `/`, and its text; sorted by path.
pub static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/source_files.rs"));

/// The licence of that copy, which asks nothing of anyone.
pub static LICENSE: &str = include_str!("../LICENSE-0BSD");

/// The files of the runtime as the module `module` at the root of another crate: paths below the
/// module's folder, `mod.rs` first, without tests.
///
/// That crate's root says `extern crate alloc;` and `extern crate std;` under its features `alloc` and
/// `std`, as `lib.rs` does here.
///
/// Of kernel families and routines there are those that `callers` name, the texts that use the module, and
/// what these need in turn.
pub fn as_module(module: &str, callers: &[&str]) -> Vec<(String, String)> {
    let inside = std::format!("crate::{module}::");
    let root = FILES.iter().filter(|(path, _)| *path == "lib.rs");
    let others = FILES.iter().filter(|(path, _)| *path != "lib.rs" && !left_out(path));
    let files: Vec<(&str, String)> = root
        .chain(others)
        .map(|(path, text)| {
            let path = if *path == "lib.rs" { "mod.rs" } else { path };
            (path, without_root_items(text))
        })
        .collect();
    let kept = reached(&files, callers);
    let wanted = |path: &str| part(path).is_none_or(|part| kept.contains(&part));
    let kept_files = files.iter().filter(|(path, _)| wanted(path));
    kept_files
        .map(|(path, text)| (path.to_string(), declaring(path, text, &kept).replace("crate::", &inside)))
        .collect()
}

/// The name of the module that a file is, if it is one that can be left out.
fn part(path: &str) -> Option<&str> {
    let (folder, file) = path.split_once('/')?;
    let name = file.strip_suffix(".rs")?;
    (PARTS.contains(&folder) && name != "mod").then_some(name)
}

/// The folders whose modules crates have as far as they use them.
const PARTS: [&str; 2] = ["kernels", "routines"];

/// Names of the modules that `callers` and the files that are always there name, and those name in turn.
fn reached<'a>(files: &'a [(&'a str, String)], callers: &[&str]) -> BTreeSet<&'a str> {
    let names: BTreeSet<&str> = files.iter().filter_map(|(path, _)| part(path)).collect();
    let mut kept = BTreeSet::new();
    let always = files.iter().filter(|(path, _)| part(path).is_none());
    let mut texts: Vec<&str> = callers.to_vec();
    texts.extend(always.map(|(_, text)| text.as_str()));
    while let Some(text) = texts.pop() {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            // Every name in front of `::`; too many are no harm.
            for before in line.split("::") {
                let word = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next();
                if let Some(name) = word.and_then(|word| names.get(word)).filter(|name| kept.insert(**name)) {
                    let of_name = files.iter().filter(|(path, _)| part(path) == Some(name));
                    texts.extend(of_name.map(|(_, text)| text.as_str()));
                }
            }
        }
    }
    kept
}

/// The text of a file, without declarations of modules that are left out.
fn declaring(path: &str, text: &str, kept: &BTreeSet<&str>) -> String {
    let folder = path.strip_suffix("/mod.rs");
    if !folder.is_some_and(|folder| PARTS.contains(&folder)) {
        return text.to_string();
    }
    let is_left_out = |line: &str| {
        let name = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ");
        name.and_then(|name| name.strip_suffix(';')).is_some_and(|name| !kept.contains(name))
    };
    let mut out = String::with_capacity(text.len());
    // Attributes and documentation that wait for their item.
    let mut waiting = String::new();
    for line in text.lines() {
        let waits = line.starts_with("#[") || line.starts_with("///");
        if is_left_out(line) {
            waiting.clear();
            continue;
        }
        waiting.extend([line, "\n"]);
        if !waits {
            out.push_str(&waiting);
            waiting.clear();
        }
    }
    out + &waiting
}

/// Tests, and what serves the compiler or generated code outside of packages.
fn left_out(path: &str) -> bool {
    matches!(path, "source.rs" | "doors.rs") || path.ends_with("tests.rs") || path.ends_with("testing.rs")
}

/// Drops items under `#[cfg(test)]`, the inner `no_std`, external crates, and this module. Relies on
/// rustfmt's lines: an item ends at its indentation.
fn without_root_items(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Attributes that wait for their item.
    let mut attributes = String::new();
    let mut drop = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if code.starts_with("#[") && code.ends_with(']') {
            drop |= code == "#[cfg(test)]";
            attributes.push_str(line);
            attributes.push('\n');
            continue;
        }
        drop |= code == "#![no_std]"
            || code.starts_with("extern crate ")
            || code == "pub mod source;"
            || code == "mod doors;";
        if drop {
            let indent = &line[..line.len() - code.len()];
            if code.ends_with('{') {
                let end = std::format!("{indent}}}");
                lines.by_ref().find(|line| *line == end);
            }
        } else {
            out.push_str(&attributes);
            out.push_str(line);
            out.push('\n');
        }
        attributes.clear();
        drop = false;
    }
    std::format!("{}\n", out.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, fs, process};

    #[test]
    fn the_list_has_a_root_and_is_sorted() {
        assert!(FILES.iter().any(|(path, text)| *path == "lib.rs" && text.contains("#![no_std]")));
        assert!(FILES.is_sorted());
    }

    #[test]
    fn items_are_dropped_with_their_attributes() {
        let text = "#![no_std]\n#[cfg(test)]\nextern crate std;\n\n#[a]\nfn f() {\n}\n\n#[cfg(test)]\n#[b]\nmod t {\n    x\n}\n#[cfg(test)]\nmod u;\n";
        assert_eq!(without_root_items(text), "\n#[a]\nfn f() {\n}\n");
    }

    #[test]
    fn declarations_go_with_their_attributes() {
        let text = "mod a;\n/// B.\n#[cfg(x)]\npub mod b;\n#[cfg(y)]\npub mod c;\n\n/// F.\nfn f() {}\n";
        let kept = BTreeSet::from(["a", "c"]);
        let expected = "mod a;\n#[cfg(y)]\npub mod c;\n\n/// F.\nfn f() {}\n";
        assert_eq!(declaring("kernels/mod.rs", text, &kept), expected);
    }

    fn parts() -> Vec<&'static str> {
        FILES.iter().filter(|(path, _)| !left_out(path)).filter_map(|(path, _)| part(path)).collect()
    }

    #[test]
    fn families_that_nobody_names_are_left_out() {
        let names = |files: Vec<(String, String)>| -> Vec<String> {
            files.iter().filter_map(|(path, _)| part(path).map(ToString::to_string)).collect()
        };
        assert!(!names(as_module("rt", &[])).contains(&"conv".to_string()));
        let kept = names(as_module("rt", &["rt::kernels::conv::run(mem)"]));
        assert!(kept.contains(&"conv".to_string()) && kept.contains(&"conv_body".to_string()), "{kept:?}");
        assert!(!kept.contains(&"recurrent".to_string()) && !kept.contains(&"trees".to_string()), "{kept:?}");
    }

    /// Each family and each routine with what it names and nothing else.
    #[test]
    fn every_part_brings_what_it_needs() {
        for name in parts() {
            compile(
                name,
                &as_module("rt", &[&std::format!("{name}::run")]),
                &[&[]],
                &["-A", "dead_code", "-A", "unused"],
            );
        }
    }

    /// Compiles the module in a crate of its own: plain, for that crate's tests, with all features.
    #[test]
    fn the_module_compiles_without_warnings() {
        let everything: String = parts().iter().map(|name| std::format!("{name}::\n")).collect();
        let files = as_module("rt", &[&everything]);
        assert_eq!(files[0].0, "mod.rs");
        assert_eq!(files.iter().filter(|(path, _)| part(path).is_some()).count(), parts().len());
        let all = ["--cfg", "feature=\"std\"", "--cfg", "feature=\"alloc\"", "--cfg", "feature=\"threads\""];
        compile("all", &files, &[&[], &["--cfg", "test"], &all], &["-D", "warnings"]);
    }

    /// Compiles a copy in a crate of its own, once with each of the sets of arguments.
    fn compile(name: &str, files: &[(String, String)], sets: &[&[&str]], lints: &[&str]) {
        let folder = env::temp_dir().join(std::format!("edgec-rt-{}-{name}", process::id()));
        for (path, text) in files {
            assert!(!text.contains("cfg(test)") && !text.contains("$crate"), "{path}");
            let path = folder.join("rt").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = "#![no_std]\n#[cfg(feature = \"alloc\")]\nextern crate alloc;\n#[cfg(feature = \"std\")]\nextern crate std;\npub mod rt;\n";
        fs::write(folder.join("lib.rs"), root).unwrap();
        for arguments in sets {
            let output = process::Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()))
                .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"])
                .args(lints)
                .args([
                    "--check-cfg",
                    "cfg(test)",
                    "--check-cfg",
                    "cfg(feature, values(\"std\", \"alloc\", \"source\", \"threads\"))",
                ])
                .args(*arguments)
                .arg("--out-dir")
                .arg(&folder)
                .arg(folder.join("lib.rs"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
