//! One line of `metrics.jsonl`, as far as the report needs it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A step. Every field but the step may be missing, so that logs of older and newer versions can be read; fields that
/// are not known are skipped.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[non_exhaustive]
pub struct Line {
    /// Completed optimiser steps, from 1.
    pub step: u64,
    /// The scalar that was minimised, nats.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Task weights this step used.
    #[serde(default)]
    pub alpha: BTreeMap<String, Option<f64>>,
    /// Pairs drawn per task.
    #[serde(default)]
    pub drawn: BTreeMap<String, Option<f64>>,
    /// Mean excess of the drawn pairs, nats.
    #[serde(default)]
    pub excess: BTreeMap<String, Option<f64>>,
    /// Mean preference loss of the drawn pairs, nats.
    #[serde(default)]
    pub task_loss: BTreeMap<String, Option<f64>>,
    /// Share of the batch with a positive reward margin.
    #[serde(rename = "rewards/accuracies", default)]
    pub accuracy: Option<f64>,
    /// Mean reward margin of the batch.
    #[serde(rename = "rewards/margins", default)]
    pub margin: Option<f64>,
    /// Learning rate.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Gradient norm before clipping.
    #[serde(default)]
    pub grad_norm: Option<f64>,
    /// Tokens of this step.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Tokens since the beginning.
    #[serde(default)]
    pub tokens_total: Option<u64>,
    /// Seconds of this step.
    #[serde(default)]
    pub step_s: Option<f64>,
}
