//! Writing a token store: rows stream through the tokenizer to disk, and memory does not grow with their number.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::TokenStore;
use super::examine::{Examined, examine};
use super::format::{DroppedEntry, Entry, HEADER_LEN, Header, PlaceEntry, Tail};
use super::tally::{BuildReport, Tally};
use crate::disk;
use crate::error::DataError;
use crate::id::PairId;
use crate::row::Row;
use crate::tokenise::{Example, TokeniseOptions, Tokenised};
use crate::tokenizer::PairTokenizer;

/// See [`TokenStore::build`].
pub(super) fn build(
    rows: impl Iterator<Item = Result<Row, DataError>>,
    tokenizer: &PairTokenizer,
    options: &TokeniseOptions,
    path: &Path,
    progress: impl FnMut(u64),
) -> Result<(TokenStore, BuildReport), DataError> {
    let mut writer = Writer::new(path, tokenizer, options)?;
    examine(rows, Some(tokenizer), options, |row, examined| writer.push(row, examined), Err, progress)?;
    writer.finish()
}

/// See [`BuildReport::of`].
pub(super) fn count(
    rows: impl Iterator<Item = Result<Row, DataError>>,
    tokenizer: Option<&PairTokenizer>,
    options: &TokeniseOptions,
    fault: impl FnMut(DataError) -> Result<(), DataError>,
) -> Result<BuildReport, DataError> {
    let folder = std::env::temp_dir();
    let ids = tempfile::tempfile().map_err(DataError::io(&folder, "create a temporary file in"))?;
    let mut tally = Tally::new(ids, tokenizer);
    let mut kind = Kind::default();
    let take = |row: &Row, examined: Examined| {
        if let Some(Tokenised::Kept { example, .. }) = &examined.tokenised {
            kind.check(row, example)?;
        }
        tally.add(row, &examined).map_err(DataError::io(&folder, "write a temporary file in"))?;
        kind.last_source = Some(row.source.clone());
        Ok(())
    };
    examine(rows, tokenizer, options, take, fault, |_| ())?;
    if tally.report().read > 0 && tally.report().kept == 0 {
        return Err(kind.nothing_left(tally.report(), options, &folder));
    }
    tally.finish().map_err(DataError::io(&folder, "read a temporary file in"))
}

/// What all rows have in common.
#[derive(Default)]
struct Kind {
    completions: Option<usize>,
    last_source: Option<Arc<Path>>,
}

impl Kind {
    fn check(&mut self, row: &Row, example: &Example) -> Result<(), DataError> {
        let got = example.completions.len();
        let want = *self.completions.get_or_insert(got);
        if got == want {
            return Ok(());
        }
        Err(DataError::MixedRows { path: row.source.to_path_buf(), row: row.row, want, got })
    }

    fn nothing_left(&self, report: &BuildReport, options: &TokeniseOptions, path: &Path) -> DataError {
        DataError::NothingLeft {
            path: self.last_source.as_ref().map_or(path.to_path_buf(), |source| source.to_path_buf()),
            read: report.read,
            dropped: report.dropped_prompt_too_long,
            max_length: options.max_length,
        }
    }
}

struct Writer<'a> {
    path: &'a Path,
    options: TokeniseOptions,
    tokenizer: [u8; 32],
    data: BufWriter<tempfile::NamedTempFile>,
    index: BufWriter<File>,
    places: BufWriter<File>,
    dropped: BufWriter<File>,
    dropped_rows: u64,
    hasher: blake3::Hasher,
    bytes: Vec<u8>,
    ids: u64,
    kind: Kind,
    files: Vec<String>,
    tally: Tally,
}

impl<'a> Writer<'a> {
    fn new(path: &'a Path, tokenizer: &PairTokenizer, options: &TokeniseOptions) -> Result<Self, DataError> {
        let data = disk::temporary_beside(path)?;
        let temporary = || {
            tempfile::tempfile_in(disk::folder_of(path))
                .map_err(DataError::io(path, "create a temporary file beside"))
        };
        let mut data = BufWriter::with_capacity(1 << 20, data);
        data.write_all(&[0; HEADER_LEN]).map_err(DataError::io(path, "write"))?;
        Ok(Self {
            path,
            options: *options,
            tokenizer: tokenizer.fingerprint(),
            data,
            index: BufWriter::new(temporary()?),
            places: BufWriter::new(temporary()?),
            dropped: BufWriter::new(temporary()?),
            dropped_rows: 0,
            hasher: blake3::Hasher::new(),
            bytes: Vec::new(),
            ids: 0,
            kind: Kind::default(),
            files: Vec::new(),
            tally: Tally::new(temporary()?, Some(tokenizer)),
        })
    }

