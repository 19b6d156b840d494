//! `ama train`: one stage-2 run of a configuration.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::config;
use crate::console::Console;
use crate::run::{RunOptions, train_one};

/// Options of `ama train`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ama train mine.toml\n  \
    ama train mine.toml --method ama-r --seed 1 --set method.ama-r.eta=0.02 --out runs/mine\n\n\
    What the run needs (data, base model, reference scores, specialists) is made or found in the run folder, which \
    `ama run` shares.")]
pub(crate) struct Options {
    /// Configuration, TOML
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,
    /// Run folder [default: runs/NAME for NAME.toml]
    #[arg(long, value_name = "RUN_DIR")]
    out: Option<PathBuf>,
    /// Name of a [[method]] [default: the first]
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Seed of the run [default: the first of generalist.seeds]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Override one key, e.g. generalist.lr=3e-7 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Do every stage again
    #[arg(long)]
    force: bool,
}

/// Runs `ama train`.
///
/// # Errors
/// Bad input, an interruption, or a stage that failed.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let config = config::load(&options.config, &options.sets)?;
    let stem = options.config.file_stem().unwrap_or_default();
    let out = options.out.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    let how = RunOptions { out: &out, force: options.force, jobs: 1 };
    let outcome = train_one(&config, how, options.method.as_deref(), options.seed, console)?;
    console.finish(&outcome)
}
