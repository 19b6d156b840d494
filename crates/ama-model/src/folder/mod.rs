//! Hugging Face model folders: `config.json` and safetensors weights, single or sharded, f32, f16 or bf16.
//!
//! Reading order: [`load()`] and [`save()`], then the fingerprint, then the parts they are made of. Which files hold the
//! tensors, and what a path is that is no model, is `ama-safetensors`' business.

mod dtype;
mod fingerprint;
mod load;
mod names;
mod save;

pub use dtype::SaveDtype;
pub(crate) use dtype::first_non_finite;
pub use fingerprint::{fingerprint, params_fingerprint};
pub use load::{ModelFolder, load};
pub use save::{DEFAULT_SHARD_BYTES, SaveOptions, save, save_with};
