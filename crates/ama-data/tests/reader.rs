//! Every column type and format that is read, and what is said about files that cannot be.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ama_data::{CellFault, Check, DataError, PairId, ReadOptions, Row, RowContent, RowReader, Schema};
use arrow::array::{
    ArrayRef, DictionaryArray, FixedSizeListArray, Int8Array, LargeListArray, LargeStringArray, ListArray,
    NullArray, RecordBatch, StringArray, StringViewArray, StructArray, UInt16Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, UInt8Type, UInt32Type, UInt64Type};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

const TEXTS: [[&str; 3]; 3] = [["p1", "c1", "r1"], ["pß 2", " c2", "\nr2"], ["p1", "c3", "r3"]];

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, array)| (*name, array.clone(), true)))
        .unwrap()
}

fn texts(column: usize) -> StringArray {
    StringArray::from_iter_values(TEXTS.iter().map(|row| row[column]))
}

/// The pairs of [`TEXTS`].
fn table() -> RecordBatch {
    batch(&[("prompt", Arc::new(texts(0))), ("chosen", Arc::new(texts(1))), ("rejected", Arc::new(texts(2)))])
}

fn write_parquet(path: &Path, batch: &RecordBatch) {
    // Row groups of 2 rows, so that the rows cross one.
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn write_ipc(path: &Path, batch: &RecordBatch, stream: bool) {
    let file = File::create(path).unwrap();
    if stream {
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(file, &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
    } else {
        let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.file(name), text).unwrap();
        self.file(name)
    }

    /// The batch in all formats.
    fn all(&self, batch: &RecordBatch) -> Vec<PathBuf> {
        let files = ["a.parquet", "a.arrow", "stream.arrow"].map(|name| self.file(name));
        write_parquet(&files[0], batch);
        write_ipc(&files[1], batch, false);
        write_ipc(&files[2], batch, true);
        files.to_vec()
    }
}

fn open(path: &Path) -> Result<RowReader, DataError> {
    RowReader::open(path.to_str().unwrap())
}

fn read(path: &Path) -> Vec<Row> {
    open(path).unwrap().map(Result::unwrap).collect()
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> RowContent {
    RowContent::Text { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() }
}

#[track_caller]
fn check_texts(rows: &[Row]) {
    assert_eq!(rows.len(), TEXTS.len());
    for (i, (row, want)) in rows.iter().zip(TEXTS).enumerate() {
        assert_eq!(row.content, pair(want[0], want[1], want[2]));
        assert_eq!(row.row, i as u64 + 1);
    }
}

/// The error of a file that cannot be opened, or of its first bad row; its text names all of `parts`.
#[track_caller]
fn check_error(path: &Path, parts: &[&str]) -> DataError {
    let error = match open(path) {
        Err(e) => e,
        Ok(rows) => rows.filter_map(Result::err).next().expect("an error"),
    };
    let text = error.to_string();
    for part in parts.iter().chain(&[path.file_name().unwrap().to_str().unwrap()]) {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    error
}

#[test]
fn every_string_type() {
    let types = [
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
        DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::LargeUtf8)),
    ];
    for data_type in types {
        let folder = Folder::new();
        let columns = ["prompt", "chosen", "rejected"].map(|name| (name, ()));
        let columns: Vec<(&str, ArrayRef)> = (0..)
            .zip(columns)
            .map(|(i, (name, ()))| (name, cast(&texts(i), &data_type).unwrap()))
            .chain([("extra", Arc::new(UInt16Array::from(vec![1, 2, 3])) as ArrayRef)])
            .collect();
        for file in folder.all(&batch(&columns)) {
            let reader = open(&file).unwrap();
            assert_eq!((reader.schema(), reader.files()), (Schema::TextPairs, &[file.clone()][..]));
            check_texts(&read(&file));
        }
    }
    // A dictionary with more than one key column type, and mixed string types in one file.
    let folder = Folder::new();
    let dictionary: DictionaryArray<Int32Type> = TEXTS.iter().map(|row| Some(row[0])).collect();
    let mixed = batch(&[
        ("prompt", Arc::new(dictionary)),
        ("chosen", Arc::new(LargeStringArray::from_iter_values(TEXTS.iter().map(|row| row[1])))),
        ("rejected", Arc::new(StringViewArray::from_iter_values(TEXTS.iter().map(|row| row[2])))),
    ]);
    for file in folder.all(&mixed) {
        check_texts(&read(&file));
    }
}

#[test]
fn every_list_of_integers_and_ids_win_over_text() {
    let prompt = ListArray::from_iter_primitive::<UInt8Type, _, _>([
        Some([Some(1), Some(2)]),
        Some([Some(3), Some(4)]),
    ]);
    let chosen =
        LargeListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(5)]), Some(vec![Some(6); 3])]);
    let item = Arc::new(Field::new_list_field(DataType::Int8, true));
    let rejected = FixedSizeListArray::new(item, 2, Arc::new(Int8Array::from(vec![7, 8, 9, 10])), None);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let ids = batch(&[
        ("prompt", text.clone()),
        ("chosen", text.clone()),
        ("rejected", text),
        ("prompt_ids", Arc::new(prompt)),
        ("chosen_ids", Arc::new(chosen)),
        ("rejected_ids", Arc::new(rejected)),
    ]);
    let folder = Folder::new();
    let lines = concat!(
        r#"{"prompt_ids": [1, 2], "chosen_ids": [5], "rejected_ids": [7, 8]}"#,
        "\n",
        r#"{"prompt_ids": [3, 4], "chosen_ids": [6, 6, 6], "rejected_ids": [9, 10]}"#
    );
    for file in folder.all(&ids).into_iter().chain([folder.text("ids.jsonl", lines)]) {
        assert_eq!(open(&file).unwrap().schema(), Schema::IdPairs);
        let contents: Vec<RowContent> = read(&file).into_iter().map(|row| row.content).collect();
        let want = [
            RowContent::Ids { prompt: vec![1, 2], chosen: vec![5], rejected: vec![7, 8] },
            RowContent::Ids { prompt: vec![3, 4], chosen: vec![6, 6, 6], rejected: vec![9, 10] },
        ];
        assert_eq!(contents, want, "{}", file.display());
    }
}

