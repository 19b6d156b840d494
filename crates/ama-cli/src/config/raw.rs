//! The TOML as it is written: one struct a table, unknown keys refused.
//!
//! Serialising these (with defaults filled in) gives `config.resolved.toml`. The validated types are in
//! [`super::settings`]; what every key means, its unit, range and default are in [`super::keys`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `[model]`: start from an existing Hugging Face folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawModel {
    pub(crate) path: String,
}

/// `[base]`: make the base model here, by supervised fine-tuning from random weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBase {
    pub(crate) config: String,
    pub(crate) data: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) columns: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) split: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epochs: Option<f64>,
    #[serde(default = "base::init")]
    pub(crate) init: String,
    #[serde(default = "base::batch")]
    pub(crate) batch: u64,
    #[serde(default = "base::lr")]
    pub(crate) lr: f64,
    #[serde(default = "base::schedule")]
    pub(crate) schedule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup_steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup_ratio: Option<f64>,
    #[serde(default = "base::min_lr_ratio")]
    pub(crate) min_lr_ratio: f64,
    #[serde(default = "base::betas")]
    pub(crate) betas: [f64; 2],
    #[serde(default = "eps")]
    pub(crate) eps: f64,
    #[serde(default = "base::weight_decay")]
    pub(crate) weight_decay: f64,
    #[serde(default = "one")]
    pub(crate) clip: f64,
    #[serde(default = "checkpoint_every")]
    pub(crate) checkpoint_every: u64,
}

mod base {
    pub(super) fn init() -> String {
        "scaled".into()
    }
    pub(super) fn batch() -> u64 {
        40
    }
    pub(super) fn lr() -> f64 {
        2e-3
    }
    pub(super) fn schedule() -> String {
        "cosine".into()
    }
    pub(super) fn min_lr_ratio() -> f64 {
        0.02
    }
    pub(super) fn betas() -> [f64; 2] {
        [0.9, 0.98]
    }
    pub(super) fn weight_decay() -> f64 {
        0.01
    }
}

fn one() -> f64 {
    1.0
}
fn eps() -> f64 {
    1e-8
}
fn checkpoint_every() -> u64 {
    100
}

/// `[loss]`: the preference loss of specialists, cache and generalists alike.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLoss {
    pub(crate) kind: String,
    pub(crate) beta: f64,
    pub(crate) label_smoothing: f64,
    pub(crate) sft_weight: f64,
}

impl Default for RawLoss {
    fn default() -> Self {
        Self { kind: "sigmoid".into(), beta: 0.1, label_smoothing: 0.0, sft_weight: 0.0 }
    }
}

/// `[data]`: how rows become tokens and batches.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawData {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) columns: BTreeMap<String, String>,
    pub(crate) max_length: u64,
    pub(crate) micro_batch_tokens: u64,
    pub(crate) checkpoint_activations: bool,
}

impl Default for RawData {
    fn default() -> Self {
        Self {
            columns: BTreeMap::new(),
            max_length: 1024,
            micro_batch_tokens: 4096,
            checkpoint_activations: false,
        }
    }
}

/// `[specialist]` and `[[task]].specialist`: every key may be left out in both.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSpecialist {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epochs: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch_pairs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup_steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_lr_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) betas: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight_decay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clip: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_every: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) length_ratio: Option<f64>,
}

