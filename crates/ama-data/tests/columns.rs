//! Which column is the prompt: as its name says, as it is said, and never guessed.

mod support;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ama_data::{Columns, DataError, ReadOptions, RowContent, Schema};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
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
    // A label of text says something else.
    let named = folder.write("named.jsonl", r#"{"prompt": "p", "completion": "c", "label": "sport"}"#);
    assert_eq!(prompts(&named, &read), ["p"]);
}
