//! Tokenised examples on disk, memory-mapped: memory does not grow with their number.
//!
//! # Safety of the memory map
//! This is the crate's one file with `unsafe`, and it is two calls. The first maps a file, read-only and shared. A map is undefined
//! behaviour if the file changes under it. Stores are never changed in place: a build writes a temporary file and
//! renames it over the old one, whose contents live on, unlinked, as long as somebody maps them. What remains is
//! somebody else writing into or cutting a store by hand while it is in use. Ids read then could be wrong, and a
//! page cut away ends the process (SIGBUS); but no length or index is ever read from the map that was not checked
//! against the bounds of the slice at the time of use, so that memory outside the map is not reached even then.
//! The bytes are plain integers, for which every bit pattern is valid.
//!
//! The second gives pages back to the operating system (`MADV_DONTNEED`), so that a walk over a large store does not
//! end with all of it counted as this process's memory. On a shared map of a file this takes no contents away: the
//! next access, also through a slice that is still borrowed, finds the same bytes of the file again.
#![allow(unsafe_code, reason = "memory map of the store; see the safety argument above")]

mod build;
mod format;

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;

pub use build::{BuildReport, Lengths};

use crate::error::DataError;
use crate::id::PairId;
use crate::row::Row;
use crate::tokenise::{ExampleRef, TokeniseOptions};
use crate::tokenizer::PairTokenizer;
use format::{ENTRY_LEN, Entry, HEADER_LEN, Header};

#[cfg(target_endian = "big")]
compile_error!(
    "token stores are read in place as little-endian integers; big-endian machines are not supported"
);

/// The tokenised examples of one data set: preference pairs, or prompts with one completion.
///
/// Cloning is cheap and clones share the map; all threads may read at once.
#[derive(Clone)]
pub struct TokenStore {
    inner: Arc<Inner>,
}

/// Pages of a store that may stay mapped, in bytes, before they are given back.
#[cfg(target_os = "linux")]
const RESIDENT_BYTES: u64 = 64 << 20;

/// What one access can map at most beside the bytes it reads: the kernel maps cached pages around both ends.
#[cfg(target_os = "linux")]
const FAULT_AROUND_BYTES: u64 = 2 * (64 << 10);

struct Inner {
    map: Mmap,
    /// Upper bound on the bytes mapped since pages were last given back.
    #[cfg(target_os = "linux")]
    touched: AtomicU64,
    header: Header,
    report: BuildReport,
    path: PathBuf,
    len: usize,
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore")
            .field("path", &self.inner.path)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl TokenStore {
    /// Tokenises rows into a store at `path`, and opens it.
    ///
    /// Rows are streamed: a few hundred are in memory at a time, tokenised by the current rayon pool and written
    /// in their order, so that the bytes do not depend on the number of threads. The file appears under its name
    /// whole or not at all; an older one there is replaced, and two processes building the same store do not
    /// disturb each other. `progress` is called now and then with the number of rows done.
    ///
    /// # Errors
    /// The first error of `rows` or of [`tokenise`](crate::tokenise::tokenise), [`DataError::MixedRows`],
    /// [`DataError::NothingLeft`], [`DataError::Io`] (a full disk, for one).
    pub fn build(
        rows: impl Iterator<Item = Result<Row, DataError>>,
        tokenizer: &PairTokenizer,
        options: &TokeniseOptions,
        path: &Path,
        progress: impl FnMut(u64),
    ) -> Result<(Self, BuildReport), DataError> {
        build::build(rows, tokenizer, options, path, progress)
    }

    /// Opens a store. Its whole content is read once, in pieces, and checked: lengths, index and checksums.
    ///
    /// # Errors
    /// [`DataError::Io`], or [`DataError::Store`] if anything in it is wrong.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io(path, "open"))?;
        Self::from_file(file, path)
    }

