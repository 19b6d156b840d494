//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::exit::bad_input;
use crate::fail_point;

/// Writes `bytes` under a temporary name in the same folder, syncs, renames, syncs the folder.
///
/// The temporary name begins with the final one, `.NAME.ama-`, so that whoever claims that output (`output.rs`) knows what
/// a killed process left of it.
///
/// # Errors
/// A full disk or a folder that cannot be written, with the path; an older file is untouched then.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let folder = folder_of(path);
    fs::create_dir_all(folder).with_context(what)?;
    let prefix = format!(".{}.ama-", path.file_name().unwrap_or_default().to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    // Readable by whom the umask allows, like any file that a program writes.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).with_context(what)?;
    file.write_all(bytes).with_context(what)?;
    file.as_file().sync_all().with_context(what)?;
    fail_point::reach("temporary");
    file.persist(path).map_err(|error| error.error).with_context(what)?;
    sync_folder(folder)
}

/// [`write_whole`] of a JSON value, indented, with a newline at the end.
///
/// # Errors
/// As [`write_whole`].
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).with_context(|| format!("cannot write {}", path.display()))?;
    text.push('\n');
    write_whole(path, text.as_bytes())
}

/// Reads JSON; `None` if there is no such file.
///
/// # Errors
/// The file cannot be read or is not what it should be, with the path.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| bad_input(format!("{}: damaged: {error}; delete it and run again", path.display())))
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|handle| handle.sync_all())
        .with_context(|| format!("cannot sync {}", folder.display()))
}

/// Whether a folder is missing or empty, so that output can go there.
///
/// # Errors
/// It cannot be listed.
pub(crate) fn is_free(folder: &Path) -> Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot list {}", folder.display())),
    }
}

/// Refuses an output folder that holds something, before any work is done.
///
/// # Errors
/// It exists and is not an empty folder.
pub(crate) fn want_free(folder: &Path) -> Result<()> {
    if is_free(folder)? {
        return Ok(());
    }
    Err(bad_input(format!(
        "{} exists already and is not an empty folder; choose another --out or remove it",
        folder.display()
    )))
}

/// Removes a file or folder if it is there.
///
/// # Errors
/// It is there and cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes those entries of a folder whose names `are_to_go`.
///
/// # Errors
/// The folder cannot be listed, or one of them cannot be removed.
pub(crate) fn remove_entries(folder: &Path, are_to_go: impl Fn(&str) -> bool) -> Result<()> {
    let context = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        if are_to_go(&entry.file_name().to_string_lossy()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Hash of a file's bytes.
///
/// # Errors
/// It cannot be read.
pub(crate) fn hash_file(path: &Path) -> Result<[u8; 32]> {
    let what = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(what)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(what)?;
        if read == 0 {
            return Ok(*hasher.finalize().as_bytes());
        }
        hasher.update_rayon(&buffer[..read]);
    }
}

/// `folder` with `suffix` added to its last component: `out` and `.partial` give `out.partial`.
pub(crate) fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    folder.with_file_name(name)
}
