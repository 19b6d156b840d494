//! The stages of a run: a folder each, with `stage.key` once begun and `stage.json` once done.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::plan::Plan;
use super::{Reading, files};
use crate::ReportError;
use crate::trace::{self, Trace};

/// What a stage does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum StageKind {
    /// Tokenises a task's pairs, or the base model's corpus.
    Data {
        /// The task; `None` for the corpus.
        task: Option<String>,
    },
    /// Trains the base model.
    Base,
    /// Trains the specialist of a task.
    Specialist {
        /// The task.
        task: String,
    },
    /// Trains a generalist.
    Generalist {
        /// Name of the method.
        method: String,
        /// Its seed, or another name of the folder.
        seed: String,
    },
    /// Evaluates a model.
    Evaluation {
        /// Name of the model.
        model: String,
    },
}

/// One stage that was begun.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stage {
    /// What it does.
    pub kind: StageKind,
    /// Folder below the run folder, with `/`.
    pub name: String,
    /// Wall-clock seconds, once done.
    pub seconds: Option<f64>,
    /// What it recorded, once done.
    pub outputs: Value,
    /// Peak resident memory of the process until the end of the stage, MiB.
    pub peak_rss_mib: Option<f64>,
    /// Its log of steps.
    pub trace: Option<Trace>,
    /// The mixer's constants (`run.json` of a generalist).
    pub about: Value,
}

impl Stage {
    /// Whether it is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.seconds.is_some()
    }
}

/// `stage.json`.
#[derive(Deserialize)]
struct StageFile {
    seconds: f64,
    #[serde(default)]
    outputs: Value,
}

/// All stages in the order of the pipeline.
pub(crate) fn read(
    folder: &Path,
    plan: &Plan,
    reading: Reading,
    notes: &mut Vec<String>,
) -> Result<Vec<Stage>, ReportError> {
    let mut found: Vec<(StageKind, String)> = Vec::new();
    for name in names(&folder.join("data"))? {
        let task = (name != ".base").then(|| name.clone());
        found.push((StageKind::Data { task }, format!("data/{name}")));
    }
    if folder.join("base").is_dir() {
        found.push((StageKind::Base, "base".into()));
    }
    for task in names(&folder.join("specialists"))? {
        let name = format!("specialists/{task}");
        found.push((StageKind::Specialist { task }, name));
    }
    for method in names(&folder.join("generalists"))? {
        for seed in names(&folder.join("generalists").join(&method))? {
            let name = format!("generalists/{method}/{seed}");
            let seed = seed.strip_prefix("seed-").unwrap_or(&seed).to_string();
            found.push((StageKind::Generalist { method: method.clone(), seed }, name));
        }
    }
    for model in names(&folder.join("evaluation"))? {
        let name = format!("evaluation/{model}");
        found.push((StageKind::Evaluation { model }, name));
    }
    // A folder of the same name that is no stage (a suite has a `base` too) has none of these.
    let begun = |name: &str| {
        ["stage.key", "stage.json", "metrics.jsonl"].iter().any(|file| folder.join(name).join(file).is_file())
    };
    found.retain(|(_, name)| begun(name));
    found.sort_by_cached_key(|(kind, name)| (order(kind, plan), name.clone()));

    let logs =
        found.iter().filter(|(_, name)| folder.join(name).join("metrics.jsonl").is_file()).count() as u64;
    let limit = match reading {
        Reading::Whole => None,
        Reading::Within(bytes) => Some(bytes / logs.max(1)),
    };
    found.into_iter().map(|(kind, name)| stage(kind, name, folder, limit, notes)).collect()
}

fn stage(
    kind: StageKind,
    name: String,
    root: &Path,
    limit: Option<u64>,
    notes: &mut Vec<String>,
) -> Result<Stage, ReportError> {
    let folder = root.join(&name);
    let done: Option<StageFile> = files::json(&folder.join("stage.json"), notes);
    let log = folder.join("metrics.jsonl");
    let trace = match trace::read(&log, limit) {
        Ok(trace) => Some(trace),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            notes.push(format!("{name}/metrics.jsonl: cannot be read: {error}"));
            None
        }
    };
    let (seconds, outputs) = done.map_or((None, Value::Null), |done| (Some(done.seconds), done.outputs));
    let peak_rss_mib = peak_rss_mib(&folder.join("summary.json"));
    let about = files::json(&folder.join("run.json"), notes).unwrap_or_default();
    Ok(Stage { kind, name, seconds, outputs, peak_rss_mib, trace, about })
}

/// Tasks, methods and seeds as in the configuration, others behind them.
fn order(kind: &StageKind, plan: &Plan) -> (u8, usize, u64, StageKind) {
    let place =
        |names: &[String], name: &str| names.iter().position(|own| own == name).unwrap_or(names.len());
    let (stage, first, second) = match kind {
        StageKind::Data { task: None } => (0, 0, 0),
        StageKind::Data { task: Some(task) } => (0, 1 + place(&plan.tasks, task), 0),
        StageKind::Base => (1, 0, 0),
        StageKind::Specialist { task } => (2, place(&plan.tasks, task), 0),
        StageKind::Generalist { method, seed } => {
            (3, place(&plan.methods, method), seed.parse().unwrap_or(u64::MAX))
        }
        StageKind::Evaluation { .. } => (4, 0, 0),
    };
    (stage, first, second, kind.clone())
}

/// Names of the folders in a folder, sorted; none if it is not there.
fn names(folder: &Path) -> Result<Vec<String>, ReportError> {
    let io = |source| ReportError::Io { path: folder.to_path_buf(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(io(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io)?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// `peak_rss_mib` of a `summary.json`. It is the last field, and the lists before it have an entry a step: only the end
/// of the file is read.
fn peak_rss_mib(path: &PathBuf) -> Option<f64> {
    const END: u64 = 256;
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END))).ok()?;
    let mut end = Vec::new();
    file.take(END).read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end).into_owned();
    let (_, value) = end.rsplit_once("\"peak_rss_mib\":")?;
    value.trim().trim_end_matches('}').trim().parse().ok()
}

/// Pairs (or rows) that a task trains on, by task; the base model's corpus is the task `None`.
pub(crate) fn kept(stages: &[Stage]) -> BTreeMap<Option<&str>, u64> {
    let of = |stage: &Stage, key: &str| match &stage.kind {
        StageKind::Data { task: Some(_) } => stage.outputs["train"][key].as_u64(),
        _ => stage.outputs[key].as_u64(),
    };
    let data = stages.iter().filter_map(|stage| match &stage.kind {
        StageKind::Data { task } => Some((task.as_deref(), of(stage, "kept")?)),
        _ => None,
    });
    data.collect()
}