impl RawSpecialist {
    /// `self` over `below`: a key set here wins, and a length or warm-up given here displaces any given below.
    pub(crate) fn over(&self, below: &Self) -> Self {
        let own_length = self.steps.is_some() || self.tokens.is_some() || self.epochs.is_some();
        let own_warmup = self.warmup_steps.is_some() || self.warmup_ratio.is_some();
        let length = if own_length { self } else { below };
        let warmup = if own_warmup { self } else { below };
        Self {
            steps: length.steps,
            tokens: length.tokens,
            epochs: length.epochs,
            batch_pairs: self.batch_pairs.or(below.batch_pairs),
            lr: self.lr.or(below.lr),
            schedule: self.schedule.clone().or_else(|| below.schedule.clone()),
            warmup_steps: warmup.warmup_steps,
            warmup_ratio: warmup.warmup_ratio,
            min_lr_ratio: self.min_lr_ratio.or(below.min_lr_ratio),
            betas: self.betas.or(below.betas),
            eps: self.eps.or(below.eps),
            weight_decay: self.weight_decay.or(below.weight_decay),
            clip: self.clip.or(below.clip),
            checkpoint_every: self.checkpoint_every.or(below.checkpoint_every),
            length_ratio: self.length_ratio.or(below.length_ratio),
        }
    }
}

/// `[generalist]`: stage 2.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawGeneralist {
    pub(crate) seeds: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epochs: Option<f64>,
    pub(crate) batch_pairs: u64,
    pub(crate) lr: f64,
    pub(crate) schedule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup_steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup_ratio: Option<f64>,
    pub(crate) min_lr_ratio: f64,
    pub(crate) betas: [f64; 2],
    pub(crate) eps: f64,
    pub(crate) weight_decay: f64,
    pub(crate) clip: f64,
    pub(crate) checkpoint_every: u64,
    pub(crate) excess: String,
    pub(crate) gradient_clip: String,
}

impl Default for RawGeneralist {
    fn default() -> Self {
        Self {
            seeds: vec![0],
            steps: None,
            tokens: None,
            epochs: None,
            batch_pairs: 48,
            lr: 1e-6,
            schedule: "linear".into(),
            warmup_steps: None,
            warmup_ratio: None,
            min_lr_ratio: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            checkpoint_every: 50,
            excess: "clipped".into(),
            gradient_clip: "pair".into(),
        }
    }
}

/// `[[task]]`: one preference task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTask {
    pub(crate) name: String,
    pub(crate) train: String,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "text_or_integer")]
    pub(crate) select: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) valid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) test: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) columns: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) split: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eval_split: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eval_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) specialist: Option<RawSpecialist>,
}

/// `[[method]]`: one mixer to train a generalist with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMethod {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eta: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) c: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gamma: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) excess_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) smoothing: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tilt: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tau: Option<f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) proportions: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proportions_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proportions_method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alpha: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) excess: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gradient_clip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) specialist_noise: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) specialist_noise_seed: Option<u64>,
}

/// `[eval]`: what the table at the end is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawEval {
    pub(crate) split: String,
    pub(crate) max_new_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<String>,
}

impl Default for RawEval {
    fn default() -> Self {
        Self { split: "test".into(), max_new_tokens: 40, baseline: None }
    }
}

/// `[pool]`: files of several tasks, told apart by their column `task`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPool {
    pub(crate) train: String,
    pub(crate) valid: Option<String>,
    pub(crate) test: Option<String>,
    #[serde(default)]
    pub(crate) columns: BTreeMap<String, String>,
    pub(crate) split: Option<String>,
    pub(crate) eval_split: Option<String>,
    pub(crate) limit: Option<u64>,
    pub(crate) eval_limit: Option<u64>,
}

/// The whole file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RawConfig {
    pub(crate) seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<RawModel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<RawBase>,
    pub(crate) loss: RawLoss,
    pub(crate) data: RawData,
    pub(crate) specialist: RawSpecialist,
    pub(crate) generalist: RawGeneralist,
    pub(crate) eval: RawEval,
    pub(crate) task: Vec<RawTask>,
    pub(crate) method: Vec<RawMethod>,
}

/// A task as the data has it: text, or an integer as it is written there.
fn text_or_integer<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "want text or an integer, as the column `task` has it")]
    enum Task {
        Text(String),
        Integer(i64),
    }
    Ok(Some(match Task::deserialize(from)? {
        Task::Text(text) => text,
        Task::Integer(integer) => integer.to_string(),
    }))
}
