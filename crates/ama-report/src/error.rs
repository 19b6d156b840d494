//! The crate's error type.

use std::path::PathBuf;

/// What can go wrong. A damaged or half-written file inside of a run folder is no error: the page says what it could
/// not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The folder is not there, or is a file.
    #[error("{}: no such folder; want the folder that `ama run --out` was given", path.display())]
    NoFolder {
        /// What was asked for.
        path: PathBuf,
    },
    /// The folder holds neither a `run.json` nor any stage.
    #[error(
        "{} is not a run folder: it has no run.json and no stage of a run; want the folder that `ama run --out` was given",
        path.display()
    )]
    NotARun {
        /// What was asked for.
        path: PathBuf,
    },
    /// The operating system refused to read.
    #[error("cannot read {}: {source}; check the permissions there", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A page of no runs.
    #[error("a page needs at least one run folder")]
    NoRuns,
    /// The plotting library refused.
    #[error("cannot draw `{figure}`: {reason}; please report it with the run's metrics.jsonl")]
    Plot {
        /// The figure's title.
        figure: String,
        /// The library's reason.
        reason: String,
    },
    /// The page's template failed.
    #[error("cannot fill in the page: {source}; please report it")]
    Template {
        /// The template engine's reason.
        #[from]
        source: minijinja::Error,
    },
}
