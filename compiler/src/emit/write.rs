//! Files → a folder, at once or not at all; and how a folder differs from them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use super::{EmitError, File};

/// The file whose presence says that a folder is ours.
const MARKER: &str = "PROVENANCE.json";

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> EmitError {
    move |error| EmitError::Io { path: path.to_owned(), error }
}

/// Replaces the generated crate in `folder` by `files`.
///
/// Everything is first written to a folder beside it, which then takes its place; on failure the old one is
/// as it was. Entries that a former `edgec` did not write (`Cargo.lock`, `target`, files of the
/// user) are kept. A folder that is neither empty nor ours is refused.
pub fn write(folder: &Path, files: &[File]) -> Result<(), EmitError> {
    let old = existing(folder)?;
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| EmitError::NotOurs(folder.to_owned()))?;
    let parent = match folder.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(io_error(&parent))?;
    let sibling = |kind: &str| parent.join(format!(".{name}.edgec-{kind}-{}", std::process::id()));
    let (fresh, former) = (sibling("new"), sibling("old"));
    let result = fill(&fresh, files).and_then(|()| match &old {
        None => fs::rename(&fresh, folder).map_err(io_error(folder)),
        Some(written) => replace(folder, &fresh, &former, written, files),
    });
    if result.is_err() {
        // The error says what happened; what is left of the attempt is of no use.
        let _ = fs::remove_dir_all(&fresh);
    }
    result
}

/// `None` if there is nothing in `folder`, else the top-level entries that edgec wrote there.
fn existing(folder: &Path) -> Result<Option<BTreeSet<String>>, EmitError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.count(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(folder)(e)),
    };
    let marker = folder.join(MARKER);
    let text = match fs::read(&marker) {
        Ok(text) => text,
        Err(_) if entries == 0 => return Ok(Some(BTreeSet::new())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(EmitError::NotOurs(folder.to_owned())),
        Err(e) => return Err(io_error(&marker)(e)),
    };
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|_| EmitError::NotOurs(folder.to_owned()))?;
    let listed = json.get("files").and_then(|f| f.as_object());
    let listed = listed.ok_or_else(|| EmitError::NotOurs(folder.to_owned()))?;
    let top = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    Ok(Some(listed.keys().map(top).chain([MARKER.to_owned()]).collect()))
}

fn fill(folder: &Path, files: &[File]) -> Result<(), EmitError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(io_error(folder))?;
    }
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    for file in files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io_error(parent))?;
        }
        fs::write(&path, &file.bytes).map_err(io_error(&path))?;
    }
    Ok(())
}

fn replace(
    folder: &Path,
    fresh: &Path,
    former: &Path,
    written: &BTreeSet<String>,
    files: &[File],
) -> Result<(), EmitError> {
    fs::rename(folder, former).map_err(io_error(folder))?;
    if let Err(error) = fs::rename(fresh, folder) {
        fs::rename(former, folder).map_err(io_error(folder))?;
        return Err(io_error(folder)(error));
    }
    let new: BTreeSet<&str> = files.iter().filter_map(|f| f.path.split('/').next()).collect();
    for entry in fs::read_dir(former).map_err(io_error(former))? {
        let entry = entry.map_err(io_error(former))?;
        let name = entry.file_name();
        let known = name.to_str().is_some_and(|n| written.contains(n) || new.contains(n));
        if !known {
            let to = folder.join(&name);
            fs::rename(entry.path(), &to).map_err(io_error(&to))?;
        }
    }
    fs::remove_dir_all(former).map_err(io_error(former))
}

/// How a file in the folder is not what would be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing(String),
    /// It has other contents; the first line that differs, where it is text.
    Changed(String, Option<usize>),
    /// It was written by edgec, and would not be any more.
    Extra(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing(path) => write!(f, "`{path}` is missing"),
            Difference::Changed(path, Some(line)) => write!(f, "`{path}` differs from line {line} on"),
            Difference::Changed(path, None) => write!(f, "`{path}` differs"),
            Difference::Extra(path) => write!(f, "`{path}` would no longer be written"),
        }
    }
}

/// How `folder` differs from `files`; nothing if it is up to date. Files that edgec did not write
/// don't count.
pub fn compare(folder: &Path, files: &[File]) -> Result<Vec<Difference>, EmitError> {
    let mut differences = Vec::new();
    for file in files {
        let path = folder.join(&file.path);
        match fs::read(&path) {
            Ok(bytes) if bytes == file.bytes => {}
            Ok(bytes) => {
                differences.push(Difference::Changed(file.path.clone(), first_line(&bytes, &file.bytes)))
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                differences.push(Difference::Missing(file.path.clone()));
            }
            Err(e) => return Err(io_error(&path)(e)),
        }
    }
    let now: BTreeSet<&str> = files.iter().map(|f| f.path.as_str()).collect();
    for path in listed(&folder.join(MARKER)).into_keys() {
        if !now.contains(path.as_str()) && folder.join(&path).exists() {
            differences.push(Difference::Extra(path));
        }
    }
    Ok(differences)
}

/// Files that the folder's marker lists, with their hashes; none if there is no readable marker.
fn listed(marker: &Path) -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct Provenance {
        files: BTreeMap<String, String>,
    }
    let parsed = fs::read(marker).ok().and_then(|text| serde_json::from_slice::<Provenance>(&text).ok());
    parsed.map(|p| p.files).unwrap_or_default()
}

fn first_line(old: &[u8], new: &[u8]) -> Option<usize> {
    let (old, new) = (str::from_utf8(old).ok()?, str::from_utf8(new).ok()?);
    let same = old.lines().zip(new.lines()).take_while(|(a, b)| a == b).count();
    Some(same + 1)
}
