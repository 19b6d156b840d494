//! The crate's one error type.

use std::path::{Path, PathBuf};

use ama_specialist_cache::CacheError;

/// Everything that can go wrong while training, scoring or evaluating.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting outside its range.
    #[error("`{name}` is {value}; want {want}")]
    Setting {
        /// Name of the setting as the user writes it.
        name: &'static str,
        /// What came.
        value: String,
        /// What would be accepted.
        want: &'static str,
    },
    /// A task or data set without a single usable row.
    #[error("task `{task}` has no pairs left to train on; check its file and `max_length`")]
    EmptyTask {
        /// The task's name.
        task: String,
    },
    /// Cached numbers do not cover the pairs they should.
    #[error("task `{task}`: {what} has {got} rows but the data has {want}; score the data again")]
    Coverage {
        /// The task's name.
        task: String,
        /// Which table is short.
        what: &'static str,
        /// Rows wanted.
        want: usize,
        /// Rows found.
        got: usize,
    },
    /// A mixer that compares with specialists was given none.
    #[error(
        "method `{method}` compares with specialist losses, but task `{task}` has none; run the specialists first"
    )]
    NoSpecialist {
        /// The mixer's name.
        method: &'static str,
        /// The task that lacks losses.
        task: String,
    },
    /// A loss, log-probability or gradient that is NaN or infinite.
    #[error(
        "step {step}: {what} is not finite for {pairs}; the last good state is {}; \
         lower the learning rate or look at these rows",
        checkpoint.as_ref().map_or_else(|| "not on disk".into(), |p| p.display().to_string())
    )]
    NonFinite {
        /// The step that failed, from 0.
        step: u64,
        /// Which quantity.
        what: &'static str,
        /// The rows involved, as `task: FILE, row N`, with semicolons between.
        pairs: String,
        /// The checkpoint that was written, if any.
        checkpoint: Option<PathBuf>,
    },
    /// Weights that are NaN or infinite after a step, so that they are not written.
    #[error(
        "step {step}: the weights are not finite any more (tensor `{tensor}`), so nothing was written; lower the learning \
         rate or clip the gradients"
    )]
    Diverged {
        /// Completed steps.
        step: u64,
        /// The first tensor that holds such a value.
        tensor: String,
    },
    /// The caller asked to stop (Ctrl-C).
    #[error(
        "stopped after step {step}; {}",
        checkpoint.as_ref().map_or_else(|| "nothing was saved (no checkpoint folder)".into(), |p| format!("its state is in {}", p.display()))
    )]
    Interrupted {
        /// Completed steps.
        step: u64,
        /// The checkpoint that was written, if any.
        checkpoint: Option<PathBuf>,
    },
    /// The caller asked to stop while pairs were scored.
    #[error("stopped with {done} of {total} pairs scored; {}", kept_scores(*done, kept.as_deref()))]
    ScoringInterrupted {
        /// Pairs that have a score, those of earlier calls included.
        done: u64,
        /// Pairs to score.
        total: u64,
        /// The store that holds their scores, if there is one.
        kept: Option<PathBuf>,
    },
    /// A checkpoint that cannot be used.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, e.g. `writing`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The model refused.
    #[error(transparent)]
    Model(#[from] ama_model::ModelError),
    /// The data refused.
    #[error(transparent)]
    Data(#[from] ama_data::DataError),
    /// The mixer refused.
    #[error(transparent)]
    Mix(#[from] ama_mix::MixError),
    /// A loss kernel refused.
    #[error(transparent)]
    Loss(#[from] ama_loss::LossError),
    /// The score store refused.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

fn kept_scores(done: u64, kept: Option<&Path>) -> String {
    match kept {
        _ if done == 0 => "there was nothing to keep".into(),
        None => "nothing was kept (no score store)".into(),
        Some(store) => format!("their scores are in {}", store.display()),
    }
}

impl TrainError {
    /// For `map_err`: names the path that an I/O error is about.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
