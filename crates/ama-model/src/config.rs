//! The shape of a Llama model, and its rotary frequencies.
//!
//! [`LlamaConfig`] is read from the `config.json` of a Hugging Face folder; whatever would make the
//! model compute something else than plain Llama is refused by name rather than ignored.

mod generation;
mod json;

use std::f64::consts::TAU;
use std::path::Path;

use ama_safetensors::FolderError;
use serde_json::{Map, Value};

use crate::error::ModelError;

pub use generation::generation_eos_token_ids;

/// Configuration of a Llama-family decoder.
///
/// Made by [`from_json`](Self::from_json) or [`from_json_str`](Self::from_json_str), which check every value.
/// The JSON is kept, so that saving the model writes back every key, also those that mean nothing here.
/// Changing a field by hand is possible, but such a configuration cannot be saved.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LlamaConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Inner width of the SwiGLU block.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides the query heads (grouped-query attention, Ainslie et al. 2023, arXiv
    /// 2305.13245).
    pub num_key_value_heads: usize,
    /// Width of one head; even, since RoPE rotates pairs.
    pub head_dim: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched for long contexts.
    pub rope_scaling: RopeScaling,
    /// Whether the output head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Longest sequence the model was made for, in tokens. Not enforced here.
    pub max_position_embeddings: usize,
    /// Token that begins a text, if there is one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text; may be empty.
    pub eos_token_ids: Vec<u32>,
    raw: RawJson,
}

/// Text of a JSON file of a model folder.
fn read(path: &Path) -> Result<String, ModelError> {
    let io = |source| ModelError::Io { action: "read", path: path.to_path_buf(), source };
    let text = std::fs::read_to_string(path).map_err(io)?;
    if ama_safetensors::is_lfs_pointer(text.as_bytes()) {
        return Err(FolderError::LfsPointer { path: path.to_path_buf() }.into());
    }
    Ok(text)
}

/// The JSON a configuration was read from; equal by definition, since the typed fields say what it means.
#[derive(Debug, Clone)]
struct RawJson(Map<String, Value>);

impl PartialEq for RawJson {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Stretching of the rotary frequencies.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Plain RoPE (Su et al. 2021, arXiv 2104.09864).
    None,
    /// All frequencies divided by `factor` (Chen et al. 2023, arXiv 2306.15595).
    Linear {
        /// Stretch, at least 1.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a ramp in between.
    Llama3 {
        /// Stretch of the low frequencies, at least 1.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are stretched fully.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length before stretching, in tokens.
        original_max_position_embeddings: usize,
    },
}

impl LlamaConfig {
    /// Reads and checks a `config.json` as written by transformers 4 or 5.
    ///
    /// # Errors
    /// [`ModelError::Io`], [`ModelError::Json`], [`ModelError::Folder`] for a Git LFS pointer, and
    /// [`ModelError::Config`] for a key that is missing, out of range, or asks for something that plain Llama does not
    /// do.
    pub fn from_json(path: &Path) -> Result<Self, ModelError> {
        Self::from_json_str(&read(path)?, path)
    }

    /// As [`from_json`](Self::from_json), from text; `origin` is only named in errors.
    ///
    /// This is also how a new model is described:
    ///
    /// ```
    /// # use ama_model::LlamaConfig;
    /// let config = LlamaConfig::from_json_str(
    ///     r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    ///         "num_attention_heads": 4, "vocab_size": 100, "tie_word_embeddings": true}"#,
    ///     "new model".as_ref(),
    /// )?;
    /// assert_eq!((config.head_dim, config.num_key_value_heads), (8, 4));
    /// # Ok::<(), ama_model::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), without [`ModelError::Io`].
    pub fn from_json_str(text: &str, origin: &Path) -> Result<Self, ModelError> {
        let raw: Map<String, Value> = serde_json::from_str(text)
            .map_err(|source| ModelError::Json { path: origin.to_path_buf(), source })?;
        json::parse(raw, origin)
    }

    /// The JSON this configuration was read from, with its `dtype` (`torch_dtype` before transformers 4.56)
    /// set.
    ///
    /// # Errors
    /// [`ModelError::ConfigChanged`] if a field was changed since it was read.
    pub fn to_json(&self, dtype: &str) -> Result<Value, ModelError> {
        let origin = Path::new("config.json");
        // The raw JSON was parsed before, so this cannot fail unless a caller could edit it, which none can.
        let unchanged = json::parse(self.raw.0.clone(), origin)?;
        if let Some(key) = self.first_difference(&unchanged) {
            return Err(ModelError::ConfigChanged { key });
        }
        let mut raw = self.raw.0.clone();
        let keys: Vec<&str> = ["dtype", "torch_dtype"].into_iter().filter(|k| raw.contains_key(*k)).collect();
        // Every transformers that reads `dtype` reads `torch_dtype` too; the reverse does not hold.
        for key in if keys.is_empty() { vec!["torch_dtype"] } else { keys } {
            raw.insert(key.to_owned(), Value::from(dtype));
        }
        raw.entry("architectures").or_insert_with(|| Value::from(vec!["LlamaForCausalLM"]));
        Ok(Value::Object(raw))
    }

    /// `inv_freq[i]`, the angle per position of rotary pair `i` in radians, for `i` in `0..head_dim / 2`.
    ///
    /// Plain: `theta^(-2i / head_dim)`. Pair `i` couples elements `i` and `i + head_dim / 2` of a head, as in
    /// `transformers`. Llama 3 scaling, with wavelength `w = 2 pi / f` and original context `n`:
    /// `f / factor` if `w > n / low`, `f` if `w < n / high`, else `(1 - s) f / factor + s f` with
    /// `s = (n / w - low) / (high - low)`.
    #[must_use]
    pub fn rope_inv_freq(&self) -> Vec<f64> {
        let plain = |i: usize| self.rope_theta.powf(-(2.0 * i as f64) / self.head_dim as f64);
        (0..self.head_dim / 2)
            .map(plain)
            .map(|freq| match self.rope_scaling {
                RopeScaling::None => freq,
                RopeScaling::Linear { factor } => freq / factor,
                RopeScaling::Llama3 {
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings,
                } => {
                    let turns = original_max_position_embeddings as f64 * freq / TAU;
                    let ramp = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let keep = ramp.clamp(0.0, 1.0);
                    (1.0 - keep) * freq / factor + keep * freq
                }
            })
            .collect()
    }

    /// First field in which two configurations differ.
    fn first_difference(&self, other: &Self) -> Option<&'static str> {
        let differs = [
            ("hidden_size", self.hidden_size != other.hidden_size),
            ("intermediate_size", self.intermediate_size != other.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers != other.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads != other.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads != other.num_key_value_heads),
            ("head_dim", self.head_dim != other.head_dim),
            ("vocab_size", self.vocab_size != other.vocab_size),
            ("rms_norm_eps", self.rms_norm_eps != other.rms_norm_eps),
            ("rope_theta", self.rope_theta != other.rope_theta),
            ("rope_scaling", self.rope_scaling != other.rope_scaling),
            ("tie_word_embeddings", self.tie_word_embeddings != other.tie_word_embeddings),
            ("max_position_embeddings", self.max_position_embeddings != other.max_position_embeddings),
            ("bos_token_id", self.bos_token_id != other.bos_token_id),
            ("eos_token_id", self.eos_token_ids != other.eos_token_ids),
        ];
        differs.into_iter().find_map(|(key, differs)| differs.then_some(key))
    }
}
