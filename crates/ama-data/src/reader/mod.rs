//! Reading preference data: Parquet, Arrow IPC and JSON Lines, row by row, never a whole file in memory.
//!
//! - `columns`: which column has which role; `schema`: the shapes, and what is refused;
//! - `select`: which files a path stands for; `split`: by their names; `saved`: as `datasets` lists them; `card`: as a
//!   README does; `shards`: whether all are there;
//! - `format`: Parquet, Arrow or JSON Lines; `columnar` and `arrow`: record batches;
//! - `jsonl`: objects by line, with `lines`, `utf16` and `json`;
//! - `cells`: from cells to a row; `conversation`: text that is none.

mod arrow;
mod card;
mod cells;
mod columnar;
mod columns;
mod conversation;
mod format;
mod json;
mod jsonl;
mod lines;
mod saved;
mod schema;
mod select;
mod select_error;
mod shards;
mod split;
mod utf16;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use columns::{Columns, Role};
pub use schema::Schema;
pub use select::DataFiles;
pub use select_error::SelectError;
pub use split::{SplitChoice, SplitKind};

use crate::error::{CellFault, DataError};
use crate::row::Row;
use format::Format;
use schema::Layout;

type Rows = Box<dyn Iterator<Item = Result<Row, DataError>> + Send>;

/// How a path is read: which split of a folder, and which columns have other names than their roles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// The split that is read of a folder with several.
    pub split: SplitChoice,
    /// Columns that are called otherwise.
    pub columns: Columns,
}

/// A file that was opened: its shape, unless it is empty, and its rows.
struct Opened {
    layout: Option<Arc<Layout>>,
    rows: Rows,
}

/// What is looked for in a file.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    columns: &'a Columns,
    /// Whether every row has to say its task.
    task: bool,
}

/// The rows of a data set, in file order.
///
/// Errors about single cells and lines ([`DataError::Cell`], [`DataError::Json`]) do not end the iteration, so
/// that a validator can list them all; any other error does.
///
/// Accepted columns (the shape is found by itself; [`Columns`] says which column has a role under another name):
/// - `prompt_ids`, `chosen_ids`, `rejected_ids`: lists of any integer type. They win over text.
/// - `prompt`, `chosen`, `rejected`: any Arrow string type, also as a dictionary.
/// - `chosen`, `rejected`, and no other column (of text, lists or objects) that could be the prompt: their shared
///   beginning is the prompt, found as TRL's `extract_prompt` does.
/// - `prompt`, `completion`: fine-tuning rows, unless a column `label` says which of them are bad, in numbers or words.
/// - `verifier`, `gold` besides: how an answer is checked ([`Check`](crate::row::Check)); null in both is no check.
/// - `task` besides, as text or integers: which task a row of a pooled file belongs to
///   ([`only_task`](RowReader::only_task)).
///
/// The columns of JSON Lines are those of all its lines together, found in one pass over the keys when the file is opened:
/// opening a file takes as long as reading it once.
pub struct RowReader {
    files: Vec<File>,
    paths: Vec<PathBuf>,
    split: Option<String>,
    columns: Columns,
    schema: Schema,
    unread: Vec<String>,
    next_file: usize,
    rows: Option<Rows>,
    /// Rows have to say their task; with a name, those of other tasks are passed over.
    need_task: bool,
    only: Option<String>,
    any_row: bool,
    ended: bool,
}

