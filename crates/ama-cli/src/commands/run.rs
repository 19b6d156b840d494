//! `ama run`: every stage of a configuration.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::config;
use crate::console::Console;
use crate::run::{RunOptions, run_all};

const EXAMPLES: &str = "Examples:\n  ama run datasets/default.toml --out runs/pipeline\n  \
    ama run mine.toml --out runs/mine --set generalist.lr=3e-7 --set 'generalist.seeds=[0, 1, 2]'\n\n\
    Stages whose inputs and settings have not changed are skipped; a stage that was cut off continues from its last \
    checkpoint and ends with the same bits.";

/// Options of `ama run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", config::keys_text()))]
pub(crate) struct Options {
    /// Configuration, TOML
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,
    /// Run folder; made if it does not exist
    #[arg(long, value_name = "RUN_DIR")]
    out: PathBuf,
    /// Override one key, e.g. generalist.lr=3e-7 or task.helpful.limit=100 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Do every stage again
    #[arg(long)]
    force: bool,
    /// Independent stage-2 runs at a time; the threads are shared out among them
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,
}

/// Runs `ama run`.
///
/// # Errors
/// Bad input, an interruption, or a stage that failed.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let config = config::load(&options.config, &options.sets)?;
    let how = RunOptions { out: &options.out, force: options.force, jobs: options.jobs.get() };
    let results = run_all(&config, how, console)?;
    console.finish(&results)
}
