//! Tensor data in files beside the model.
//!
//! A location is a relative path; the file it leads to, links resolved, must lie in the model's
//! folder. Exactly the bytes that the tensor takes are read.

use super::proto::StringStringEntryProto;
use super::tensor::DataError;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// The folder that external data may come from, and what was read of it.
#[derive(Debug, Default)]
pub struct ExternalData {
    folder: Option<PathBuf>,
    read: RefCell<BTreeSet<PathBuf>>,
}

impl ExternalData {
    /// No folder: every external tensor is refused.
    pub fn none() -> Self {
        Self::default()
    }

    /// Files in `folder`, the model's.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        ExternalData { folder: Some(folder.into()), read: RefCell::default() }
    }

    /// Paths of the files read so far (folder joined with location), sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.read.borrow().iter().cloned().collect()
    }

    /// The `expected` bytes that `entries` (`location`, `offset`, `length`, `checksum`) point to.
    pub fn read(&self, entries: &[StringStringEntryProto], expected: usize) -> Result<Vec<u8>, DataError> {
        let entry = |key: &str| entries.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| {
            entry(key).map_or(Ok(None), |text| {
                text.parse::<u64>()
                    .map(Some)
                    .map_err(|_| DataError::External(format!("external data: `{key}` is `{text}`")))
            })
        };
        let location = entry("location")
            .filter(|l| !l.is_empty())
            .ok_or_else(|| DataError::External("external data without a `location`".into()))?;
        let offset = number("offset")?.unwrap_or(0);
        if let Some(length) = number("length")?.filter(|&length| length != expected as u64) {
            return Err(DataError::External(format!(
                "external data in `{location}` has {length} bytes, but the tensor takes {expected}"
            )));
        }
        let path = self.resolve(location)?;
        let io = |e: std::io::Error| DataError::Io(format!("external data `{location}`: {e}"));
        let mut file = File::open(&path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let end = offset.checked_add(expected as u64);
        if !metadata.is_file() || end.is_none_or(|end| end > metadata.len()) {
            return Err(DataError::External(format!(
                "external data `{location}` ends at {}, but bytes from {offset} on to the number of {expected} \
                 are asked for",
                metadata.len()
            )));
        }
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        let mut bytes = vec![0; expected];
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }

    fn resolve(&self, location: &str) -> Result<PathBuf, DataError> {
        let folder = self.folder.as_deref().ok_or_else(|| {
            DataError::External(format!(
                "external data `{location}` cannot be found: the model was not read from a file"
            ))
        })?;
        let relative = Path::new(location);
        let stays = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        // A backslash is a separator on some hosts: refuse it on all, so that all agree.
        if !stays || location.contains('\\') || location.contains('\0') {
            return Err(outside(location));
        }
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let io = |e: std::io::Error| DataError::External(format!("external data `{location}`: {e}"));
        let joined = folder.join(relative);
        let root = folder.canonicalize().map_err(io)?;
        let real = joined.canonicalize().map_err(io)?;
        if !real.starts_with(&root) {
            return Err(outside(location));
        }
        self.read.borrow_mut().insert(joined);
        Ok(real)
    }
}

fn outside(location: &str) -> DataError {
    DataError::External(format!("external data `{location}` lies outside the model's folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<StringStringEntryProto> {
        pairs.iter().map(|(k, v)| StringStringEntryProto { key: (*k).into(), value: (*v).into() }).collect()
    }

    #[test]
    fn reads_inside_the_folder_only() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("model");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("w.bin"), [1, 2, 3, 4, 5]).unwrap();
        std::fs::write(outer.path().join("secret"), [9; 8]).unwrap();
        let external = ExternalData::in_folder(&folder);
        let read = |pairs: &[(&str, &str)], n| external.read(&entries(pairs), n);

        assert_eq!(read(&[("location", "w.bin"), ("offset", "1"), ("length", "2")], 2).unwrap(), [2, 3]);
        assert_eq!(read(&[("location", "./w.bin")], 5).unwrap().len(), 5);
        for bad in [
            &[("location", "../secret")][..],
            &[("location", "/etc/passwd")],
            &[("location", "")],
            &[("location", "missing")],
            &[("location", "w.bin"), ("offset", "4")],
            &[("location", "w.bin"), ("offset", "18446744073709551615")],
            &[("location", "w.bin"), ("length", "3")],
            &[("location", "w.bin"), ("offset", "-1")],
            &[],
        ] {
            assert!(read(bad, 2).is_err(), "{bad:?}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(outer.path().join("secret"), folder.join("link")).unwrap();
            assert!(read(&[("location", "link")], 8).is_err());
        }
        assert_eq!(external.files(), [folder.join("./w.bin")]);
    }
}
