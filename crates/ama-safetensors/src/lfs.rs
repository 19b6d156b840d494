//! Git LFS pointers: the few lines that a clone without `git lfs` has in place of every large file.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::error::{FolderError, io};

/// First line of a pointer, by the name of the project today and before 2015.
const FIRST_LINES: [&[u8]; 2] =
    [b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"];
/// Pointers are shorter than this by the specification.
const MAX_POINTER: usize = 1024;

/// Whether a file of these bytes (or one that begins with them) is a Git LFS pointer.
#[must_use]
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.len() < MAX_POINTER && FIRST_LINES.iter().any(|line| bytes.starts_with(line))
}

/// Refuses a Git LFS pointer; a path that is no file passes, for whoever reads it to complain about.
///
/// # Errors
/// [`FolderError::LfsPointer`], [`FolderError::Io`].
pub fn refuse_lfs_pointer(path: &Path) -> Result<(), FolderError> {
    let mut start = Vec::new();
    let file = match File::open(path) {
        Ok(file) if path.is_file() => file,
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("open", path)(error)),
    };
    file.take(MAX_POINTER as u64).read_to_end(&mut start).map_err(io("read", path))?;
    if is_lfs_pointer(&start) {
        return Err(FolderError::LfsPointer { path: path.to_path_buf() });
    }
    Ok(())
}