#[test]
fn integers_that_are_no_ids() {
    let ok: ArrayRef = Arc::new(ListArray::from_iter_primitive::<UInt32Type, _, _>([Some([Some(1)])]));
    let negative: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(-1)])]));
    let huge: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<UInt64Type, _, _>([Some([Some(1 << 32)])]));
    let null: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None])]));
    for (bad, part) in
        [(negative, "-1 is no token id"), (huge, "4294967296 is no token id"), (null, "a null in it")]
    {
        let folder = Folder::new();
        let ids = batch(&[("prompt_ids", ok.clone()), ("chosen_ids", bad), ("rejected_ids", ok.clone())]);
        for file in folder.all(&ids) {
            check_error(&file, &["row 1", "`chosen_ids`", part]);
        }
    }
    let folder = Folder::new();
    for (bad, part) in
        [("-1", "-1 is no"), ("1.5", "1.5"), ("4294967296", "no token id"), ("\"1\"", "text in it")]
    {
        let line = format!(r#"{{"prompt_ids": [1], "chosen_ids": [2, {bad}], "rejected_ids": [1]}}"#);
        check_error(&folder.text("bad.jsonl", &line), &["row 1", "`chosen_ids`", part]);
    }
}

#[test]
fn prompt_completion_and_checks() {
    let text = |values: [Option<&str>; 3]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let rows = batch(&[
        ("prompt", text([Some("a"), Some("b"), Some("c")])),
        ("completion", text([Some("1"), Some("2"), Some("3")])),
        ("verifier", text([Some("sum"), None, Some("sum")])),
        ("gold", text([Some("1"), None, None])),
    ]);
    let folder = Folder::new();
    let lines = concat!(
        r#"{"prompt": "a", "completion": "1", "verifier": "sum", "gold": "1"}"#,
        "\n",
        r#"{"prompt": "b", "completion": "2"}"#,
        "\n\n",
        r#"{"prompt": "c", "completion": "3", "verifier": "sum", "gold": null}"#
    );
    for file in folder.all(&rows).into_iter().chain([folder.text("a.jsonl", lines)]) {
        let reader = open(&file).unwrap();
        assert_eq!(reader.schema(), Schema::PromptCompletion);
        let rows: Vec<_> = reader.collect();
        let first = rows[0].as_ref().unwrap();
        assert_eq!(first.content, RowContent::Completion { prompt: "a".into(), completion: "1".into() });
        assert_eq!(first.check, Some(Check { verifier: "sum".into(), gold: "1".into() }));
        assert_eq!(rows[1].as_ref().unwrap().check, None);
        let text = rows[2].as_ref().unwrap_err().to_string();
        // The blank line of the JSON Lines is no row.
        assert!(text.contains("row 3") && text.contains("`gold`"), "{text}");
    }
}

