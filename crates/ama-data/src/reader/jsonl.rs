//! Rows from JSON Lines: one object per line, the same columns as in Parquet.
//!
//! Columns are the union over all lines: a key that the first line lacks is a column all the same. They are found by one
//! pass over the file when it is opened, which looks at keys and at the first character of values and keeps nothing of
//! the rows; a second pass reads the rows. Each pass streams.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::error::{CellFault, DataError};
use crate::reader::cells::{Cells, assemble, token_id};
use crate::reader::json::{Object, Unusable};
use crate::reader::lines::Lines;
use crate::reader::schema::{Column, ColumnKind, Layout, detect};
use crate::reader::{Opened, Rows, Wanted};
use crate::row::Row;

/// Opens a JSON Lines file and finds its columns, or takes them from `known` where they have been found before. A file
/// of blank lines has none.
pub(crate) fn open_jsonl(
    source: &Arc<Path>,
    wanted: Wanted<'_>,
    known: Option<Arc<Layout>>,
) -> Result<Opened, DataError> {
    let layout = match known {
        Some(layout) => layout,
        None => match find_columns(source)? {
            Some(columns) => Arc::new(detect(source, &columns, wanted.columns, wanted.task)?),
            None => return Ok(Opened { layout: None, rows: Box::new(std::iter::empty()) }),
        },
    };
    let (mut lines, shape, source) = (Lines::open(source)?, layout.clone(), source.clone());
    let need_task = wanted.task;
    let rows: Rows = Box::new(std::iter::from_fn(move || match lines.advance() {
        Ok(true) => Some(read_row(&lines, &shape, need_task, &source)),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    }));
    Ok(Opened { layout: Some(layout), rows })
}

fn read_row(lines: &Lines, layout: &Layout, need_task: bool, source: &Arc<Path>) -> Result<Row, DataError> {
    let object = Object::parse(lines.text()?).map_err(|message| bad_line(source, lines, message))?;
    assemble(&Line { object, layout }, layout, need_task, source, lines.row())
}

fn bad_line(source: &Path, lines: &Lines, message: String) -> DataError {
    DataError::Json { path: source.to_path_buf(), row: lines.row(), line: lines.line(), message }
}

/// The columns of a file, in the order in which they first come. Lines that are no objects are left to the reading of the
/// rows, unless there are no others. `None` for a file of blank lines.
fn find_columns(source: &Arc<Path>) -> Result<Option<Vec<Column>>, DataError> {
    let mut lines = Lines::open(source)?;
    if lines.first_byte()? == Some(b'[') {
        return Err(DataError::JsonArray { path: source.to_path_buf(), encoding: lines.encoding() });
    }
    let mut columns: Vec<Column> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let (mut any_object, mut first_error) = (false, None);
    while lines.advance()? {
        let text = lines.text()?;
        let object = match Object::parse(text) {
            Ok(object) => object,
            Err(_) if text == "{" => {
                return Err(bad_line(source, &lines, "one JSON document over several lines".into()));
            }
            Err(message) => {
                first_error.get_or_insert_with(|| bad_line(source, &lines, message));
                continue;
            }
        };
        any_object = true;
        for (key, value) in object.fields() {
            let column = match places.get(key) {
                Some(&at) => &mut columns[at],
                None if columns.len() == MAX_COLUMNS => {
                    let path = source.to_path_buf();
                    return Err(DataError::TooManyColumns { path, row: lines.row(), most: MAX_COLUMNS });
                }
                None => {
                    places.insert(key.to_owned(), columns.len());
                    columns.push(Column {
                        name: key.to_owned(),
                        kind: ColumnKind::Unknown,
                        first_nested: None,
                    });
                    let last = columns.len() - 1;
                    &mut columns[last]
                }
            };
            if column.first_nested.is_none() && value.starts_with(['[', '{']) {
                column.first_nested = Some(lines.row());
            }
            column.kind.join(|| kind_of(value));
        }
    }
    match (any_object, first_error) {
        (false, Some(error)) => Err(error),
        (false, None) => Ok(None),
        (true, _) => Ok(Some(columns)),
    }
}

