//! A hidden folder beside the target that becomes the target when it is complete.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::{MergeError, io};

/// Removed again unless it is published.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
    parent: PathBuf,
    published: bool,
}

impl Staging {
    /// Makes the folder, and missing parents of the target.
    pub(crate) fn beside(target: &Path) -> Result<Self, MergeError> {
        let bad = || MergeError::BadTarget { path: target.to_path_buf() };
        let name = target.file_name().ok_or_else(bad)?.to_string_lossy().into_owned();
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        if fs::symlink_metadata(target).is_ok() && !is_empty_folder(target) {
            return Err(MergeError::TargetExists { path: target.to_path_buf() });
        }
        fs::create_dir_all(&parent).map_err(io("create", &parent))?;
        // Process id and a counter: no two merges share a folder, and one left by a killed process is skipped.
        for attempt in 0u32.. {
            let path = parent.join(format!(".{name}.merging-{}-{attempt}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, parent, published: false }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(io("create", &path)(e)),
            }
        }
        Err(bad())
    }

    /// Writes and syncs a small file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), MergeError> {
        let path = self.path.join(name);
        let mut file = File::create(&path).map_err(io("create", &path))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("write", &path))
    }

    /// Copies and syncs the file of that name, if there is one.
    pub(crate) fn copy(&self, from: &Path, name: &str) -> Result<(), MergeError> {
        let source = from.join(name);
        if source.is_file() {
            let target = self.path.join(name);
            fs::copy(&source, &target).map_err(io("copy", &source))?;
            sync(&target)?;
        }
        Ok(())
    }

    /// Makes the folder the target: sync, rename, sync the parent.
    pub(crate) fn publish(mut self, target: &Path) -> Result<(), MergeError> {
        sync(&self.path)?;
        if is_empty_folder(target) {
            fs::remove_dir(target).map_err(io("replace the empty folder", target))?;
        }
        fs::rename(&self.path, target).map_err(|e| match e.kind() {
            std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists => {
                MergeError::TargetExists { path: target.to_path_buf() }
            }
            _ => io("rename the finished folder to", target)(e),
        })?;
        self.published = true;
        sync(&self.parent)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: the error that brought us here is the one to report.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn sync(path: &Path) -> Result<(), MergeError> {
    // Folders can be opened and synced on Unix only.
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(io("sync", path))
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
