//! Files that appear whole or not at all.

use crate::CacheError;
use std::{fs, io::Write as _, path::Path};

/// An unfinished file is `.NAME.ama-XXXXXX.tmp`, NAME being the name that it will have. Readers skip it; a killed process
/// may leave one behind.
const UNFINISHED: (&str, &str, &str) = (".", ".ama-", ".tmp");

/// Puts `bytes` at `path`, replacing what is there: temporary name in the same folder, write, fsync, rename,
/// fsync of the folder.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = temporary_in(folder, path).map_err(CacheError::io("create a file in", folder))?;
    file.write_all(bytes).map_err(CacheError::io("write", path))?;
    file.as_file().sync_all().map_err(CacheError::io("flush to disk", path))?;
    file.persist(path).map_err(|error| CacheError::io("rename the finished file to", path)(error.error))?;
    sync_folder(folder)
}

/// An unfinished file that is to become `path`, removed when dropped. Readable by whom the umask allows, like any file
/// that a program writes, and not by its owner alone, like `tempfile`'s.
fn temporary_in(folder: &Path, path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let (start, middle, end) = UNFINISHED;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{start}{name}{middle}");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(end);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Makes renames in `folder` survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), CacheError> {
    // Only Unix opens folders as files.
    if cfg!(unix) {
        let flushed = fs::File::open(folder).and_then(|file| file.sync_all());
        flushed.map_err(CacheError::io("flush to disk the folder", folder))?;
    }
    Ok(())
}

/// Removes what crashed writers left in `folder`. Only for a caller that keeps other writers out.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<(), CacheError> {
    let entries = fs::read_dir(folder).map_err(CacheError::io("list", folder))?;
    for entry in entries {
        let entry = entry.map_err(CacheError::io("list", folder))?;
        let (start, middle, end) = UNFINISHED;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(start) && name.contains(middle) && name.ends_with(end) {
            let path = entry.path();
            fs::remove_file(&path).map_err(CacheError::io("remove the unfinished file", &path))?;
        }
    }
    Ok(())
}