/// A pooled file: rows by task, in every format; rows without a task, and tasks without rows, have their place named.
#[test]
fn rows_of_one_task() {
    let folder = Folder::new();
    let text = |values: [Option<&str>; 3]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let pairs = |tasks: ArrayRef| {
        batch(&[
            ("prompt", text([Some("p"), Some("q"), Some("r")])),
            ("chosen", text([Some("1"), Some("2"), Some("3")])),
            ("rejected", text([Some("x"), Some("y"), Some("z")])),
            ("task", tasks),
        ])
    };
    let lines = concat!(
        r#"{"prompt": "p", "chosen": "1", "rejected": "x", "task": "code"}"#,
        "\n",
        r#"{"prompt": "q", "chosen": "2", "rejected": "y", "task": "chat"}"#,
        "\n",
        r#"{"prompt": "r", "chosen": "3", "rejected": "z"}"#
    );
    let files = folder.all(&pairs(text([Some("code"), Some("chat"), None])));
    for file in files.into_iter().chain([folder.text("a.jsonl", lines)]) {
        assert_eq!(
            read(&file).iter().map(|row| row.task.as_deref()).collect::<Vec<_>>(),
            [Some("code"), Some("chat"), None]
        );
        let mut rows = open(&file).unwrap().only_task("chat");
        let row = rows.next().unwrap().unwrap();
        assert_eq!((row.row, &row.content), (2, &pair("q", "2", "y")));
        let error = rows.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("row 3") && error.contains("`task`"), "{error}");
        assert!(ama_data::task_names(file.to_str().unwrap(), &ReadOptions::default()).is_err());
    }
    let file = folder.all(&pairs(text([Some("code"), Some("chat"), Some("code")]))).remove(0);
    assert_eq!(
        ama_data::task_names(file.to_str().unwrap(), &ReadOptions::default()).unwrap(),
        ["code", "chat"]
    );
    assert_eq!(open(&file).unwrap().only_task("code").count(), 2);
    let none: Vec<_> = open(&file).unwrap().only_task("sums").collect();
    let error = none[0].as_ref().unwrap_err().to_string();
    assert!(none.len() == 1 && error.contains("`sums`") && error.contains("a.parquet"), "{error}");
}

/// Class labels are names of tasks; a column `task` that can be none is ignored until tasks are asked for.
#[test]
fn tasks_that_are_not_text() {
    let folder = Folder::new();
    let text = |values: [&'static str; 3]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let pairs = |tasks: ArrayRef| {
        batch(&[
            ("prompt", text(["p", "q", "r"])),
            ("chosen", text(["1", "2", "3"])),
            ("rejected", text(["x", "y", "z"])),
            ("task", tasks),
        ])
    };
    let lines = |tasks: [&str; 3]| {
        let row = |task| {
            format!("{{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\", \"task\": {task}}}\n")
        };
        tasks.map(row).concat()
    };
    let names = |file: &Path| ama_data::task_names(file.to_str().unwrap(), &ReadOptions::default());
    let integers: ArrayRef = Arc::new(UInt16Array::from(vec![7, 3, 7]));
    for file in
        folder.all(&pairs(integers)).into_iter().chain([folder.text("a.jsonl", &lines(["7", "3", "7"]))])
    {
        assert_eq!(names(&file).unwrap(), ["7", "3"], "{}", file.display());
        assert_eq!(open(&file).unwrap().only_task("7").map(Result::unwrap).count(), 2);
    }
    let booleans: ArrayRef = Arc::new(arrow::array::BooleanArray::from(vec![true, false, true]));
    let files = folder.all(&pairs(booleans));
    for file in files.into_iter().chain([folder.text("b.jsonl", &lines(["true", "false", "true"]))]) {
        assert!(read(&file).iter().all(|row| row.task.is_none()));
        for error in
            [names(&file).unwrap_err(), open(&file).unwrap().only_task("x").next().unwrap().unwrap_err()]
        {
            let error = error.to_string();
            assert!(error.contains("`task`") && error.contains("boolean"), "{error}");
        }
    }
    let error = names(&folder.text("c.jsonl", &lines(["1", "1.5", "null"]))).unwrap_err().to_string();
    assert!(error.contains("row 2") && error.contains("`task`") && error.contains("1.5"), "{error}");
    let error = names(&folder.text("d.jsonl", &lines(["1", "2", "null"]))).unwrap_err().to_string();
    assert!(error.contains("row 3") && error.contains("`task`") && error.contains("null"), "{error}");
}

