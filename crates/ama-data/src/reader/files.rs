//! Opening Parquet and Arrow IPC files: their shape, and their rows batch by batch.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::DataError;
use crate::reader::arrow::{ArrowRows, column_kinds};
use crate::reader::schema::{Layout, detect};
use crate::reader::{Opened, Rows};

/// Rows decoded at a time: small, because a row can hold pages of text.
const BATCH_ROWS: usize = 256;

fn unreadable(path: &Path, format: &'static str, message: impl ToString) -> DataError {
    DataError::Unreadable { path: path.to_path_buf(), format, row: None, message: message.to_string() }
}

/// Opens a Parquet file. Only the columns of its shape are read, a few hundred rows at a time.
pub(crate) fn open_parquet(source: &Arc<Path>) -> Result<Opened, DataError> {
    let file = File::open(source).map_err(DataError::io(source, "open"))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(source, "Parquet", e))?;
    let kinds = column_kinds(builder.schema());
    let layout = detect(source, &kinds)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), projection(&kinds, layout));
    let batches = builder
        .with_batch_size(BATCH_ROWS)
        .with_projection(mask)
        .build()
        .map_err(|e| unreadable(source, "Parquet", e))?;
    let rows: Rows = Box::new(ArrowRows::new(batches, "Parquet", layout, source.clone()));
    Ok(Opened { schema: Some(layout.schema), rows })
}

/// Opens an Arrow IPC file, or a bare IPC stream (what `datasets` writes under the same ending).
pub(crate) fn open_ipc(source: &Arc<Path>) -> Result<Opened, DataError> {
    let refuse = |e: ArrowError| unreadable(source, "Arrow IPC", e);
    let open = || File::open(source).map_err(DataError::io(source, "open"));
    let mut file = open()?;
    let mut magic = Vec::new();
    (&mut file).take(6).read_to_end(&mut magic).map_err(DataError::io(source, "read"))?;
    file.seek(SeekFrom::Start(0)).map_err(DataError::io(source, "read"))?;
    if magic == *b"ARROW1" {
        let reader = FileReader::try_new(BufReader::new(file), None).map_err(refuse)?;
        let kinds = column_kinds(&reader.schema());
        let layout = detect(source, &kinds)?;
        let batches =
            FileReader::try_new(BufReader::new(open()?), Some(projection(&kinds, layout))).map_err(refuse)?;
        let rows: Rows = Box::new(ArrowRows::new(batches, "Arrow IPC", layout, source.clone()));
        return Ok(Opened { schema: Some(layout.schema), rows });
    }
    let reader = StreamReader::try_new(BufReader::new(file), None).map_err(refuse)?;
    let kinds = column_kinds(&reader.schema());
    let layout = detect(source, &kinds)?;
    let batches =
        StreamReader::try_new(BufReader::new(open()?), Some(projection(&kinds, layout))).map_err(refuse)?;
    let rows: Rows = Box::new(ArrowRows::new(batches, "Arrow IPC", layout, source.clone()));
    Ok(Opened { schema: Some(layout.schema), rows })
}

/// Indices of the columns of a shape, in file order.
fn projection<K>(columns: &[(String, K)], layout: Layout) -> Vec<usize> {
    let wanted = layout.columns();
    (0..columns.len()).filter(|&i| wanted.contains(&columns[i].0.as_str())).collect()
}
