//! Tokenised examples on disk, memory-mapped: memory does not grow with their number.

mod build;
mod examine;
mod format;
mod map;
mod rows;
mod tally;

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use rows::{Place, StoredRow};
pub use tally::{BuildReport, Lengths};

use crate::error::DataError;
use crate::id::PairId;
use crate::row::Row;
use crate::tokenise::{ExampleRef, TokeniseOptions};
use crate::tokenizer::PairTokenizer;
use format::{ENTRY_LEN, Entry, HEADER_LEN, Header, PLACE_LEN, PlaceEntry, Tail};
use map::Map;

#[cfg(target_endian = "big")]
compile_error!(
    "token stores are read in place as little-endian integers; big-endian machines are not supported"
);

/// The tokenised examples of one data set: preference pairs, or prompts with one completion.
///
/// Cloning is cheap and clones share the map; all threads may read at once. All stores of a process together keep some
/// 64 MiB of their pages mapped (Linux), however many and large they are.
#[derive(Clone)]
pub struct TokenStore {
    inner: Arc<Inner>,
}

struct Inner {
    map: Arc<Map>,
    header: Header,
    report: BuildReport,
    /// The data files, in the order in which they were read.
    files: Vec<PathBuf>,
    path: PathBuf,
    len: usize,
}

impl BuildReport {
    /// Counts what [`TokenStore::build`] would count, and writes no store.
    ///
    /// Without a tokenizer nothing is tokenised, and what depends on tokens stays 0. `fault` is told of every row that
    /// cannot be used; what it returns as an error ends the count.
    ///
    /// # Errors
    /// As [`TokenStore::build`], and what `fault` returns.
    pub fn of(
        rows: impl Iterator<Item = Result<Row, DataError>>,
        tokenizer: Option<&PairTokenizer>,
        options: &TokeniseOptions,
        fault: impl FnMut(DataError) -> Result<(), DataError>,
    ) -> Result<Self, DataError> {
        build::count(rows, tokenizer, options, fault)
    }
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
        let Tail { report, files } =
            format::verify(&header, &mut reader).map_err(DataError::io(path, "read"))?.map_err(refuse)?;
        let files = files.into_iter().map(PathBuf::from).collect();
        let map = Map::of(&file).map_err(DataError::io(path, "map"))?;
        if map.bytes().len() as u64 != file_len {
            return Err(refuse("its length changed while it was opened".into()));
        }
        // The length of the file, which holds `ENTRY_LEN` bytes per example, fits usize: it was mapped.
        let len = header.examples as usize;
        let path = path.to_path_buf();
        let inner = Inner { map, header, report, files, path, len };
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
        self.inner.map.touch(entry.ids() * 4);
        let ids: &[u32] = bytemuck::cast_slice(&self.inner.map.bytes()[HEADER_LEN..self.index_start()]);
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

    /// Where example `i` stands in the data files.
    ///
    /// # Panics
    /// If `i >= len()`.
    pub fn place(&self, i: usize) -> Place<'_> {
        self.named(self.place_entry(i))
    }

    /// All rows that were read, in their order: those that gave an example, and those that were dropped.
    pub fn rows(&self) -> impl Iterator<Item = StoredRow<'_>> {
        rows::Rows::new(self)
    }

    fn place_entry(&self, i: usize) -> PlaceEntry {
        assert!(i < self.len(), "example {i} of a store of {}", self.len());
        let at = self.places_start() + i * PLACE_LEN;
        self.inner.map.touch(PLACE_LEN as u64);
        PlaceEntry::from_bytes(&self.inner.map.bytes()[at..at + PLACE_LEN])
    }

    fn named(&self, place: PlaceEntry) -> Place<'_> {
        Place { file: &self.inner.files[place.file as usize], row: place.row }
    }

    fn places_start(&self) -> usize {
        self.index_start() + self.len() * ENTRY_LEN
    }

    fn index_start(&self) -> usize {
        HEADER_LEN + self.inner.header.ids as usize * 4
    }

    fn entry(&self, i: usize) -> Entry {
        assert!(i < self.len(), "example {i} of a store of {}", self.len());
        self.inner.map.touch(ENTRY_LEN as u64);
        let at = self.index_start() + i * ENTRY_LEN;
        let mut bytes = [0; ENTRY_LEN];
        bytes.copy_from_slice(&self.inner.map.bytes()[at..at + ENTRY_LEN]);
        Entry::from_bytes(&bytes)
    }
}
