//! Files that appear whole or not at all: written in the same folder under a temporary name, then renamed.

use std::fs::File;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::DataError;

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file in the folder of `path` whose hidden name begins with that of `path` (so that it is seen whose it is, should the
/// process be killed), with the permissions of any other new file.
pub(crate) fn temporary_beside(path: &Path) -> Result<NamedTempFile, DataError> {
    let prefix = format!(".{}.ama-", path.file_name().unwrap_or_default().to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Less what the umask takes away.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder_of(path)).map_err(DataError::io(path, "create a temporary file beside"))
}

/// Gives a finished and synced file its name, replacing an older one, and syncs the folder.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<File, DataError> {
    let handle = file.persist(path).map_err(|e| DataError::io(path, "write")(e.error))?;
    #[cfg(unix)]
    {
        let folder = folder_of(path);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(DataError::io(folder, "sync"))?;
    }
    Ok(handle)
}
