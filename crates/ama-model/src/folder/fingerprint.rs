//! A content hash of a model: equal exactly when it computes the same function from the same f32 weights.
//!
//! BLAKE3 over, in this order: a version tag; the configuration's fields that change the computation (sizes,
//! epsilon, rotary base and scaling, tying), each as 8 little-endian bytes; for each parameter in canonical
//! order its name (length first), its shape (rank first) and the BLAKE3 hash of its values as little-endian
//! f32. Values are hashed *as loaded*: a bf16 folder and the same weights saved in f32 have one fingerprint,
//! whatever their sharding. Hashing is by bits, so `0.0` and `-0.0` differ. Special token ids and the
//! tokenizer are not part of it.

use std::path::Path;

use super::dtype::{SaveDtype, narrow};
use super::load::OpenFolder;
use crate::access::values;
use crate::config::{LlamaConfig, RopeScaling};
use crate::error::ModelError;
use crate::params::Params;

/// Fingerprint of a folder on disk, without holding more than its largest tensor in memory.
///
/// # Errors
/// As [`load`](super::load()).
pub fn fingerprint(dir: &Path) -> Result<[u8; 32], ModelError> {
    let open = OpenFolder::open(dir)?;
    let mut hash = start(&open.config);
    for tensor in &open.tensors {
        let digest = match tensor.dtype {
            // The file's bytes are the f32 values already.
            SaveDtype::F32 => digest_bytes(open.sound_bytes(tensor)?),
            SaveDtype::F16 | SaveDtype::Bf16 => digest_values(&open.values(tensor)?),
        };
        add(&mut hash, &tensor.name, &tensor.shape, &digest);
    }
    Ok(*hash.finalize().as_bytes())
}

/// Fingerprint of weights in memory; the same value that [`fingerprint()`] gives for them once saved in f32.
#[must_use]
pub fn params_fingerprint(config: &LlamaConfig, params: &Params) -> [u8; 32] {
    let mut hash = start(config);
    for p in params {
        add(&mut hash, &p.name, &p.shape, &digest_values(values(&p.tensor)));
    }
    *hash.finalize().as_bytes()
}

fn start(config: &LlamaConfig) -> blake3::Hasher {
    let mut hash = blake3::Hasher::new();
    hash.update(b"ama-model weights v1\0");
    for size in [
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        config.vocab_size,
        usize::from(config.tie_word_embeddings),
    ] {
        hash.update(&(size as u64).to_le_bytes());
    }
    let (kind, scaling) = match config.rope_scaling {
        RopeScaling::None => (0.0, [0.0; 4]),
        RopeScaling::Linear { factor } => (1.0, [factor, 0.0, 0.0, 0.0]),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => (2.0, [factor, low_freq_factor, high_freq_factor, original_max_position_embeddings as f64]),
    };
    for number in [config.rms_norm_eps, config.rope_theta, kind].into_iter().chain(scaling) {
        hash.update(&number.to_le_bytes());
    }
    hash
}

fn add(hash: &mut blake3::Hasher, name: &str, shape: &[usize], digest: &blake3::Hash) {
    hash.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
    hash.update(&(shape.len() as u64).to_le_bytes());
    for side in shape {
        hash.update(&(*side as u64).to_le_bytes());
    }
    hash.update(digest.as_bytes());
}

fn digest_bytes(bytes: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update_rayon(bytes).finalize()
}

/// In blocks, so that no second copy of the tensor is made.
fn digest_values(values: &[f32]) -> blake3::Hash {
    let mut hash = blake3::Hasher::new();
    for block in values.chunks(1 << 20) {
        hash.update_rayon(&narrow(SaveDtype::F32, block));
    }
    hash.finalize()
}
