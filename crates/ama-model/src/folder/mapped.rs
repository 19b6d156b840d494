//! One `.safetensors` file, mapped into memory and checked before any tensor is handed out.
//!
//! # Safety argument
//! `memmap2::Mmap::map` is unsafe because the bytes behind the map change if anybody writes to the file, and
//! reading past a new, shorter end kills the process. What is done about it:
//! - the map is private to [`MappedFile`] and only ever read, as bytes: any byte value is a valid `u8`, and
//!   values that were checked (header, offsets) are copied out of the map into owned structures before they
//!   are relied on; tensor bytes are converted element by element, and every bit pattern is a valid float;
//! - no tensor range is kept that was not checked against the length of the map, so reads stay inside it;
//! - what remains is a file that another process shortens during the few seconds of loading. Everything in
//!   this workspace writes weights under a temporary name and renames, which leaves an existing map intact;
//!   so does `safetensors` itself. A process that truncates a model file in place while it is being loaded
//!   can end this one with SIGBUS. It cannot make it read foreign memory.

#![allow(unsafe_code, reason = "mapping a file; see the safety argument above")]

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::index::NamesOnce;
use crate::error::ModelError;

/// Longest header that is read; the limit of the format's own reader.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header length.
const LENGTH_BYTES: usize = 8;

/// A tensor's entry in the header. The range was checked against the file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    range: Range<usize>,
}

/// A checked, mapped weights file.
#[derive(Debug)]
pub(super) struct MappedFile {
    pub(super) path: PathBuf,
    map: Mmap,
    pub(super) entries: HashMap<String, Entry>,
}

impl MappedFile {
    /// Maps the file and checks header length, JSON, duplicate names, shapes, types and offsets: tensors must
    /// cover the data without gap or overlap, as the format demands.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let io = |action, source| ModelError::Io { action, path: path.to_path_buf(), source };
        let file = File::open(path).map_err(|e| io("open", e))?;
        let meta = file.metadata().map_err(|e| io("read", e))?;
        if !meta.is_file() {
            return Err(io("map", std::io::Error::other("it is not a regular file")));
        }
        let bad = |source| ModelError::SafeTensors { path: path.to_path_buf(), source };
        if meta.len() < LENGTH_BYTES as u64 {
            return Err(bad(SafeTensorError::HeaderTooSmall));
        }
        // SAFETY: the map is read-only, private to this struct and read as bytes; see the argument above for
        // files that change under it.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| io("map", e))?;

        let mut length = [0u8; LENGTH_BYTES];
        length.copy_from_slice(&map[..LENGTH_BYTES]);
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(bad(SafeTensorError::HeaderTooLarge));
        }
        // At most 10^8, so neither the cast nor the sum can overflow.
        let end = LENGTH_BYTES + length as usize;
        let header = map.get(LENGTH_BYTES..end).ok_or_else(|| bad(SafeTensorError::InvalidHeaderLength))?;
        // The format's reader keeps the last of two equal names silently; we do not.
        let names: NamesOnce = serde_json::from_slice(header)
            .map_err(|e| bad(SafeTensorError::InvalidHeaderDeserialization(e)))?;
        if let Some(tensor) = names.repeated {
            return Err(ModelError::DuplicateTensor {
                path: path.to_path_buf(),
                tensor,
                first: path.to_path_buf(),
            });
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
        Ok(Self { path: path.to_path_buf(), map, entries })
    }

    /// The little-endian bytes of one of this file's own entries.
    pub(super) fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.map[entry.range.clone()]
    }
}
