//! Writing a token store: rows stream through the tokenizer to disk, and memory does not grow with their number.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::TokenStore;
use super::format::{ENTRY_LEN, Entry, HEADER_LEN, Header};
use crate::disk;
use crate::error::DataError;
use crate::id::PairId;
use crate::row::Row;
use crate::tokenise::{DropReason, Example, TokeniseOptions, Tokenised, tokenise};
use crate::tokenizer::PairTokenizer;

/// Rows that are tokenised at a time, by all threads of the current rayon pool.
const CHUNK_ROWS: usize = 512;

/// Ids that are sorted at a time to count duplicates: 4 MiB of them.
const IDS_AT_A_TIME: u64 = 1 << 18;

/// What became of the rows of a data set: nothing is dropped or cut without being counted here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BuildReport {
    /// Rows read.
    pub read: u64,
    /// Examples in the store.
    pub kept: u64,
    /// Examples of which `max_length` cut a completion.
    pub truncated: u64,
    /// Pairs whose completions are equal after that cut (TRL trains on them; their gradient is zero).
    pub indistinguishable: u64,
    /// Rows dropped because the prompt alone reaches `max_length`.
    pub dropped_prompt_too_long: u64,
    /// Examples whose content was there before. They are kept, and counted here.
    pub duplicates: u64,
    /// Examples whose prompt lost tokens that merge with a completion.
    pub merged_boundaries: u64,
    /// Tokens as TRL counts them: prompt + completion, for every completion.
    pub tokens: u64,
    /// Lengths of the prompts, in tokens.
    pub prompt: Lengths,
    /// Lengths of the chosen (or only) completions, in tokens, after the cut.
    pub chosen: Lengths,
    /// Lengths of the rejected completions, in tokens, after the cut; zeros for fine-tuning.
    pub rejected: Lengths,
}

/// Mean and maximum of lengths in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Lengths {
    /// Sum divided by the number of examples.
    pub mean: f64,
    /// The longest.
    pub max: u64,
}

#[derive(Default)]
struct Tally {
    sum: u64,
    max: u64,
}

impl Tally {
    fn add(&mut self, len: usize) {
        self.sum += len as u64;
        self.max = self.max.max(len as u64);
    }

    fn lengths(&self, examples: u64) -> Lengths {
        Lengths { mean: self.sum as f64 / examples.max(1) as f64, max: self.max }
    }
}

/// See [`TokenStore::build`].
pub(super) fn build(
    rows: impl Iterator<Item = Result<Row, DataError>>,
    tokenizer: &PairTokenizer,
    options: &TokeniseOptions,
    path: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(TokenStore, BuildReport), DataError> {
    let mut writer = Writer::new(path, tokenizer, options)?;
    let mut rows = rows.fuse();
    let mut chunk = Vec::with_capacity(CHUNK_ROWS);
    loop {
        chunk.clear();
        let mut stopped = None;
        while chunk.len() < CHUNK_ROWS && stopped.is_none() {
            match rows.next() {
                Some(Ok(row)) => chunk.push(row),
                Some(Err(e)) => stopped = Some(Err(e)),
                None => stopped = Some(Ok(())),
            }
        }
        let results: Vec<_> = chunk.par_iter().map(|row| tokenise(row, tokenizer, options)).collect();
        for (row, result) in chunk.iter().zip(results) {
            writer.push(row, result?)?;
        }
        progress(writer.report.read);
        match stopped {
            Some(Err(e)) => return Err(e),
            Some(Ok(())) => return writer.finish(),
            None => {}
        }
    }
}

struct Writer<'a> {
    path: &'a Path,
    options: TokeniseOptions,
    tokenizer: [u8; 32],
    data: BufWriter<tempfile::NamedTempFile>,
    index: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: Vec<u8>,
    ids: u64,
    completions: Option<usize>,
    last_source: Option<Arc<Path>>,
    report: BuildReport,
    prompt: Tally,
    chosen: Tally,
    rejected: Tally,
}

impl<'a> Writer<'a> {
    fn new(path: &'a Path, tokenizer: &PairTokenizer, options: &TokeniseOptions) -> Result<Self, DataError> {
        let data = disk::temporary_beside(path)?;
        let index = tempfile::tempfile_in(disk::folder_of(path))
            .map_err(DataError::io(path, "create a temporary file beside"))?;
        let mut data = BufWriter::with_capacity(1 << 20, data);
        data.write_all(&[0; HEADER_LEN]).map_err(DataError::io(path, "write"))?;
        Ok(Self {
            path,
            options: *options,
            tokenizer: tokenizer.fingerprint(),
            data,
            index: BufWriter::new(index),
            hasher: blake3::Hasher::new(),
            bytes: Vec::new(),
            ids: 0,
            completions: None,
            last_source: None,
            report: BuildReport::default(),
            prompt: Tally::default(),
            chosen: Tally::default(),
            rejected: Tally::default(),
        })
    }

