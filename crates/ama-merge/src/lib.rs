//! Model merging over Hugging Face folders: soups, SLERP, task arithmetic, TIES, DARE and DELLA, tensor by tensor.
//!
//! Nobody has to hold a model in memory to merge it. Weights are read through memory maps and written chunk by chunk as
//! they are computed; all cores work; the result does not depend on how many there are. The folder appears whole
//! or not at all. [mergekit](https://github.com/arcee-ai/mergekit)'s configurations for these methods are taken as
//! they are ([`Recipe::from_mergekit`]), and every method that both have is tested against mergekit's output.
//!
//! ```
//! use std::collections::HashMap;
//! use std::path::PathBuf;
//!
//! use ama_merge::{Method, Recipe, Setting, merge};
//! use safetensors::tensor::TensorView;
//! use safetensors::{Dtype, SafeTensors, serialize};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lab = tempfile::tempdir()?;
//! // Three "models" of four weights each; real folders have more tensors, config.json and a tokenizer.
//! let folder = |name: &str, weights: [f32; 4]| -> Result<PathBuf, Box<dyn std::error::Error>> {
//!     let dir = lab.path().join(name);
//!     std::fs::create_dir(&dir)?;
//!     let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
//!     let tensors = HashMap::from([("w", TensorView::new(Dtype::F32, vec![4], &bytes)?)]);
//!     std::fs::write(dir.join("model.safetensors"), serialize(tensors, None)?)?;
//!     Ok(dir)
//! };
//! let base = folder("base", [1.0, 1.0, 1.0, 1.0])?;
//! let helpful = folder("helpful", [1.5, 1.5, 0.75, 1.125])?;
//! let harmless = folder("harmless", [1.25, 0.0, 0.5, 1.125])?;
//!
//! let mut recipe = Recipe::new(Method::Ties, Some(base), vec![helpful, harmless]);
//! for model in &mut recipe.slices[0].models {
//!     model.density = Setting::constant(0.75); // keep the three largest of four changes
//! }
//! let out = lab.path().join("merged");
//! let report = merge(&recipe, &out)?;
//! assert_eq!((report.tensors, report.parameters), (1, 4));
//!
//! let bytes = std::fs::read(out.join("model.safetensors"))?;
//! let merged: Vec<f32> = SafeTensors::deserialize(&bytes)?
//!     .tensor("w")?
//!     .data()
//!     .chunks(4)
//!     .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
//!     .collect();
//! // Both grew the first weight; the second and third follow the stronger sign; the last one was trimmed.
//! assert_eq!(merged, [1.375, 0.0, 0.625, 1.0]);
//! # Ok(())
//! # }
//! ```
//!
//! In reading order: [`Recipe`] and its [`Method`]s, [`Setting`] (values that differ between tensors and layers), [`merge`],
//! [`MergeError`].

#![forbid(unsafe_code)]

mod recipe;
mod setting;

mod mergekit;
mod resolve;

mod compatibility;
mod differences;
mod folder;
mod json;
mod vocabulary;

mod dtype;
mod kernel;

mod merge;
mod notice;
mod output;
mod record;

mod error;

pub use crate::dtype::WeightDtype;
pub use crate::error::MergeError;
pub use crate::merge::{DEFAULT_SHARD_BYTES, Progress, Report, merge, merge_with};
pub use crate::notice::Notice;
pub use crate::recipe::{
    Method, ModelSettings, Parameter, Recipe, Rescale, SharedSettings, Slice, Vocabulary,
};
pub use crate::setting::{Blend, Rule, Setting};

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
