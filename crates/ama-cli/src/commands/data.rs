//! `ama data`: what is in preference files, and whether every row can be used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ama_data::row::{Row, RowContent};
use ama_data::{BuildReport, DataError, PairTokenizer, ReadOptions, RowReader, SplitKind, TokeniseOptions};
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::arguments::ReadArgs;
use super::cluster;
use crate::console::{self, Console};
use crate::corpus::note_taken;
use crate::exit::bad_input;
use crate::notes::{notes, report_json};
use crate::policy::want_folder;

/// What every command reads, for `--help`.
const READS: &str = "\
What is read: Parquet; JSON Lines (.jsonl, .ndjson, .json; also .gz and .zst; UTF-8, or UTF-16 with a byte order mark; \
any line ends); Arrow IPC (.arrow). Columns are those of all rows together.
  prompt, chosen, rejected              text
  chosen, rejected                      text with a shared beginning, if no other column could be the prompt
  prompt_ids, chosen_ids, rejected_ids  lists of integers; they win over text
  prompt, completion                    text, for ama sft
  verifier, gold; task                  besides: how an answer is checked; the task, as text or integers
A folder is read by its split: what save_to_disk lists, what the README.md of a Hub repository names, or names of files \
and folders (train-00000-of-00002.parquet, test/). Files that a glob names are all read.

What is refused, with file, row and column: empty, missing and equal cells; a prompt under an unknown name; several splits \
or formats to choose from; conversations (lists of messages, ShareGPT, or written out as text); completions with a label \
(KTO); pointers of git-lfs; JSON arrays; CSV. NaN, infinities and half characters matter in columns that are used only.";

/// Options of `ama data`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show shape, number of rows, tasks, lengths and the first row
    #[command(after_help = format!("Examples:\n  ama data inspect pairs.parquet\n  \
        ama data inspect 'prefs/*.jsonl' --json\n  ama data inspect hub-repository --split test\n\n{READS}"))]
    Inspect {
        /// Parquet, JSON Lines or Arrow files, folders, or quoted globs
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Check every row and count what training would count
    ///
    /// Refused: a row that cannot be used, and a file of which no row is left. Counted, and said once: duplicates,
    /// completions that repeat the prompt, pairs that differ in white space or Unicode normal form only. With --model
    /// also: rows that are cut or dropped, pairs that are equal after the cut, a BOS or EOS that would be there twice,
    /// and rows beyond max_position_embeddings of its config.json.
    #[command(after_help = format!("Examples:\n  ama data validate pairs.parquet\n  \
        ama data validate train.parquet test.parquet --model models/SmolLM2-135M-Instruct --max-length 512\n  \
        ama data validate pairs.jsonl --column prompt=question\n\n{READS}"))]
    Validate {
        /// Parquet, JSON Lines or Arrow files, folders, or quoted globs
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
        #[command(flatten)]
        read: ReadArgs,
        /// Model folder whose tokenizer to use
        #[arg(long, value_name = "DIR")]
        model: Option<PathBuf>,
        /// Longest prompt plus completion in tokens
        #[arg(long, value_name = "N", default_value_t = 1024)]
        max_length: usize,
        /// Go on after a bad row, and list up to this many
        #[arg(long, value_name = "N", default_value_t = 1)]
        errors: usize,
    },
    /// Propose tasks for pooled pairs that name none, and write them to a column `task`
    Cluster(cluster::Options),
}

/// Runs `ama data`.
///
/// # Errors
/// A file or a row that cannot be used, with file, row and column.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    match &options.action {
        Action::Inspect { files, read } => inspect(files, &read.options(SplitKind::Train)?, console),
        Action::Validate { files, read, model, max_length, errors } => {
            let read = read.options(SplitKind::Train)?;
            validate(files, &read, model.as_deref(), *max_length, (*errors).max(1), console)
        }
        Action::Cluster(options) => cluster::run(options, console),
    }
}

