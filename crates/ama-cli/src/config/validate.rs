//! Ranges, names and paths: from what is written to what is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ama_data::{ReadOptions, SplitKind};
use ama_mix::MixerKind;
use clap::ValueEnum as _;

use super::error::ConfigError;
use super::raw::{RawBase, RawConfig, RawSpecialist, RawTask};
use super::reading;
use super::sets::is_elsewhere;
use super::settings::{
    BaseSettings, Config, Decay, InitKind, Length, LossKind, LossSettings, Passes, Start, TaskSettings,
    Training, Warmup,
};

pub(super) type Result<T> = std::result::Result<T, ConfigError>;

/// Checks with the file's name at hand.
pub(super) struct Check<'a> {
    file: &'a Path,
}

/// What to do about a missing evaluation split.
pub(super) const NEEDS_SPLIT: &str = "the evaluation needs it; name a file, or choose another eval.split";

/// What a task or a method may be called.
pub(crate) const NAME: &str = "1 to 64 of letters, digits, `-` and `_`";

/// Whether it is [`NAME`]: names become folders, keys and table columns.
pub(crate) fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=64).contains(&name.len()) && name.chars().all(legal)
}

/// Checks everything and fills in what depends on something else.
pub(crate) fn validate(file: &Path, mut raw: RawConfig) -> Result<Config> {
    let check = Check { file };
    let passes = Passes {
        micro_batch_tokens: check.count("data.micro_batch_tokens", raw.data.micro_batch_tokens)?,
        checkpoint_activations: raw.data.checkpoint_activations,
    };
    let max_length = check.count("data.max_length", raw.data.max_length)?;
    if max_length < 2 {
        return Err(check.value(
            "data.max_length",
            max_length,
            "at least 2 (a prompt and a completion token)",
        ));
    }
    reading::options(file, "data", &raw.data.columns, &BTreeMap::new(), None, SplitKind::Train)?;
    let start = check.start(&mut raw, passes)?;
    let split = match raw.eval.split.as_str() {
        "test" => "test",
        "valid" => "valid",
        other => return Err(check.value("eval.split", other, "test or valid")),
    };
    if raw.task.is_empty() {
        return Err(check.missing("task", "add at least one [[task]] with `name` and `train`, or a [pool]"));
    }
    if raw.method.is_empty() {
        return Err(check.missing("method", "add at least one [[method]], for example name = \"ama-s\""));
    }
    check.names("task", raw.task.iter().map(|task| task.name.as_str()))?;
    check.names("method", raw.method.iter().map(|method| method.name.as_str()))?;

    raw.specialist = specialist_defaults(&raw.specialist);
    check.training_of_specialist("specialist", &raw.specialist, passes)?;
    let tasks =
        raw.task.iter().map(|task| check.task(task, &raw, split, passes)).collect::<Result<Vec<_>>>()?;

    let g = &mut raw.generalist;
    if g.steps.is_none() && g.tokens.is_none() && g.epochs.is_none() {
        g.epochs = Some(1.0);
    }
    if g.warmup_steps.is_none() && g.warmup_ratio.is_none() {
        g.warmup_ratio = Some(0.0);
    }
    let g = &raw.generalist;
    let generalist = check.training(&Parts {
        section: "generalist",
        batch_key: "batch_pairs",
        length: (g.steps, g.tokens, g.epochs),
        batch: g.batch_pairs,
        lr: g.lr,
        schedule: &g.schedule,
        warmup: (g.warmup_steps, g.warmup_ratio),
        min_lr_ratio: g.min_lr_ratio,
        betas: g.betas,
        eps: g.eps,
        weight_decay: g.weight_decay,
        clip: g.clip,
        checkpoint_every: g.checkpoint_every,
        passes,
    })?;
    let distinct: BTreeSet<_> = g.seeds.iter().collect();
    if g.seeds.is_empty() || distinct.len() != g.seeds.len() {
        return Err(check.value(
            "generalist.seeds",
            format!("{:?}", g.seeds),
            "at least one seed, none twice",
        ));
    }
    let excess = check.excess("generalist.excess", &g.excess)?;
    let gradient_clip = check.gradient_clip("generalist.gradient_clip", &g.gradient_clip)?;
    let task_names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    for method in &mut raw.method {
        check.import_proportions(method, &task_names)?;
    }
    let methods = raw
        .method
        .iter()
        .map(|method| check.method(method, &task_names, excess, gradient_clip))
        .collect::<Result<Vec<_>>>()?;

    let baseline = match &raw.eval.baseline {
        Some(name) if methods.iter().any(|method| method.name == *name) => name.clone(),
        Some(name) => return Err(check.value("eval.baseline", name, "the name of a [[method]]")),
        None => methods
            .iter()
            .find(|method| method.mixer.kind() == MixerKind::Pooled)
            .unwrap_or(&methods[0])
            .name
            .clone(),
    };
    raw.eval.baseline = Some(baseline.clone());
    let loss = check.loss(&raw)?;
    let max_new_tokens = check.count("eval.max_new_tokens", raw.eval.max_new_tokens)?;
    let resolved = toml::to_string(&raw).map_err(|error| ConfigError::Syntax {
        path: file.to_path_buf(),
        message: format!("cannot be written back as TOML: {error}"),
    })?;
    Ok(Config {
        file: file.to_path_buf(),
        seed: raw.seed,
        start,
        loss,
        max_length,
        micro_batch_tokens: passes.micro_batch_tokens,
        tasks,
        generalist,
        seeds: raw.generalist.seeds.clone(),
        methods,
        split,
        max_new_tokens,
        baseline,
        resolved,
    })
}

