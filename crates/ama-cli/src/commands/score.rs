//! `ama score`: log-probabilities of every pair.

use std::path::{Path, PathBuf};

use ama_data::{DropReason, SplitKind, TokenStore};
use ama_specialist_cache::{PairScore, RowScore, write_row_scores};
use ama_train::ScoreOptions;
use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::arguments::ReadArgs;
use crate::console::Console;
use crate::corpus::{Rows, Source};
use crate::notes::report_json;
use crate::policy::Policy;
use crate::work::WorkFolder;
use crate::{fail_point, scoring};

/// Options of `ama score`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ama score --model models/base --data pairs.parquet --out scores.parquet\n\n\
    Stopped or cut off, the same call goes on from what was scored (kept in FILE.parquet.partial until it is done).\n\n\
    A line for every row of the files, in their order. Columns: file, row (from 1; blank lines of JSON Lines do not count), id (hash of \
    the pair), chosen_logp, rejected_logp (nats, summed over the completion), chosen_tokens, rejected_tokens, and \
    reason: why a row has no score (its other columns are null then)."
)]
pub(crate) struct Options {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Preference pairs: a file, a folder or a quoted glob
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    /// Parquet file to write; an older one is replaced
    #[arg(long, value_name = "FILE.parquet")]
    out: PathBuf,
    /// Longest prompt plus completion in tokens; longer completions are cut at the end
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_length: usize,
    /// Use only the first so many pairs
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Most packed tokens of one forward pass; bounds memory
    #[arg(long, value_name = "N", default_value_t = 4096)]
    micro_batch_tokens: usize,
}

/// Runs `ama score`.
///
/// # Errors
/// Bad input, or a disk that refuses.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let read = options.read.options(SplitKind::Train)?;
    let work = WorkFolder::of_file(&options.out)?;
    let policy = Policy::open(&options.model)?;
    let source = Source {
        files: &options.data,
        read: &read,
        rows: Rows::Pairs,
        task: None,
        limit: options.limit,
        max_length: options.max_length,
    };
    source.keep_from(&[&options.out])?;
    let pairs = source.tokenise(&policy.tokenizer, &work.tokens("pairs"))?;
    let how = ScoreOptions { micro_batch_tokens: options.micro_batch_tokens.max(1) };
    let started = std::time::Instant::now();
    let scored = scoring::resumable(&policy, &pairs, options.max_length, how, "score", &work)?;
    let wall_s = started.elapsed().as_secs_f64();
    write_scores(&options.out, &pairs, &scored.scores)?;
    fail_point::reach("output-whole");
    work.done()?;
    let tokens = pairs.total_tokens();
    let tokens_per_s = scored.tokens as f64 / wall_s;
    console.say(&format!(
        "{} pairs, {tokens} tokens, {tokens_per_s:.0} tokens/s; scores in {}",
        scored.scores.len(),
        options.out.display()
    ))?;
    console.finish(&json!({
        "out": options.out, "pairs": scored.scores.len(), "tokens": tokens, "wall_s": wall_s,
        "tokens_per_s": tokens_per_s, "data": report_json(pairs.report()),
    }))
}

/// Writes a line for every row that was read: its score (`scores` are in the store's order), or why it has none.
fn write_scores(out: &Path, pairs: &TokenStore, scores: &[PairScore]) -> Result<()> {
    let rows: Vec<RowScore> = pairs
        .rows()
        .map(|row| RowScore {
            file: row.place.file.display().to_string(),
            row: row.place.row,
            id: *row.id.as_bytes(),
            score: row.example.map(|example| scores[example]).map_err(|reason| match reason {
                DropReason::PromptTooLong => "the prompt alone reaches max_length".to_owned(),
                _ => "dropped".to_owned(),
            }),
        })
        .collect();
    Ok(write_row_scores(out, &rows)?)
}
