//! Pooled rows with the column `task`, as Parquet.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringBuilder, UInt32Builder};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::disk;
use crate::error::DataError;
use crate::reader::{ReadOptions, RowReader};
use crate::row::{Row, RowContent};

/// Rows that are held in memory.
const BATCH_ROWS: usize = 4096;

/// Writes the rows of a file, a folder or a glob to a Parquet file, with the name of each row's task in a column `task`:
/// `task(0)` for the first row, and so on. The columns are those that [`RowReader`] reads; others are left behind. The
/// file appears whole or not at all.
///
/// # Errors
/// As [`RowReader`]; the disk refuses.
pub fn write_tasks(
    path_or_glob: &str,
    read: &ReadOptions,
    out: &Path,
    task: impl Fn(usize) -> String,
) -> Result<(), DataError> {
    let file = disk::temporary_beside(out)?;
    write_rows(RowReader::open_with(path_or_glob, read)?, file.as_file(), out, task)?;
    file.as_file().sync_all().map_err(DataError::io(out, "sync"))?;
    disk::persist(file, out)?;
    Ok(())
}

fn write_rows(
    mut rows: RowReader,
    file: &File,
    out: &Path,
    task: impl Fn(usize) -> String,
) -> Result<(), DataError> {
    let cannot = |error: ParquetError| DataError::io(out, "write")(std::io::Error::other(error));
    let zstd = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer: Option<ArrowWriter<&File>> = None;
    let mut written = 0;
    loop {
        let chunk = rows.by_ref().take(BATCH_ROWS).collect::<Result<Vec<Row>, _>>()?;
        if chunk.is_empty() {
            break;
        }
        let batch = batch(&chunk, (written..).map(&task)).map_err(|e| cannot(e.into()))?;
        written += chunk.len();
        let mut open = match writer.take() {
            Some(writer) => writer,
            None => ArrowWriter::try_new(file, batch.schema(), Some(zstd.clone())).map_err(cannot)?,
        };
        open.write(&batch).map_err(cannot)?;
        writer = Some(open);
    }
    writer.map_or(Ok(()), |writer| writer.close().map(|_| ()).map_err(cannot))
}

/// Rows of one shape as columns. `verifier` and `gold` are always there, null in rows that have none.
fn batch(rows: &[Row], tasks: impl Iterator<Item = String>) -> Result<RecordBatch, ArrowError> {
    let text = |of: fn(&Row) -> Option<&str>| -> ArrayRef {
        let mut column = StringBuilder::new();
        rows.iter().for_each(|row| column.append_option(of(row)));
        Arc::new(column.finish())
    };
    let ids = |of: fn(&Row) -> Option<&[u32]>| -> ArrayRef {
        let mut column = ListBuilder::new(UInt32Builder::new());
        rows.iter().for_each(|row| column.append_option(of(row).map(|ids| ids.iter().copied().map(Some))));
        Arc::new(column.finish())
    };
    let mut columns: Vec<(&str, ArrayRef)> = match rows.first().map(|row| &row.content) {
        Some(RowContent::Ids { .. }) => vec![
            ("prompt_ids", ids(|row| ids_of(row, 0))),
            ("chosen_ids", ids(|row| ids_of(row, 1))),
            ("rejected_ids", ids(|row| ids_of(row, 2))),
        ],
        Some(RowContent::Completion { .. }) => {
            vec![("prompt", text(|row| part(row, 0))), ("completion", text(|row| part(row, 1)))]
        }
        _ => vec![
            ("prompt", text(|row| part(row, 0))),
            ("chosen", text(|row| part(row, 1))),
            ("rejected", text(|row| part(row, 2))),
        ],
    };
    columns.push(("verifier", text(|row| row.check.as_ref().map(|check| check.verifier.as_str()))));
    columns.push(("gold", text(|row| row.check.as_ref().map(|check| check.gold.as_str()))));
    let mut names = StringBuilder::new();
    tasks.take(rows.len()).for_each(|task| names.append_value(task));
    columns.push(("task", Arc::new(names.finish())));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
}

/// A text of the row: the prompt, the (chosen) completion, the rejected one.
fn part(row: &Row, at: usize) -> Option<&str> {
    match &row.content {
        RowContent::Text { prompt, chosen, rejected } => {
            [prompt, chosen, rejected].get(at).map(|text| text.as_str())
        }
        RowContent::Completion { prompt, completion } => {
            [prompt, completion].get(at).map(|text| text.as_str())
        }
        RowContent::Ids { .. } => None,
    }
}

/// Token ids of the row: the prompt, the chosen and the rejected completion.
fn ids_of(row: &Row, at: usize) -> Option<&[u32]> {
    match &row.content {
        RowContent::Ids { prompt, chosen, rejected } => {
            [prompt, chosen, rejected].get(at).map(|ids| ids.as_slice())
        }
        _ => None,
    }
}
