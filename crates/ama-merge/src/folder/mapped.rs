//! One `.safetensors` file, mapped into memory and checked before any tensor is handed out.
//!
//! # Safety argument
//! The crate's one file with `unsafe`, and it is two calls.
//!
//! `Mmap::map` is unsafe because the bytes behind the map change if anybody writes to the file, and reading past a new,
//! shorter end ends the process. The map is private to [`MappedFile`] and only ever read as bytes, for which every
//! value is valid; header values are copied out and checked before they are relied on; and no range is kept that was
//! not checked against the length of the map. What remains is a file that another process cuts while it is merged:
//! that can end this process with SIGBUS, but cannot make it read foreign memory. Everything in this workspace writes
//! weights under a temporary name and renames, which leaves an existing map intact; so does `safetensors` itself.
//!
//! `unchecked_advise_range(DontNeed)` gives pages back to the operating system, so that a merge does not end with all its
//! inputs counted as this process's memory. It is unsafe because on a private writable map it would discard
//! changes. This map is read-only, so there are none: the next access finds the same bytes of the file again.

#![allow(unsafe_code, reason = "mapping a file; see the safety argument above")]

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::index::NamesOnce;
use crate::error::{MergeError, io};

/// Longest header that is read; the limit of the format's own reader.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header length in front of the header.
const LENGTH_BYTES: usize = 8;

/// A tensor's entry in the header. The range was checked against the file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

/// A checked, mapped weights file.
#[derive(Debug)]
pub(super) struct MappedFile {
    pub(super) path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps the file and checks header length, JSON, repeated names, shapes, types and offsets: tensors must cover the data
    /// without gap or overlap, as the format demands.
    pub(super) fn open(path: &Path) -> Result<(Self, HashMap<String, Entry>), MergeError> {
        let file = File::open(path).map_err(io("open", path))?;
        let meta = file.metadata().map_err(io("read", path))?;
        if !meta.is_file() {
            return Err(io("map", path)(std::io::Error::other("it is not a regular file")));
        }
        let bad = |source| MergeError::SafeTensors { path: path.to_path_buf(), source };
        if meta.len() < LENGTH_BYTES as u64 {
            return Err(bad(SafeTensorError::HeaderTooSmall));
        }
        // SAFETY: read-only, private to this struct and read as bytes; see the argument above.
        let map = unsafe { Mmap::map(&file) }.map_err(io("map", path))?;

        let mut length = [0u8; LENGTH_BYTES];
        length.copy_from_slice(&map[..LENGTH_BYTES]);
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(bad(SafeTensorError::HeaderTooLarge));
        }
        // At most 10^8, so neither the cast nor the sum can overflow.
        let end = LENGTH_BYTES + length as usize;
        let header = map.get(LENGTH_BYTES..end).ok_or_else(|| bad(SafeTensorError::InvalidHeaderLength))?;
        // The format's reader keeps the last of two equal names silently; this one does not.
        let names: NamesOnce = serde_json::from_slice(header)
            .map_err(|source| bad(SafeTensorError::InvalidHeaderDeserialization(source)))?;
        if let Some(tensor) = names.repeated {
            return Err(MergeError::DuplicateTensor { path: path.to_path_buf(), tensor });
        }
        let (_, metadata) = SafeTensors::read_metadata(&map).map_err(bad)?;
        let entries = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (from, to) = info.data_offsets;
                let entry =
                    Entry { dtype: info.dtype, shape: info.shape.clone(), range: end + from..end + to };
                (name, entry)
            })
            .collect();
        Ok((Self { path: path.to_path_buf(), map }, entries))
    }

    /// The bytes of a range that an entry of this file has.
    pub(super) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.map[range.clone()]
    }

    /// Says that the range will be read soon, so that a disk starts now. Advice only.
    pub(super) fn will_need(&self, range: &Range<usize>) {
        #[cfg(unix)]
        drop(self.map.advise_range(memmap2::Advice::WillNeed, range.start, range.len()));
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Says that the range will not be read again, so that its pages stop counting as memory of this process. Advice only.
    pub(super) fn done_with(&self, range: &Range<usize>) {
        #[cfg(unix)]
        {
            // SAFETY: the map is read-only, so that no change can be lost; see the argument above.
            let advice = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
            drop(advice);
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
