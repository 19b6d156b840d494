//! What can be wrong with a configuration: always the file, the key and the remedy.

use std::path::PathBuf;

/// A configuration that cannot be used. Always the user's to mend: exit code 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The configuration file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The configuration file.
        path: PathBuf,
        /// Line, column and what was expected there.
        message: String,
    },
    /// Results that cannot be read back.
    #[error("{}: not valid JSON: {message}; name the results.json of a finished run", path.display())]
    NotJson {
        /// The file that `proportions_from` names.
        path: PathBuf,
        /// Line, column and what was expected there.
        message: String,
    },
    /// Pooled training pairs that do not say which tasks there are.
    #[error("{}: `pool.train`: {source}", path.display())]
    Pool {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong with the data.
        source: Box<ama_data::DataError>,
    },
    /// A pooled row with a task that cannot be a name.
    #[error(
        "{}: `pool.train`: {}, row {row}, column `{column}`: {name} cannot name a task, which becomes a folder and a key; \
         want {want}; rename it in the data", path.display(), data.display()
    )]
    PoolTask {
        /// The configuration file.
        path: PathBuf,
        /// The data file.
        data: PathBuf,
        /// The first row of the task, 1-based.
        row: u64,
        /// The column.
        column: String,
        /// What it says, in quotes, cut if it is long.
        name: String,
        /// What a name may be.
        want: &'static str,
    },
    /// Columns that cannot be told apart.
    #[error("{}: `{key}`: {source}", path.display())]
    Columns {
        /// The configuration file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// What is wrong with them.
        source: Box<ama_data::DataError>,
    },
    /// A key nobody knows.
    #[error("{}: unknown key `{key}`{suggestion}; {known}", path.display())]
    UnknownKey {
        /// The configuration file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// The nearest known key, or empty.
        suggestion: String,
        /// Which keys exist there.
        known: String,
    },
    /// A key that has no default was left out.
    #[error("{}: missing key `{key}`: {remedy}", path.display())]
    MissingKey {
        /// The configuration file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// What to write.
        remedy: String,
    },
    /// A value of the wrong type.
    #[error("{}: wrong type in `{section}`: {message}", path.display())]
    BadType {
        /// The configuration file.
        path: PathBuf,
        /// Dotted path of the table.
        section: String,
        /// What was wanted and what came.
        message: String,
    },
    /// A value outside its range.
    #[error("{}: `{key}` is {value}; want {want}", path.display())]
    BadValue {
        /// The configuration file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// What came.
        value: String,
        /// What would be accepted.
        want: String,
    },
    /// A file or folder that a key names does not exist.
    #[error("{}: `{key}` names {}, which does not exist; {remedy}", path.display(), target.display())]
    NoSuchPath {
        /// The configuration file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// What it names, resolved against the configuration's folder.
        target: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// A `--set` that cannot be applied.
    #[error("--set {text}: {reason}")]
    BadSet {
        /// The argument as given.
        text: String,
        /// What is wrong with it and what to write.
        reason: String,
    },
}
