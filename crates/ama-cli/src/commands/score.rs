//! `ama score`: log-probabilities of every pair.

use std::path::PathBuf;

use ama_data::SplitKind;
use ama_specialist_cache::write_scores_parquet;
use ama_train::{Control, ScoreOptions, score};
use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::arguments::ReadArgs;
use crate::console::Console;
use crate::corpus::{Rows, Source, report_json};
use crate::files;
use crate::policy::Policy;
use crate::progress::Progress;
use crate::stop;

/// Options of `ama score`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ama score --model models/base --data pairs.parquet --out scores.parquet\n\n\
    Columns: id (hash of the pair), chosen_logp, rejected_logp (nats, summed over the completion), chosen_tokens, \
    rejected_tokens."
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
    let folder = files::folder_of(&options.out);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let policy = Policy::open(&options.model)?;
    let temporary =
        tempfile::tempdir_in(folder).with_context(|| format!("cannot write in {}", folder.display()))?;
    let source = Source {
        files: &options.data,
        read: &read,
        rows: Rows::Pairs,
        task: None,
        limit: options.limit,
        max_length: options.max_length,
    };
    let pairs = source.tokenise(&policy.tokenizer, &temporary.path().join("pairs.tokens"))?;
    let mut progress = Progress::new("score");
    let scoring = ScoreOptions { micro_batch_tokens: options.micro_batch_tokens.max(1) };
    let started = std::time::Instant::now();
    let scores =
        score(&policy.model, &pairs, scoring, "score", &mut Control::new(stop::flag(), &mut progress));
    progress.finish()?;
    let scores = scores?;
    let wall_s = started.elapsed().as_secs_f64();
    let rows: Vec<_> =
        scores.into_iter().enumerate().map(|(i, score)| (*pairs.id(i).as_bytes(), score)).collect();
    write_scores_parquet(&options.out, &rows)?;
    let tokens = pairs.total_tokens();
    console.say(&format!(
        "{} pairs, {tokens} tokens, {:.0} tokens/s; scores in {}",
        rows.len(),
        tokens as f64 / wall_s,
        options.out.display()
    ))?;
    console.finish(&json!({
        "out": options.out, "pairs": rows.len(), "tokens": tokens, "wall_s": wall_s,
        "tokens_per_s": tokens as f64 / wall_s, "data": report_json(pairs.report()),
    }))
}
