//! Scores row by row of the data files: what `ama score` writes.

use crate::sealed::{Draft, MARKER, Sealed};
use crate::{CacheError, PairId, PairScore};
use std::path::Path;

const FORMAT: &str = "ama row scores";

/// One row of a data file with its score, or with the reason why it has none.
#[derive(Debug, Clone, PartialEq)]
pub struct RowScore {
    /// The data file, as it was named.
    pub file: String,
    /// 1-based row of that file.
    pub row: u64,
    /// Id of the pair.
    pub id: PairId,
    /// The score, or why the row has none.
    pub score: Result<PairScore, String>,
}

/// Writes one line for every row to one Parquet file: columns `file`, `row`, `id` (32 hexadecimal digits), `chosen_logp`,
/// `rejected_logp` (f64, summed nats), `chosen_tokens`, `rejected_tokens` (u32) and `reason`. The reason is null where
/// there is a score, and everything between is null where there is none. Rows keep their order.
/// A file that is there already is replaced at once or not at all.
///
/// # Errors
/// [`CacheError::NotFinite`], [`CacheError::ReservedText`], [`CacheError::Io`], [`CacheError::Parquet`].
pub fn write_row_scores(path: impl AsRef<Path>, rows: &[RowScore]) -> Result<(), CacheError> {
    for row in rows {
        if let Ok(score) = &row.score {
            score.check(&row.id)?;
        }
        // The checksum is found by a marker that stands nowhere else in the file.
        if row.file.contains(MARKER) {
            return Err(CacheError::ReservedText { field: "file", reserved: MARKER });
        }
    }
    let scores = || rows.iter().map(|row| row.score.as_ref().ok());
    Draft::new(FORMAT, rows.iter().map(|row| row.id))
        .texts("file", rows.iter().map(|row| Some(row.file.as_str())))
        .u64("row", rows.iter().map(|row| row.row))
        .optional_f64("chosen_logp", scores().map(|score| score.map(|score| score.chosen_logp)))
        .optional_f64("rejected_logp", scores().map(|score| score.map(|score| score.rejected_logp)))
        .optional_u32("chosen_tokens", scores().map(|score| score.map(|score| score.chosen_tokens)))
        .optional_u32("rejected_tokens", scores().map(|score| score.map(|score| score.rejected_tokens)))
        .texts("reason", rows.iter().map(|row| row.score.as_ref().err().map(String::as_str)))
        .write(path.as_ref())
}

/// Reads what [`write_row_scores`] wrote.
///
/// # Errors
/// [`CacheError::Io`], [`CacheError::Corrupt`], [`CacheError::Column`], [`CacheError::Mismatch`] for another kind of file.
pub fn read_row_scores(path: impl AsRef<Path>) -> Result<Vec<RowScore>, CacheError> {
    let file = Sealed::read(path.as_ref(), FORMAT)?;
    let (files, reasons, rows) = (file.texts("file")?, file.texts("reason")?, file.u64("row")?);
    let (chosen_logp, rejected_logp) =
        (file.optional_f64("chosen_logp")?, file.optional_f64("rejected_logp")?);
    let (chosen_tokens, rejected_tokens) =
        (file.optional_u32("chosen_tokens")?, file.optional_u32("rejected_tokens")?);
    let row = |(at, id): (usize, PairId)| {
        let whole = |what: &str| file.corrupt(format!("row {at} has {what}"));
        // Columns of one file have one length, so every index is in range.
        let cells = (chosen_logp[at], rejected_logp[at], chosen_tokens[at], rejected_tokens[at]);
        let score = match (cells, &reasons[at]) {
            ((Some(chosen_logp), Some(rejected_logp), Some(chosen_tokens), Some(rejected_tokens)), None) => {
                let score = PairScore { chosen_logp, rejected_logp, chosen_tokens, rejected_tokens };
                score.check(&id)?;
                Ok(score)
            }
            ((None, None, None, None), Some(reason)) => Err(reason.clone()),
            _ => return Err(whole("neither a score nor a reason")),
        };
        let file = files[at].clone().ok_or_else(|| whole("no file"))?;
        Ok(RowScore { file, row: rows[at], id, score })
    };
    file.ids()?.into_iter().enumerate().map(row).collect()
}