/// Stage 1 with every default written out.
fn specialist_defaults(given: &RawSpecialist) -> RawSpecialist {
    given.over(&RawSpecialist {
        epochs: Some(1.0),
        batch_pairs: Some(32),
        lr: Some(1e-6),
        schedule: Some("linear".into()),
        warmup_ratio: Some(0.0),
        min_lr_ratio: Some(0.0),
        betas: Some([0.9, 0.999]),
        eps: Some(1e-8),
        weight_decay: Some(0.0),
        clip: Some(1.0),
        checkpoint_every: Some(100),
        length_ratio: Some(1.0),
        ..RawSpecialist::default()
    })
}

/// What the three kinds of training sections have in common.
struct Parts<'a> {
    section: &'a str,
    batch_key: &'a str,
    length: (Option<u64>, Option<u64>, Option<f64>),
    batch: u64,
    lr: f64,
    schedule: &'a str,
    warmup: (Option<u64>, Option<f64>),
    min_lr_ratio: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    clip: f64,
    checkpoint_every: u64,
    passes: Passes,
}

impl Check<'_> {
    pub(super) fn value(&self, key: &str, value: impl ToString, want: &str) -> ConfigError {
        ConfigError::BadValue {
            path: self.file.to_path_buf(),
            key: key.into(),
            value: value.to_string(),
            want: want.into(),
        }
    }

    pub(super) fn missing(&self, key: &str, remedy: &str) -> ConfigError {
        ConfigError::MissingKey { path: self.file.to_path_buf(), key: key.into(), remedy: remedy.into() }
    }

    fn count(&self, key: &str, value: u64) -> Result<usize> {
        usize::try_from(value)
            .ok()
            .filter(|&count| count >= 1)
            .ok_or_else(|| self.value(key, value, "a whole number >= 1"))
    }

    fn limit(&self, key: &str, value: Option<u64>) -> Result<Option<usize>> {
        value.map(|value| self.count(key, value)).transpose()
    }

    pub(super) fn number(
        &self,
        key: &str,
        value: f64,
        legal: impl Fn(f64) -> bool,
        want: &str,
    ) -> Result<f64> {
        if value.is_finite() && legal(value) { Ok(value) } else { Err(self.value(key, value, want)) }
    }

    /// The path of `key`; it has to exist unless it is a glob pattern.
    pub(super) fn path(&self, key: &str, text: &str, remedy: &'static str) -> Result<PathBuf> {
        let target = PathBuf::from(text);
        let remedy = match is_elsewhere(text) {
            true if text.starts_with('~') => "`~` is expanded by a shell only: write the path out",
            true => "it is no path of this machine: download it first, and name the folder or file",
            false if target.exists() || text.contains(['*', '?', '[']) => return Ok(target),
            false => remedy,
        };
        Err(ConfigError::NoSuchPath { path: self.file.to_path_buf(), key: key.into(), target, remedy })
    }

    fn names<'n>(&self, section: &str, names: impl Iterator<Item = &'n str>) -> Result<()> {
        let mut seen = BTreeSet::new();
        for name in names {
            let key = format!("{section}.{name}.name");
            if !is_name(name) {
                return Err(self.value(&key, format!("{name:?}"), NAME));
            }
            if matches!((section, name), ("method", "base" | "specialists")) {
                return Err(self.value(&key, name, "another name: the table has a row of this name already"));
            }
            if !seen.insert(name) {
                return Err(self.value(&key, name, "a name of its own: two have this one"));
            }
        }
        Ok(())
    }

    fn start(&self, raw: &mut RawConfig, passes: Passes) -> Result<Start> {
        match (&raw.model, &mut raw.base) {
            (Some(_), Some(_)) => Err(self.value(
                "base",
                "given beside [model]",
                "only one of [model] and [base]; remove the other",
            )),
            (None, None) => Err(self.missing(
                "model.path",
                "name a Hugging Face folder under [model], or make a base model with a [base] section",
            )),
            (Some(model), None) => {
                let path = self.path("model.path", &model.path, "put a Hugging Face folder there")?;
                Ok(Start::Folder(path))
            }
            (None, Some(base)) => {
                if base.steps.is_none() && base.tokens.is_none() && base.epochs.is_none() {
                    base.epochs = Some(1.0);
                }
                if base.warmup_steps.is_none() && base.warmup_ratio.is_none() {
                    base.warmup_steps = Some(30);
                }
                Ok(Start::Sft(Box::new(self.base(base, &raw.data.columns, passes)?)))
            }
        }
    }

    fn base(
        &self,
        base: &RawBase,
        columns: &BTreeMap<String, String>,
        passes: Passes,
    ) -> Result<BaseSettings> {
        let split = base.split.as_deref();
        let read = reading::options(self.file, "base", &base.columns, columns, split, SplitKind::Train)?;
        let training = self.training(&Parts {
            section: "base",
            batch_key: "batch",
            length: (base.steps, base.tokens, base.epochs),
            batch: base.batch,
            lr: base.lr,
            schedule: &base.schedule,
            warmup: (base.warmup_steps, base.warmup_ratio),
            min_lr_ratio: base.min_lr_ratio,
            betas: base.betas,
            eps: base.eps,
            weight_decay: base.weight_decay,
            clip: base.clip,
            checkpoint_every: base.checkpoint_every,
            passes,
        })?;
        Ok(BaseSettings {
            config: self.path("base.config", &base.config, "put config.json and tokenizer.json there")?,
            data: self.path("base.data", &base.data, "put a Parquet or JSONL file there")?,
            read,
            limit: self.limit("base.limit", base.limit)?,
            init: InitKind::from_str(&base.init, false)
                .map_err(|_| self.value("base.init", &base.init, "scaled or hf"))?,
            training,
        })
    }

    fn loss(&self, raw: &RawConfig) -> Result<LossSettings> {
        let loss = &raw.loss;
        let kind = LossKind::from_str(&loss.kind, false)
            .map_err(|_| self.value("loss.kind", &loss.kind, "sigmoid, ipo, hinge or robust"))?;
        let half = |x: f64| (0.0..0.5).contains(&x);
        Ok(LossSettings {
            kind,
            beta: self.number("loss.beta", loss.beta, |x| x > 0.0, "a value > 0")?,
            label_smoothing: self.number(
                "loss.label_smoothing",
                loss.label_smoothing,
                half,
                "a value in [0, 0.5)",
            )?,
            sft_weight: self.number("loss.sft_weight", loss.sft_weight, |x| x >= 0.0, "a value >= 0")?,
        })
    }

    fn task(&self, task: &RawTask, raw: &RawConfig, split: &str, passes: Passes) -> Result<TaskSettings> {
        let key = |name: &str| format!("task.{}.{name}", task.name);
        let files = "put a Parquet, JSONL or Arrow file (or a folder of them) there";
        for (name, given) in [("valid", &task.valid), ("test", &task.test)] {
            if let Some(text) = given {
                self.path(&key(name), text, files)?;
            }
        }
        let eval = if split == "test" { &task.test } else { &task.valid };
        let eval = eval.as_ref().ok_or_else(|| self.missing(&key(split), NEEDS_SPLIT))?;
        let own = task.specialist.clone().unwrap_or_default().over(&raw.specialist);
        let read = |given: &Option<String>, kind| -> Result<ReadOptions> {
            let section = format!("task.{}", task.name);
            reading::options(self.file, &section, &task.columns, &raw.data.columns, given.as_deref(), kind)
        };
        let eval_kind = if split == "test" { SplitKind::Test } else { SplitKind::Validation };
        Ok(TaskSettings {
            name: task.name.clone(),
            train: self.path(&key("train"), &task.train, files)?,
            read: read(&task.split, SplitKind::Train)?,
            select: task.select.clone(),
            eval: PathBuf::from(eval),
            eval_read: read(&task.eval_split, eval_kind)?,
            limit: self.limit(&key("limit"), task.limit)?,
            eval_limit: self.limit(&key("eval_limit"), task.eval_limit)?,
            specialist: self.training_of_specialist(&key("specialist"), &own, passes)?,
        })
    }

    /// `raw` has every default filled in, except where the user could not have meant it.
    fn training_of_specialist(&self, section: &str, raw: &RawSpecialist, passes: Passes) -> Result<Training> {
        let share = |x: f64| x > 0.0 && x <= 1.0;
        let ratio = raw.length_ratio.unwrap_or(1.0);
        let ratio = self.number(&format!("{section}.length_ratio"), ratio, share, "a value in (0, 1]")?;
        let training = self.training(&Parts {
            section,
            batch_key: "batch_pairs",
            length: (raw.steps, raw.tokens, raw.epochs),
            batch: raw.batch_pairs.unwrap_or_default(),
            lr: raw.lr.unwrap_or_default(),
            schedule: raw.schedule.as_deref().unwrap_or_default(),
            warmup: (raw.warmup_steps, raw.warmup_ratio),
            min_lr_ratio: raw.min_lr_ratio.unwrap_or_default(),
            betas: raw.betas.unwrap_or_default(),
            eps: raw.eps.unwrap_or_default(),
            weight_decay: raw.weight_decay.unwrap_or_default(),
            clip: raw.clip.unwrap_or_default(),
            checkpoint_every: raw.checkpoint_every.unwrap_or_default(),
            passes,
        })?;
        let (length, warmup) = (training.length.shortened(ratio), training.warmup.shortened(ratio));
        Ok(Training { length, warmup, ..training })
    }

    fn training(&self, parts: &Parts<'_>) -> Result<Training> {
        let key = |name: &str| format!("{}.{name}", parts.section);
        let length = match parts.length {
            (Some(steps), None, None) => Length::Steps(self.count(&key("steps"), steps)? as u64),
            (None, Some(tokens), None) => Length::Tokens(self.count(&key("tokens"), tokens)? as u64),
            (None, None, Some(epochs)) => {
                Length::Epochs(self.number(&key("epochs"), epochs, |x| x > 0.0, "a value > 0")?)
            }
            _ => return Err(self.value(&key("steps"), "not alone", "only one of steps, tokens, epochs")),
        };
        let unit = |x: f64| (0.0..=1.0).contains(&x);
        let warmup = match parts.warmup {
            (Some(steps), None) => Warmup::Steps(steps),
            (None, Some(ratio)) => {
                Warmup::Ratio(self.number(&key("warmup_ratio"), ratio, unit, "a value in [0, 1]")?)
            }
            (None, None) => Warmup::Steps(0),
            _ => {
                return Err(self.value(
                    &key("warmup_steps"),
                    "not alone",
                    "only one of warmup_steps, warmup_ratio",
                ));
            }
        };
        let decay = Decay::from_str(parts.schedule, false)
            .map_err(|_| self.value(&key("schedule"), parts.schedule, "constant, linear or cosine"))?;
        let beta = |x: f64| (0.0..1.0).contains(&x);
        let betas = (
            self.number(&key("betas"), parts.betas[0], beta, "two values in [0, 1)")?,
            self.number(&key("betas"), parts.betas[1], beta, "two values in [0, 1)")?,
        );
        let clip = self.number(&key("clip"), parts.clip, |x| x >= 0.0, "a value >= 0 (0 never clips)")?;
        Ok(Training {
            length,
            batch: self.count(&key(parts.batch_key), parts.batch)?,
            lr: self.number(&key("lr"), parts.lr, |x| x > 0.0, "a value > 0")?,
            decay,
            warmup,
            min_lr_ratio: self.number(&key("min_lr_ratio"), parts.min_lr_ratio, unit, "a value in [0, 1]")?,
            betas,
            eps: self.number(&key("eps"), parts.eps, |x| x > 0.0, "a value > 0")?,
            weight_decay: self.number(
                &key("weight_decay"),
                parts.weight_decay,
                |x| x >= 0.0,
                "a value >= 0",
            )?,
            clip: (clip > 0.0).then_some(clip),
            checkpoint_every: (parts.checkpoint_every > 0).then_some(parts.checkpoint_every),
            passes: parts.passes,
        })
    }
}
