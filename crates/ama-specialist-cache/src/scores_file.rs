//! Scores of pairs in one file.

use crate::sealed::{Draft, Sealed};
use crate::{CacheError, PairId, PairScore};
use std::path::Path;

const FORMAT: &str = "ama scores";

/// Writes scores to one Parquet file: columns `id` (32 hexadecimal digits), `chosen_logp`, `rejected_logp`
/// (f64, summed nats), `chosen_tokens`, `rejected_tokens` (u32). Rows keep their order and may repeat a pair.
/// A file that is there already is replaced at once or not at all.
///
/// # Errors
/// [`CacheError::NotFinite`], [`CacheError::Io`], [`CacheError::Parquet`].
pub fn write_scores_parquet(path: impl AsRef<Path>, rows: &[(PairId, PairScore)]) -> Result<(), CacheError> {
    draft(FORMAT, rows)?.write(path.as_ref())
}

/// Reads what [`write_scores_parquet`] wrote.
///
/// # Errors
/// [`CacheError::Io`], [`CacheError::Corrupt`], [`CacheError::Mismatch`] for another kind of file.
pub fn read_scores_parquet(path: impl AsRef<Path>) -> Result<Vec<(PairId, PairScore)>, CacheError> {
    rows(&Sealed::read(path.as_ref(), FORMAT)?)
}

/// The columns of `rows`.
pub(crate) fn draft(format: &'static str, rows: &[(PairId, PairScore)]) -> Result<Draft, CacheError> {
    for (id, score) in rows {
        score.check(id)?;
    }
    let scores = || rows.iter().map(|row| &row.1);
    Ok(Draft::new(format, rows.iter().map(|row| row.0))
        .f64("chosen_logp", scores().map(|score| score.chosen_logp))
        .f64("rejected_logp", scores().map(|score| score.rejected_logp))
        .u32("chosen_tokens", scores().map(|score| score.chosen_tokens))
        .u32("rejected_tokens", scores().map(|score| score.rejected_tokens)))
}

/// The rows of a file with those columns.
pub(crate) fn rows(file: &Sealed) -> Result<Vec<(PairId, PairScore)>, CacheError> {
    let (chosen_logp, rejected_logp) = (file.f64("chosen_logp")?, file.f64("rejected_logp")?);
    let (chosen_tokens, rejected_tokens) = (file.u32("chosen_tokens")?, file.u32("rejected_tokens")?);
    let row = |(row, id): (usize, PairId)| {
        // Columns of one record batch have one length, so every index is in range.
        let score = PairScore {
            chosen_logp: chosen_logp[row],
            rejected_logp: rejected_logp[row],
            chosen_tokens: chosen_tokens[row],
            rejected_tokens: rejected_tokens[row],
        };
        score.check(&id).map(|()| (id, score))
    };
    file.ids()?.into_iter().enumerate().map(row).collect()
}
