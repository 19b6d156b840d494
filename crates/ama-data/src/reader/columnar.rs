//! Opening Parquet and Arrow IPC files: their shape, and their rows batch by batch.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::DataError;
use crate::reader::arrow::{ArrowRows, column_kinds, guard};
use crate::reader::schema::{Column, Layout, detect};
use crate::reader::{Opened, Rows, Wanted};

/// Rows decoded at a time: small, because a row can hold pages of text.
const BATCH_ROWS: usize = 256;

/// Runs a step of opening a file; its error or panic becomes a message.
fn step<T, E: ToString>(
    path: &Path,
    format: &'static str,
    open: impl FnOnce() -> Result<T, E>,
) -> Result<T, DataError> {
    let opened = guard(|| open().map_err(|e| e.to_string())).flatten();
    opened.map_err(|message| DataError::Unreadable { path: path.to_path_buf(), format, row: None, message })
}

/// Opens a Parquet file. Only the columns of its shape are read, a few hundred rows at a time.
pub(crate) fn open_parquet(source: &Arc<Path>, wanted: Wanted<'_>) -> Result<Opened, DataError> {
    let file = File::open(source).map_err(DataError::io(source, "open"))?;
    let builder = step(source, "Parquet", || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let kinds = column_kinds(builder.schema());
    let layout = Arc::new(detect(source, &kinds, wanted.columns, wanted.task)?);
    let mask = ProjectionMask::roots(builder.parquet_schema(), projection(&kinds, &layout));
    let builder = builder.with_batch_size(BATCH_ROWS).with_projection(mask);
    let batches = step(source, "Parquet", || builder.build())?;
    let rows: Rows =
        Box::new(ArrowRows::new(batches, "Parquet", layout.clone(), wanted.task, source.clone()));
    Ok(Opened { layout: Some(layout), rows })
}

/// Opens an Arrow IPC file, or a bare IPC stream (what `datasets` writes under the same ending).
pub(crate) fn open_ipc(source: &Arc<Path>, wanted: Wanted<'_>) -> Result<Opened, DataError> {
    let open = || File::open(source).map(BufReader::new).map_err(DataError::io(source, "open"));
    let mut magic = Vec::new();
    open()?.take(6).read_to_end(&mut magic).map_err(DataError::io(source, "read"))?;
    let is_file = magic == *b"ARROW1";
    let file = open()?;
    let schema = step(source, "Arrow IPC", || match is_file {
        true => FileReader::try_new(file, None).map(|reader| reader.schema()),
        false => StreamReader::try_new(file, None).map(|reader| reader.schema()),
    })?;
    let kinds = column_kinds(&schema);
    let layout = Arc::new(detect(source, &kinds, wanted.columns, wanted.task)?);
    let columns = Some(projection(&kinds, &layout));
    let (shape, task) = (layout.clone(), wanted.task);
    let file = open()?;
    let rows: Rows = if is_file {
        let batches = step(source, "Arrow IPC", || FileReader::try_new(file, columns))?;
        Box::new(ArrowRows::new(batches, "Arrow IPC", shape, task, source.clone()))
    } else {
        let batches = step(source, "Arrow IPC", || StreamReader::try_new(file, columns))?;
        Box::new(ArrowRows::new(batches, "Arrow IPC", shape, task, source.clone()))
    };
    Ok(Opened { layout: Some(layout), rows })
}

/// Indices of the columns of a shape, in file order.
fn projection(columns: &[Column], layout: &Layout) -> Vec<usize> {
    (0..columns.len()).filter(|&i| layout.names().any(|name| name == columns[i].name)).collect()
}