fn inspect(files: &[String], read: &ReadOptions, console: Console) -> Result<()> {
    let mut found = Vec::new();
    for name in files {
        let reader = RowReader::open_with(name, read)?;
        note_taken(name, &reader);
        let (schema, paths) = (reader.schema(), reader.files().to_vec());
        let (split, unread) = (reader.split().map(str::to_owned), reader.unread_columns().to_vec());
        let mut lengths = Table::default();
        let mut checkable = 0_u64;
        let task_column = reader.task_column().map(str::to_owned);
        let unusable = unusable_task(&reader);
        let mut tasks = BTreeMap::new();
        let mut first = None;
        for row in reader {
            let row = row?;
            lengths.add(&row);
            checkable += u64::from(row.check.is_some());
            if let Some(task) = &row.task {
                *tasks.entry(task.clone()).or_insert(0_u64) += 1;
            }
            first.get_or_insert(row);
        }
        console.say(&format!("{name}: {schema}"))?;
        console.say(&format!(
            "  files {}  rows {}  with a checkable answer {checkable}",
            paths.len(),
            lengths.rows
        ))?;
        for (column, column_lengths) in lengths.columns() {
            console.say(&format!(
                "  {column:<12} {:>8.1} mean  {:>8} median  {:>8} longest, in {}",
                column_lengths.mean(),
                column_lengths.quantile(0.5),
                column_lengths.quantile(1.0),
                lengths.unit
            ))?;
        }
        if let Some(column) = &task_column {
            console.say(&format!("  tasks (column `{column}`): {}", counted(&tasks)))?;
        }
        if let Some(unusable) = unusable {
            console::note(&format!("{name}: {unusable}"));
        }
        if let Some(row) = &first {
            console.say(&format!("  first row: {}", excerpt(row)))?;
        }
        found.push(json!({
            "path": name,
            "schema": schema.to_string(),
            "files": paths,
            "split": split,
            "unread_columns": unread,
            "rows": lengths.rows,
            "checkable": checkable,
            "tasks": tasks,
            "unit": lengths.unit,
            "lengths": lengths.json(),
        }));
    }
    console.finish(&json!({ "data": found }))
}

fn validate(
    files: &[String],
    read: &ReadOptions,
    model: Option<&Path>,
    max_length: usize,
    errors: usize,
    console: Console,
) -> Result<()> {
    let tokenizer = match model {
        Some(folder) => {
            want_folder(folder)?;
            Some(PairTokenizer::from_folder(folder)?)
        }
        None => None,
    };
    let options = TokeniseOptions { max_length: Some(max_length) };
    let mut found = Vec::new();
    let mut bad = 0_usize;
    for name in files {
        let reader = RowReader::open_with(name, read)?;
        note_taken(name, &reader);
        let fault = |error: DataError| {
            if errors > 1 {
                console::note(&format!("ama: {error}"));
                bad += 1;
            }
            if bad < errors && errors > 1 { Ok(()) } else { Err(error) }
        };
        let (task_column, unusable) = (reader.task_column().map(str::to_owned), unusable_task(&reader));
        let (mut tasks, mut without_task) = (0_u64, None);
        let mut missing = 0_u64;
        let rows = reader.inspect(|row| match row {
            Ok(row) if row.task.is_none() => {
                missing += 1;
                without_task.get_or_insert((row.source.clone(), row.row));
            }
            Ok(_) => tasks += 1,
            Err(_) => {}
        });
        let report = BuildReport::of(rows, tokenizer.as_ref(), &options, fault);
        if bad >= errors {
            return Err(bad_input(format!("{bad} bad rows; stopped there (--errors {errors})")));
        }
        let report = report?;
        let mut line = format!("{name}: {} rows, {} usable", report.read, report.kept);
        if tokenizer.is_some() {
            line += &format!(
                ", {} cut at {max_length} tokens, {} dropped (prompt too long), {} tokens",
                report.truncated, report.dropped_prompt_too_long, report.tokens
            );
        }
        console.say(&line)?;
        if let Some(unusable) = unusable {
            console::note(&format!("{name}: {unusable}"));
        }
        if let (Some(column), Some((file, row))) = (task_column, without_task) {
            console::note(&format!(
                "{name}: column `{column}` names no task in {missing} of {} rows (first {}, row {row}): [pool] would \
                 refuse it; write text or an integer there",
                tasks + missing,
                file.display()
            ));
        }
        for note in notes(&report, tokenizer.as_ref()) {
            console::note(&format!("{name}: {note}"));
        }
        let mut value = report_json(&report);
        value["path"] = json!(name);
        if tokenizer.is_none() {
            value["tokens"] = Value::Null;
        }
        found.push(value);
    }
    if bad > 0 {
        return Err(bad_input(format!("{bad} bad rows; mend or remove them")));
    }
    console.finish(&json!({ "data": found }))
}

