//! One training run: checkpoints, metrics, progress.

use std::path::PathBuf;

use ama_model::Llama;
use ama_train::{Checkpoints, Control, Objective, Summary, TrainOptions, train};
use anyhow::Result;

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