#[test]
fn implicit_prompt() {
    let folder = Folder::new();
    let chosen: ArrayRef = Arc::new(StringArray::from(vec!["The sky is blue.", "x"]));
    let rejected: ArrayRef = Arc::new(StringArray::from(vec!["The sky is green.", "y"]));
    for file in folder.all(&batch(&[("chosen", chosen), ("rejected", rejected)])) {
        let reader = open(&file).unwrap();
        assert_eq!(reader.schema(), Schema::ImplicitPromptPairs);
        let rows: Vec<_> = reader.collect();
        let content = &rows[0].as_ref().unwrap().content;
        assert_eq!(*content, pair("The sky is", " blue.", " green."));
        assert_eq!(PairId::of(content), PairId::of(&pair("The sky is", " blue.", " green.")));
        check_error(&file, &["row 2", "`chosen`", "share no beginning", "add a `prompt` column"]);
    }
}

#[test]
fn null_empty_and_equal_cells() {
    let cells = |values: &[Option<&'static str>]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let table = batch(&[
        ("prompt", cells(&[Some("p"), None, Some(""), Some("p"), Some("p"), Some("p")])),
        ("chosen", cells(&[Some("c"), Some("c"), Some("c"), Some(""), Some("c"), Some("same")])),
        ("rejected", cells(&[Some("r"), Some("r"), Some("r"), Some("r"), None, Some("same")])),
    ]);
    let folder = Folder::new();
    let lines = [
        r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#,
        r#"{"prompt": null, "chosen": "c", "rejected": "r"}"#,
        r#"{"prompt": "", "chosen": "c", "rejected": "r"}"#,
        r#"{"prompt": "p", "chosen": "", "rejected": "r"}"#,
        r#"{"prompt": "p", "chosen": "c"}"#,
        r#"{"prompt": "p", "chosen": "same", "rejected": "same"}"#,
    ];
    for file in folder.all(&table).into_iter().chain([folder.text("a.jsonl", &lines.join("\r\n"))]) {
        let rows: Vec<_> = open(&file).unwrap().collect();
        assert_eq!(rows.len(), 6, "an error about a cell does not end the iteration");
        assert!(rows[0].is_ok());
        let want = [
            ("prompt", CellFault::Null),
            ("prompt", CellFault::Empty),
            ("chosen", CellFault::Empty),
            ("rejected", CellFault::Null),
            ("rejected", CellFault::SameCompletions),
        ];
        for ((i, row), (name, want)) in (2_u64..).zip(&rows[1..]).zip(want) {
            let Err(DataError::Cell { path, row, column, fault }) = row else { panic!("row {i}: {row:?}") };
            assert_eq!((path, *row, column.as_str(), fault), (&file, i, name, &want));
        }
    }
    // A column of nulls only: its type says nothing, its cells do.
    let nulls: ArrayRef = Arc::new(NullArray::new(3));
    let table = batch(&[("prompt", nulls), ("chosen", Arc::new(texts(1))), ("rejected", Arc::new(texts(2)))]);
    for file in folder.all(&table) {
        check_error(&file, &["row 1", "`prompt`", "null"]);
    }
}