/// What `[pool]` would say of a column for the task that names none.
fn unusable_task(reader: &RowReader) -> Option<String> {
    reader.unusable_task().map(|(column, holds)| {
        format!("column `{column}` holds {holds}: [pool] would refuse it; write text or integers there")
    })
}

/// The rows of each task, in one line.
fn counted(tasks: &BTreeMap<String, u64>) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = tasks
        .iter()
        .take(SHOWN)
        .map(|(task, rows)| {
            let cut: String = task.chars().take(64).collect();
            format!("{cut:?}{} {rows}", if cut.len() < task.len() { "..." } else { "" })
        })
        .collect();
    match tasks.len() {
        0 => "no row names one".into(),
        all if all > SHOWN => format!("{}, and {} more", shown.join(", "), all - SHOWN),
        _ => shown.join(", "),
    }
}

/// Lengths of the columns of a file.
#[derive(Default)]
struct Table {
    rows: u64,
    unit: &'static str,
    lengths: Vec<(&'static str, Lengths)>,
}

impl Table {
    fn add(&mut self, row: &Row) {
        self.rows += 1;
        let chars = |text: &String| text.chars().count();
        let (unit, values) = match &row.content {
            RowContent::Text { prompt, chosen, rejected } => (
                "characters",
                vec![("prompt", chars(prompt)), ("chosen", chars(chosen)), ("rejected", chars(rejected))],
            ),
            RowContent::Ids { prompt, chosen, rejected } => (
                "tokens",
                vec![("prompt", prompt.len()), ("chosen", chosen.len()), ("rejected", rejected.len())],
            ),
            RowContent::Completion { prompt, completion } => {
                ("characters", vec![("prompt", chars(prompt)), ("completion", chars(completion))])
            }
            _ => ("", Vec::new()),
        };
        self.unit = unit;
        for (column, length) in values {
            let at = self.lengths.iter().position(|(name, _)| *name == column).unwrap_or_else(|| {
                self.lengths.push((column, Lengths::default()));
                self.lengths.len() - 1
            });
            self.lengths[at].1.add(length);
        }
    }

    fn columns(&self) -> impl Iterator<Item = (&'static str, &Lengths)> {
        self.lengths.iter().map(|(name, lengths)| (*name, lengths))
    }

    fn json(&self) -> Value {
        let columns = self.columns().map(|(name, lengths)| {
            let value = json!({
                "mean": lengths.mean(), "median": lengths.quantile(0.5), "longest": lengths.quantile(1.0),
            });
            (name.to_string(), value)
        });
        Value::Object(columns.collect())
    }
}

/// Lengths of one column, counted by value so that memory does not grow with the rows.
#[derive(Default)]
struct Lengths {
    count: u64,
    sum: u64,
    by_length: BTreeMap<usize, u64>,
}

impl Lengths {
    fn add(&mut self, length: usize) {
        self.count += 1;
        self.sum += length as u64;
        *self.by_length.entry(length).or_default() += 1;
    }

    fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64
    }

    /// The smallest length that at least this share of the rows does not exceed.
    fn quantile(&self, share: f64) -> usize {
        let want = (share * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (&length, &rows) in &self.by_length {
            seen += rows;
            if seen >= want {
                return length;
            }
        }
        0
    }
}

fn excerpt(row: &Row) -> String {
    let cut = |text: &str| {
        let line: String = text.chars().take(60).collect::<String>().replace('\n', " ");
        format!("{line:?}")
    };
    match &row.content {
        RowContent::Text { prompt, chosen, rejected } => {
            format!("{} -> {} over {}", cut(prompt), cut(chosen), cut(rejected))
        }
        RowContent::Completion { prompt, completion } => format!("{} -> {}", cut(prompt), cut(completion)),
        RowContent::Ids { prompt, .. } => format!("{} prompt tokens", prompt.len()),
        _ => "of another shape".to_string(),
    }
}
