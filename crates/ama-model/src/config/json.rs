//! `config.json` of transformers 4 and 5, checked key by key.
//!
//! Two dialects: up to 4.x `rope_theta` and `rope_scaling` stand at the top level; 5.x nests both in
//! `rope_parameters`. Defaults are those of `transformers`; sizes have none, so a file that lacks one is
//! refused.

use std::path::Path;

use serde_json::{Map, Value};

use super::{LlamaConfig, RawJson, RopeScaling};
use crate::error::ModelError;
use crate::params::expected_parameters;

/// Upper bounds: an order of magnitude above any model of this family, so that a damaged file is named as
/// such.
const MAX_WIDTH: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 12;
const MAX_HEADS: usize = 1 << 14;
const MAX_VOCAB: usize = 1 << 24;
const MAX_POSITIONS: usize = 1 << 31;

/// Reads keys of one JSON object and says where it was when one does not fit.
pub(super) struct Reader<'a> {
    pub(super) map: &'a Map<String, Value>,
    /// Prefix of the keys in errors: empty, or `rope_parameters.`.
    pub(super) within: &'static str,
    pub(super) path: &'a Path,
}

impl<'a> Reader<'a> {
    fn error(&self, key: &str, want: impl Into<String>) -> ModelError {
        let got = match self.map.get(key) {
            None => "missing".to_owned(),
            Some(value) => {
                let mut text = value.to_string();
                if text.chars().count() > 60 {
                    text = text.chars().take(60).chain("...".chars()).collect();
                }
                text
            }
        };
        ModelError::Config {
            path: self.path.to_path_buf(),
            key: format!("{}{key}", self.within),
            got,
            want: want.into(),
        }
    }

    /// The value, with `null` counted as absent.
    fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn size(&self, key: &str, max: usize, default: Option<usize>) -> Result<usize, ModelError> {
        let value = match (self.value(key), default) {
            (None, Some(default)) => return Ok(default),
            (value, _) => value.and_then(Value::as_u64).and_then(|v| usize::try_from(v).ok()),
        };
        match value {
            Some(v) if (1..=max).contains(&v) => Ok(v),
            _ => Err(self.error(key, format!("a whole number from 1 to {max}"))),
        }
    }

    fn number(
        &self,
        key: &str,
        default: Option<f64>,
        want: &str,
        ok: impl Fn(f64) -> bool,
    ) -> Result<f64, ModelError> {
        let value = match (self.value(key), default) {
            (None, Some(default)) => return Ok(default),
            (value, _) => value.and_then(Value::as_f64),
        };
        value.filter(|v| v.is_finite() && ok(*v)).ok_or_else(|| self.error(key, want))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.error(key, "true or false")),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.error(key, "a string")),
        }
    }

    pub(super) fn token_ids(&self, key: &str) -> Result<Vec<u32>, ModelError> {
        let id = |v: &Value| v.as_u64().and_then(|v| u32::try_from(v).ok());
        match self.value(key) {
            None => Some(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(id).collect(),
            Some(one) => id(one).map(|id| vec![id]),
        }
        .ok_or_else(|| self.error(key, "a token id, a list of token ids, or null"))
    }

    /// Heads must be rotated whole.
    fn whole_rotation(&self) -> Result<(), ModelError> {
        let want = "1: rotating a part of each head is not built";
        self.number("partial_rotary_factor", Some(1.0), want, |v| v == 1.0).map(|_| ())
    }
}

pub(super) fn parse(raw: Map<String, Value>, path: &Path) -> Result<LlamaConfig, ModelError> {
    let top = Reader { map: &raw, within: "", path };
    let mistral = refuse_other_models(&top)?;

    let hidden_size = top.size("hidden_size", MAX_WIDTH, None)?;
    let num_attention_heads = top.size("num_attention_heads", MAX_HEADS, None)?;
    let default_kv_heads =
        if mistral && !raw.contains_key("num_key_value_heads") { 8 } else { num_attention_heads };
    let num_key_value_heads = top.size("num_key_value_heads", MAX_HEADS, Some(default_kv_heads))?;
    if !num_attention_heads.is_multiple_of(num_key_value_heads) {
        let want = format!("a divisor of num_attention_heads ({num_attention_heads})");
        return Err(top.error("num_key_value_heads", want));
    }
    if top.value("head_dim").is_none() && !hidden_size.is_multiple_of(num_attention_heads) {
        return Err(
            top.error("hidden_size", format!("a multiple of num_attention_heads ({num_attention_heads})"))
        );
    }
    let head_dim = top.size("head_dim", MAX_WIDTH, Some(hidden_size / num_attention_heads))?;
    if !head_dim.is_multiple_of(2) {
        let want = format!("an even head width, since RoPE rotates pairs (it is {head_dim})");
        return Err(top.error("head_dim", want));
    }

    let (rope_theta, rope_scaling) = rope(&top)?;
    let bos = top.token_ids("bos_token_id")?;
    let config = LlamaConfig {
        hidden_size,
        intermediate_size: top.size("intermediate_size", MAX_WIDTH * 4, None)?,
        num_hidden_layers: top.size("num_hidden_layers", MAX_LAYERS, None)?,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        vocab_size: top.size("vocab_size", MAX_VOCAB, None)?,
        rms_norm_eps: top
            .number("rms_norm_eps", Some(1e-6), "a number above 0 and below 1", |v| v > 0.0 && v < 1.0)?,
        rope_theta,
        rope_scaling,
        tie_word_embeddings: top.flag("tie_word_embeddings", false)?,
        max_position_embeddings: top.size(
            "max_position_embeddings",
            MAX_POSITIONS,
            Some(if mistral { 4096 * 32 } else { 2048 }),
        )?,
        bos_token_id: bos.first().copied(),
        eos_token_ids: top.token_ids("eos_token_id")?,
        raw: RawJson(raw.clone()),
    };
    check_total(&config, &top)?;
    Ok(config)
}