/// Most different keys of a file: what a file of free-form objects may take of memory.
const MAX_COLUMNS: usize = 10_000;

/// What a value says about its column.
fn kind_of(value: &str) -> ColumnKind {
    let list = value.strip_prefix('[').map(str::trim_start);
    match (value.as_bytes().first(), list) {
        (Some(b'n') | None, _) => ColumnKind::Unknown,
        (Some(b'"'), _) => ColumnKind::Text,
        (Some(b't' | b'f'), _) => ColumnKind::Boolean,
        (Some(b'{'), _) if is_message(value) => ColumnKind::Messages,
        (Some(b'{'), _) => ColumnKind::Nested("an object".into()),
        (_, Some(items)) => match items.as_bytes().first() {
            Some(b']' | b'n') | None => ColumnKind::Unknown,
            Some(b'-' | b'0'..=b'9') => match items.split([',', ']']).next() {
                Some(first) if first.contains(['.', 'e', 'E']) => {
                    ColumnKind::Other("a list of numbers".into())
                }
                _ => ColumnKind::Ids,
            },
            Some(b'{') if is_message(items) => ColumnKind::Messages,
            Some(b'{') => ColumnKind::Nested("a list of objects".into()),
            Some(b'"') => ColumnKind::Nested("a list of text".into()),
            Some(b'[') => ColumnKind::Nested("a list of lists".into()),
            Some(_) => ColumnKind::Other("a list of booleans".into()),
        },
        _ if value.contains(['.', 'e', 'E']) => ColumnKind::Number("a number".into()),
        _ => ColumnKind::Integer("a number".into()),
    }
}

/// Whether the text begins with an object that has a key `role` or `from`.
fn is_message(text: &str) -> bool {
    Object::first_of(text).is_some_and(|object| {
        let mut keys = object.fields().map(|(key, _)| key);
        keys.any(|key| key == "role" || key == "from")
    })
}

fn kind_name(value: &Value) -> &'static str {
    let is_message = |value: &Value| value.get("role").is_some() || value.get("from").is_some();
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(items) if items.first().is_some_and(is_message) => {
            "a conversation (a list of role and content)"
        }
        Value::Array(_) => "a list",
        message if is_message(message) => "a message (an object of role and content)",
        Value::Object(_) => "an object",
    }
}

/// A line whose cells are looked up by the names of the columns that are read.
struct Line<'a> {
    object: Object<'a>,
    layout: &'a Layout,
}

impl Line<'_> {
    /// The value of a column; null is none.
    fn value(&self, column: usize, want: &'static str) -> Result<Option<Value>, CellFault> {
        match self.object.get(self.layout.name(column)) {
            Ok(value) => Ok(value.filter(|value| !value.is_null())),
            Err(Unusable::Twice) => Err(CellFault::KeyTwice),
            Err(Unusable::LoneSurrogate) => Err(CellFault::LoneSurrogate),
            Err(Unusable::OutOfRange) => {
                Err(CellFault::Type { want, got: "NaN, an infinity or a number out of range".into() })
            }
            Err(Unusable::TooDeep) => Err(CellFault::Type { want, got: "lists within lists".into() }),
        }
    }
}

impl Cells for Line<'_> {
    fn text(&self, column: usize) -> Result<Option<String>, CellFault> {
        match self.value(column, "text")? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(CellFault::Type { want: "text", got: kind_name(&other).into() }),
        }
    }

    fn task(&self, column: usize) -> Result<Option<String>, CellFault> {
        let want = "text or an integer";
        match self.value(column, want)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
            Some(other) => Err(CellFault::Type { want, got: number_name(&other) }),
        }
    }

    fn ids(&self, column: usize) -> Result<Option<Vec<u32>>, CellFault> {
        let want = "a list of integers";
        let wrong = |got: String| CellFault::Type { want, got };
        let items = match self.value(column, want)? {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong(kind_name(&other).into())),
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
