//! Stage `data/TASK`: token stores of the training and the evaluation split, and the checkable questions.

use std::path::Path;

use ama_data::{Columns, DataFiles, PairTokenizer, TokenStore};
use ama_train::Question;
use anyhow::Result;
use serde_json::{Value, json};

use super::Context;
use crate::config::{BaseSettings, TaskSettings};
use crate::corpus::{Rows, Source, StoredQuestion};
use crate::files;
use crate::key::Key;
use crate::notes::report_json;

/// One task's tokenised data.
#[derive(Debug)]
pub(crate) struct TaskData {
    pub(crate) name: String,
    pub(crate) train: TokenStore,
    pub(crate) eval: TokenStore,
    pub(crate) questions: Vec<Question>,
}

/// Prepares every task.
///
/// # Errors
/// A file or row that cannot be used, with file, row and column.
pub(crate) fn tasks(context: &Context<'_>, tokenizer: &PairTokenizer) -> Result<Vec<TaskData>> {
    context.config.tasks.iter().map(|task| prepare(context, tokenizer, task)).collect()
}

fn prepare(context: &Context<'_>, tokenizer: &PairTokenizer, task: &TaskSettings) -> Result<TaskData> {
    let max_length = context.config.max_length;
    let of = |files, read, limit| Source {
        files,
        read,
        rows: Rows::Pairs,
        task: task.select.as_deref(),
        limit,
        max_length,
    };
    let train = of(&task.train, &task.read, task.limit);
    let eval = of(&task.eval, &task.eval_read, task.eval_limit);
    let mut key =
        Key::of("data").bytes("tokenizer", &tokenizer.fingerprint()).field("max_length", &max_length);
    for source in [&train, &eval] {
        key = with_files(key, source)?;
    }
    let name = format!("data/{}", task.name);
    let folder = context.root().join(&name);
    context.stage(name, key.hex()).run(|folder| -> Result<Value> {
        let train = train.tokenise(tokenizer, &folder.join("train.tokens"))?;
        let held_out = eval.tokenise(tokenizer, &folder.join("eval.tokens"))?;
        let questions: Vec<StoredQuestion> =
            eval.questions(tokenizer)?.into_iter().map(StoredQuestion::from).collect();
        files::write_json(&folder.join("questions.json"), &questions)?;
        Ok(json!({ "train": report_json(train.report()), "eval": report_json(held_out.report()) }))
    })?;
    let questions: Option<Vec<StoredQuestion>> = files::read_json(&folder.join("questions.json"))?;
    Ok(TaskData {
        name: task.name.clone(),
        train: TokenStore::open(&folder.join("train.tokens"))?,
        eval: TokenStore::open(&folder.join("eval.tokens"))?,
        questions: questions.unwrap_or_default().into_iter().map(Question::from).collect(),
    })
}

/// Stage `data/base`: the token store of the base model's corpus.
///
/// # Errors
/// As [`tasks`].
pub(crate) fn corpus(
    context: &Context<'_>,
    tokenizer: &PairTokenizer,
    base: &BaseSettings,
) -> Result<TokenStore> {
    let source = Source {
        files: &base.data,
        read: &base.read,
        rows: Rows::Completions,
        task: None,
        limit: base.limit,
        max_length: context.config.max_length,
    };
    let key = Key::of("corpus")
        .bytes("tokenizer", &tokenizer.fingerprint())
        .field("max_length", &context.config.max_length);
    let key = with_files(key, &source)?;
    // A dot keeps it apart from a task of the same name.
    let name = "data/.base";
    context.stage(name, key.hex()).run(|folder| -> Result<Value> {
        let store = source.tokenise(tokenizer, &folder.join("rows.tokens"))?;
        Ok(report_json(store.report()))
    })?;
    Ok(TokenStore::open(&context.root().join(name).join("rows.tokens"))?)
}

/// Raised when the same files give other rows.
const READER: u32 = 2;

/// The content of the files, not their names: a moved data set is the same data set.
fn with_files(key: Key, source: &Source<'_>) -> Result<Key> {
    let mut key = key.field("reader", &READER);
    let name = source.files.to_string_lossy();
    for path in &DataFiles::find(&name, &source.read.split)?.files {
        key = key.bytes("file", &files::hash_file(path as &Path)?);
    }
    if source.read.columns != Columns::default() {
        key = key.field("columns", &source.read.columns);
    }
    if let Some(task) = source.task {
        key = key.bytes("task", task.as_bytes());
    }
    Ok(key.field("limit", &source.limit))
}
