//! Scores of preference pairs, on disk and trustworthy.
//!
//! AutoMixAlign scores every training pair with the frozen reference and with its own specialist **once**,
//! and then trains the generalist against those numbers for as long as it likes. This crate keeps them:
//!
//! - [`ScoreStore`]: summed log-probabilities of pairs, by the content of what made them: the model's
//!   weights, its tokenizer, the truncation ([`ScoreKey`]) and the pair. Incremental: ask what is
//!   [`missing`](ScoreStore::missing), score only that, [`append`](ScoreStore::append) it;
//! - the [loss table](LossRow) of a specialist: losses follow from stored log-probabilities
//!   ([`derive_losses`]), so another beta or another loss needs no new scoring;
//! - [`write_row_scores`]: a line for every row of the data files, the output of `ama score`;
//! - [`write_scores_parquet`]: plain scores in one file.
//!
//! Everything is Parquet, readable by any Parquet reader. Every file carries a checksum of all its bytes: a
//! flipped bit or a missing tail is an error that names the file, never a wrong number and never a silent
//! new computation. Files appear whole (temporary name, fsync, rename, fsync of the folder) or not at all,
//! and any number of processes may read and append at once.
//!
//! # Example
//!
//! ```
//! use ama_specialist_cache::{PairScore, ScoreKey, ScoreStore, derive_losses};
//!
//! let folder = tempfile::tempdir()?;
//! let store = ScoreStore::open(folder.path())?;
//! let specialist = ScoreKey { model: [1; 32], tokenizer: [9; 32], max_length: Some(512) };
//! let reference = ScoreKey { model: [2; 32], ..specialist };
//!
//! let pairs = [[10; 16], [11; 16]];
//! for (key, chosen_logp) in [(&specialist, -12.0), (&reference, -14.0)] {
//!     for row in store.missing(key, &pairs)? {
//!         // ... here the model would run ...
//!         let score = PairScore { chosen_logp, rejected_logp: -15.0, chosen_tokens: 7, rejected_tokens: 9 };
//!         store.append(key, &[(pairs[row], score)])?;
//!     }
//! }
//!
//! // A DPO loss with beta 0.1, from the stored numbers.
//! let dpo = |policy: &PairScore, reference: &PairScore| {
//!     let margin = 0.1 * ((policy.chosen_logp - reference.chosen_logp)
//!         - (policy.rejected_logp - reference.rejected_logp));
//!     (-margin).exp().ln_1p()
//! };
//! let losses = derive_losses(&pairs, &store.load(&specialist)?, &store.load(&reference)?, dpo)?;
//! assert!((losses[0].loss_nats - (-0.2f64).exp().ln_1p()).abs() < 1e-12);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod error;
mod hex;

mod key;
mod score;
mod table;

mod disk;
mod sealed;

mod losses;
mod row_scores;
mod scores_file;
mod store;

pub use error::CacheError;
pub use key::ScoreKey;
pub use losses::{LossMeta, LossRow, derive_losses, read_losses, read_losses_of, write_losses};
pub use row_scores::{RowScore, read_row_scores, write_row_scores};
pub use score::{PairId, PairScore};
pub use scores_file::{read_scores_parquet, write_scores_parquet};
pub use store::ScoreStore;
pub use table::ScoreTable;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
