//! Flags that several commands share.

use clap::{Args, ValueEnum};

use ama_data::{Columns, ReadOptions, SplitChoice, SplitKind};
use ama_model::folder::SaveDtype;

use crate::config::{Decay, Length, LossKind, LossSettings, Passes, Training, Warmup};
use crate::exit::bad_input;

/// What is read of files and folders.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReadArgs {
    /// Which column is what, where it has another name: `prompt=question` (repeatable). NAME is one of prompt, chosen,
    /// rejected, completion, prompt_ids, chosen_ids, rejected_ids, verifier, gold, task. `prompt=` says that the prompt is
    /// the shared beginning of chosen and rejected
    #[arg(long = "column", value_name = "NAME=COLUMN", help_heading = "Reading")]
    columns: Vec<String>,
    /// Which split of a folder with several [default: its training split; ama eval: its test split]
    #[arg(long, value_name = "NAME", help_heading = "Reading")]
    split: Option<String>,
}

impl ReadArgs {
    /// Checked options; of a folder with splits, that of this kind unless one was named.
    ///
    /// # Errors
    /// A column without a role, or with two.
    pub(crate) fn options(&self, split: SplitKind) -> anyhow::Result<ReadOptions> {
        let pairs = self.columns.iter().map(|text| {
            text.split_once('=').ok_or_else(|| {
                bad_input(format!("--column {text}: want NAME=COLUMN, for example prompt=question"))
            })
        });
        let pairs: Vec<(&str, &str)> = pairs.collect::<anyhow::Result<_>>()?;
        let columns = Columns::new(pairs)?;
        let split = self.split.clone().map_or(SplitChoice::Of(split), SplitChoice::Named);
        Ok(ReadOptions { split, columns })
    }
}

/// The preference loss.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub(crate) struct LossArgs {
    /// Preference loss
    #[arg(long, value_enum, default_value_t = LossKind::Sigmoid)]
    loss: LossKind,
    /// Strength of the reference, > 0 (TRL's default)
    #[arg(long, default_value_t = 0.1)]
    beta: f64,
    /// Share of flipped labels, in [0, 0.5) (sigmoid, robust)
    #[arg(long, default_value_t = 0.0)]
    label_smoothing: f64,
    /// Weight of the chosen completion's mean negative log-likelihood, >= 0 (TRL's rpo_alpha)
    #[arg(long, default_value_t = 0.0)]
    sft_weight: f64,
}

impl LossArgs {
    /// Checked settings.
    ///
    /// # Errors
    /// A constant out of range.
    pub(crate) fn settings(&self) -> anyhow::Result<LossSettings> {
        let settings = LossSettings {
            kind: self.loss,
            beta: self.beta,
            label_smoothing: self.label_smoothing,
            sft_weight: self.sft_weight,
        };
        settings.build().map_err(|error| bad_input(error.to_string()))?;
        Ok(settings)
    }
}

/// Length of a training run, schedule and optimiser.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Training")]
pub(crate) struct TrainingArgs {
    /// Length of the run in optimiser steps
    #[arg(long, value_name = "N", group = "length")]
    steps: Option<u64>,
    /// Length of the run in tokens, counted as TRL does
    #[arg(long, value_name = "N", group = "length")]
    tokens: Option<u64>,
    /// Length of the run in passes over the data [default: 1]
    #[arg(long, value_name = "X", group = "length")]
    epochs: Option<f64>,
    /// Steps of linear warm-up
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup_steps: u64,
    /// Shape of the learning rate after warm-up
    #[arg(long, value_enum, default_value_t = Decay::Linear)]
    schedule: Decay,
    /// Floor of the learning rate, as a share of the peak
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    min_lr_ratio: f64,
    /// AdamW's decay rates of the moments
    #[arg(long, value_name = "X", num_args = 2, default_values_t = [0.9, 0.999])]
    betas: Vec<f64>,
    /// AdamW's decoupled weight decay, on matrices only
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    weight_decay: f64,
    /// Global gradient norm above which gradients are scaled down; 0 never clips
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    clip: f64,
    /// Most packed tokens of one forward and backward pass; bounds memory
    #[arg(long, value_name = "N", default_value_t = 4096)]
    micro_batch_tokens: usize,
    /// Run each layer again in the backward pass instead of keeping its activations: less memory, about a quarter more time,
    /// the same bits
    #[arg(long)]
    checkpoint_activations: bool,
    /// Steps between checkpoints; 0 only when stopped
    #[arg(long, value_name = "N", default_value_t = 100)]
    checkpoint_every: u64,
}

impl TrainingArgs {
    /// Checked settings with `batch` pairs or examples a step and the peak learning rate `lr`.
    ///
    /// # Errors
    /// A value out of range.
    pub(crate) fn settings(&self, batch: usize, lr: f64) -> anyhow::Result<Training> {
        let length = match (self.steps, self.tokens, self.epochs) {
            (Some(steps), ..) => Length::Steps(steps),
            (_, Some(tokens), _) => Length::Tokens(tokens),
            (.., epochs) => Length::Epochs(epochs.unwrap_or(1.0)),
        };
        if let Length::Epochs(epochs) = length
            && !(epochs.is_finite() && epochs > 0.0)
        {
            return Err(bad_input(format!("--epochs is {epochs}; want a value > 0")));
        }
        if batch == 0 {
            return Err(bad_input("the batch is 0; want at least 1"));
        }
        if !(self.clip.is_finite() && self.clip >= 0.0) {
            return Err(bad_input(format!("--clip is {}; want a value >= 0 (0 never clips)", self.clip)));
        }
        let beta = |i: usize| self.betas.get(i).copied().unwrap_or_default();
        let training = Training {
            length,
            batch,
            lr,
            decay: self.schedule,
            warmup: Warmup::Steps(self.warmup_steps),
            min_lr_ratio: self.min_lr_ratio,
            betas: (beta(0), beta(1)),
            eps: 1e-8,
            weight_decay: self.weight_decay,
            clip: (self.clip > 0.0).then_some(self.clip),
            checkpoint_every: (self.checkpoint_every > 0).then_some(self.checkpoint_every),
            passes: Passes {
                micro_batch_tokens: self.micro_batch_tokens,
                checkpoint_activations: self.checkpoint_activations,
            },
        };
        // Ranges, before a model is loaded.
        let options = training.options(1);
        options.schedule.validate()?;
        options.optimiser.validate()?;
        Ok(training)
    }
}

/// Element type of written weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    /// 32-bit floats: nothing is lost
    F32,
    /// bfloat16
    Bf16,
    /// IEEE half precision
    F16,
}

impl From<Dtype> for SaveDtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
        }
    }
}

/// Order in which a training run walks through its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OrderArg {
    /// Another random permutation in every epoch
    Shuffled,
    /// As in the file
    File,
}

impl From<OrderArg> for ama_data::Order {
    fn from(order: OrderArg) -> Self {
        match order {
            OrderArg::Shuffled => Self::Shuffled,
            OrderArg::File => Self::File,
        }
    }
}
