//! Everything that can go wrong, with path, row and remedy.

use crate::PairScore;
use std::path::PathBuf;

/// Why a store, a file or a row was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot ... PATH".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not the bytes that were written: a flipped bit, a missing tail, or not a file of ours at all.
    #[error("{} is damaged: {what}; restore it from a backup, or delete it so that its pairs are scored again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        what: String,
    },
    /// Parquet could not be written, or its checksum holds but it does not parse.
    #[error("Parquet fails on {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the Parquet library says.
        source: parquet::errors::ParquetError,
    },
    /// A sound file that holds something else than what was asked for.
    #[error("{}: {field} is `{got}`; want `{want}`; look for a file moved from elsewhere", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Name of the field in the file's metadata.
        field: &'static str,
        /// What was asked for.
        want: String,
        /// What the file says.
        got: String,
    },
    /// A column is missing, has another type, or has empty cells.
    #[error("{}: column `{column}` {what}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is wrong with it, and what was wanted.
        what: &'static str,
    },
    /// A value that is NaN or infinite.
    #[error(
        "pair {pair}: {column} is {value}; want a finite number of nats: look for a model with NaN weights"
    )]
    NotFinite {
        /// Id of the pair, hexadecimal.
        pair: String,
        /// The column.
        column: &'static str,
        /// What came.
        value: f64,
    },
    /// One pair, one key, two different scores.
    #[error(
        "pair {pair} has two different scores: {first:?} ({first_at}) and {second:?} ({second_at}); the same weights, \
         tokenizer and truncation must give the same score: look for a wrong model hash, or delete the wrong file"
    )]
    Conflict {
        /// Id of the pair, hexadecimal.
        pair: String,
        /// The score that came first.
        first: PairScore,
        /// Where it is.
        first_at: String,
        /// The other score.
        second: PairScore,
        /// Where that is.
        second_at: String,
    },
    /// A loss was asked for before its pair was scored.
    #[error("pair {pair} has no {which} score; score it first")]
    MissingScore {
        /// Id of the pair, hexadecimal.
        pair: String,
        /// `policy` or `reference`.
        which: &'static str,
    },
    /// Policy and reference did not score the same tokens.
    #[error(
        "pair {pair}: {column} is {policy} for the policy and {reference} for the reference; score both with the same \
         tokenizer and max_length"
    )]
    TokenMismatch {
        /// Id of the pair, hexadecimal.
        pair: String,
        /// `chosen_tokens` or `rejected_tokens`.
        column: &'static str,
        /// Tokens that the policy scored.
        policy: u32,
        /// Tokens that the reference scored.
        reference: u32,
    },
    /// A text that cannot be kept in a file's metadata.
    #[error("the {field} text contains `{reserved}`, which the file format reserves; write it differently")]
    ReservedText {
        /// Which text.
        field: &'static str,
        /// The reserved part.
        reserved: &'static str,
    },
}

impl CacheError {
    /// For `map_err`: an I/O error with what was tried, and where.
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