#[test]
fn wrong_and_missing_columns() {
    let folder = Folder::new();
    let numbers: ArrayRef = Arc::new(UInt16Array::from(vec![1, 2, 3]));
    let text = |column| Arc::new(texts(column)) as ArrayRef;
    for file in folder.all(&batch(&[("prompt", numbers.clone()), ("chosen", text(1)), ("rejected", text(2))]))
    {
        let error = check_error(&file, &["`prompt`", "UInt16", "want text", "convert"]);
        assert!(matches!(error, DataError::ColumnType { .. }));
    }
    let ids = [("prompt_ids", numbers), ("chosen_ids", text(1)), ("rejected_ids", text(2))];
    for file in folder.all(&batch(&ids)) {
        check_error(&file, &["`prompt_ids`", "UInt16", "a list of integers"]);
    }
    for (columns, wanted) in [
        (vec!["prompt", "chosen"], "no column `rejected`"),
        (vec!["prompt", "rejected"], "no column `chosen`"),
        (vec!["question", "answer"], "no column `chosen`"),
        (vec!["completion"], "no column `prompt`"),
        (vec!["prompt_ids", "chosen_ids"], "no column `rejected_ids`"),
    ] {
        let columns: Vec<_> = columns.into_iter().map(|name| (name, text(0))).collect();
        for file in folder.all(&batch(&columns)) {
            let error = check_error(&file, &[wanted, "rename or add", columns[0].0]);
            assert!(matches!(error, DataError::MissingColumn { .. }));
        }
    }
    check_error(
        &folder.text("a.jsonl", r#"{"prompt": 1, "chosen": "a", "rejected": "b"}"#),
        &["`prompt`", "a number"],
    );
    let late =
        "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n{\"prompt\": [], \"chosen\": \"a\"}";
    check_error(&folder.text("a.jsonl", late), &["row 2", "`prompt`", "a list", "want text"]);
}

#[test]
fn conversations_are_named() {
    let folder = Folder::new();
    let fields = [("role", DataType::Utf8), ("content", DataType::Utf8)];
    let fields: Vec<_> =
        fields.into_iter().map(|(name, kind)| Arc::new(Field::new(name, kind, true))).collect();
    let messages = StructArray::new(fields.into(), vec![Arc::new(texts(0)), Arc::new(texts(1))], None);
    let item = Arc::new(Field::new_list_field(arrow::array::Array::data_type(&messages).clone(), true));
    let list: ArrayRef = Arc::new(ListArray::new(
        item,
        arrow::buffer::OffsetBuffer::from_lengths([1, 1, 1]),
        Arc::new(messages),
        None,
    ));
    for columns in [vec!["chosen", "rejected"], vec!["prompt", "chosen", "rejected"], vec!["messages"]] {
        let columns: Vec<_> = columns.into_iter().map(|name| (name, list.clone())).collect();
        for file in folder.all(&batch(&columns)) {
            let parts = ["conversational rows are not supported yet", "chat template", columns[0].0];
            assert!(matches!(check_error(&file, &parts), DataError::Conversational { .. }));
        }
    }
    let line =
        r#"{"chosen": [{"role": "user", "content": "x"}], "rejected": [{"role": "user", "content": "y"}]}"#;
    check_error(&folder.text("a.jsonl", line), &["conversational rows", "`chosen`"]);
}

#[test]
fn damaged_files() {
    let folder = Folder::new();
    for file in folder.all(&table()) {
        let whole = fs::read(&file).unwrap();
        // Cut anywhere: an error or (for a stream cut between messages) fewer rows; never a panic or a wrong row.
        for len in (0..whole.len()).step_by(3) {
            fs::write(&file, &whole[..len]).unwrap();
            match open(&file) {
                Err(e) => assert!(e.to_string().contains(file.to_str().unwrap()), "{e}"),
                Ok(rows) => {
                    for (row, want) in rows.zip(TEXTS) {
                        if let Ok(row) = row {
                            assert_eq!(row.content, pair(want[0], want[1], want[2]));
                        }
                    }
                }
            }
        }
        let kind = if file.ends_with("a.parquet") { "Parquet" } else { "Arrow IPC" };
        fs::write(&file, &whole[..whole.len() / 3]).unwrap();
        check_error(&file, &[kind, "truncated or damaged"]);
    }
    for (text, parts) in [
        (
            "{\"prompt\": \"p\", \"chosen\": \"c\", \"rejected\": \"r\"}\n{\"prompt\": \"p\",",
            ["row 2", "EOF"],
        ),
        ("[{\"prompt\": \"p\"}]", ["row 1", "a list instead of an object"]),
        ("{\n\"prompt\": \"p\"\n}", ["row 1", "several lines"]),
        ("\n\nnot json", ["row 1 (line 3)", "one JSON object per line"]),
    ] {
        check_error(&folder.text("bad.jsonl", text), &parts);
    }
}

/// Damaged anywhere: whatever comes, it is rows or errors, not a panic.
#[test]
fn flipped_bits() {
    let folder = Folder::new();
    for file in folder.all(&table()) {
        let whole = fs::read(&file).unwrap();
        for at in (0..whole.len()).step_by(5) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&file, &bytes).unwrap();
            if let Ok(rows) = open(&file) {
                assert!(rows.take(1000).count() < 1000);
            }
        }
    }
}

