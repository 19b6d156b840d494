//! Which column is the prompt: as its name says, as it is said, and never guessed.

mod support;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ama_data::{Columns, DataError, ReadOptions, RowContent, Schema};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use parquet::arrow::ArrowWriter;
use support::{Folder, columns, open, prompts, refused};

/// The same text columns as Parquet and as JSON Lines.
fn both(folder: &Folder, columns: &[(&str, &[&str])]) -> [std::path::PathBuf; 2] {
    let parquet = folder.write("t.parquet", "");
    let arrays =
        columns.iter().map(|(name, cells)| (*name, Arc::new(StringArray::from(cells.to_vec())) as ArrayRef));
    write(&parquet, arrays.collect());
    let lines: String = (0..columns[0].1.len())
        .map(|row| {
            let cells = columns.iter().map(|(name, cells)| (name.to_string(), cells[row].into()));
            serde_json::Value::Object(cells.collect()).to_string() + "\n"
        })
        .collect();
    [parquet, folder.write("t.jsonl", lines)]
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

const CHOSEN: (&str, &[&str]) = ("chosen", &["Sure! Blue.", "Sure! Red."]);
const REJECTED: (&str, &[&str]) = ("rejected", &["Sure! Five.", "Sure! Six."]);

#[test]
fn a_prompt_under_another_name_is_asked_for() {
    let folder = Folder::new();
    let read = ReadOptions::default();
    for name in ["question", "instruction", "input", "query", "Prompt", "user_message", "context"] {
        for file in both(&folder, &[(name, &["q1", "q2"]), CHOSEN, REJECTED]) {
            let (column, flag) = (format!("`{name}`"), format!("--column prompt={name}"));
            let key = format!("prompt = \"{name}\"");
            let error = refused(&file, &read, &[&column, &flag, &key]);
            assert!(matches!(error, DataError::UnknownPrompt { .. }));
        }
    }
    for file in both(&folder, &[("system", &["s", "s"]), ("question", &["q1", "q2"]), CHOSEN, REJECTED]) {
        refused(&file, &read, &["`system`", "`question`", "prompt=question"]);
        let mapped = columns(&[("prompt", "question")]);
        let reader = open(&file, &mapped).unwrap();
        assert_eq!(
            (reader.schema(), reader.unread_columns()),
            (Schema::TextPairs, &["system".to_owned()][..])
        );
        assert_eq!(prompts(&file, &mapped), ["q1", "q2"]);
        // It was said that there is none.
        let implicit = columns(&[("prompt", "")]);
        assert_eq!(open(&file, &implicit).unwrap().schema(), Schema::ImplicitPromptPairs);
        assert_eq!(prompts(&file, &implicit), ["Sure!", "Sure!"]);
    }
    // What labels a row is no prompt.
    for file in both(&folder, &[("prompt_id", &["1", "2"]), ("source", &["x", "x"]), CHOSEN, REJECTED]) {
        assert_eq!(prompts(&file, &read), ["Sure!", "Sure!"]);
    }
}

#[test]
fn every_role_can_be_named() {
    let folder = Folder::new();
    for file in both(&folder, &[("q", &["a"]), ("better", &["b"]), ("worse", &["c"]), ("kind", &["x"])]) {
        let read = columns(&[("prompt", "q"), ("chosen", "better"), ("rejected", "worse"), ("task", "kind")]);
        let row = open(&file, &read).unwrap().next().unwrap().unwrap();
        let want = RowContent::Text { prompt: "a".into(), chosen: "b".into(), rejected: "c".into() };
        assert_eq!((row.content, row.task.as_deref()), (want, Some("x")));
        assert_eq!(ama_data::task_names(file.to_str().unwrap(), &read).unwrap(), ["x"]);
        refused(&file, &ReadOptions::default(), &["no column `chosen`", "`better`", "--column chosen=NAME"]);
        refused(&file, &columns(&[("prompt", "z")]), &["no column `z`", "`prompt`", "`better`"]);
    }
    // Completions the other way round, and a cell that is named as in the file.
    for file in both(&folder, &[("prompt", &["p"]), ("chosen", &["good"]), ("rejected", &[""])]) {
        let read = columns(&[("chosen", "rejected"), ("rejected", "chosen")]);
        refused(&file, &read, &["row 1", "column `rejected`: empty"]);
    }
    for file in both(&folder, &[("Prompt", &["p"]), ("Chosen", &["a"]), ("Rejected", &["b"])]) {
        refused(&file, &ReadOptions::default(), &["`Prompt`", "--column chosen=Chosen"]);
    }
    let ids = folder.write(
        "ids.jsonl",
        r#"{"prompt_input_ids": [5], "chosen_input_ids": [8], "rejected_input_ids": [9]}"#,
    );
    refused(&ids, &ReadOptions::default(), &["--column chosen_ids=chosen_input_ids"]);
}

#[test]
fn names_that_contradict_each_other() {
    for (pairs, want) in [
        (vec![("promt", "q")], "no such role; want one of prompt, chosen"),
        (vec![("chosen", "")], "names no column"),
        (vec![("prompt", "q"), ("prompt", "r")], "given twice"),
        (vec![("prompt", "q"), ("chosen", "q")], "both `prompt` and `chosen`"),
    ] {
        let error = Columns::new(pairs).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

/// Conversations in any spelling are refused with file and column, and row where rows can differ.
#[test]
fn conversations_in_every_spelling() {
    let folder = Folder::new();
    let read = ReadOptions::default();
    let message = |from: &str, text: &str| format!("{{\"{from}\": \"user\", \"{text}\": \"x\"}}");
    let (chat, gpt) = (message("role", "content"), message("from", "value"));
    for (line, row, column) in [
        (format!("{{\"chosen\": [{chat}], \"rejected\": [{chat}]}}"), "row 1", "chosen"),
        (format!("{{\"prompt\": [{chat}], \"chosen\": \"a\", \"rejected\": \"b\"}}"), "row 1", "prompt"),
        (
            format!("{{\"conversations\": [{gpt}], \"chosen\": {gpt}, \"rejected\": {gpt}}}"),
            "row 1",
            "chosen",
        ),
        (
            format!("{{\"conversations\": [{gpt}], \"chosen\": \"ab\", \"rejected\": \"ac\"}}"),
            "row 1",
            "conversations",
        ),
        (format!("{{\"messages\": [{chat}]}}"), "row 1", "messages"),
        (format!("{{\"prompt\": [{chat}], \"completion\": [{chat}]}}"), "row 1", "prompt"),
        (
            format!("{{\"prompt\": \"p\", \"chosen\": [], \"rejected\": []}}\n{{\"chosen\": [{chat}]}}"),
            "row 1",
            "chosen",
        ),
    ] {
        let error = refused(
            &folder.write("c.jsonl", line),
            &read,
            &["c.jsonl", row, &format!("`{column}`"), "conversation"],
        );
        assert!(matches!(error, DataError::Conversational { .. }), "{error}");
    }
    // In one row of many.
    let good = "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n";
    let late = format!("{good}{{\"prompt\": \"p\", \"chosen\": [{chat}], \"rejected\": \"b\"}}\n");
    refused(&folder.write("late.jsonl", late), &read, &["row 2", "`chosen`", "conversation"]);
    // Written out as text.
    let cells: [&str; 2] = [&format!("[{chat}, {chat}]"), "[{'role': 'user', 'content': 'x'}]"];
    for cell in cells {
        for file in both(&folder, &[("prompt", &["p"]), ("chosen", &[cell]), ("rejected", &["b"])]) {
            refused(&file, &read, &["row 1", "`chosen`", "written out as text"]);
        }
    }
}

#[test]
fn completions_with_a_verdict_are_no_examples() {
    let folder = Folder::new();
    let read = ReadOptions::default();
    let text = |cell: &str| Arc::new(StringArray::from(vec![cell])) as ArrayRef;
    let file = folder.write("kto.parquet", "");
    let label: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    write(&file, vec![("prompt", text("p")), ("completion", text("c")), ("label", label)]);
    let lines = folder.write("kto.jsonl", r#"{"prompt": "p", "completion": "c", "label": false}"#);
    for file in [file, lines] {
        let error = refused(&file, &read, &["`label`", "unpaired"]);
        assert!(matches!(error, DataError::Unpaired { .. }));
    }
    // In words, under a name in other letters, among others.
    for (name, first, second) in [
        ("label", "\"good\"", "\"bad\""),
        ("label", "\"true\"", "\"false\""),
        ("Label", "true", "false"),
        ("LABELS", "0.0", "1.0"),
        ("label", "null", "\"Rejected\""),
        ("label", "\"sport\"", "\" no\""),
        ("label", "true", "\"sport\""),
    ] {
        let row =
            |label: &str| format!("{{\"prompt\": \"p\", \"completion\": \"c\", \"{name}\": {label}}}\n");
        let file = folder.write("words.jsonl", row(first) + &row(second));
        let error = refused(&file, &read, &[&format!("`{name}`"), "unpaired"]);
        assert!(matches!(error, DataError::Unpaired { .. }), "{name} {first}");
    }
    for file in both(&folder, &[("prompt", &["p"]), ("completion", &["c"]), ("label", &["bad"])]) {
        refused(&file, &read, &["row 1", "`label`", "unpaired"]);
    }
    // What else a label of text says is not known: it is named.
    for file in
        both(&folder, &[("task", &["t"]), ("label", &["sport"]), ("prompt", &["p"]), ("completion", &["c"])])
    {
        let reader = open(&file, &read).unwrap();
        assert_eq!(reader.unread_columns(), ["label"]);
        assert_eq!(reader.map(|row| row.unwrap().task.unwrap()).collect::<Vec<_>>(), ["t"]);
    }
    let named = folder.write("named.jsonl", r#"{"prompt": "p", "completion": "c", "label": "sport"}"#);
    assert_eq!(prompts(&named, &read), ["p"]);
}

/// A prompt that is not plain text, or whose column is called like a label, is not passed over in silence.
#[test]
fn a_prompt_of_another_kind_is_asked_for() {
    let folder = Folder::new();
    let read = ReadOptions::default();
    let file = |name: &str, cells: &[&str]| {
        let row = |cell: &&str| {
            format!("{{\"{name}\": {cell}, \"chosen\": \"Sure! Blue.\", \"rejected\": \"Sure! Five.\"}}\n")
        };
        folder.write("p.jsonl", cells.iter().map(row).collect::<String>())
    };
    for (name, cells) in [
        ("question", &["[\"q\"]"][..]),
        ("question", &["{\"text\": \"q\"}"]),
        ("dialog", &["[{\"speaker\": \"user\", \"text\": \"q\"}]"]),
        ("history", &["[[\"q\", \"a\"]]"]),
        ("question", &["5", "\"q\""]),
        ("note", &["null", "true", "0.5", "\"q\""]),
        ("prompt_ids", &["[1, 2]"]),
        ("prompt_input_ids", &["[1, 2]"]),
        ("instruction_version", &["\"q\""]),
        ("prompt_type", &["\"q\""]),
    ] {
        let error = refused(&file(name, cells), &read, &[&format!("`{name}`"), &format!("prompt={name}")]);
        assert!(matches!(error, DataError::UnknownPrompt { .. }), "{name}");
    }
    for (name, cell) in [
        ("score", "0.5"),
        ("margins", "[0.5, 1.5]"),
        ("turns", "3"),
        ("ok", "true"),
        ("meta", "{\"a\": 1}"),
        ("prompt_id", "\"x7\""),
        ("prompt_hash", "\"x7\""),
    ] {
        assert_eq!(prompts(&file(name, &[cell]), &read), ["Sure!"], "{name}");
    }
    // A label in most files, the text itself in some: it is named.
    let source = file("source", &["\"q\""]);
    assert_eq!(open(&source, &read).unwrap().unread_columns(), ["source"]);
    // Lists and bytes of Parquet.
    let parquet = folder.write("p.parquet", "");
    let text = |cell: &str| Arc::new(StringArray::from(vec![cell])) as ArrayRef;
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value([Some("q")]);
    let bytes = BinaryArray::from(vec![&b"q"[..]]);
    for column in [Arc::new(list.finish()) as ArrayRef, Arc::new(bytes)] {
        write(
            &parquet,
            vec![("question", column), ("chosen", text("Sure! a")), ("rejected", text("Sure! b"))],
        );
        refused(&parquet, &read, &["`question`", "prompt=question"]);
    }
}

#[test]
fn lists_and_objects_that_are_not_read_are_named() {
    let folder = Folder::new();
    let row = "\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"";
    for (extra, want) in [
        ("\"history\": [[\"a\", \"b\"]]", &["history"][..]),
        ("\"tools\": [{\"name\": \"f\"}]", &["tools"]),
        ("\"context\": \"c\"", &["context"]),
        ("\"scores\": [0.5], \"source\": \"s\"", &[]),
        ("\"verifier\": \"sum\", \"gold\": \"1\", \"context\": \"c\"", &[]),
    ] {
        let file = folder.write("u.jsonl", format!("{{{row}, {extra}}}\n"));
        assert_eq!(open(&file, &ReadOptions::default()).unwrap().unread_columns(), want, "{extra}");
    }
}

#[test]
fn two_columns_of_one_name_are_refused() {
    let folder = Folder::new();
    let file = folder.write("twice.parquet", "");
    let text = |cell: &str| Arc::new(StringArray::from(vec![cell])) as ArrayRef;
    let columns =
        |name| vec![("prompt", text("p")), (name, text("q")), ("chosen", text("a")), ("rejected", text("b"))];
    write(&file, columns("prompt"));
    let error = refused(&file, &ReadOptions::default(), &["twice.parquet", "`prompt`", "more than once"]);
    assert!(matches!(error, DataError::ColumnRepeated { .. }));
    write(&file, columns("chosen"));
    refused(&file, &ReadOptions::default(), &["`chosen`", "more than once"]);
}