struct File {
    path: Arc<Path>,
    /// What was found when it was opened first; `None` for an empty file.
    layout: Option<Arc<Layout>>,
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
    /// [`open_with`](Self::open_with) the default options: the training split of a folder, every column under the name of
    /// its role.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(path_or_glob: &str) -> Result<Self, DataError> {
        Self::open_with(path_or_glob, &ReadOptions::default())
    }

    /// Opens a file, a folder ([`DataFiles::find`] says which files of it) or a glob (`data/train-*.parquet`).
    ///
    /// Formats go by the ending: `.parquet`; `.jsonl`, `.ndjson`, `.json` (one object per line), also compressed
    /// (`.jsonl.gz`, `.jsonl.zst`); `.arrow`, `.ipc`, `.feather` (IPC file or stream). JSON Lines may be UTF-8 or, with a
    /// byte order mark, UTF-16, and end their lines with line feeds, carriage returns or both. The head of every other
    /// file is read to find its shape.
    ///
    /// # Errors
    /// No such file, unknown ending, unreadable or conversational files, pointers of git-lfs, columns that are missing, of
    /// a wrong type or not told apart, files of different shapes, or nothing but empty files.
    pub fn open_with(path_or_glob: &str, options: &ReadOptions) -> Result<Self, DataError> {
        let DataFiles { files: paths, split } = DataFiles::find(path_or_glob, &options.split)?;
        let wanted = Wanted { columns: &options.columns, task: false };
        let mut schema: Option<(Schema, &Path)> = None;
        let mut files = Vec::with_capacity(paths.len());
        let mut unread: Vec<String> = Vec::new();
        for path in &paths {
            let file = Arc::from(path.as_path());
            let layout = open_file(&file, wanted, None)?.layout;
            for name in layout.iter().flat_map(|layout| &layout.unread) {
                if !unread.contains(name) {
                    unread.push(name.clone());
                }
            }
            match (schema, layout.as_ref().map(|layout| layout.schema)) {
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
            files.push(File { path: file, layout });
        }
        let Some((schema, _)) = schema else {
            return Err(DataError::NoRows { path: paths[0].clone() });
        };
        Ok(Self {
            files,
            paths,
            split,
            columns: options.columns.clone(),
            schema,
            unread,
            next_file: 0,
            rows: None,
            need_task: false,
            only: None,
            any_row: false,
            ended: false,
        })
    }

    /// Only the rows whose column `task` holds `task`. Every row must then have that column, as text or an integer; files
    /// in which none has the wanted value are an error at the end.
    #[must_use]
    pub fn only_task(mut self, task: &str) -> Self {
        self.need_task = true;
        self.only = Some(task.to_owned());
        self
    }

    /// The files, in the order in which they are read.
    pub fn files(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The split of a folder that the files are, if it has splits.
    pub fn split(&self) -> Option<&str> {
        self.split.as_deref()
    }

    /// The shape of the rows.
    pub fn schema(&self) -> Schema {
        self.schema
    }

    /// Columns of text, lists or objects that are not read, other than those that label a row (`id`, `language`, ...): a
    /// system prompt would be lost with them.
    pub fn unread_columns(&self) -> &[String] {
        &self.unread
    }

    /// A column for the task of a row that is of a type that names none: its name, and what it holds.
    pub fn unusable_task(&self) -> Option<(&str, &str)> {
        let mut layouts = self.files.iter().filter_map(|file| file.layout.as_ref());
        let (column, holds) = layouts.find_map(|layout| layout.unusable_task.as_ref())?;
        Some((column, holds))
    }

    /// The column that says the task of a row, if any file has one that can be read.
    pub fn task_column(&self) -> Option<&str> {
        let tasked = self.files.iter().filter_map(|file| file.layout.as_ref()).any(|layout| layout.tasked);
        tasked.then(|| self.columns.name_of(Role::Task).unwrap_or(Role::Task.name()))
    }

    /// The rows of the next file; `None` after the last.
    fn next_rows(&mut self) -> Option<Result<Rows, DataError>> {
        let file = self.files.get(self.next_file)?;
        self.next_file += 1;
        let wanted = Wanted { columns: &self.columns, task: self.need_task };
        // A layout that was found without asking for tasks says nothing about a column `task` that cannot be used.
        let known = file.layout.clone().filter(|layout| layout.tasked || !self.need_task);
        Some(open_file(&file.path, wanted, known).map(|opened| opened.rows))
    }
}

impl Iterator for RowReader {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if let Some(row) = self.rows.as_mut().and_then(Iterator::next) {
                let row = match row {
                    Ok(row) if self.need_task => match (&row.task, &self.only) {
                        (Some(task), Some(only)) if task != only => continue,
                        (Some(_), _) => Ok(row),
                        (None, _) => {
                            let column = self.columns.name_of(Role::Task).unwrap_or(Role::Task.name());
                            let layout = self.files[self.next_file - 1].layout.as_ref();
                            let absent = layout.is_some_and(|layout| !layout.tasked);
                            let fault = if absent { CellFault::NoTaskColumn } else { CellFault::Null };
                            Err(row.fault(column, fault))
                        }
                    },
                    row => row,
                };
                self.any_row = true;
                self.ended = !matches!(&row, Ok(_) | Err(DataError::Cell { .. } | DataError::Json { .. }));
                return Some(row);
            }
            match self.next_rows() {
                Some(Ok(rows)) => self.rows = Some(rows),
                Some(Err(e)) => {
                    self.ended = true;
                    return Some(Err(e));
                }
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
        }
        None
    }
}

/// The values of the column `task`, each once, in the order in which they appear; integers as they are written.
///
/// # Errors
/// As [`RowReader`]; a row without a task.
pub fn task_names(path_or_glob: &str, options: &ReadOptions) -> Result<Vec<String>, DataError> {
    let mut rows = RowReader::open_with(path_or_glob, options)?;
    rows.need_task = true;
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        let Some(task) = row?.task else { continue };
        if !names.contains(&task) {
            names.push(task);
        }
    }
    Ok(names)
}

fn open_file(path: &Arc<Path>, wanted: Wanted<'_>, known: Option<Arc<Layout>>) -> Result<Opened, DataError> {
    let format = format::format_of(path).ok_or_else(|| format::unknown(path))?;
    format::refuse_pointer(path)?;
    match format {
        Format::Parquet => columnar::open_parquet(path, wanted),
        Format::Ipc => columnar::open_ipc(path, wanted),
        Format::JsonLines => jsonl::open_jsonl(path, wanted, known),
    }
}
