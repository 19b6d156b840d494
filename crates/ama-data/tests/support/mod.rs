//! Files of pairs, for the tests of what is read.

// Every test file uses another part of this.
#![allow(dead_code, reason = "shared by several test binaries")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ama_data::{Columns, DataError, ReadOptions, Row, RowContent, RowReader, SplitChoice};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

/// A folder of its own for one test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A Parquet file of pairs, one for each prompt.
    pub(crate) fn parquet(&self, name: &str, prompts: &[&str]) -> PathBuf {
        let path = self.write(name, "");
        let batch = pairs(prompts);
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }

    /// An Arrow stream of pairs, as `datasets` writes them.
    pub(crate) fn stream(&self, name: &str, prompts: &[&str]) -> PathBuf {
        let path = self.write(name, "");
        let batch = pairs(prompts);
        let file = File::create(&path).unwrap();
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(file, &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        path
    }
}

fn pairs(prompts: &[&str]) -> RecordBatch {
    let column = |salt: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(prompts.iter().map(|prompt| format!("{prompt}{salt}"))))
    };
    let columns = [("prompt", column("")), ("chosen", column(" yes")), ("rejected", column(" no"))];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// JSON Lines of pairs, one for each prompt.
pub(crate) fn lines(prompts: &[&str]) -> String {
    let line = |prompt: &&str| {
        format!("{{\"prompt\": \"{prompt}\", \"chosen\": \"{prompt} yes\", \"rejected\": \"{prompt} no\"}}\n")
    };
    prompts.iter().map(line).collect()
}

/// The options that name a split.
pub(crate) fn split(name: &str) -> ReadOptions {
    ReadOptions { split: SplitChoice::Named(name.into()), ..ReadOptions::default() }
}

/// The options that name columns.
pub(crate) fn columns(pairs: &[(&'static str, &'static str)]) -> ReadOptions {
    ReadOptions { columns: Columns::new(pairs.iter().copied()).unwrap(), ..ReadOptions::default() }
}

pub(crate) fn open(path: &Path, options: &ReadOptions) -> Result<RowReader, DataError> {
    RowReader::open_with(path.to_str().unwrap(), options)
}

/// The prompts of all rows.
#[track_caller]
pub(crate) fn prompts(path: &Path, options: &ReadOptions) -> Vec<String> {
    let rows = open(path, options).unwrap_or_else(|error| panic!("{error}"));
    rows.map(|row| prompt(row.unwrap_or_else(|error| panic!("{error}")))).collect()
}

pub(crate) fn prompt(row: Row) -> String {
    match row.content {
        RowContent::Text { prompt, .. } | RowContent::Completion { prompt, .. } => prompt,
        other => panic!("{other:?}"),
    }
}

/// The refusal of a path, or of its first bad row; it says all of `wants`, in one line.
#[track_caller]
pub(crate) fn refused(path: &Path, options: &ReadOptions, wants: &[&str]) -> DataError {
    let error = match open(path, options) {
        Err(error) => error,
        Ok(rows) => rows.filter_map(Result::err).next().expect("a refusal"),
    };
    let text = error.to_string();
    for want in wants {
        assert!(text.contains(want), "no {want:?} in: {text}");
    }
    assert!(!text.contains('\n') && !text.contains("at line"), "{text}");
    error
}
