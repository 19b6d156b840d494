//! `ama data cluster`: proposed tasks for pooled preference pairs.

use std::path::PathBuf;

use ama_data::SplitKind;
use ama_data::cluster::{ClusterOptions, propose, write_tasks};
use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::arguments::ReadArgs;
use crate::config::{NAME, is_name};
use crate::console::Console;
use crate::exit::bad_input;
use crate::files;
use crate::output::Output;

/// Options of `ama data cluster`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ama data cluster pooled.parquet --k 4 --out tasks.parquet\n  \
    ama data cluster 'pooled/*.jsonl' --k 3 --names code,sums,chat --out tasks.parquet\n\n\
    A heuristic: k-means over hashed words, word pairs and punctuation of prompt and chosen completion. It finds what \
    differs in its words; whether a group is a task worth a specialist, look at its words and a few of its rows. The \
    pipeline takes the file with\n\n  [pool]\n  train = \"tasks.parquet\"")]
pub(crate) struct Options {
    /// Preference pairs: a Parquet, JSON Lines or Arrow file, a folder, or a quoted glob
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    read: ReadArgs,
    /// Number of tasks to look for
    #[arg(long, value_name = "K")]
    k: usize,
    /// Parquet file to write: the pairs with the column `task`; it must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Names of the tasks, the largest first [default: task-1, task-2, ...]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    names: Vec<String>,
    /// Everything random follows from it
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// About the most rows that k-means sees; the others join the nearest group
    #[arg(long, value_name = "ROWS", default_value_t = 20_000)]
    sample: usize,
    /// Runs of k-means, of which the tightest is taken
    #[arg(long, value_name = "N", default_value_t = 4)]
    runs: u32,
}

/// Runs `ama data cluster`.
///
/// # Errors
/// Rows that cannot be used or grouped; a file that is there already.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let read = options.read.options(SplitKind::Train)?;
    if !options.names.is_empty() && options.names.len() != options.k {
        let (names, k) = (options.names.len(), options.k);
        return Err(bad_input(format!("--names gives {names} names for --k {k} tasks; give one for each")));
    }
    for (at, name) in options.names.iter().enumerate() {
        if !is_name(name) || options.names[..at].contains(name) {
            return Err(bad_input(format!("--names: {name:?}; want {NAME}, each name once")));
        }
    }
    let folder = files::folder_of(&options.out);
    if !folder.is_dir() {
        return Err(bad_input(format!(
            "{}: no such folder; make it or choose another --out",
            folder.display()
        )));
    }
    let _claim = Output::claim_file(&options.out)?;
    if options.out.exists() {
        return Err(bad_input(format!(
            "{}: it is there already; remove it or choose another --out",
            options.out.display()
        )));
    }
    let how = ClusterOptions { k: options.k, seed: options.seed, sample: options.sample, runs: options.runs };
    let proposal = propose(&options.file, &read, &how)?;
    let name =
        |group: usize| options.names.get(group).cloned().unwrap_or_else(|| format!("task-{}", group + 1));
    write_tasks(&options.file, &read, &options.out, |row| name(proposal.labels[row] as usize))?;
    let rows = proposal.labels.len();
    for (group, found) in proposal.groups.iter().enumerate() {
        console.say(&format!(
            "{:<16} {:>8} rows {:>5.1}%  {}",
            name(group),
            found.rows,
            100.0 * found.rows as f64 / rows as f64,
            found.words.join(" ")
        ))?;
    }
    if proposal.groups.len() < options.k {
        let (found, k) = (proposal.groups.len(), options.k);
        console.say(&format!("only {found} of {k} groups: the rows are not different enough for more"))?;
    }
    console.say(&format!("{}: {rows} rows with the column `task`", options.out.display()))?;
    let groups: Vec<_> = proposal
        .groups
        .iter()
        .enumerate()
        .map(|(group, found)| json!({ "task": name(group), "rows": found.rows, "words": found.words }))
        .collect();
    console.finish(&json!({
        "data": options.file,
        "out": options.out,
        "rows": rows,
        "distortion": proposal.distortion,
        "tasks": groups,
    }))
}
