//! One training run in a folder: checkpoints, metrics, progress, and what is left behind when it stops.

use std::path::{Path, PathBuf};

use ama_model::Llama;
use ama_train::{Checkpoints, Control, Objective, Summary, TrainOptions, train};
use anyhow::Result;

use crate::exit::bad_input;
use crate::files;
use crate::live::LiveReport;
use crate::progress::Progress;
use crate::stop;

/// Where a run keeps its state.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Name for the progress display.
    pub(crate) label: String,
    /// Folder of the checkpoints.
    pub(crate) checkpoints: PathBuf,
    /// Log of steps, if one is wanted.
    pub(crate) metrics: Option<PathBuf>,
    /// Names everything the run depends on.
    pub(crate) identity: String,
    /// Steps between checkpoints.
    pub(crate) every_steps: Option<u64>,
    pub(crate) options: &'a TrainOptions,
    /// The page to bring up to date on the way, if there is one.
    pub(crate) report: Option<&'a LiveReport>,
}

impl Job<'_> {
    /// Trains, from the newest checkpoint if there is one.
    ///
    /// # Errors
    /// What training refuses; an interruption, after the checkpoint was written.
    pub(crate) fn train<O: Objective + Send>(&self, model: &mut Llama, objective: &mut O) -> Result<Summary> {
        let checkpoints = Checkpoints {
            folder: Some(self.checkpoints.clone()),
            every_steps: self.every_steps,
            identity: self.identity.clone(),
            resume: true,
        };
        let mut progress = Progress::new(self.label.as_str()).with_metrics(self.metrics.clone(), self.report);
        let outcome = train(
            model,
            objective,
            self.options,
            &checkpoints,
            &mut Control::new(stop::flag(), &mut progress),
        );
        let logged = progress.finish();
        let summary = outcome?;
        logged?;
        Ok(summary)
    }
}

/// A folder beside a command's output that holds its state until it is done: `OUT.partial`.
///
/// Dropped without [`WorkFolder::done`], it stays if there is a checkpoint to continue from, and goes otherwise.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    /// The folder for the output `out`, which must not exist yet.
    ///
    /// # Errors
    /// `out` is taken; state of an earlier call is there and `resume` is not given.
    pub(crate) fn beside(out: &Path, resume: bool) -> Result<Self> {
        files::want_free(out)?;
        if out.file_name().is_none() {
            return Err(bad_input(format!(
                "--out {}: does not name a folder that can be created",
                out.display()
            )));
        }
        let path = files::beside(out, ".partial");
        if !resume && has_checkpoint(&path) {
            return Err(bad_input(format!(
                "{} holds an unfinished run; continue it with --resume, or remove it to start again",
                path.display()
            )));
        }
        std::fs::create_dir_all(&path).map_err(|error| {
            anyhow::Error::new(error).context(format!("cannot create {}", path.display()))
        })?;
        Ok(Self { path })
    }

    /// A file or folder inside.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The output is complete; the state goes.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn done(self) -> Result<()> {
        files::remove(&self.path)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if !has_checkpoint(&self.path) {
            // Nothing in it is worth keeping, and an error has been reported already.
            let _ = files::remove(&self.path);
        }
    }
}

fn has_checkpoint(work: &Path) -> bool {
    let entries = std::fs::read_dir(work.join("checkpoints"));
    entries.is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("step-")))
    })
}
