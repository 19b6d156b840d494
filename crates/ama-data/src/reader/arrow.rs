//! Rows from Arrow record batches, whichever file they come from.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeStringArray, RecordBatch, StringArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Int8Type, Int16Type, Int32Type, Int64Type, Schema as ArrowSchema, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use crate::error::{CellFault, DataError};
use crate::reader::cells::{Cells, assemble, token_id};
use crate::reader::schema::{Column as FoundColumn, ColumnKind, Layout};
use crate::row::Row;

/// Names and kinds of a file's columns.
pub(crate) fn column_kinds(schema: &ArrowSchema) -> Vec<FoundColumn> {
    let column = |field: &Arc<Field>| FoundColumn {
        name: field.name().clone(),
        kind: column_kind(field.data_type()),
        first_nested: None,
    };
    schema.fields().iter().map(column).collect()
}

fn column_kind(data_type: &DataType) -> ColumnKind {
    match data_type {
        DataType::Null => ColumnKind::Unknown,
        DataType::Boolean => ColumnKind::Boolean,
        integer if integer.is_integer() => ColumnKind::Integer(integer.to_string()),
        number if number.is_numeric() => ColumnKind::Number(number.to_string()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnKind::Text,
        DataType::Dictionary(_, value) if column_kind(value) == ColumnKind::Text => ColumnKind::Text,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => match item.data_type() {
            DataType::Null => ColumnKind::Unknown,
            item if item.is_integer() => ColumnKind::Ids,
            item if is_message(item) => ColumnKind::Messages,
            // Embeddings, scores, times.
            item if item.is_primitive() || *item == DataType::Boolean => {
                ColumnKind::Other(data_type.to_string())
            }
            _ => ColumnKind::Nested(data_type.to_string()),
        },
        message if is_message(message) => ColumnKind::Messages,
        other if other.is_nested() || other.is_binary() => ColumnKind::Nested(other.to_string()),
        other => ColumnKind::Other(other.to_string()),
    }
}

fn is_message(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Struct(fields)
        if fields.iter().any(|field| ["role", "from"].contains(&field.name().as_str())))
}

/// The rows of a stream of record batches.
pub(crate) struct ArrowRows<B> {
    pub(crate) batches: B,
    pub(crate) format: &'static str,
    pub(crate) layout: Arc<Layout>,
    pub(crate) need_task: bool,
    pub(crate) source: Arc<Path>,
    /// The batch that is being read and the next row in it.
    batch: Option<(Batch, usize)>,
    /// Rows given so far.
    row: u64,
}

impl<B> ArrowRows<B> {
    pub(crate) fn new(
        batches: B,
        format: &'static str,
        layout: Arc<Layout>,
        need_task: bool,
        source: Arc<Path>,
    ) -> Self {
        Self { batches, format, layout, need_task, source, batch: None, row: 0 }
    }
}

impl<B: Iterator<Item = Result<RecordBatch, ArrowError>>> Iterator for ArrowRows<B> {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((batch, at)) = &mut self.batch
                && *at < batch.rows
            {
                let cells = BatchRow { batch, at: *at };
                *at += 1;
                self.row += 1;
                return Some(assemble(&cells, &self.layout, self.need_task, &self.source, self.row));
            }
            let next = guard(|| {
                self.batches.next().map(|next| {
                    next.map_err(|e| e.to_string()).and_then(|batch| Batch::new(&batch, &self.layout))
                })
            });
            match next.transpose()?.flatten() {
                Ok(batch) => self.batch = Some((batch, 0)),
                Err(message) => {
                    return Some(Err(DataError::Unreadable {
                        path: self.source.to_path_buf(),
                        format: self.format,
                        row: Some(self.row),
                        message,
                    }));
                }
            }
        }
    }
}

/// Runs a decoder. Those of Parquet and Arrow panic on some damaged files (an overflow, an index out of bounds);
/// that is the file's fault, not the program's, and becomes a message. The decoder is not used again after that.
pub(crate) fn guard<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        format!("the decoder gave up: {message}")
    })
}

