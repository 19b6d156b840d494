//! Rows from JSON Lines: one object per line, the same columns as in Parquet.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{CellFault, DataError};
use crate::reader::cells::{Cells, assemble, token_id};
use crate::reader::schema::{ColumnKind, Layout, detect};
use crate::reader::{Opened, Rows};
use crate::row::Row;

/// Opens a JSON Lines file. Its shape is that of its first line; a file of blank lines has none.
pub(crate) fn open_jsonl(source: &Arc<Path>) -> Result<Opened, DataError> {
    let mut lines = Lines::open(source)?;
    let Some(first) = lines.next().transpose()? else {
        return Ok(Opened { schema: None, rows: Box::new(std::iter::empty()) });
    };
    let kinds: Vec<_> = first.1.iter().map(|(name, value)| (name.clone(), column_kind(value))).collect();
    // Later lines may hold columns that the first one lacks: `verifier`, `gold` and `task` are looked for in each.
    let layout = Layout { checked: true, tasked: true, ..detect(source, &kinds)? };
    let source = source.clone();
    let rows: Rows =
        Box::new(std::iter::once(Ok(first)).chain(lines).map(move |line| -> Result<Row, DataError> {
            let (number, object) = line?;
            assemble(&Object { object: &object, columns: layout.columns() }, layout, &source, number)
        }));
    Ok(Opened { schema: Some(layout.schema), rows })
}

fn column_kind(value: &Value) -> ColumnKind {
    match value {
        Value::Null => ColumnKind::Unknown,
        Value::String(_) => ColumnKind::Text,
        Value::Array(items) => match items.first() {
            None => ColumnKind::Unknown,
            Some(Value::Number(_)) => ColumnKind::Ids,
            Some(Value::Object(item)) if item.contains_key("role") || item.contains_key("from") => {
                ColumnKind::Messages
            }
            Some(other) => ColumnKind::Other(format!("a list of {}", kind_name(other))),
        },
        other => ColumnKind::Other(kind_name(other).into()),
    }
}

fn kind_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The objects of a file with their 1-based line numbers. Blank lines are skipped, but counted.
struct Lines {
    source: Arc<Path>,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn open(source: &Arc<Path>) -> Result<Self, DataError> {
        let file = File::open(source).map_err(DataError::io(source, "open"))?;
        Ok(Self { source: source.clone(), reader: BufReader::new(file), line: Vec::new(), number: 0 })
    }
}

impl Iterator for Lines {
    type Item = Result<(u64, Map<String, Value>), DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.line.clear();
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) => return None,
                Ok(_) => self.number += 1,
                Err(e) => return Some(Err(DataError::io(&self.source, "read")(e))),
            }
            let mut text = self.line.trim_ascii();
            if self.number == 1 {
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii();
            }
            if text.is_empty() {
                continue;
            }
            let refuse = |message: String| {
                Err(DataError::Json { path: self.source.to_path_buf(), row: self.number, message })
            };
            return Some(match serde_json::from_slice(text) {
                Ok(Value::Object(object)) => Ok((self.number, object)),
                Ok(other) => refuse(format!("{} instead of an object", kind_name(&other))),
                Err(_) if text == b"[" || text == b"{" => {
                    refuse("one JSON document over several lines".into())
                }
                Err(e) => refuse(e.to_string()),
            });
        }
    }
}

struct Object<'a> {
    object: &'a Map<String, Value>,
    columns: Vec<&'static str>,
}

impl Cells for Object<'_> {
    fn text(&self, column: usize) -> Result<Option<String>, CellFault> {
        match self.object.get(self.columns[column]) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(CellFault::Type { want: "text", got: kind_name(other).into() }),
        }
    }

    fn ids(&self, column: usize) -> Result<Option<Vec<u32>>, CellFault> {
        let wrong = |got: String| CellFault::Type { want: "a list of integers", got };
        let items = match self.object.get(self.columns[column]) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong(kind_name(other).into())),
        };
        let ids: Result<Vec<u32>, CellFault> = items
            .iter()
            .map(|item| match (item.as_u64(), item.as_i64()) {
                (Some(id), _) => token_id(id),
                (None, Some(id)) => token_id(id),
                (None, None) => Err(wrong(format!("a list with {} in it", number_name(item)))),
            })
            .collect();
        ids.map(Some)
    }
}

fn number_name(item: &Value) -> String {
    if item.is_number() { item.to_string() } else { kind_name(item).into() }
}
