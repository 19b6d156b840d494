//! The keys `columns` and `split`: what is read of the files that a table names.

use std::collections::BTreeMap;
use std::path::Path;

use ama_data::{Columns, ReadOptions, SplitChoice, SplitKind};

use super::error::ConfigError;

/// How the files of a table are read: its own columns over those of `[data]`, key by key, and the split that it names, or
/// else the one of a kind.
///
/// # Errors
/// A column without a role or with two, with the table that names it.
pub(crate) fn options(
    file: &Path,
    section: &str,
    own: &BTreeMap<String, String>,
    shared: &BTreeMap<String, String>,
    split: Option<&str>,
    kind: SplitKind,
) -> Result<ReadOptions, ConfigError> {
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    all.extend(shared.iter().chain(own).map(|(role, column)| (role.as_str(), column.as_str())));
    let columns = Columns::new(all).map_err(|source| ConfigError::Columns {
        path: file.to_path_buf(),
        key: format!("{section}.columns"),
        source: Box::new(source),
    })?;
    let split = split.map_or(SplitChoice::Of(kind), |name| SplitChoice::Named(name.to_owned()));
    Ok(ReadOptions { split, columns })
}
