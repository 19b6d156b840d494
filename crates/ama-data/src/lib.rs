//! Preference pairs from Parquet to packed token batches.
//!
//! For people who keep preference data in Parquet (or JSON Lines, or Arrow IPC) and train with DPO or a relative of
//! it: this crate reads the rows, tokenises them exactly as TRL 1.16 does, keeps the token ids in a memory-mapped
//! store, draws shuffled, stratified or task-sampled batches that resume to the same bits, and packs them without
//! padding, each prompt once. It knows nothing of models and gives plain slices.
//!
//! ```
//! use ama_data::{BatchSampler, Order, Packed, PairTokenizer, RowReader, TokenStore, TokeniseOptions};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let folder = dir.path();
//! # std::fs::write(folder.join("tokenizer.json"), include_str!("../tests/golden/tokenizer.json"))?;
//! # std::fs::write(folder.join("tokenizer_config.json"), r#"{"eos_token": "<|end|>"}"#)?;
//! std::fs::write(
//!     folder.join("pairs.jsonl"),
//!     r#"{"prompt": "2 + 2 = ", "chosen": "4", "rejected": "5"}
//!        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}"#,
//! )?;
//! let rows = RowReader::open(folder.join("pairs.jsonl").to_str().unwrap())?;
//! let tokenizer = PairTokenizer::from_folder(folder)?;
//! let path = folder.join("pairs.tokens");
//! let (store, report) = TokenStore::build(rows, &tokenizer, &TokeniseOptions::default(), &path, |_| ())?;
//! assert_eq!((report.read, report.kept, report.truncated), (2, 2, 0));
//!
//! let mut sampler = BatchSampler::new(&[store.len()], 42, Order::Shuffled)?;
//! let draws = sampler.stratified(2);
//! let batch = Packed::of(draws.iter().map(|draw| store.example(draw.index)));
//! assert_eq!(batch.sequences(), 4); // chosen, rejected, chosen, rejected
//! assert!(batch.tokens() < store.total_tokens() as usize); // each prompt once, nothing padded
//! # Ok(())
//! # }
//! ```
//!
//! In reading order:
//! - [`row`]: what a row says; [`id`]: its stable name; [`reader`]: rows from files;
//! - [`tokenizer`], [`mod@tokenise`]: from text to ids as TRL does it;
//! - [`store`]: ids on disk, memory-mapped;
//! - [`sampler`]: which examples come next; [`pack`]: a batch of them without padding;
//! - `cluster` (feature `cluster`): proposed tasks for a pooled file that names none;
//! - [`error`]: what can go wrong, and what to do then.

pub mod row;

pub mod id;

pub mod reader;

pub mod tokenizer;

pub mod tokenise;

pub mod store;

mod disk;

mod findings;

mod order;

pub mod sampler;

pub mod pack;

#[cfg(feature = "cluster")]
pub mod cluster;

pub mod error;

pub use error::{CellFault, DataError};
pub use id::PairId;
pub use pack::{Packed, micro_batches};
pub use reader::{
    Columns, DataFiles, ReadOptions, Role, RowReader, Schema, SelectError, SplitChoice, SplitKind, task_names,
};
pub use row::{Check, Row, RowContent};
pub use sampler::{BatchSampler, Draw, EpochSampler, EpochState, Order, SamplerState};
pub use store::{BuildReport, Lengths, Place, StoredRow, TokenStore};
pub use tokenise::{Doubled, DropReason, Example, ExampleRef, TokeniseOptions, Tokenised, tokenise};
pub use tokenizer::PairTokenizer;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
