//! Rows and what becomes of them, a bounded number at a time: the one way from rows to a store or to counts alone.

use rayon::prelude::*;

use crate::error::DataError;
use crate::findings::Findings;
use crate::row::{Row, RowContent};
use crate::tokenise::{TokeniseOptions, Tokenised, tokenise};
use crate::tokenizer::PairTokenizer;

/// Rows that are examined at a time, by all threads of the current rayon pool ...
const CHUNK_ROWS: usize = 512;

/// ... and how many bytes of cells end a chunk before that.
const CHUNK_BYTES: usize = 8 << 20;

/// What was found out about one row.
pub(super) struct Examined {
    pub(super) findings: Findings,
    /// `None` without a tokenizer.
    pub(super) tokenised: Option<Tokenised>,
}

/// Hands every row to `take`, in order, and every error about a single row to `fault`; either may end it.
pub(super) fn examine(
    rows: impl Iterator<Item = Result<Row, DataError>>,
    tokenizer: Option<&PairTokenizer>,
    options: &TokeniseOptions,
    mut take: impl FnMut(&Row, Examined) -> Result<(), DataError>,
    mut fault: impl FnMut(DataError) -> Result<(), DataError>,
    mut progress: impl FnMut(u64),
) -> Result<(), DataError> {
    let mut rows = rows.fuse();
    let mut chunk = Vec::with_capacity(CHUNK_ROWS);
    let mut done = 0;
    loop {
        chunk.clear();
        let (mut bytes, mut ended) = (0, false);
        while chunk.len() < CHUNK_ROWS && bytes < CHUNK_BYTES && !ended {
            match rows.next() {
                Some(row) => {
                    bytes += row.as_ref().map_or(0, |row| bytes_of(&row.content));
                    // Most errors end the reader: the rows before them come first.
                    ended = row.is_err();
                    chunk.push(row);
                }
                None => ended = true,
            }
        }
        let last = chunk.is_empty();
        let examined: Vec<_> = chunk.par_drain(..).map(|row| one(row, tokenizer, options)).collect();
        for result in examined {
            done += 1;
            match result {
                Ok((row, examined)) => take(&row, examined)?,
                Err(error) => fault(error)?,
            }
        }
        progress(done);
        if last {
            return Ok(());
        }
    }
}

fn one(
    row: Result<Row, DataError>,
    tokenizer: Option<&PairTokenizer>,
    options: &TokeniseOptions,
) -> Result<(Row, Examined), DataError> {
    let row = row?;
    let tokenised = match tokenizer {
        Some(tokenizer) => Some(tokenise(&row, tokenizer, options)?),
        None => {
            row.validate()?;
            None
        }
    };
    let findings = Findings::of(&row.content);
    Ok((row, Examined { findings, tokenised }))
}

fn bytes_of(content: &RowContent) -> usize {
    match content {
        RowContent::Text { prompt, chosen, rejected } => prompt.len() + chosen.len() + rejected.len(),
        RowContent::Completion { prompt, completion } => prompt.len() + completion.len(),
        RowContent::Ids { prompt, chosen, rejected } => 4 * (prompt.len() + chosen.len() + rejected.len()),
    }
}
