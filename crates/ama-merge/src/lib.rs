//! stub
#![forbid(unsafe_op_in_unsafe_fn)]
mod compatibility;
mod dtype;
mod error;
mod folder;
mod kernel;
mod merge;
mod mergekit;
mod notice;
mod output;
mod recipe;
mod record;
mod resolve;
mod setting;
mod vocabulary;
pub use crate::dtype::WeightDtype;
pub use crate::error::MergeError;
pub use crate::merge::{DEFAULT_SHARD_BYTES, Progress, Report, merge, merge_with};
pub use crate::notice::Notice;
pub use crate::recipe::{Method, ModelSettings, Recipe, Rescale, SharedSettings, Slice, Vocabulary};
pub use crate::setting::{Blend, Rule, Setting};
