//! The crate's error type.

use std::path::PathBuf;

/// What can go wrong: a name that is not one of the suite's, or a suite that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// A name was none of the accepted ones.
    #[error("unknown {kind} `{got}`; want one of: {want}")]
    UnknownName {
        /// What was to be named: `task`, `verifier` or `size set`.
        kind: &'static str,
        /// The name that came.
        got: String,
        /// The accepted names, comma separated.
        want: &'static str,
    },
    /// The folder to write holds something already.
    #[error("{} exists and is not an empty folder; remove it or choose another output folder", path.display())]
    Exists {
        /// The folder asked for.
        path: PathBuf,
    },
    /// The operating system refused to read or write.
    #[error("cannot {action} {}: {source}; check the permissions and the free space there", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A Parquet file could not be encoded.
    #[error("cannot encode {} as Parquet: {source}", path.display())]
    Parquet {
        /// The file being written, relative to the suite's folder.
        path: PathBuf,
        /// The encoder's reason.
        source: parquet::errors::ParquetError,
    },
}
