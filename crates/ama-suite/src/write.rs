//! The suite's folder on disk.
//!
//! ```text
//! train/{helpful,harmless,reasoning}.parquet    prompt, chosen, rejected, verifier, gold, task, context
//! valid/...  test/...                           the same
//! sft.parquet                                   prompt, completion
//! base/{config,tokenizer,tokenizer_config,special_tokens_map}.json    the base model's folder, without weights
//! suite.json                                    generator, seed, sizes
//! ```
//!
//! All columns are strings without nulls. The bytes depend on the suite and on the versions of the Parquet and zstd
//! libraries (`Cargo.lock`), on nothing else: no time, no host, no thread count.

use crate::error::SuiteError;
use crate::splits::Suite;
use crate::task::{Example, Pair, Task};
use crate::tokenizer::{base_config_json, special_tokens_map_json, tokenizer_config_json, tokenizer_json};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name and version of the generator. Suites of the same generator, seed and sizes are equal.
pub const GENERATOR: &str = "ama-suite 1";

/// Writes a suite into `dir`, which must not exist or be empty.
///
/// The folder appears whole or not at all: it is written under a temporary name beside `dir`, synced and renamed.
///
/// # Errors
/// [`SuiteError::Exists`], [`SuiteError::Io`], [`SuiteError::Parquet`].
pub fn write(suite: &Suite, dir: &Path) -> Result<(), SuiteError> {
    if occupied(dir)? {
        return Err(SuiteError::Exists { path: dir.to_owned() });
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(io_error("create", parent))?;
    // Removed again on every early return. The name says whose it is, should the process be killed.
    let folder = tempfile::Builder::new()
        .prefix(&format!(".{}.ama-", dir.file_name().unwrap_or_default().to_string_lossy()))
        .suffix(".tmp")
        .tempdir_in(parent)
        .map_err(io_error("create a folder in", parent))?;
    for (path, bytes) in files(suite)? {
        write_file(&folder.path().join(path), &bytes)?;
    }
    for sub in ["train", "valid", "test", "base", ""] {
        sync_folder(&folder.path().join(sub))?;
    }
    publish(folder, dir)?;
    sync_folder(parent)
}

/// The files of a suite, by path relative to its folder.
fn files(suite: &Suite) -> Result<Vec<(PathBuf, Vec<u8>)>, SuiteError> {
    let mut files = Vec::new();
    for splits in &suite.tasks {
        for (split, pairs) in [("train", &splits.train), ("valid", &splits.valid), ("test", &splits.test)] {
            let path = Path::new(split).join(format!("{}.parquet", splits.task));
            let bytes = pairs_parquet(splits.task, pairs).map_err(parquet_error(&path))?;
            files.push((path, bytes));
        }
    }
    let path = PathBuf::from("sft.parquet");
    let bytes = corpus_parquet(&suite.sft).map_err(parquet_error(&path))?;
    files.push((path, bytes));
    for (path, text) in [
        ("base/config.json", base_config_json()),
        ("base/tokenizer.json", tokenizer_json()),
        ("base/tokenizer_config.json", tokenizer_config_json()),
        ("base/special_tokens_map.json", special_tokens_map_json()),
        ("suite.json", suite_json(suite)),
    ] {
        files.push((PathBuf::from(path), text.into_bytes()));
    }
    Ok(files)
}

fn pairs_parquet(task: Task, pairs: &[Pair]) -> Result<Vec<u8>, ParquetError> {
    let column = |text: fn(&Pair) -> &str| StringArray::from_iter_values(pairs.iter().map(text));
    parquet_bytes([
        ("prompt", column(|pair| &pair.prompt)),
        ("chosen", column(|pair| &pair.chosen)),
        ("rejected", column(|pair| &pair.rejected)),
        ("verifier", column(|pair| pair.verifier.name())),
        ("gold", column(|pair| &pair.gold)),
        ("task", StringArray::from_iter_values(pairs.iter().map(|_| task.name()))),
        ("context", column(|pair| &pair.context)),
    ])
}

fn corpus_parquet(examples: &[Example]) -> Result<Vec<u8>, ParquetError> {
    let column = |text: fn(&Example) -> &str| StringArray::from_iter_values(examples.iter().map(text));
    parquet_bytes([
        ("prompt", column(|example| &example.prompt)),
        ("completion", column(|example| &example.completion)),
    ])
}

/// One row group with one page a column, so that zstd sees as much as it can.
fn parquet_bytes<const N: usize>(columns: [(&str, StringArray); N]) -> Result<Vec<u8>, ParquetError> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let mut properties = WriterProperties::builder()
        .set_created_by(GENERATOR.to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(19)?))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(1 << 17))
        .set_data_page_row_count_limit(1 << 17)
        .set_data_page_size_limit(1 << 24)
        .set_dictionary_enabled(false);
    for column in ["verifier", "task", "context"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), true);
    }
    let options =
        ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let arrays = columns.into_iter().map(|(_, column)| Arc::new(column) as ArrayRef).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, schema, options)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

/// `suite.json`.
#[derive(Serialize)]
struct SuiteFile {
    generator: &'static str,
    seed: u64,
    train: PerTask,
    valid: PerTask,
    test: PerTask,
    sft: usize,
}

#[derive(Serialize)]
struct PerTask {
    helpful: usize,
    harmless: usize,
    reasoning: usize,
}

fn suite_json(suite: &Suite) -> String {
    let count = |pairs: fn(&crate::TaskSplits) -> &Vec<Pair>| {
        let [helpful, harmless, reasoning] = Task::ALL.map(|task| pairs(suite.task(task)).len());
        PerTask { helpful, harmless, reasoning }
    };
    let file = SuiteFile {
        generator: GENERATOR,
        seed: suite.seed,
        train: count(|splits| &splits.train),
        valid: count(|splits| &splits.valid),
        test: count(|splits| &splits.test),
        sft: suite.sft.len(),
    };
    let mut text =
        serde_json::to_string_pretty(&file).expect("a struct of numbers and a name always serialises");
    text.push('\n');
    text
}

/// Whether there is something at `dir` that must not be replaced.
fn occupied(dir: &Path) -> Result<bool, SuiteError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(true),
        Err(error) => Err(io_error("read", dir)(error)),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SuiteError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io_error("create", parent))?;
    }
    let mut file = File::create_new(path).map_err(io_error("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", path))
}

/// Gives the finished folder its name.
fn publish(folder: tempfile::TempDir, dir: &Path) -> Result<(), SuiteError> {
    // An empty folder in the way; not every system renames over one.
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("replace", dir)(error)),
        _ => {}
    }
    // A temporary folder is private to its owner; the suite is not.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .map_err(io_error("open up", dir))?;
    }
    fs::rename(folder.path(), dir).map_err(io_error("create", dir))?;
    // Its path is gone; there is nothing left to remove.
    let _ = folder.keep();
    Ok(())
}

/// Makes the names in a folder durable. Only Unix can open a folder as a file.
fn sync_folder(dir: &Path) -> Result<(), SuiteError> {
    if cfg!(unix) {
        File::open(dir).and_then(|folder| folder.sync_all()).map_err(io_error("sync", dir))?;
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SuiteError {
    let path = path.to_owned();
    move |source| SuiteError::Io { action, path, source }
}

fn parquet_error(path: &Path) -> impl FnOnce(ParquetError) -> SuiteError {
    let path = path.to_owned();
    move |source| SuiteError::Parquet { path, source }
}
