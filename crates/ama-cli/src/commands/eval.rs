//! `ama eval`: held-out loss, accuracy, margin and verified win rate of a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ama_data::SplitKind;
use ama_train::{EvalTask, ScoreOptions, TaskResult, TrainError, evaluate};
use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::arguments::{LossArgs, ReadArgs};
use crate::console::Console;
use crate::corpus::{Rows, Source, verify};
use crate::exit::bad_input;
use crate::files;
use crate::generation;
use crate::policy::Policy;
use crate::work::WorkFolder;
use crate::{fail_point, scoring};

/// Options of `ama eval`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ama eval --model runs/pipeline/generalists/ama-s/seed-0/final \\\n      \
    --reference runs/pipeline/base/final --sft-weight 3 \\\n      \
    --task helpful=datasets/suite/test/helpful.parquet --task reasoning=datasets/suite/test/reasoning.parquet \\\n      \
    --out eval.json"
)]
pub(crate) struct Options {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Model folder of the frozen reference
    #[arg(long, value_name = "DIR")]
    reference: PathBuf,
    /// A task: its name and its pairs (repeatable). Columns `verifier` and `gold` give the win rate
    #[arg(long = "task", value_name = "NAME=FILE", required = true)]
    tasks: Vec<String>,
    /// Results, JSON
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    loss: LossArgs,
    /// Longest prompt plus completion in tokens; longer completions are cut at the end
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_length: usize,
    /// Use only the first so many pairs of every task
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Longest generated answer in tokens
    #[arg(long, value_name = "N", default_value_t = 40)]
    max_new_tokens: usize,
}

/// Runs `ama eval`.
///
/// # Errors
/// Bad input, or a disk that refuses.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let loss = options.loss.settings()?.build().map_err(|error| bad_input(error.to_string()))?;
    let mut tasks: Vec<(&str, &Path)> = Vec::new();
    for text in &options.tasks {
        let (name, file) = text
            .split_once('=')
            .filter(|(name, file)| !name.is_empty() && !file.is_empty())
            .ok_or_else(|| bad_input(format!("--task {text}: want NAME=FILE")))?;
        if tasks.iter().any(|(other, _)| *other == name) {
            return Err(bad_input(format!("--task {text}: two tasks are called `{name}`")));
        }
        tasks.push((name, Path::new(file)));
    }
    let work = WorkFolder::of_file(&options.out)?;
    let read = options.read.options(SplitKind::Test)?;
    let policy = Policy::open(&options.model)?;
    let reference = Policy::open(&options.reference)?;
    if policy.tokenizer.fingerprint() != reference.tokenizer.fingerprint() {
        return Err(bad_input(format!(
            "{} and {} have different tokenizers; a reference scores the same tokens as the model",
            options.model.display(),
            options.reference.display()
        )));
    }
    let generate = generation::greedy(&policy, options.max_new_tokens);
    let decode = |ids: &[u32]| generation::decode(&policy.tokenizer, ids).map_err(TrainError::from);
    let mut results: BTreeMap<&str, TaskResult> = BTreeMap::new();
    for (name, file) in tasks {
        let source = Source {
            files: file,
            read: &read,
            rows: Rows::Pairs,
            task: None,
            limit: options.limit,
            max_length: options.max_length,
        };
        source.keep_from(&[&options.out])?;
        let pairs = source.tokenise(&policy.tokenizer, &work.tokens(&format!("pairs-{}", results.len())))?;
        let questions = source.questions(&policy.tokenizer)?;
        let score = |by: &Policy, who: &str| {
            let label = format!("evaluate {name}: {who}");
            let scored =
                scoring::resumable(by, &pairs, options.max_length, ScoreOptions::default(), &label, &work)?;
            Ok::<_, anyhow::Error>(scored.scores)
        };
        let task = EvalTask {
            name: name.to_string(),
            reference: score(&reference, "reference")?,
            specialist_loss_nats: None,
            questions,
        };
        let scores = score(&policy, "model")?;
        let result = evaluate(&policy.model, &scores, &task, &loss, &generate, &decode, &verify)?;
        let win = result.win_rate.map_or("-".to_string(), |rate| format!("{:.1}%", 100.0 * rate));
        console.say(&format!(
            "{name:<16} loss {:.4}  accuracy {:.1}%  margin {:.3}  win rate {win}  pairs {}",
            result.loss,
            100.0 * result.accuracy,
            result.margin,
            result.pairs
        ))?;
        results.insert(name, result);
    }
    let value = json!({ "model": options.model, "reference": options.reference, "tasks": results });
    files::write_json(&options.out, &value)?;
    fail_point::reach("output-whole");
    work.done()?;
    console.finish(&value)
}
