//! `ama sft`: supervised fine-tuning on prompts and completions.

use std::path::PathBuf;

use ama_data::{PairTokenizer, SplitKind};
use ama_model::folder::params_fingerprint;
use ama_model::{Init, Llama, LlamaConfig};
use ama_train::Sft;
use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::arguments::{Dtype, OrderArg, ReadArgs, TrainingArgs};
use crate::console::Console;
use crate::corpus::{Rows, Source};
use crate::generation::stop_ids;
use crate::job::Job;
use crate::key::Key;
use crate::notes::report_json;
use crate::output::Output;
use crate::policy::{Policy, fits, want_folder};
use crate::work::WorkFolder;
use crate::{fail_point, files};

/// Options of `ama sft`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ama sft --model models/base --data corpus.parquet --out models/sft --lr 2e-5\n  \
    ama sft --model suite/base --from-scratch --data suite/sft.parquet --out models/base \\\n      \
    --batch 40 --lr 2e-3 --schedule cosine --warmup-steps 30"
)]
pub(crate) struct Options {
    /// Model folder to start from
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Start from random weights; --model then needs config.json and tokenizer.json only
    #[arg(long)]
    from_scratch: bool,
    /// Rows with `prompt` and `completion`: a file, a folder or a quoted glob
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    /// Model folder to write; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Examples a step
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// Peak learning rate (TRL's SFT default)
    #[arg(long, value_name = "X", default_value_t = 2e-5)]
    lr: f64,
    #[command(flatten)]
    training: TrainingArgs,
    /// Longest prompt plus completion in tokens; longer completions are cut at the end
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_length: usize,
    /// Use only the first so many rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Order of the rows
    #[arg(long, value_enum, default_value_t = OrderArg::Shuffled)]
    order: OrderArg,
    /// Seed of the order, and of random weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Continue an interrupted call with the same options
    #[arg(long)]
    resume: bool,
    /// Write losses, speeds and sizes of the run here
    #[arg(long, value_name = "FILE.json")]
    summary: Option<PathBuf>,
    /// Write a line a step here
    #[arg(long, value_name = "FILE.jsonl")]
    metrics: Option<PathBuf>,
    /// Element type of the written weights
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
}

/// Runs `ama sft`.
///
/// # Errors
/// Bad input, an interruption, or a run that failed.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let read = options.read.options(SplitKind::Train)?;
    let training = options.training.settings(options.batch, options.lr)?;
    let work = WorkFolder::of_model(&options.out, options.resume)?;
    let logs = Output::claim_logs([&options.metrics, &options.summary])?;
    let mut policy = if options.from_scratch {
        want_folder(&options.model)?;
        let tokenizer = PairTokenizer::from_folder(&options.model)?;
        let config = LlamaConfig::from_json(&options.model.join("config.json"))?;
        fits(&tokenizer, &config, &options.model)?;
        let stop_ids = stop_ids(&tokenizer, &options.model)?;
        let model = Llama::random(&config, options.seed, Init::Scaled)?;
        let fingerprint = params_fingerprint(&config, model.params());
        Policy { model, tokenizer, folder: options.model.clone(), fingerprint, stop_ids }
    } else {
        Policy::open(&options.model)?
    };
    let source = Source {
        files: &options.data,
        read: &read,
        rows: Rows::Completions,
        task: None,
        limit: options.limit,
        max_length: options.max_length,
    };
    source.keep_from(&logs.iter().map(Output::path).collect::<Vec<_>>())?;
    let store = source.tokenise(&policy.tokenizer, &work.tokens("rows"))?;
    let train_options = training.options(store.len());
    let identity = Key::of("sft")
        .bytes("model", &policy.fingerprint)
        .bytes("rows", &store.fingerprint())
        .field("training", &training)
        .field("order", &options.order)
        .field("seed", &options.seed)
        .hex();
    let mut objective = Sft::new(store.clone(), options.batch, options.seed, options.order.into())?;
    let job = Job {
        label: "sft".into(),
        checkpoints: work.checkpoints(),
        metrics: options.metrics.clone(),
        identity,
        every_steps: training.checkpoint_every,
        options: &train_options,
        report: None,
    };
    let summary = job.train(&mut policy.model, &mut objective)?;
    // First: who finds the model finds the summary.
    if let Some(path) = &options.summary {
        files::write_json(path, &summary)?;
    }
    policy.save(&options.out, options.dtype.into())?;
    fail_point::reach("output-whole");
    work.done()?;
    let last = summary.losses.last().copied();
    console.say(&format!(
        "{} steps, {} tokens, {:.0} tokens/s, last loss {:.4} nats/token; model in {}",
        summary.steps,
        summary.tokens,
        summary.tokens_per_s,
        last.unwrap_or(f64::NAN),
        options.out.display()
    ))?;
    console.finish(&json!({
        "out": options.out, "steps": summary.steps, "tokens": summary.tokens, "tokens_per_s": summary.tokens_per_s,
        "loss": last, "wall_s": summary.wall_s, "data": report_json(store.report()),
    }))
}
