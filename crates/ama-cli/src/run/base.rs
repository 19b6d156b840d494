//! Stage `base`: the model that everything starts from, and the frozen reference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ama_data::{Order, PairTokenizer};
use ama_model::folder::{self, SaveDtype};
use ama_model::{Init, Llama, LlamaConfig};
use ama_train::{Sft, Summary};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Context, data};
use crate::config::{BaseSettings, InitKind, Start};
use crate::exit::bad_input;
use crate::files;
use crate::job::Job;
use crate::key::{Key, derive_seed, hex};
use crate::policy::{Policy, fits, want_folder, want_model};

/// A model on disk, loaded when it is first needed.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) folder: PathBuf,
    /// Hash of its configuration and weights, hexadecimal.
    pub(crate) fingerprint: String,
    loaded: OnceLock<Policy>,
}

impl Saved {
    /// A model that a stage has written.
    pub(crate) fn new(folder: PathBuf, fingerprint: String) -> Self {
        Self { folder, fingerprint, loaded: OnceLock::new() }
    }

    /// The model in memory.
    ///
    /// # Errors
    /// It cannot be loaded, or is not the model that the stage wrote.
    pub(crate) fn load(&self) -> Result<Policy> {
        let policy = Policy::open(&self.folder)?;
        if hex(&policy.fingerprint) != self.fingerprint {
            return Err(bad_input(format!(
                "{}: the weights are not those that the stage wrote; remove the folder {} and run again",
                self.folder.display(),
                files::folder_of(&self.folder).display()
            )));
        }
        Ok(policy)
    }

    /// As [`Saved::load`], once and for all.
    ///
    /// # Errors
    /// As [`Saved::load`].
    pub(crate) fn policy(&self) -> Result<&Policy> {
        if self.loaded.get().is_none() {
            // Another thread may have been faster: its model is the same.
            let _ = self.loaded.set(self.load()?);
        }
        self.loaded.get().context("the model was just loaded")
    }
}

/// What a training stage records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trained {
    pub(crate) fingerprint: String,
    pub(crate) steps: u64,
    pub(crate) tokens: u64,
    pub(crate) seconds: f64,
    /// The mixer's weights at the end; generalists have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mixture: Option<Mixture>,
}

/// How a generalist's mixer shared the run among the tasks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mixture {
    /// Weights after the last step, by task.
    pub(crate) last: BTreeMap<String, f64>,
    /// Mean over the steps of the weights that each used, by task.
    pub(crate) averaged: BTreeMap<String, f64>,
}

impl Trained {
    /// Ends a training stage: the model to `final/`, its summary beside it.
    pub(crate) fn finish(model: &Llama, summary: &Summary, stage: &Path, tokenizer: &Path) -> Result<Self> {
        save(model, &stage.join("final"), tokenizer)?;
        files::write_json(&stage.join("summary.json"), summary)?;
        Ok(Self {
            fingerprint: hex(&folder::params_fingerprint(model.config(), model.params())),
            steps: summary.steps,
            tokens: summary.tokens,
            seconds: summary.wall_s,
            mixture: None,
        })
    }
}

/// The folder that the tokenizer comes from.
pub(crate) fn tokenizer_folder(start: &Start) -> &Path {
    match start {
        Start::Folder(folder) => folder,
        Start::Sft(base) => &base.config,
    }
}

/// Refuses a start that is no model, or none to be made, before any work is done.
///
/// # Errors
/// What the folder lacks, or is instead.
pub(crate) fn check_start(start: &Start) -> Result<()> {
    match start {
        Start::Folder(folder) => want_model(folder),
        Start::Sft(base) => want_folder(&base.config),
    }
}

/// The base model: given, or trained here.
///
/// # Errors
/// Bad input, an interruption, or a run that failed.
pub(crate) fn base(context: &Context<'_>, tokenizer: &PairTokenizer) -> Result<Saved> {
    match &context.config.start {
        Start::Folder(folder) => {
            let fingerprint = folder::fingerprint(folder)?;
            Ok(Saved::new(folder.clone(), hex(&fingerprint)))
        }
        Start::Sft(settings) => make(context, tokenizer, settings),
    }
}

fn make(context: &Context<'_>, tokenizer: &PairTokenizer, settings: &BaseSettings) -> Result<Saved> {
    let config = LlamaConfig::from_json(&settings.config.join("config.json"))?;
    fits(tokenizer, &config, &settings.config)?;
    let rows = data::corpus(context, tokenizer, settings)?;
    let seed = derive_seed(context.config.seed, "base");
    let key = Key::of("base")
        .bytes("config", &files::hash_file(&settings.config.join("config.json"))?)
        .bytes("tokenizer", &tokenizer.fingerprint())
        .bytes("rows", &rows.fingerprint())
        .field("init", &settings.init)
        .field("training", &settings.training)
        .field("seed", &seed)
        .hex();
    let folder = context.root().join("base").join("final");
    let trained = context.stage("base", key.clone()).run(|stage| -> Result<Trained> {
        let init = match settings.init {
            InitKind::Scaled => Init::Scaled,
            InitKind::Hf => Init::Hf { std: initializer_range(&settings.config)? },
        };
        let mut model = Llama::random(&config, seed, init)?;
        let options = settings.training.options(rows.len());
        let mut objective = Sft::new(rows.clone(), settings.training.batch, seed, Order::Shuffled)?;
        let job = Job {
            label: "base".into(),
            checkpoints: stage.join("checkpoints"),
            metrics: Some(stage.join("metrics.jsonl")),
            identity: key.clone(),
            every_steps: settings.training.checkpoint_every,
            options: &options,
            report: Some(&context.report),
        };
        let summary = job.train(&mut model, &mut objective)?;
        Trained::finish(&model, &summary, stage, &settings.config)
    })?;
    Ok(Saved::new(folder, trained.fingerprint))
}

/// Writes a stage's model; what a call that was cut off at this very point has left is replaced.
///
/// # Errors
/// The disk refuses.
fn save(model: &Llama, out: &Path, extras_from: &Path) -> Result<()> {
    files::remove(out)?;
    Ok(folder::save(model.config(), model.params(), SaveDtype::F32, out, Some(extras_from))?)
}

/// `initializer_range` of `config.json`, 0.02 if it is not there.
fn initializer_range(folder: &Path) -> Result<f64> {
    let config: Option<serde_json::Value> = files::read_json(&folder.join("config.json"))?;
    Ok(config.and_then(|config| config.get("initializer_range")?.as_f64()).unwrap_or(0.02))
}