    fn push(&mut self, row: &Row, examined: Examined) -> Result<(), DataError> {
        if self.kind.last_source.as_ref() != Some(&row.source) {
            self.kind.last_source = Some(row.source.clone());
            self.files.push(row.source.display().to_string());
        }
        self.tally.add(row, &examined).map_err(DataError::io(self.path, "write"))?;
        let place = PlaceEntry { row: row.row, file: self.files.len() as u32 - 1 };
        match examined.tokenised {
            Some(Tokenised::Kept { example, .. }) => {
                self.kind.check(row, &example)?;
                self.write(&example, place).map_err(DataError::io(self.path, "write"))
            }
            Some(Tokenised::Dropped(reason)) => {
                self.dropped_rows += 1;
                let entry = DroppedEntry { id: PairId::of(&row.content), place, reason };
                self.dropped.write_all(&entry.to_bytes()).map_err(DataError::io(self.path, "write"))
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, example: &Example, place: PlaceEntry) -> io::Result<()> {
        let view = example.as_ref();
        // `tokenise` refuses an example whose ids do not fit 32 bits of length.
        let len = |ids: &[u32]| ids.len() as u32;
        let rejected = view.rejected().unwrap_or_default();
        let entry = Entry {
            id: view.id,
            start: self.ids,
            prompt: len(view.prompt),
            completions: [len(view.chosen()), len(rejected)],
        };
        self.bytes.clear();
        for ids in [view.prompt, view.chosen(), rejected] {
            self.bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
            self.ids += ids.len() as u64;
        }
        self.hasher.update(&self.bytes);
        self.data.write_all(&self.bytes)?;
        self.index.write_all(&entry.to_bytes())?;
        self.places.write_all(&place.to_bytes())
    }

    fn finish(self) -> Result<(TokenStore, BuildReport), DataError> {
        let Some(completions) = self.kind.completions else {
            return Err(self.kind.nothing_left(self.tally.report(), &self.options, self.path));
        };
        let path = self.path;
        let (file, report) = self.complete(completions as u32).map_err(DataError::io(path, "write"))?;
        let handle = disk::persist(file, path)?;
        // From the handle, not the path: another process may have put its own store there by now.
        Ok((TokenStore::from_file(handle, path)?, report))
    }

    /// Appends index, places and report, fills in the header and brings it all to the disk.
    fn complete(mut self, completions: u32) -> io::Result<(tempfile::NamedTempFile, BuildReport)> {
        append(self.index, &mut self.data, &mut self.hasher)?;
        let mut tail_hash = blake3::Hasher::new();
        append(self.places, &mut self.data, &mut tail_hash)?;
        append(self.dropped, &mut self.data, &mut tail_hash)?;
        let report = self.tally.finish()?;
        let tail = serde_json::to_vec(&Tail { report: report.clone(), files: self.files })?;
        tail_hash.update(&tail);
        self.data.write_all(&tail)?;
        let header = Header {
            completions,
            examples: report.kept,
            ids: self.ids,
            tokens: report.tokens,
            report_len: tail.len() as u64,
            max_length: self.options.max_length,
            tokenizer: self.tokenizer,
            content_hash: *self.hasher.finalize().as_bytes(),
            tail_hash: *tail_hash.finalize().as_bytes(),
            dropped: self.dropped_rows,
        };
        let mut file = self.data.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.to_bytes())?;
        file.as_file().sync_all()?;
        Ok((file, report))
    }
}

/// Copies a temporary file behind what is there already.
fn append(from: BufWriter<File>, to: &mut impl Write, hasher: &mut blake3::Hasher) -> io::Result<()> {
    let mut from = from.into_inner().map_err(io::IntoInnerError::into_error)?;
    from.seek(SeekFrom::Start(0))?;
    let mut piece = vec![0; 1 << 16];
    loop {
        let n = from.read(&mut piece)?;
        if n == 0 {
            return Ok(());
        }
        hasher.update(&piece[..n]);
        to.write_all(&piece[..n])?;
    }
}