#[test]
fn folders_globs_and_what_is_not_there() {
    let folder = Folder::new();
    let row =
        |prompt: &str| format!("{{\"prompt\": \"{prompt}\", \"chosen\": \"c\", \"rejected\": \"r\"}}\n");
    folder.text("a-2.jsonl", &(String::from("\u{feff}") + &row("a2") + "\n" + &row("a2'")));
    write_parquet(&folder.file("a-1.parquet"), &table());
    let both = open(folder.0.path()).unwrap_err().to_string();
    assert!(both.contains("a-1.parquet") && both.contains("a-2.jsonl") && both.contains("glob"), "{both}");
    fs::remove_file(folder.file("a-1.parquet")).unwrap();
    folder.text("b.jsonl", &row("b"));
    folder.text("empty.jsonl", "\n");
    folder.text("notes.txt", "not data");
    folder.text(".hidden.jsonl", "not data");
    folder.text("dataset_info.json", "{}");
    let prompts = |rows: Vec<Row>| -> Vec<(String, u64)> {
        let prompt = |row: Row| match row.content {
            RowContent::Text { prompt, .. } => (prompt, row.row),
            other => panic!("{other:?}"),
        };
        rows.into_iter().map(prompt).collect()
    };
    let all: Vec<_> =
        [("a2", 1), ("a2'", 2), ("b", 1)].map(|(prompt, row)| (prompt.to_owned(), row)).to_vec();
    assert_eq!(prompts(read(folder.0.path())), all);
    assert_eq!(prompts(read(&folder.file("a-*"))), all[..2]);
    assert_eq!(open(folder.0.path()).unwrap().files().len(), 3);
    // A glob names files: all of them, whatever their formats.
    write_parquet(&folder.file("a-1.parquet"), &table());
    assert_eq!(read(&folder.file("a-*")).len(), 5);
    fs::remove_file(folder.file("a-1.parquet")).unwrap();

    let none = folder.file("nothing-*.parquet");
    assert!(matches!(open(&none), Err(DataError::NoFiles { .. })));
    assert!(matches!(open(&folder.file("absent.parquet")), Err(DataError::NoFiles { .. })));
    assert!(matches!(open(&folder.file("[a")), Err(DataError::BadGlob { .. })));
    check_error(&folder.file("notes.txt"), &["unknown kind", ".parquet"]);
    check_error(&folder.file("empty.jsonl"), &["no rows"]);
    let nothing = table();
    for file in Folder::new().all(&nothing.slice(0, 0)) {
        check_error(&file, &["no rows"]);
    }
    folder.text("c.jsonl", "{\"prompt\": \"p\", \"completion\": \"c\"}\n");
    let error = open(folder.0.path()).unwrap_err().to_string();
    assert!(
        error.contains("c.jsonl") && error.contains("a-2.jsonl") && error.contains("completion"),
        "{error}"
    );
}

/// Rows are decoded in small batches: reading the first row of a file does not read the rest.
#[test]
fn reads_row_groups_as_they_are_needed() {
    let folder = Folder::new();
    let many = |prefix: &str| {
        let texts = (0..20_000).map(|i| format!("{prefix}{i}"));
        Arc::new(StringArray::from_iter_values(texts)) as ArrayRef
    };
    let file = folder.file("a.parquet");
    let table = batch(&[("prompt", many("p")), ("chosen", many("c")), ("rejected", many("r"))]);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
    let mut writer =
        ArrowWriter::try_new(File::create(&file).unwrap(), table.schema(), Some(properties)).unwrap();
    writer.write(&table).unwrap();
    writer.close().unwrap();
    // Damage the middle: the rows before it are still read, the error says after which row.
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4000].fill(0xff);
    fs::write(&file, &bytes).unwrap();
    let rows: Vec<_> = open(&file).unwrap().collect();
    let (last, before) = rows.split_last().unwrap();
    assert!(
        before.len() >= 5000 && before.iter().all(Result::is_ok),
        "{} rows before {last:?}",
        before.len()
    );
    let text = last.as_ref().unwrap_err().to_string();
    assert!(text.contains(&format!("after row {}", before.len())), "{text}");
}