/// The columns of a batch that matter, each made easy to index.
struct Batch {
    rows: usize,
    columns: Vec<Column>,
}

enum Column {
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
    Other(ArrayRef),
}

impl Batch {
    fn new(batch: &RecordBatch, layout: &Layout) -> Result<Self, String> {
        let columns = layout.names().map(|name| {
            let array =
                batch.column_by_name(name).ok_or_else(|| format!("a batch without column `{name}`"))?;
            Ok(match array.data_type() {
                DataType::Utf8 => Column::Utf8(array.as_string().clone()),
                DataType::LargeUtf8 => Column::LargeUtf8(array.as_string().clone()),
                DataType::Utf8View => Column::Utf8View(array.as_string_view().clone()),
                DataType::Dictionary(..) => {
                    let text = cast(array, &DataType::LargeUtf8).map_err(|e| e.to_string())?;
                    Column::LargeUtf8(text.as_string().clone())
                }
                _ => Column::Other(array.clone()),
            })
        });
        Ok(Self { rows: batch.num_rows(), columns: columns.collect::<Result<_, String>>()? })
    }
}

struct BatchRow<'a> {
    batch: &'a Batch,
    at: usize,
}

impl Cells for BatchRow<'_> {
    fn text(&self, column: usize) -> Result<Option<String>, CellFault> {
        let at = self.at;
        let text = match &self.batch.columns[column] {
            Column::Utf8(array) => array.is_valid(at).then(|| array.value(at)),
            Column::LargeUtf8(array) => array.is_valid(at).then(|| array.value(at)),
            Column::Utf8View(array) => array.is_valid(at).then(|| array.value(at)),
            Column::Other(array) if array.is_null(at) || *array.data_type() == DataType::Null => None,
            Column::Other(array) => {
                return Err(CellFault::Type { want: "text", got: array.data_type().to_string() });
            }
        };
        Ok(text.map(str::to_owned))
    }

    fn task(&self, column: usize) -> Result<Option<String>, CellFault> {
        match &self.batch.columns[column] {
            Column::Other(array) if array.data_type().is_integer() => {
                let at = array.slice(self.at, 1);
                let text = cast(&at, &DataType::Utf8)
                    .map_err(|e| CellFault::Type { want: "text or an integer", got: e.to_string() })?;
                let text = text.as_string::<i32>();
                Ok(text.is_valid(0).then(|| text.value(0).to_owned()))
            }
            _ => self.text(column),
        }
    }

    fn ids(&self, column: usize) -> Result<Option<Vec<u32>>, CellFault> {
        let wrong = |got: String| CellFault::Type { want: "a list of integers", got };
        let array = match &self.batch.columns[column] {
            Column::Other(array) => array,
            _ => return Err(wrong("text".into())),
        };
        if array.is_null(self.at) {
            return Ok(None);
        }
        let items = match array.data_type() {
            DataType::Null => return Ok(None),
            DataType::List(_) => array.as_list::<i32>().value(self.at),
            DataType::LargeList(_) => array.as_list::<i64>().value(self.at),
            DataType::FixedSizeList(..) => array.as_fixed_size_list().value(self.at),
            DataType::ListView(_) => array.as_list_view::<i32>().value(self.at),
            DataType::LargeListView(_) => array.as_list_view::<i64>().value(self.at),
            other => return Err(wrong(other.to_string())),
        };
        if items.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if items.null_count() > 0 || *items.data_type() == DataType::Null {
            return Err(wrong("a list with a null in it".into()));
        }
        macro_rules! integers {
            ($($variant:ident => $native:ident),*) => {
                match items.data_type() {
                    $(DataType::$variant => {
                        items.as_primitive::<$native>().values().iter().map(|&id| token_id(id)).collect()
                    })*
                    other => Err(wrong(format!("a list of {other}"))),
                }
            };
        }
        let ids: Result<Vec<u32>, CellFault> = integers!(
            Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
            UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type
        );
        ids.map(Some)
    }
}