    fn from_file(mut file: File, path: &Path) -> Result<Self, DataError> {
        let refuse = |what: String| DataError::Store { path: path.to_path_buf(), what };
        let file_len = file.metadata().map_err(DataError::io(path, "read"))?.len();
        let mut bytes = [0; HEADER_LEN];
        if file_len < HEADER_LEN as u64 {
            return Err(refuse(format!("it has {file_len} bytes, fewer than a header")));
        }
        file.rewind().and_then(|()| file.read_exact(&mut bytes)).map_err(DataError::io(path, "read"))?;
        let header = Header::from_bytes(&bytes, file_len).map_err(refuse)?;
        let mut reader = BufReader::with_capacity(1 << 18, &file);
        let report =
            format::verify(&header, &mut reader).map_err(DataError::io(path, "read"))?.map_err(refuse)?;
        let report =
            serde_json::from_slice(&report).map_err(|e| refuse(format!("its report is unreadable: {e}")))?;
        // SAFETY: the file is mapped read-only and, by the module's argument, never written in place.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io(path, "map"))?;
        if map.len() as u64 != file_len {
            return Err(refuse("its length changed while it was opened".into()));
        }
        // The length of the file, which holds `ENTRY_LEN` bytes per example, fits usize: it was mapped.
        let len = header.examples as usize;
        let path = path.to_path_buf();
        #[cfg(target_os = "linux")]
        let touched = AtomicU64::new(0);
        #[cfg(target_os = "linux")]
        let inner = Inner { map, touched, header, report, path, len };
        #[cfg(not(target_os = "linux"))]
        let inner = Inner { map, header, report, path, len };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Number of examples; at least 1.
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Whether there is no example. Never true: such a store is not built and not opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of example `i`.
    ///
    /// # Panics
    /// If `i >= len()`.
    pub fn id(&self, i: usize) -> PairId {
        self.entry(i).id
    }

    /// Token ids of example `i`, in place.
    ///
    /// # Panics
    /// If `i >= len()`.
    pub fn example(&self, i: usize) -> ExampleRef<'_> {
        let entry = self.entry(i);
        self.inner.touch(entry.ids() * 4);
        let ids: &[u32] = bytemuck::cast_slice(&self.inner.map[HEADER_LEN..self.index_start()]);
        let (prompt, rest) = ids[entry.start as usize..].split_at(entry.prompt as usize);
        let (first, rest) = rest.split_at(entry.completions[0] as usize);
        match self.inner.header.completions {
            1 => ExampleRef::single(entry.id, prompt, first),
            _ => ExampleRef::pair(entry.id, prompt, first, &rest[..entry.completions[1] as usize]),
        }
    }

    /// Tokens of example `i` as TRL counts them: prompt + chosen and prompt + rejected.
    ///
    /// # Panics
    /// If `i >= len()`.
    pub fn tokens(&self, i: usize) -> usize {
        self.entry(i).tokens(self.inner.header.completions) as usize
    }

    /// Tokens that example `i` takes in a packed batch ([`ExampleRef::packed_tokens`]).
    ///
    /// # Panics
    /// If `i >= len()`.
    pub fn packed_tokens(&self, i: usize) -> usize {
        self.entry(i).packed_tokens() as usize
    }

    /// Tokens of all examples as TRL counts them.
    pub fn total_tokens(&self) -> u64 {
        self.inner.header.tokens
    }

    /// 2 for preference pairs, 1 for fine-tuning examples.
    pub fn completions_per_example(&self) -> usize {
        self.inner.header.completions as usize
    }

    /// What became of the rows when the store was built.
    pub fn report(&self) -> &BuildReport {
        &self.inner.report
    }

    /// Hash of ids, lengths and tokens of all examples, in order.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.inner.header.content_hash
    }

    /// Fingerprint of the tokenizer that the store was built with ([`PairTokenizer::fingerprint`]).
    pub fn tokenizer_fingerprint(&self) -> [u8; 32] {
        self.inner.header.tokenizer
    }

    /// The options that the store was built with.
    pub fn options(&self) -> TokeniseOptions {
        TokeniseOptions { max_length: self.inner.header.max_length }
    }

    /// The path that the store was opened from.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn index_start(&self) -> usize {
        HEADER_LEN + self.inner.header.ids as usize * 4
    }

    fn entry(&self, i: usize) -> Entry {
        assert!(i < self.len(), "example {i} of a store of {}", self.len());
        self.inner.touch(ENTRY_LEN as u64);
        let at = self.index_start() + i * ENTRY_LEN;
        let mut bytes = [0; ENTRY_LEN];
        bytes.copy_from_slice(&self.inner.map[at..at + ENTRY_LEN]);
        Entry::from_bytes(&bytes)
    }
}

impl Inner {
    /// Notes that `bytes` are about to be read, and gives pages back when many were.
    #[cfg(target_os = "linux")]
    fn touch(&self, bytes: u64) {
        let added = bytes + FAULT_AROUND_BYTES;
        let touched = self.touched.fetch_add(added, Ordering::Relaxed) + added;
        if touched > RESIDENT_BYTES && self.map.len() as u64 > RESIDENT_BYTES {
            self.touched.store(0, Ordering::Relaxed);
            // SAFETY: a shared, read-only map of a file keeps its contents, see the module's argument.
            let advice = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            // It is advice: if the system does not take it, nothing is wrong.
            drop(advice);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn touch(&self, _bytes: u64) {}
}
