//! `cargo xtask pipeline`: build in release, then `ama run`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::shell;

/// What to run, and where to.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One seed and smaller budgets: about 2 minutes on 2 cores instead of 8
    #[arg(long, conflicts_with = "config")]
    quick: bool,
    /// A configuration of your own [default: datasets/default.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run folder [default: runs/pipeline, or runs/quick with --quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Override one key of the configuration, e.g. --set generalist.lr=3e-4 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Independent generalist runs at a time; the results do not depend on it
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Print one JSON object last
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Arguments of `cargo` that run `ama run` with these options.
    fn cargo_args(&self) -> Vec<String> {
        let root = shell::root();
        let here = std::env::current_dir().unwrap_or_else(|_| root.clone());
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let config = match &self.config {
            Some(file) => here.join(file),
            None if self.quick => root.join("datasets/quick.toml"),
            None => root.join("datasets/default.toml"),
        };
        let out = match &self.out {
            Some(folder) => here.join(folder),
            None if self.quick => root.join("runs/quick"),
            None => root.join("runs/pipeline"),
        };
        let mut args: Vec<String> =
            ["run", "--quiet", "--release", "--package", "ama-cli", "--bin", "ama", "--", "run"]
                .map(String::from)
                .to_vec();
        args.push(text(config));
        args.push("--out".into());
        args.push(text(out));
        for set in &self.sets {
            args.push("--set".into());
            args.push(set.clone());
        }
        if let Some(jobs) = self.jobs {
            args.push("--jobs".into());
            args.push(jobs.to_string());
        }
        if self.json {
            args.push("--json".into());
        }
        args
    }
}

/// Builds `ama` in release.
///
/// # Errors
/// The build failed.
pub(crate) fn build() -> Result<()> {
    shell::run(&mut shell::cargo(&["build", "--release", "--package", "ama-cli", "--bin", "ama"]))
}

/// Builds `ama` and becomes `ama run`.
///
/// # Errors
/// The build failed or `ama` could not be started.
pub(crate) fn run(options: &Options) -> Result<()> {
    build()?;
    let here = std::env::current_dir()?;
    let mut command = shell::cargo(&options.cargo_args());
    command.current_dir(relative_home(&here));
    shell::replace_with(&mut command)
}

/// The folder to run in: where the user stands if that is inside the workspace (cargo has to find it).
fn relative_home(here: &Path) -> PathBuf {
    let root = shell::root();
    if here.starts_with(&root) { here.to_path_buf() } else { root }
}