    fn push(&mut self, row: &Row, tokenised: Tokenised) -> Result<(), DataError> {
        self.report.read += 1;
        if self.last_source.as_ref() != Some(&row.source) {
            self.last_source = Some(row.source.clone());
        }
        match tokenised {
            Tokenised::Dropped(DropReason::PromptTooLong) => self.report.dropped_prompt_too_long += 1,
            Tokenised::Kept { example, truncated, boundary_tokens } => {
                let got = example.completions.len();
                let want = *self.completions.get_or_insert(got);
                if got != want {
                    return Err(DataError::MixedRows {
                        path: row.source.to_path_buf(),
                        row: row.row,
                        want,
                        got,
                    });
                }
                self.report.truncated += u64::from(truncated);
                self.report.merged_boundaries += u64::from(boundary_tokens > 0);
                self.write(&example).map_err(DataError::io(self.path, "write"))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, example: &Example) -> io::Result<()> {
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
        self.report.kept += 1;
        self.report.tokens += view.tokens() as u64;
        self.report.indistinguishable += u64::from(view.rejected() == Some(view.chosen()));
        self.prompt.add(view.prompt.len());
        self.chosen.add(view.chosen().len());
        self.rejected.add(rejected.len());
        Ok(())
    }

    fn finish(mut self) -> Result<(TokenStore, BuildReport), DataError> {
        let Some(completions) = self.completions else {
            return Err(DataError::NothingLeft {
                path: self.last_source.map_or(self.path.to_path_buf(), |source| source.to_path_buf()),
                read: self.report.read,
                dropped: self.report.dropped_prompt_too_long,
                max_length: self.options.max_length,
            });
        };
        let path = self.path;
        self.report.prompt = self.prompt.lengths(self.report.kept);
        self.report.chosen = self.chosen.lengths(self.report.kept);
        self.report.rejected = self.rejected.lengths(self.report.kept);
        let (file, report) = self.complete(completions as u32).map_err(DataError::io(path, "write"))?;
        let handle = disk::persist(file, path)?;
        // From the handle, not the path: another process may have put its own store there by now.
        Ok((TokenStore::from_file(handle, path)?, report))
    }

    /// Appends index and report, fills in the header and brings it all to the disk.
    fn complete(mut self, completions: u32) -> io::Result<(tempfile::NamedTempFile, BuildReport)> {
        let mut index = self.index.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.report.duplicates = count_duplicates(&mut index, self.report.kept)?;
        index.seek(SeekFrom::Start(0))?;
        let mut piece = vec![0; 1 << 16];
        loop {
            let n = index.read(&mut piece)?;
            if n == 0 {
                break;
            }
            self.hasher.update(&piece[..n]);
            self.data.write_all(&piece[..n])?;
        }
        let report = serde_json::to_vec(&self.report)?;
        self.data.write_all(&report)?;
        let header = Header {
            completions,
            examples: self.report.kept,
            ids: self.ids,
            tokens: self.report.tokens,
            report_len: report.len() as u64,
            max_length: self.options.max_length,
            tokenizer: self.tokenizer,
            content_hash: *self.hasher.finalize().as_bytes(),
            report_hash: *blake3::hash(&report).as_bytes(),
        };
        let mut file = self.data.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.to_bytes())?;
        file.as_file().sync_all()?;
        Ok((file, self.report))
    }
}

/// Examples less distinct ids, in bounded memory: each pass looks at one residue class of the ids.
fn count_duplicates(index: &mut File, examples: u64) -> io::Result<u64> {
    let passes = examples.div_ceil(IDS_AT_A_TIME).max(1);
    let mut duplicates = 0;
    let mut ids: Vec<PairId> = Vec::new();
    for pass in 0..passes {
        ids.clear();
        index.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(1 << 16, &mut *index);
        let mut bytes = [0; ENTRY_LEN];
        for _ in 0..examples {
            reader.read_exact(&mut bytes)?;
            let id = Entry::from_bytes(&bytes).id;
            let class =
                id.as_bytes()[..8].iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)) % passes;
            if class == pass {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        duplicates += ids.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    }
    Ok(duplicates)
}