/// Refuses what is not plain Llama; returns whether it is Mistral (the same computation with other defaults).
fn refuse_other_models(top: &Reader<'_>) -> Result<bool, ModelError> {
    let mistral = match top.text("model_type")? {
        Some("llama") => false,
        Some("mistral") => true,
        _ => return Err(top.error("model_type", "\"llama\" (or \"mistral\" without a sliding window)")),
    };
    if mistral && top.map.get("sliding_window") != Some(&Value::Null) {
        return Err(top.error("sliding_window", "null, written out: sliding-window attention is not built"));
    }
    if !matches!(top.text("hidden_act")?, None | Some("silu" | "swish")) {
        return Err(top.error("hidden_act", "\"silu\""));
    }
    for key in ["attention_bias", "mlp_bias"] {
        if top.flag(key, false)? {
            return Err(top.error(key, "false: layers with biases are not built"));
        }
    }
    if top.value("quantization_config").is_some() {
        return Err(
            top.error("quantization_config", "no quantisation: dequantise the model and save it again")
        );
    }
    top.whole_rotation()?;
    Ok(mistral)
}

/// `rope_theta` and scaling from either dialect.
fn rope(top: &Reader<'_>) -> Result<(f64, RopeScaling), ModelError> {
    let object = |key: &'static str, within: &'static str| match top.value(key) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(Reader { map, within, path: top.path })),
        Some(_) => Err(top.error(key, "an object or null")),
    };
    let nested = object("rope_parameters", "rope_parameters.")?;
    let scaling = object("rope_scaling", "rope_scaling.")?;
    let want_theta = "a number above 1";
    let outer_theta = top.number("rope_theta", Some(10_000.0), want_theta, |v| v > 1.0)?;
    let theta = match &nested {
        Some(nested) => nested.number("rope_theta", Some(outer_theta), want_theta, |v| v > 1.0)?,
        None => outer_theta,
    };
    let Some(rope) = nested.or(scaling) else {
        return Ok((theta, RopeScaling::None));
    };
    rope.whole_rotation()?;
    let kind = match rope.text("rope_type")? {
        Some(kind) => Some(kind),
        None => rope.text("type")?,
    };
    let factor = || rope.number("factor", None, "a number of at least 1", |v| v >= 1.0);
    let scaling = match kind {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: factor()? },
        Some("llama3") => {
            let low_freq_factor = rope.number("low_freq_factor", None, "a number above 0", |v| v > 0.0)?;
            let want = format!("a number above low_freq_factor ({low_freq_factor})");
            RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor,
                high_freq_factor: rope.number("high_freq_factor", None, &want, |v| v > low_freq_factor)?,
                original_max_position_embeddings: rope.size(
                    "original_max_position_embeddings",
                    MAX_POSITIONS,
                    None,
                )?,
            }
        }
        Some(_) => {
            let key = if rope.value("rope_type").is_some() { "rope_type" } else { "type" };
            return Err(rope.error(key, "\"default\", \"linear\" or \"llama3\""));
        }
    };
    Ok((theta, scaling))
}

/// The number of bytes of all parameters in f32 must be countable before anything is allocated.
fn check_total(config: &LlamaConfig, top: &Reader<'_>) -> Result<(), ModelError> {
    let per_layer_heads = config
        .num_attention_heads
        .checked_mul(config.head_dim)
        .filter(|width| *width <= MAX_WIDTH * 4)
        .ok_or_else(|| {
            top.error("head_dim", format!("num_attention_heads x head_dim of at most {}", MAX_WIDTH * 4))
        })?;
    debug_assert!(per_layer_heads >= config.num_key_value_heads * config.head_dim);
    // Widths up to 2^22 and 2^20 and layers up to 2^12 fit into 2^60 together; the sum is checked all the
    // same.
    let bytes = expected_parameters(config).iter().try_fold(0usize, |total, (_, shape)| {
        let values = shape.iter().try_fold(1usize, |n, side| n.checked_mul(*side))?;
        total.checked_add(values.checked_mul(size_of::<f32>())?)
    });
    match bytes {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(top.error("hidden_size", "sizes whose product fits into memory")),
    }
}
