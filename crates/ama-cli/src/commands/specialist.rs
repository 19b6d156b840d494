//! `ama specialist`: plain single-task DPO.

use std::path::PathBuf;

use ama_data::SplitKind;
use ama_mix::{ExcessMode, GradientClip, MixerSpec};
use ama_train::{Preference, PreferenceOptions, ScoreOptions, Stage, TrainTask};
use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::arguments::{Dtype, LossArgs, OrderArg, ReadArgs, TrainingArgs};
use crate::console::Console;
use crate::corpus::{Rows, Source};
use crate::exit::bad_input;
use crate::files;
use crate::job::Job;
use crate::key::Key;
use crate::notes::report_json;
use crate::output::Output;
use crate::policy::Policy;
use crate::work::WorkFolder;
use crate::{fail_point, scoring};

/// Options of `ama specialist`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    ama specialist --model models/base --data helpful.parquet --out models/helpful --lr 1e-6 --batch-pairs 8\n  \
    ama specialist --model m --data p.parquet --out o --steps 8 --order file --schedule constant --summary s.json\n  \
    ama specialist --model m --data p.parquet --out o --resume      (after Ctrl-C or a crash)")]
pub(crate) struct Options {
    /// Model folder to start from; it is the frozen reference too
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Preference pairs: a file, a folder or a quoted glob
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    /// Model folder to write; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pairs a step (TRL's default)
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch_pairs: usize,
    /// Peak learning rate (TRL's DPO default)
    #[arg(long, value_name = "X", default_value_t = 1e-6)]
    lr: f64,
    #[command(flatten)]
    loss: LossArgs,
    #[command(flatten)]
    training: TrainingArgs,
    /// Longest prompt plus completion in tokens; longer completions are cut at the end (TRL's default)
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_length: usize,
    /// Use only the first so many pairs
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Order of the pairs
    #[arg(long, value_enum, default_value_t = OrderArg::Shuffled)]
    order: OrderArg,
    /// Seed of the order
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

/// Runs `ama specialist`.
///
/// # Errors
/// Bad input, an interruption, or a run that failed.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let read = options.read.options(SplitKind::Train)?;
    let training = options.training.settings(options.batch_pairs, options.lr)?;
    let loss_settings = options.loss.settings()?;
    let loss = loss_settings.build().map_err(|error| bad_input(error.to_string()))?;
    let work = WorkFolder::of_model(&options.out, options.resume)?;
    let logs = Output::claim_logs([&options.metrics, &options.summary])?;
    let mut policy = Policy::open(&options.model)?;
    let source = Source {
        files: &options.data,
        read: &read,
        rows: Rows::Pairs,
        task: None,
        limit: options.limit,
        max_length: options.max_length,
    };
    source.keep_from(&logs.iter().map(Output::path).collect::<Vec<_>>())?;
    let pairs = source.tokenise(&policy.tokenizer, &work.tokens("pairs"))?;

    let passes = ScoreOptions { micro_batch_tokens: training.passes.micro_batch_tokens };
    let reference =
        scoring::resumable(&policy, &pairs, options.max_length, passes, "reference", &work)?.scores;

    let train_options = training.options(pairs.len());
    let identity = Key::of("specialist")
        .bytes("model", &policy.fingerprint)
        .bytes("pairs", &pairs.fingerprint())
        .field("loss", &loss_settings)
        .field("training", &training)
        .field("order", &options.order)
        .field("seed", &options.seed)
        .hex();
    let task = TrainTask { name: "task".into(), pairs: pairs.clone(), reference, specialist_loss_nats: None };
    let mixer = MixerSpec::Pooled.build(&[pairs.len()], 1)?;
    let preference = PreferenceOptions {
        loss,
        batch_pairs: options.batch_pairs,
        excess: ExcessMode::Raw,
        gradient_clip: GradientClip::Pair,
        order: options.order.into(),
        seed: options.seed,
        stage: Stage::Specialist,
    };
    let mut objective = Preference::new(vec![task], mixer, preference)?;
    let job = Job {
        label: "specialist".into(),
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
        "{} steps, {} tokens, {:.0} tokens/s, last loss {:.4} nats; model in {}",
        summary.steps,
        summary.tokens,
        summary.tokens_per_s,
        last.unwrap_or(f64::NAN),
        options.out.display()
    ))?;
    console.finish(&json!({
        "out": options.out, "steps": summary.steps, "tokens": summary.tokens, "tokens_per_s": summary.tokens_per_s,
        "loss": last, "wall_s": summary.wall_s, "data": report_json(pairs.report()),
    }))
}
