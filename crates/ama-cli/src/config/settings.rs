//! The validated configuration: every value is legal, every path is absolute and exists.

use std::path::PathBuf;

use ama_data::ReadOptions;
use ama_mix::{ExcessMode, GradientClip, MixerSpec};

/// Length of a training run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Length {
    /// Optimiser steps.
    Steps(u64),
    /// Tokens as TRL counts them.
    Tokens(u64),
    /// Passes over the data.
    Epochs(f64),
}

impl Length {
    /// A share in `(0, 1]` of it, rounded up.
    pub(crate) fn shortened(self, ratio: f64) -> Self {
        let share = |whole: u64| (whole as f64 * ratio).ceil() as u64;
        match self {
            _ if ratio == 1.0 => self,
            Self::Steps(steps) => Self::Steps(share(steps)),
            Self::Tokens(tokens) => Self::Tokens(share(tokens)),
            Self::Epochs(epochs) => Self::Epochs(epochs * ratio),
        }
    }
}

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Decay {
    /// Stays at the peak
    Constant,
    /// Falls in a straight line
    Linear,
    /// Falls along half a cosine
    Cosine,
}

/// How long the learning rate rises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Warmup {
    /// Optimiser steps.
    Steps(u64),
    /// Share of the run.
    Ratio(f64),
}

impl Warmup {
    /// That of a run of a share in `(0, 1]` of the steps.
    pub(crate) fn shortened(self, ratio: f64) -> Self {
        match self {
            Self::Steps(steps) => Self::Steps((steps as f64 * ratio).ceil() as u64),
            Self::Ratio(_) => self,
        }
    }
}

/// Which preference loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LossKind {
    /// DPO, `-log sigmoid(margin)`
    Sigmoid,
    /// Identity preference optimisation
    Ipo,
    /// `max(0, 1 - margin)`
    Hinge,
    /// DPO made robust to flipped labels
    Robust,
}

/// The preference loss and its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LossSettings {
    pub(crate) kind: LossKind,
    pub(crate) beta: f64,
    pub(crate) label_smoothing: f64,
    pub(crate) sft_weight: f64,
}

/// Settings of one training run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Training {
    pub(crate) length: Length,
    /// Pairs or examples a step.
    pub(crate) batch: usize,
    pub(crate) lr: f64,
    pub(crate) decay: Decay,
    pub(crate) warmup: Warmup,
    pub(crate) min_lr_ratio: f64,
    pub(crate) betas: (f64, f64),
    pub(crate) eps: f64,
    pub(crate) weight_decay: f64,
    /// Global gradient norm; `None` never clips.
    pub(crate) clip: Option<f64>,
    /// Steps between checkpoints; `None` only when stopped.
    pub(crate) checkpoint_every: Option<u64>,
    pub(crate) passes: Passes,
}

/// How a batch goes through the model: memory against time, the results are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passes {
    /// Most packed tokens of one forward and backward pass.
    pub(crate) micro_batch_tokens: usize,
    /// Whether layers run again in the backward pass instead of keeping their activations.
    pub(crate) checkpoint_activations: bool,
}

/// Where the base model comes from.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    /// An existing Hugging Face folder.
    Folder(PathBuf),
    /// Supervised fine-tuning from random weights.
    Sft(Box<BaseSettings>),
}

/// How random weights are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InitKind {
    /// Scaled to the widths, which trains small models faster
    Scaled,
    /// `initializer_range` of config.json for every matrix, as transformers does
    Hf,
}

/// How to make a base model.
#[derive(Debug, Clone)]
pub(crate) struct BaseSettings {
    /// Folder with `config.json` and `tokenizer.json`.
    pub(crate) config: PathBuf,
    /// Prompts and completions.
    pub(crate) data: PathBuf,
    pub(crate) read: ReadOptions,
    pub(crate) limit: Option<usize>,
    pub(crate) init: InitKind,
    pub(crate) training: Training,
}

/// One preference task.
#[derive(Debug, Clone)]
pub(crate) struct TaskSettings {
    pub(crate) name: String,
    pub(crate) train: PathBuf,
    pub(crate) read: ReadOptions,
    /// Only rows whose column `task` says this.
    pub(crate) select: Option<String>,
    /// The evaluation split that the table is made of.
    pub(crate) eval: PathBuf,
    pub(crate) eval_read: ReadOptions,
    pub(crate) limit: Option<usize>,
    pub(crate) eval_limit: Option<usize>,
    pub(crate) specialist: Training,
}

/// Gaussian noise on the specialists' cached losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SpecialistNoise {
    /// Standard deviation, nats.
    pub(crate) sd_nats: f64,
    pub(crate) seed: u64,
}

/// One mixer to train generalists with.
#[derive(Debug, Clone)]
pub(crate) struct MethodSettings {
    pub(crate) name: String,
    pub(crate) mixer: MixerSpec,
    pub(crate) excess: ExcessMode,
    pub(crate) gradient_clip: GradientClip,
    /// `None` trains on the losses as they are.
    pub(crate) noise: Option<SpecialistNoise>,
    /// Peak learning rate; `None` is that of all generalists.
    pub(crate) lr: Option<f64>,
}

impl MethodSettings {
    /// Whether stage 2 needs the specialists' losses.
    pub(crate) fn needs_specialists(&self) -> bool {
        self.excess != ExcessMode::Raw
    }

    /// How this method's generalists are trained, given how all of them are.
    pub(crate) fn training(&self, all: &Training) -> Training {
        Training { lr: self.lr.unwrap_or(all.lr), ..*all }
    }
}

/// The whole configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The file it was read from, for messages.
    pub(crate) file: PathBuf,
    pub(crate) seed: u64,
    pub(crate) start: Start,
    pub(crate) loss: LossSettings,
    pub(crate) max_length: usize,
    pub(crate) micro_batch_tokens: usize,
    pub(crate) tasks: Vec<TaskSettings>,
    pub(crate) generalist: Training,
    pub(crate) seeds: Vec<u64>,
    pub(crate) methods: Vec<MethodSettings>,
    pub(crate) split: &'static str,
    pub(crate) max_new_tokens: usize,
    /// Name of the method that improvements are measured against.
    pub(crate) baseline: String,
    /// The file with every default written out: `config.resolved.toml`.
    pub(crate) resolved: String,
}
