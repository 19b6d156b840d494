//! Our side: `ama` and the `kernels` program of package `benches`, built in release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::samples::{Run, Step};
use crate::{pipeline, shell};

/// Our programs.
#[derive(Debug)]
pub(super) struct Ours {
    folder: PathBuf,
    threads: u64,
}

impl Ours {
    /// Builds them.
    ///
    /// # Errors
    /// The build failed.
    pub(super) fn build(folder: &Path, threads: u64) -> Result<Self> {
        pipeline::build()?;
        shell::run(&mut shell::cargo(&["build", "--release", "--package", "benches", "--bin", "kernels"]))?;
        Ok(Self { folder: folder.join("ours"), threads })
    }

    /// `ama COMMAND ARGS` for the commands that train: every step's time, tokens and loss, and the peak of the process.
    ///
    /// # Errors
    /// It failed, or wrote something unreadable.
    pub(super) fn train(&self, command: &str, args: &[&str]) -> Result<Run> {
        let folder = self.fresh()?;
        let path = |name: &str| folder.join(name).display().to_string();
        let (out, summary, metrics) = (path("model"), path("summary.json"), path("metrics.jsonl"));
        let mut ama = self.program("ama");
        ama.args([command, "--out", &out, "--summary", &summary, "--metrics", &metrics])
            .args(["--checkpoint-every", "0", "--json"])
            .args(args);
        shell::json(&mut ama)?;
        let summary: Value = serde_json::from_str(&read(&summary)?).context("summary.json is no JSON")?;
        let mut run = Run { peak_rss_mib: summary["peak_rss_mib"].as_f64(), ..Run::default() };
        for line in read(&metrics)?.lines() {
            let step: Value =
                serde_json::from_str(line).context("metrics.jsonl holds a line that is no JSON")?;
            let number = |key: &str| step[key].as_f64().with_context(|| format!("metrics.jsonl: no {key}"));
            run.steps.push(Step { seconds: number("step_s")?, tokens: number("tokens")? });
            run.losses.push(number("loss")?);
        }
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        Ok(run)
    }

    /// Tokens per second of one `ama score`.
    ///
    /// # Errors
    /// As [`Ours::train`].
    pub(super) fn score(&self, args: &[&str]) -> Result<f64> {
        let out = self.fresh()?.join("scores.parquet").display().to_string();
        let said = shell::json(self.program("ama").args(["score", "--json", "--out", &out]).args(args))?;
        said["tokens_per_s"].as_f64().with_context(|| format!("`ama score` gave no tokens_per_s: {said}"))
    }

    /// What the `kernels` program measures.
    ///
    /// # Errors
    /// It failed, or printed no JSON.
    pub(super) fn kernels(&self, args: &[&str]) -> Result<Value> {
        shell::json(self.program("kernels").args(args))
    }

    fn program(&self, name: &str) -> Command {
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        let mut command = Command::new(shell::target().join("release").join(file));
        command.env("RAYON_NUM_THREADS", self.threads.to_string());
        command
    }

    /// An empty folder for one call's output.
    fn fresh(&self) -> Result<PathBuf> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)
                .with_context(|| format!("cannot remove {}", self.folder.display()))?;
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        Ok(self.folder.clone())
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}
