//! A Llama-family decoder for alignment on CPUs: log-probabilities and gradients of packed preference pairs, Hugging
//! Face folders in and out, and generation.
//!
//! It reads the folders that `transformers` writes (SmolLM, TinyLlama, Llama 2 and 3: RMSNorm, RoPE, grouped-query
//! attention, SwiGLU, tied or untied head), agrees with it, and writes folders that it loads. dfdx 0.13 is the tensor,
//! tape and gradient layer; every operation on it is a fused op of ours. There is no padding: sequences lie back to
//! back, a prompt is computed once for both of its completions, and the head runs on completion rows only.
//!
//! # Example
//! One preference pair, its log-probabilities, and the gradient of any loss of them:
//! ```
//! use ama_model::{Init, Llama, LlamaConfig, ModelError, PackedView, ParamGrads};
//!
//! let config = LlamaConfig::from_json_str(
//!     r#"{"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
//!         "num_attention_heads": 2, "vocab_size": 20, "tie_word_embeddings": true}"#,
//!     "new model".as_ref(),
//! )?;
//! let model = Llama::random(&config, 0, Init::Scaled)?;
//!
//! // Prompt [1, 2, 3]; chosen [4, 5, 6], rejected [7, 8]. A completion's last token is only a target.
//! let pair = PackedView {
//!     ids: &[1, 2, 3, /* chosen */ 4, 5, /* rejected */ 7],
//!     segment_offsets: &[0, 3, 5, 6],
//!     segment_prefix: &[None, Some(0), Some(0)],
//!     rows: &[2, 3, 4, /* rejected */ 2, 5],
//!     targets: &[4, 5, 6, /* rejected */ 7, 8],
//!     sequence_offsets: &[0, 3, 5],
//! };
//! let mut grads = ParamGrads::zeros(model.params());
//! let logps = model.accumulate_gradients::<ModelError>(&pair, &mut grads, |logps| {
//!     // d loss / d log-probability of chosen and rejected, for loss = -log sigmoid(m).
//!     let margin = 0.1 * (logps[0].sum_nats - logps[1].sum_nats);
//!     let slope = -0.1 / (1.0 + margin.exp());
//!     Ok(vec![slope, -slope])
//! })?;
//! assert_eq!((logps[0].tokens, logps[1].tokens), (3, 2));
//! assert!(grads.global_norm() > 0.0);
//! # Ok::<(), ModelError>(())
//! ```
//!
//! # Modules, in reading order
//! [`config`] and [`params`] say what a model is, [`folder`] reads and writes it; [`PackedView`] is what it is fed;
//! [`Llama`] runs it; [`ops`] is what it is made of; [`generate`](mod@generate) continues prompts; [`profile`] says where the time goes; [`access`] is the one
//! place that reaches into dfdx tensors.
//!
//! # Determinism
//! The same inputs on the same machine with the same number of threads give the same bits. Parallel sums are cut by
//! shape and added up in a fixed order.
#![deny(unsafe_code)]

pub mod config;
pub mod params;

pub mod folder;

#[cfg(feature = "cuda")]
pub mod cuda;
mod decoder;
mod grads;
mod packed;
mod workspace;

pub mod access;
pub mod ops;
mod simd;

pub mod generate;
pub mod profile;

mod error;

pub use config::{LlamaConfig, RopeScaling};
pub use decoder::{Init, Llama, SequenceLogp};
pub use error::ModelError;
pub use grads::ParamGrads;
pub use packed::PackedView;
pub use params::{Parameter, Params, expected_parameters};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
