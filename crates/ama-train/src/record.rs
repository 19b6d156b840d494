//! One line of `metrics.jsonl` per optimiser step, and the summary of a whole run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a step did. Names follow TRL where it has them; tasks are keys.
///
/// With `alpha`, `drawn`, `excess` and `excess_scale` the mixer's trajectory can be recomputed by hand
/// (`excess` is then exactly what the mixer's update was given).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepRecord {
    /// Completed optimiser steps, this one included (from 1).
    pub step: u64,
    /// `base`, `specialist` or `generalist`.
    pub stage: String,
    /// The mixer's or the objective's name.
    pub method: String,
    /// The scalar that was minimised, in nats (SFT: mean NLL per completion token).
    pub loss: f64,
    /// Task weights this step used; sums to 1. Absent for SFT.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub alpha: BTreeMap<String, f64>,
    /// Pairs drawn per task.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub drawn: BTreeMap<String, u64>,
    /// Mean excess loss of the drawn pairs per task in nats; null if none was drawn.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub excess: BTreeMap<String, Option<f64>>,
    /// Mean preference loss of the drawn pairs per task in nats; null if none was drawn.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub task_loss: BTreeMap<String, Option<f64>>,
    /// Running excess scale `M` of the mixer after this step, nats.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub excess_scale: Option<f64>,
    /// Share of drawn pairs whose gradient was not clipped away.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active: Option<f64>,
    /// Share of drawn pairs with a positive reward margin.
    #[serde(rename = "rewards/accuracies", skip_serializing_if = "Option::is_none", default)]
    pub accuracy: Option<f64>,
    /// Mean reward margin of the drawn pairs.
    #[serde(rename = "rewards/margins", skip_serializing_if = "Option::is_none", default)]
    pub margin: Option<f64>,
    /// Mean reward of the chosen completions.
    #[serde(rename = "rewards/chosen", skip_serializing_if = "Option::is_none", default)]
    pub chosen_reward: Option<f64>,
    /// Mean reward of the rejected completions.
    #[serde(rename = "rewards/rejected", skip_serializing_if = "Option::is_none", default)]
    pub rejected_reward: Option<f64>,
    /// Mean summed log-probability of the chosen completions, nats.
    #[serde(rename = "logps/chosen", skip_serializing_if = "Option::is_none", default)]
    pub chosen_logp: Option<f64>,
    /// Mean summed log-probability of the rejected completions, nats.
    #[serde(rename = "logps/rejected", skip_serializing_if = "Option::is_none", default)]
    pub rejected_logp: Option<f64>,
    /// Learning rate of this step.
    pub lr: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Tokens of this step as TRL counts them: prompt+chosen and prompt+rejected of every pair.
    pub tokens: u64,
    /// Tokens since the beginning of the run.
    pub tokens_total: u64,
    /// Wall-clock seconds of this step.
    pub step_s: f64,
    /// `tokens / step_s`.
    pub tokens_per_s: f64,
}

/// What `--summary` writes: the whole run, a value per step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens as TRL counts them.
    pub tokens: u64,
    /// Tokens per second over all steps.
    pub tokens_per_s: f64,
    /// Wall-clock seconds of every step.
    pub step_s: Vec<f64>,
    /// Loss of every step, nats.
    pub losses: Vec<f64>,
    /// Gradient norm of every step, before clipping.
    pub grad_norms: Vec<f64>,
    /// Mean reward margin of every step (empty for SFT).
    pub margins: Vec<f64>,
    /// Wall-clock seconds of the run, checkpoints included; of every part, if it was resumed.
    pub wall_s: f64,
    /// Peak resident memory of this process in MiB; null where the system does not tell.
    pub peak_rss_mib: Option<f64>,
}

impl Summary {
    pub(crate) fn push(&mut self, record: &StepRecord) {
        self.steps += 1;
        self.tokens += record.tokens;
        self.step_s.push(record.step_s);
        self.losses.push(record.loss);
        self.grad_norms.push(record.grad_norm);
        self.margins.extend(record.margin);
    }

    pub(crate) fn finish(&mut self, wall_s: f64) {
        self.wall_s += wall_s;
        let busy: f64 = self.step_s.iter().sum();
        self.tokens_per_s = if busy > 0.0 { self.tokens as f64 / busy } else { 0.0 };
        self.peak_rss_mib = peak_rss_mib();
    }
}

/// Peak resident set of this process in MiB (Linux: `VmHWM`), or `None` where it is not known.
#[must_use]
pub fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
