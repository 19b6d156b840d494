//! A Llama-family decoder on dfdx's tape with fused CPU ops, and Hugging Face folders.
#![deny(unsafe_code)]

pub mod access;
pub mod config;
mod decoder;
mod error;
pub mod folder;
pub mod generate;
mod grads;
pub mod ops;
mod packed;
pub mod params;
mod simd;

pub use config::{LlamaConfig, RopeScaling};
pub use decoder::{Init, Llama, SequenceLogp};
pub use error::{IndexProblem, ModelError};
pub use grads::ParamGrads;
pub use packed::PackedView;
pub use params::{Parameter, Params, expected_parameters};
