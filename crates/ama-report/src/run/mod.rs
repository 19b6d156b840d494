//! A run folder, read.

mod files;
mod plan;
mod progress;
mod results;
mod stages;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use plan::{Budget, Plan};
pub use progress::{Ahead, Under};
pub use results::{Method, Metric, Results, Scores, SeedRun};
pub use stages::{Stage, StageKind};

use crate::ReportError;
use crate::trace::Trace;

/// How much of the logs to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Every line.
    Whole,
    /// About this many bytes over all logs of the run; longer logs are sampled at even distances, so that the time is
    /// bounded however long the run is.
    Within(u64),
}

/// Whether somebody works in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A process holds the folder's lock.
    Running,
    /// Every stage that was begun is done, and there are results.
    Finished,
    /// Nobody works in it and something is not done.
    Stopped,
}

/// Everything that the page and the frame say about a run comes from here.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Run {
    /// The folder as it was given.
    pub folder: PathBuf,
    /// Last component of the folder.
    pub label: String,
    /// Whether it runs.
    pub state: State,
    /// `run.json`, as it is.
    pub about: serde_json::Value,
    /// What was asked for.
    pub plan: Plan,
    /// What was begun, in the order of the pipeline.
    pub stages: Vec<Stage>,
    /// What came out, if all is done.
    pub results: Option<Results>,
    /// What could not be read, and what to do about it.
    pub notes: Vec<String>,
    /// When it was read.
    pub read_at: SystemTime,
}

impl Run {
    /// Reads a run folder in whatever state it is: running, killed, finished, empty or damaged.
    ///
    /// Whether it is running is seen from the lock that `ama run` holds.
    ///
    /// # Errors
    /// [`ReportError::NoFolder`], [`ReportError::NotARun`], or a folder that cannot be listed.
    pub fn read(folder: &Path, reading: Reading) -> Result<Self, ReportError> {
        if !folder.is_dir() {
            return Err(ReportError::NoFolder { path: folder.to_path_buf() });
        }
        let mut notes = Vec::new();
        let about: Option<serde_json::Value> = files::json(&folder.join("run.json"), &mut notes);
        let ours =
            about.as_ref().and_then(|about| about.get("format")?.as_str()).map(|f| f.starts_with("ama-run "));
        let locked = is_locked(folder);
        let about = about.unwrap_or_default();
        if about.get("format").and_then(serde_json::Value::as_str).is_some_and(|format| format != "ama-run 1")
        {
            notes.push(
                "run.json was written by another version of ama; what it calls differently is missing here"
                    .into(),
            );
        }
        let plan = Plan::read(folder, &mut notes);
        let stages = stages::read(folder, &plan, reading, &mut notes)?;
        if !(locked || ours == Some(true) || (ours.is_none() && !stages.is_empty())) {
            return Err(ReportError::NotARun { path: folder.to_path_buf() });
        }
        let results = Results::read(folder, &mut notes);
        let state = if locked { State::Running } else { at_rest(results.as_ref(), &stages) };
        if results.is_some() && state != State::Finished && stages.iter().any(|stage| !stage.is_done()) {
            notes.push(
                "the results are of an earlier call: since then a stage was begun again and is not done"
                    .into(),
            );
        }
        let damaged: u64 =
            stages.iter().filter_map(|stage| stage.trace.as_ref()).map(|trace| trace.damaged).sum();
        if damaged > 0 {
            notes.push(format!(
                "{damaged} lines of metrics.jsonl are not what they should be and were left out"
            ));
        }
        let label = std::fs::canonicalize(folder)
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_else(|| folder.display().to_string());
        Ok(Self {
            folder: folder.to_path_buf(),
            label,
            state,
            about,
            plan,
            stages,
            results,
            notes,
            read_at: SystemTime::now(),
        })
    }

    /// The run as it is when nobody works in it any more: for the process that holds the lock and is about to end.
    #[must_use]
    pub fn released(mut self) -> Self {
        self.state = at_rest(self.results.as_ref(), &self.stages);
        self
    }

    /// The tasks: those of the configuration, or else those that results and logs mention.
    #[must_use]
    pub fn tasks(&self) -> Vec<String> {
        let mut tasks = self.plan.tasks.clone();
        let logged = self.stages.iter().filter_map(|stage| stage.trace.as_ref()).flat_map(Trace::tasks);
        let scored = self.results.iter().flat_map(Results::tasks);
        for task in logged.chain(scored) {
            if !tasks.iter().any(|known| known == task) {
                tasks.push(task.to_string());
            }
        }
        tasks
    }

    /// The methods that generalists were trained with: those of the configuration, then others that are there.
    #[must_use]
    pub fn methods(&self) -> Vec<String> {
        let mut methods = self.plan.methods.clone();
        for stage in &self.stages {
            if let StageKind::Generalist { method, .. } = &stage.kind
                && !methods.contains(method)
            {
                methods.push(method.clone());
            }
        }
        methods
    }

    /// The logs of a method's generalists, one a seed.
    #[must_use]
    pub fn traces(&self, method: &str) -> Vec<&Trace> {
        let of_method = |stage: &&Stage| matches!(&stage.kind, StageKind::Generalist { method: own, .. } if own == method);
        self.stages.iter().filter(of_method).filter_map(|stage| stage.trace.as_ref()).collect()
    }

    /// The log of a task's specialist.
    #[must_use]
    pub fn specialist(&self, task: &str) -> Option<&Trace> {
        let own = |stage: &&Stage| matches!(&stage.kind, StageKind::Specialist { task: own } if own == task);
        self.stages.iter().find(own)?.trace.as_ref()
    }

    /// What the mixer of a method is told: `false` if it sees the plain loss and so has no excess over a specialist.
    #[must_use]
    pub fn has_excess(&self, method: &str) -> bool {
        const RAW: [&str; 5] = ["pooled", "task-normalised", "fixed", "temperature", "group-dro"];
        match self.about["methods"][method]["excess"].as_str() {
            Some(excess) => excess != "raw",
            None => !RAW.contains(&method),
        }
    }

    /// Whether a method is one of AutoMixAlign's.
    #[must_use]
    pub fn is_ama(&self, method: &str) -> bool {
        let kind = self.about["methods"][method]["kind"].as_str().unwrap_or(method);
        matches!(kind, "ama-r" | "ama-s")
    }

    /// The command line that continues the run, or does again what has changed.
    #[must_use]
    pub fn command(&self) -> String {
        let folder = shell_word(&self.folder.display().to_string());
        let config = shell_word(&self.folder.join("config.resolved.toml").display().to_string());
        format!("ama run {config} --out {folder}")
    }
}

fn at_rest(results: Option<&Results>, stages: &[Stage]) -> State {
    if results.is_some() && stages.iter().all(Stage::is_done) { State::Finished } else { State::Stopped }
}

/// Whether somebody holds the lock of the run folder. (Taking it for a moment does no harm: `ama run` waits that long.)
fn is_locked(folder: &Path) -> bool {
    let Ok(lock) = std::fs::File::open(folder.join(".lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// A word as a POSIX shell wants it.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_string();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn a_command_can_be_pasted() {
        assert_eq!(shell_word("runs/a-b_1"), "runs/a-b_1");
        assert_eq!(shell_word("my runs/$x"), "'my runs/$x'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
