//! Reading preference data: Parquet, Arrow IPC and JSON Lines, row by row, never a whole file in memory.

mod arrow;
mod cells;
mod files;
mod jsonl;
mod schema;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use schema::Schema;

use crate::error::{CellFault, DataError};
use crate::row::Row;

type Rows = Box<dyn Iterator<Item = Result<Row, DataError>> + Send>;

/// A file that was opened: its shape, unless it is empty, and its rows.
struct Opened {
    schema: Option<Schema>,
    rows: Rows,
}

/// The rows of a data set, in file order.
///
/// Errors about single cells and lines ([`DataError::Cell`], [`DataError::Json`]) do not end the iteration, so
/// that a validator can list them all; any other error does.
///
/// Accepted columns (the shape is found by itself; other columns are ignored):
/// - `prompt_ids`, `chosen_ids`, `rejected_ids`: lists of any integer type. They win over text.
/// - `prompt`, `chosen`, `rejected`: any Arrow string type, also as a dictionary.
/// - `chosen`, `rejected` alone: their shared beginning is the prompt, found as TRL's `extract_prompt` does.
/// - `prompt`, `completion`: fine-tuning rows.
/// - `verifier`, `gold` besides: how an answer is checked ([`Check`](crate::row::Check)); null in both is no check.
/// - `task` besides, as text: which task a row of a pooled file belongs to ([`only_task`](RowReader::only_task)).
pub struct RowReader {
    files: Vec<Arc<Path>>,
    paths: Vec<PathBuf>,
    schema: Schema,
    next_file: usize,
    rows: Option<Rows>,
    /// Rows of other tasks are passed over.
    only: Option<String>,
    any_row: bool,
    ended: bool,
}

impl fmt::Debug for RowReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowReader")
            .field("files", &self.paths)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl RowReader {
    /// Opens a file, a folder (all data files directly in it, by name) or a glob (`data/train-*.parquet`).
    ///
    /// Formats go by the ending: `.parquet`; `.jsonl`, `.ndjson`, `.json` (one object per line); `.arrow`, `.ipc`,
    /// `.feather` (IPC file or stream). The head of every file is read to find its shape.
    ///
    /// # Errors
    /// No such file, unknown ending, unreadable or conversational files, columns that are missing or of a wrong
    /// type, files of different shapes, or nothing but empty files.
    pub fn open(path_or_glob: &str) -> Result<Self, DataError> {
        let paths = find_files(path_or_glob)?;
        let mut schema: Option<(Schema, &Path)> = None;
        for path in &paths {
            let opened = open_file(&Arc::from(path.as_path()))?;
            match (schema, opened.schema) {
                (None, Some(found)) => schema = Some((found, path)),
                (Some((want, first)), Some(got)) if want != got => {
                    return Err(DataError::ShapeMismatch {
                        path: path.clone(),
                        first: first.to_path_buf(),
                        want: want.to_string(),
                        got: got.to_string(),
                    });
                }
                _ => {}
            }
        }
        let Some((schema, _)) = schema else {
            return Err(DataError::NoRows { path: paths[0].clone() });
        };
        let files = paths.iter().map(|path| Arc::from(path.as_path())).collect();
        Ok(Self { files, paths, schema, next_file: 0, rows: None, only: None, any_row: false, ended: false })
    }

    /// Only the rows whose column `task` holds `task`. Every row must then have that column; files in which none has the
    /// wanted value are an error at the end.
    #[must_use]
    pub fn only_task(mut self, task: &str) -> Self {
        self.only = Some(task.to_owned());
        self
    }

    /// The files, in the order in which they are read.
    pub fn files(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The shape of the rows.
    pub fn schema(&self) -> Schema {
        self.schema
    }
}

impl Iterator for RowReader {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if let Some(row) = self.rows.as_mut().and_then(Iterator::next) {
                let row = match (row, &self.only) {
                    (Ok(row), Some(only)) => match &row.task {
                        Some(task) if task == only => Ok(row),
                        Some(_) => continue,
                        None => Err(row.fault("task", CellFault::Null)),
                    },
                    (row, _) => row,
                };
                self.any_row = true;
                self.ended = !matches!(&row, Ok(_) | Err(DataError::Cell { .. } | DataError::Json { .. }));
                return Some(row);
            }
            self.rows = None;
            match self.files.get(self.next_file) {
                Some(file) => match open_file(file) {
                    Ok(opened) => self.rows = Some(opened.rows),
                    Err(e) => {
                        self.ended = true;
                        return Some(Err(e));
                    }
                },
                None => {
                    self.ended = true;
                    if !self.any_row {
                        let path = self.paths[0].clone();
                        return Some(Err(match self.only.take() {
                            Some(task) => DataError::NoRowsOfTask { path, task },
                            None => DataError::NoRows { path },
                        }));
                    }
                }
            }
            self.next_file += 1;
        }
        None
    }
}

/// The values of the column `task`, each once, in the order in which they appear.
///
/// # Errors
/// As [`RowReader`]; a row without a task.
pub fn task_names(path_or_glob: &str) -> Result<Vec<String>, DataError> {
    let mut names: Vec<String> = Vec::new();
    for row in RowReader::open(path_or_glob)? {
        let row = row?;
        match &row.task {
            Some(task) if names.iter().any(|name| name == task) => {}
            Some(task) => names.push(task.clone()),
            None => return Err(row.fault("task", CellFault::Null)),
        }
    }
    Ok(names)
}

#[derive(Clone, Copy)]
enum Format {
    Parquet,
    Ipc,
    JsonLines,
}

fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "parquet" | "pq" => Some(Format::Parquet),
        "arrow" | "ipc" | "feather" => Some(Format::Ipc),
        "jsonl" | "ndjson" | "json" => Some(Format::JsonLines),
        _ => None,
    }
}

fn open_file(path: &Arc<Path>) -> Result<Opened, DataError> {
    match format_of(path) {
        Some(Format::Parquet) => files::open_parquet(path),
        Some(Format::Ipc) => files::open_ipc(path),
        Some(Format::JsonLines) => jsonl::open_jsonl(path),
        None => Err(DataError::UnknownFormat { path: path.to_path_buf() }),
    }
}

/// The files that a path or glob stands for; at least one.
fn find_files(path_or_glob: &str) -> Result<Vec<PathBuf>, DataError> {
    let path = Path::new(path_or_glob);
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(DataError::io(path, "list"))? {
            let file = entry.map_err(DataError::io(path, "list"))?.path();
            let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            // `.json` in a folder is rather a configuration or an index than data.
            let json = file.extension().is_some_and(|ending| ending == "json");
            if !hidden && !json && format_of(&file).is_some() && file.is_file() {
                files.push(file);
            }
        }
        files.sort();
    } else if path.exists() {
        files.push(path.to_path_buf());
    } else if path_or_glob.contains(['*', '?', '[']) {
        let matches = glob::glob(path_or_glob)
            .map_err(|e| DataError::BadGlob { pattern: path_or_glob.into(), message: e.to_string() })?;
        for file in matches {
            let file = file.map_err(|e| {
                let path = e.path().to_path_buf();
                DataError::io(&path, "list")(e.into())
            })?;
            if file.is_file() {
                files.push(file);
            }
        }
        files.sort();
    }
    if files.is_empty() {
        return Err(DataError::NoFiles { pattern: path_or_glob.into() });
    }
    Ok(files)
}
