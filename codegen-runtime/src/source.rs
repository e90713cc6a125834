//! The runtime's own source text, for the compiler that copies it into generated crates.

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
pub fn as_module(module: &str) -> Vec<(String, String)> {
    let inside = std::format!("crate::{module}::");
    let root = FILES.iter().filter(|(path, _)| *path == "lib.rs");
    let others = FILES.iter().filter(|(path, _)| *path != "lib.rs" && !left_out(path));
    root.chain(others)
        .map(|(path, text)| {
            let path = if *path == "lib.rs" { "mod.rs" } else { path };
            (path.to_string(), without_root_items(text).replace("crate::", &inside))
        })
        .collect()
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

    /// Compiles the module in a crate of its own: plain, for that crate's tests, with all features.
    #[test]
    fn the_module_compiles_without_warnings() {
        let folder = env::temp_dir().join(std::format!("edgec-rt-{}", process::id()));
        let files = as_module("rt");
        assert_eq!(files[0].0, "mod.rs");
        for (path, text) in &files {
            assert!(!text.contains("cfg(test)") && !text.contains("$crate"), "{path}");
            let path = folder.join("rt").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = "#![no_std]\n#[cfg(feature = \"alloc\")]\nextern crate alloc;\n#[cfg(feature = \"std\")]\nextern crate std;\npub mod rt;\n";
        fs::write(folder.join("lib.rs"), root).unwrap();
        let all = ["--cfg", "feature=\"std\"", "--cfg", "feature=\"alloc\"", "--cfg", "feature=\"threads\""];
        for features in [&[][..], &["--cfg", "test"], &all] {
            let output = process::Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()))
                .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "-D", "warnings"])
                .args([
                    "--check-cfg",
                    "cfg(test)",
                    "--check-cfg",
                    "cfg(feature, values(\"std\", \"alloc\", \"source\", \"threads\"))",
                ])
                .args(features)
                .arg("--out-dir")
                .arg(&folder)
                .arg(folder.join("lib.rs"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
