//! Which suite is compared on: the embedded one, or one that is generated from another seed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::runs;
use crate::shell;

/// The suite's tasks, in the order of all tables.
pub(crate) const TASKS: [&str; 3] = ["helpful", "harmless", "reasoning"];

/// Configurations that an experiment is made of; they stand beside the folder `suite`.
const CONFIGS: [&str; 4] = ["default.toml", "size-a.toml", "experiment.toml", "experiment-size-a.toml"];

/// A size set: how many pairs of each task there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// helpful 6000, harmless 1500, reasoning 400
    A,
    /// helpful 1500, harmless 6000, reasoning 400
    B,
}

impl Size {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

/// A folder with the suite's pairs and the configurations beside it.
#[derive(Debug)]
pub(crate) struct Suite {
    folder: PathBuf,
}

impl Suite {
    /// The suite in `datasets/`, or, given a seed, a fresh one in `out`, which is made if it is not there.
    ///
    /// # Errors
    /// The suite could not be generated, or a file not be written.
    pub(crate) fn open(seed: Option<u64>, out: &Path) -> Result<Self> {
        let embedded = shell::root().join("datasets");
        let Some(seed) = seed else { return Ok(Self { folder: embedded }) };
        let folder = out.join("datasets");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for name in CONFIGS {
            let (from, to) = (embedded.join(name), folder.join(name));
            fs::copy(&from, &to)
                .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        }
        let pairs = folder.join("suite");
        if !pairs.exists() {
            let mut command = runs::ama();
            command.args(["suite", "generate", "--json", "--seed", &seed.to_string(), "--out"]).arg(&pairs);
            shell::json(&mut command)?;
        }
        Ok(Self { folder })
    }

    /// The configuration with the experiment's methods.
    pub(crate) fn methods(&self, size: Size) -> PathBuf {
        self.folder.join(match size {
            Size::A => "experiment-size-a.toml",
            Size::B => "experiment.toml",
        })
    }

    /// Held-out pairs: `split` is `valid` or `test`.
    pub(crate) fn pairs(&self, split: &str, task: &str) -> PathBuf {
        self.folder.join("suite").join(split).join(format!("{task}.parquet"))
    }
}
