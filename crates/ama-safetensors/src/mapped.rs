//! One `.safetensors` file, mapped into memory and checked before any tensor is handed out.
//!
//! # Safety argument
//! The crate's one file with `unsafe`, and it is two calls.
//!
//! `Mmap::map` is unsafe because the bytes behind the map change if anybody writes to the file, and reading past a new,
//! shorter end ends the process. The map is private to [`WeightsFile`] and only ever read as bytes, for which every
//! value is valid; header values are copied out and checked before they are relied on; and no range is kept that was
//! not checked against the length of the map. What remains is a file that another process cuts while it is read:
//! that can end this process with SIGBUS, but cannot make it read foreign memory. Everything in this workspace writes
//! weights under a temporary name and renames, which leaves an existing map intact; so does `safetensors` itself.
//!
//! `unchecked_advise_range(DontNeed)` gives pages back to the operating system, so that a merge does not end with all its
//! inputs counted as this process's memory. It is unsafe because on a private writable map it would discard
//! changes. This map is read-only, so there are none: the next access finds the same bytes of the file again.

#![allow(unsafe_code, reason = "mapping a file; see the safety argument above")]

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{FolderError, io};
use crate::lfs::is_lfs_pointer;

/// Longest header that is read; the limit of the format's own reader.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header length in front of the header.
const LENGTH_BYTES: usize = 8;

/// A tensor's entry in the header of its file. The range was checked against the file.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Element type.
    pub dtype: Dtype,
    /// Row-major; `[]` is a scalar.
    pub shape: Vec<usize>,
    range: Range<usize>,
}

impl Entry {
    /// Elements.
    #[must_use]
    pub fn len(&self) -> usize {
        // The format's reader checked that the product does not overflow and fits the bytes.
        self.shape.iter().product()
    }

    /// Whether the tensor has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// First byte of the tensor in its file: the order in which tensors lie on disk.
    #[must_use]
    pub fn start(&self) -> usize {
        self.range.start
    }
}

/// A checked, mapped weights file.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    map: Mmap,
    entries: HashMap<String, Entry>,
}

impl WeightsFile {
    /// Maps the file and checks header length, JSON, repeated names, shapes, types and offsets: tensors must cover the data
    /// without gap or overlap, as the format demands.
    ///
    /// # Errors
    /// [`FolderError::Io`], [`FolderError::LfsPointer`], [`FolderError::SafeTensors`],
    /// [`FolderError::DuplicateTensor`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let file = File::open(path).map_err(io("open", path))?;
        let meta = file.metadata().map_err(io("read", path))?;
        if !meta.is_file() {
            return Err(io("map", path)(std::io::Error::other("it is not a regular file")));
        }
        let bad = |source| FolderError::SafeTensors { path: path.to_path_buf(), source };
        if meta.len() < LENGTH_BYTES as u64 {
            return Err(bad(SafeTensorError::HeaderTooSmall));
        }
        // SAFETY: read-only, private to this struct and read as bytes; see the argument above.
        let map = unsafe { Mmap::map(&file) }.map_err(io("map", path))?;
        if is_lfs_pointer(&map) {
            return Err(FolderError::LfsPointer { path: path.to_path_buf() });
        }

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
            let (path, first) = (path.to_path_buf(), path.to_path_buf());
            return Err(FolderError::DuplicateTensor { path, tensor, first });
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

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensor of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All tensors, by name in alphabetical order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let mut entries: Vec<(&str, &Entry)> =
            self.entries.iter().map(|(name, entry)| (name.as_str(), entry)).collect();
        entries.sort_by_key(|(name, _)| *name);
        entries.into_iter()
    }

    /// Leaves out tensors for which `keep` says no.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| keep(name));
    }

    /// The little-endian bytes of one of this file's own entries (nothing, for one of a longer file).
    #[must_use]
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        self.map.get(entry.range.clone()).unwrap_or_default()
    }

    /// Says that the tensor will be read soon, so that a disk starts now. Advice only.
    pub fn will_need(&self, entry: &Entry) {
        #[cfg(unix)]
        {
            let range = &entry.range;
            drop(self.map.advise_range(memmap2::Advice::WillNeed, range.start, range.len()));
        }
        #[cfg(not(unix))]
        let _ = entry;
    }

    /// Says that the tensor will not be read again, so that its pages stop counting as memory of this process. Advice only.
    pub fn done_with(&self, entry: &Entry) {
        #[cfg(unix)]
        {
            let range = &entry.range;
            // SAFETY: the map is read-only, so that no change can be lost; see the argument above.
            let advice = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
            drop(advice);
        }
        #[cfg(not(unix))]
        let _ = entry;
    }
}

/// The first key of a JSON object that occurs twice; values are skipped.
struct NamesOnce {
    repeated: Option<String>,
}

impl<'de> Deserialize<'de> for NamesOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = NamesOnce;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensor names to their entries")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamesOnce, A::Error> {
                let mut seen = HashSet::new();
                let mut repeated = None;
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    if !seen.insert(name.clone()) {
                        repeated.get_or_insert(name);
                    }
                }
                Ok(NamesOnce { repeated })
            }
        }
        deserializer.deserialize_map(Names)
    }
}
