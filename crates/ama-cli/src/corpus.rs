//! From preference files to token stores and checkable questions.

use std::path::Path;

use ama_data::row::RowContent;
use ama_data::{DataFiles, PairTokenizer, ReadOptions, RowReader, TokenStore, TokeniseOptions};
use ama_train::Question;
use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::console;
use crate::exit::bad_input;
use crate::notes::notes;

/// What the rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// `prompt, chosen, rejected` in any shape.
    Pairs,
    /// `prompt, completion`.
    Completions,
}

/// Which rows, and how they are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// A file, a folder or a glob.
    pub(crate) files: &'a Path,
    /// Which split of a folder, and which columns.
    pub(crate) read: &'a ReadOptions,
    pub(crate) rows: Rows,
    /// Only rows whose column `task` says this.
    pub(crate) task: Option<&'a str>,
    /// Only the first so many rows (of the task).
    pub(crate) limit: Option<usize>,
    pub(crate) max_length: usize,
}

impl Source<'_> {
    /// Opens the files and checks that they hold the right kind of rows.
    ///
    /// # Errors
    /// Missing or unreadable files, wrong columns.
    pub(crate) fn open(&self) -> Result<RowReader> {
        let name = self.files.to_string_lossy();
        let reader = RowReader::open_with(&name, self.read)?;
        let found = match reader.schema() {
            ama_data::Schema::PromptCompletion => Rows::Completions,
            _ => Rows::Pairs,
        };
        if found != self.rows {
            let want = match self.rows {
                Rows::Pairs => "preference pairs (`prompt`, `chosen`, `rejected`)",
                Rows::Completions => "fine-tuning rows (`prompt`, `completion`)",
            };
            return Err(bad_input(format!("{name}: holds {}; want {want}", reader.schema())));
        }
        Ok(match self.task {
            Some(task) => reader.only_task(task),
            None => reader,
        })
    }

    /// Refuses outputs that are files which are read: they would be replaced by what is made of them.
    ///
    /// # Errors
    /// One is, under whatever name; the files cannot be found.
    pub(crate) fn keep_from(&self, outputs: &[&Path]) -> Result<()> {
        let read = DataFiles::find(&self.files.to_string_lossy(), &self.read.split)?.files;
        for output in outputs {
            // An output that does not exist is no file that is read.
            if read.iter().any(|file| same_file::is_same_file(file, output).unwrap_or(false)) {
                return Err(bad_input(format!(
                    "{}: is one of the files that are read; choose another name for what is written",
                    output.display()
                )));
            }
        }
        Ok(())
    }

    /// Tokenises into a store at `path`, which appears whole or not at all.
    ///
    /// # Errors
    /// A row that cannot be used, with file, row and column; no row left; the disk refuses.
    pub(crate) fn tokenise(&self, tokenizer: &PairTokenizer, path: &Path) -> Result<TokenStore> {
        if self.limit == Some(0) {
            return Err(bad_input(format!(
                "{}: limit 0 (--limit) takes none of its rows; leave it out or make it at least 1",
                self.files.display()
            )));
        }
        let reader = self.open()?;
        note_taken(&self.files.to_string_lossy(), &reader);
        let rows = reader.take(self.limit.unwrap_or(usize::MAX));
        let options = TokeniseOptions { max_length: Some(self.max_length) };
        let (store, report) = TokenStore::build(rows, tokenizer, &options, path, |_| ())?;
        for note in notes(&report, Some(tokenizer)) {
            console::note(&format!("{}: {note}", self.files.display()));
        }
        Ok(store)
    }

    /// The rows whose answers a program can check.
    ///
    /// # Errors
    /// As [`Source::tokenise`]; a verifier that nobody knows.
    pub(crate) fn questions(&self, tokenizer: &PairTokenizer) -> Result<Vec<Question>> {
        let mut questions = Vec::new();
        for row in self.open()?.take(self.limit.unwrap_or(usize::MAX)) {
            let row = row?;
            let Some(check) = row.check else { continue };
            check.verifier.parse::<ama_suite::Verifier>().map_err(|error| {
                bad_input(format!("{}, row {}, column `verifier`: {error}", row.source.display(), row.row))
            })?;
            let prompt = match &row.content {
                RowContent::Ids { prompt, .. } => prompt.clone(),
                RowContent::Text { prompt, .. } | RowContent::Completion { prompt, .. } => {
                    tokenizer.encode_prompt(prompt)?
                }
                _ => continue,
            };
            if prompt.len() < self.max_length {
                questions.push(Question { prompt, verifier: check.verifier, gold: check.gold });
            }
        }
        Ok(questions)
    }
}

/// Says what was taken where a path leaves a choice, and which columns were left: files of a folder or a glob, an implicit
/// prompt, text beside what is read.
pub(crate) fn note_taken(name: &str, reader: &RowReader) {
    let files = reader.files();
    if files.len() > 1 || files.first().is_some_and(|file| file != Path::new(name)) {
        const SHOWN: usize = 5;
        let split = reader.split().map(|split| format!("split `{split}`, ")).unwrap_or_default();
        let mut names: Vec<String> =
            files.iter().take(SHOWN).map(|file| file.display().to_string()).collect();
        if files.len() > SHOWN {
            names.push(format!("and {} more", files.len() - SHOWN));
        }
        let noun = if files.len() == 1 { "file" } else { "files" };
        console::note(&format!("{name}: {split}{} {noun}: {}", files.len(), names.join(", ")));
    }
    if reader.schema() == ama_data::Schema::ImplicitPromptPairs {
        console::note(&format!(
            "{name}: no column `prompt`; it is the shared beginning of chosen and rejected"
        ));
    }
    if !reader.unread_columns().is_empty() {
        console::note(&format!(
            "{name}: columns of text, lists or objects that are not read: {}",
            reader.unread_columns().join(", ")
        ));
    }
}

/// A question as a stage keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredQuestion {
    prompt: Vec<u32>,
    verifier: String,
    gold: String,
}

impl From<Question> for StoredQuestion {
    fn from(q: Question) -> Self {
        Self { prompt: q.prompt, verifier: q.verifier, gold: q.gold }
    }
}

impl From<StoredQuestion> for Question {
    fn from(q: StoredQuestion) -> Self {
        Self { prompt: q.prompt, verifier: q.verifier, gold: q.gold }
    }
}

/// Judges an answer with one of the suite's programs; an unknown one was refused when the questions were read.
pub(crate) fn verify(verifier: &str, gold: &str, answer: &str) -> bool {
    verifier.parse().is_ok_and(|verifier| ama_suite::verify(verifier, gold, answer))
}
