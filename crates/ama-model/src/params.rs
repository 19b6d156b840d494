//! The registry of parameters: Hugging Face names, shapes, and the tensors themselves.
//!
//! Order is canonical: embedding, then layer by layer (norm, q, k, v, o, norm, gate, up, down), the final
//! norm, and the output head if it is not tied. Moments, gradients and fingerprints all follow this order.

use std::collections::HashMap;

use dfdx::prelude::{Cpu, Tensor, TensorFromVec};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::access::values;
use crate::config::LlamaConfig;
use crate::error::ModelError;
use crate::folder::first_non_finite;

/// One parameter: a flat, row-major tensor with the name and shape that it has in a Hugging Face folder.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Hugging Face name, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Shape in the file; a linear layer is `[out, in]`. Its product is the tensor's length.
    pub shape: Vec<usize>,
    /// The values, row-major, flat.
    pub tensor: Tensor<(usize,), f32, Cpu>,
}

/// All parameters of one model, in canonical order, found by name or by index.
///
/// Cloning is shallow: dfdx tensors share their storage until one of the copies is written to.
#[derive(Debug, Clone)]
pub struct Params {
    list: Vec<Parameter>,
    index: HashMap<String, usize>,
    device: Cpu,
}

/// Names and shapes of all parameters of a model of this configuration, in canonical order.
///
/// With tied embeddings there is no `lm_head.weight`: the embedding serves as the head.
#[must_use]
pub fn expected_parameters(config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let mut list = vec![("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, hidden])];
    for layer in 0..config.num_hidden_layers {
        for (part, shape) in [
            ("input_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
            ("post_attention_layernorm", vec![hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ] {
            list.push((format!("model.layers.{layer}.{part}.weight"), shape));
        }
    }
    list.push(("model.norm.weight".to_owned(), vec![hidden]));
    if !config.tie_word_embeddings {
        list.push(("lm_head.weight".to_owned(), vec![config.vocab_size, hidden]));
    }
    list
}

impl Params {
    /// Parameters from plain vectors (moved, not copied), one per name of [`expected_parameters`].
    ///
    /// # Errors
    /// [`ModelError::ParameterMissing`], [`ModelError::ParameterUnknown`], [`ModelError::ParameterLength`].
    pub fn from_vecs(
        config: &LlamaConfig,
        mut values: HashMap<String, Vec<f32>>,
    ) -> Result<Self, ModelError> {
        let expected = expected_parameters(config);
        let mut vecs = Vec::with_capacity(expected.len());
        for (name, shape) in expected {
            let Some(vec) = values.remove(&name) else {
                return Err(ModelError::ParameterMissing { name, shape });
            };
            let want = shape.iter().product();
            if vec.len() != want {
                return Err(ModelError::ParameterLength { name, shape, want, got: vec.len() });
            }
            vecs.push((name, shape, vec));
        }
        // The smallest left-over name, so that the message does not depend on hashing.
        if let Some(name) = values.into_keys().min() {
            return Err(ModelError::ParameterUnknown { name });
        }
        Ok(Self::from_checked(vecs))
    }

    /// A freshly initialised model: weights normal with deviation `std` (0.02 is the usual
    /// `initializer_range`), norms one, as `transformers` does.
    ///
    /// Each tensor has a ChaCha8 stream of its own, so the values depend on `seed`, the names' order and the
    /// shapes only.
    #[must_use]
    pub fn init(config: &LlamaConfig, std: f64, seed: u64) -> Self {
        let vecs = expected_parameters(config)
            .into_iter()
            .enumerate()
            .map(|(stream, (name, shape))| {
                let len: usize = shape.iter().product();
                let values = if shape.len() == 1 {
                    vec![1.0; len]
                } else {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    rng.set_stream(stream as u64);
                    normal(&mut rng, len, std)
                };
                (name, shape, values)
            })
            .collect();
        Self::from_checked(vecs)
    }

    /// Wraps vectors whose names, order and lengths are already known to be right.
    pub(crate) fn from_checked(vecs: Vec<(String, Vec<usize>, Vec<f32>)>) -> Self {
        let device = Cpu::default();
        let mut list = Vec::with_capacity(vecs.len());
        let mut index = HashMap::with_capacity(vecs.len());
        for (name, shape, values) in vecs {
            let len = values.len();
            index.insert(name.clone(), list.len());
            list.push(Parameter { name, shape, tensor: device.tensor_from_vec(values, (len,)) });
        }
        Self { list, index, device }
    }

    /// The parameter of this Hugging Face name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.index_of(name).map(|i| &self.list[i])
    }

    /// Position of this name in canonical order.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The parameters as a slice, in canonical order.
    #[must_use]
    pub fn as_slice(&self) -> &[Parameter] {
        &self.list
    }

    /// Number of parameters (tensors).
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is no parameter at all; never true for a model.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The parameters in canonical order.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.list.iter()
    }

    /// The parameters in canonical order, to be changed in place. Names and shapes must stay as they are.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Parameter> {
        self.list.iter_mut()
    }

    /// Number of values in all parameters together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.list.iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    /// The first parameter, in canonical order, that holds NaN or an infinity. One pass over memory.
    #[must_use]
    pub fn first_non_finite(&self) -> Option<&Parameter> {
        self.list.iter().find(|p| first_non_finite(values(&p.tensor)).is_some())
    }

    /// The dfdx device that all tensors live on.
    #[must_use]
    pub fn device(&self) -> &Cpu {
        &self.device
    }
}

impl<'a> IntoIterator for &'a Params {
    type Item = &'a Parameter;
    type IntoIter = std::slice::Iter<'a, Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// `len` normal values by the Box-Muller transform, in f64, rounded once.
fn normal(rng: &mut ChaCha8Rng, len: usize, std: f64) -> Vec<f32> {
    // (0, 1]: the logarithm of zero must not occur.
    let mut uniform = || ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let mut values = Vec::with_capacity(len + 1);
    while values.len() < len {
        let radius = (-2.0 * uniform().ln()).sqrt() * std;
        let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
        values.push((radius * cos) as f32);
        values.push((radius * sin) as f32);
    }
    values.truncate(len);
    values
}
