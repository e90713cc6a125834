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
/// as it was. What a former `edgec` did not write (`Cargo.lock`, `target`, files of the user, in
/// whatever folder) is kept. A folder that is neither empty nor ours is refused. Where an earlier run was killed in
/// between, its old folder is put back first.
pub fn write(folder: &Path, files: &[File]) -> Result<(), EmitError> {
    // A link stays, and what it leads to is replaced.
    let folder = &match fs::symlink_metadata(folder) {
        Ok(m) if m.file_type().is_symlink() => fs::canonicalize(folder).map_err(io_error(folder))?,
        _ => folder.to_owned(),
    };
    let real = fs::canonicalize(folder).ok();
    if real.zip(std::env::current_dir().ok()).is_some_and(|(folder, here)| here.starts_with(folder)) {
        return Err(EmitError::Inside(folder.to_owned()));
    }
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| EmitError::NotOurs(folder.to_owned()))?;
    let parent = match folder.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(io_error(&parent))?;
    recover(folder, &parent, &name)?;
    let old = existing(folder)?;
    let sibling = |kind: &str| parent.join(format!("{}{}", prefix(&name, kind), std::process::id()));
    let (fresh, former) = (sibling(NEW), sibling(OLD));
    let result = fill(&fresh, files).and_then(|()| match &old {
        None => fs::rename(&fresh, folder).map_err(io_error(folder)),
        Some(written) => replace(folder, &fresh, &former, written),
    });
    if result.is_err() {
        // The error says what happened; what is left of the attempt is of no use.
        let _ = fs::remove_dir_all(&fresh);
    }
    result
}

/// Kinds of folders beside the one that is written.
const NEW: &str = "new";
const OLD: &str = "old";

fn prefix(name: &str, kind: &str) -> String {
    format!(".{name}.edgec-{kind}-")
}

/// Longer than any run takes: what is older was left by one that was killed.
const STALE: std::time::Duration = std::time::Duration::from_secs(3600);

/// Puts back what a killed run had moved away, and removes what it had begun.
fn recover(folder: &Path, parent: &Path, name: &str) -> Result<(), EmitError> {
    let Ok(entries) = fs::read_dir(parent) else { return Ok(()) };
    for entry in entries.filter_map(Result::ok) {
        let (path, entry_name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry_name.starts_with(&prefix(name, OLD)) && !folder.exists() {
            fs::rename(&path, folder).map_err(io_error(&path))?;
        } else if entry_name.starts_with(&prefix(name, NEW)) {
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if age.is_some_and(|age| age > STALE) {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
    Ok(())
}

/// `None` if there is nothing in `folder`, else the files that edgec wrote there.
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
    Ok(Some(listed.keys().cloned().chain([MARKER.to_owned()]).collect()))
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

fn replace(folder: &Path, fresh: &Path, former: &Path, written: &BTreeSet<String>) -> Result<(), EmitError> {
    let mut kept = Vec::new();
    foreign(folder, "", written, &mut kept)?;
    if let Some(path) = kept.iter().find(|path| fresh.join(path).exists()) {
        let error = io::Error::new(
            io::ErrorKind::AlreadyExists,
            "it is not edgec's, and a generated file would take its place",
        );
        return Err(io_error(&folder.join(path))(error));
    }
    fs::rename(folder, former).map_err(io_error(folder))?;
    let mut moved: Vec<(PathBuf, PathBuf)> = Vec::new();
    let swapped = fs::rename(fresh, folder).map_err(io_error(folder)).and_then(|()| {
        for path in &kept {
            let (from, to) = (former.join(path), folder.join(path));
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(io_error(parent))?;
            }
            fs::rename(&from, &to).map_err(io_error(&to))?;
            moved.push((from, to));
        }
        Ok(())
    });
    if let Err(error) = swapped {
        // The way back, in the opposite order.
        for (from, to) in moved.iter().rev() {
            let _ = fs::rename(to, from);
        }
        let _ = fs::rename(folder, fresh);
        fs::rename(former, folder).map_err(io_error(folder))?;
        return Err(error);
    }
    // The new crate is in place: what cannot be removed is no failure of the build.
    let _ = fs::remove_dir_all(former);
    Ok(())
}

/// Paths below `folder` that are not ours: whole folders where nothing in them is.
fn foreign(
    folder: &Path,
    at: &str,
    ours: &BTreeSet<String>,
    kept: &mut Vec<String>,
) -> Result<(), EmitError> {
    let place = folder.join(at);
    let mut entries: Vec<_> = fs::read_dir(&place)
        .map_err(io_error(&place))?
        .collect::<Result<_, _>>()
        .map_err(io_error(&place))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = match at {
            "" => entry.file_name().to_string_lossy().into_owned(),
            at => format!("{at}/{}", entry.file_name().to_string_lossy()),
        };
        let within = format!("{path}/");
        let shared = ours.range(within.clone()..).next().is_some_and(|next| next.starts_with(&within));
        let is_folder = entry.file_type().map_err(io_error(&place))?.is_dir();
        if is_folder && shared {
            foreign(folder, &path, ours, kept)?;
        } else if is_folder || !ours.contains(&path) {
            kept.push(path);
        }
    }
    Ok(())
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
