//! With feature `source`: lists the crate's source files for `source::FILES`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_SOURCE").is_none() {
        return Ok(());
    }
    println!("cargo::rerun-if-changed=src");
    let folder = |name| env::var_os(name).map(PathBuf::from).ok_or(io::Error::other("cargo sets it"));
    let root = folder("CARGO_MANIFEST_DIR")?.join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths)?;
    let mut names = Vec::new();
    for path in &paths {
        let name = path.strip_prefix(&root).map_err(io::Error::other)?;
        let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
        names.push((parts.join("/"), path));
    }
    names.sort();
    let rows = names.iter().map(|(name, path)| format!("({name:?}, include_str!({path:?})),\n"));
    fs::write(folder("OUT_DIR")?.join("source_files.rs"), format!("&[\n{}]", rows.collect::<String>()))
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, paths)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}
