//! Hugging Face model folders: `config.json` and safetensors weights, single or sharded, f32, f16 or bf16.
//!
//! Reading order: [`load()`] and [`save()`], then the fingerprint, then the parts they are made of (element
//! types, the mapped file, the shard index).

mod dtype;
mod fingerprint;
mod index;
mod load;
mod mapped;
mod save;

pub use dtype::SaveDtype;
pub use fingerprint::{fingerprint, params_fingerprint};
pub use load::{ModelFolder, load};
pub use save::{DEFAULT_SHARD_BYTES, SaveOptions, save, save_with};
