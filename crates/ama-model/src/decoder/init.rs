//! Initial weights of a new model.

use crate::access::values_mut;
use crate::{LlamaConfig, ModelError, Params};

/// How the matrices of a new model are drawn; all are normal with mean 0, all norms start at 1.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// One deviation for every matrix, as `transformers` does (`initializer_range`, usually 0.02).
    Hf {
        /// Standard deviation.
        std: f64,
    },
    /// Scaled to the widths, which trains small models faster: `1 / sqrt(hidden_size)` for embedding, head, q, k, v,
    /// gate and up; `0.02 / sqrt(2 layers)` for the two projections that write to the residual stream, o and down.
    Scaled,
}

/// Draws all parameters; every tensor has a random stream of its own.
pub(super) fn initialise(config: &LlamaConfig, seed: u64, init: Init) -> Result<Params, ModelError> {
    match init {
        Init::Hf { std } if std.is_finite() && std >= 0.0 => Ok(Params::init(config, std, seed)),
        Init::Hf { std } => Err(ModelError::Shape {
            key: "initialisation deviation".into(),
            got: std.to_string(),
            want: "a finite number >= 0".into(),
        }),
        Init::Scaled => {
            let mut params = Params::init(config, 1.0, seed);
            let wide = 1.0 / (config.hidden_size as f64).sqrt();
            let residual = 0.02 / (2.0 * config.num_hidden_layers as f64).sqrt();
            for parameter in params.iter_mut().filter(|p| p.shape.len() == 2) {
                let onto_residual =
                    [".o_proj.weight", ".down_proj.weight"].iter().any(|s| parameter.name.ends_with(s));
                let std = if onto_residual { residual } else { wide };
                for value in values_mut(&mut parameter.tensor) {
                    *value = (f64::from(*value) * std) as f32;
                }
            }
            Ok(params)
        }
    }
}
