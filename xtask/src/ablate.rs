//! `cargo xtask ablate`: AMA with one thing changed at a time, on the default suite, over seeds.
//!
//! What can share specialists does (`datasets/ablate.toml`); approximate specialists, trained for a share of their steps,
//! are runs of their own on the same base model (`datasets/ablate-specialists.toml`).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::experiment::runs::{self, Outcome};
use crate::experiment::suite::Size;
use crate::experiment::table::{METRICS, seeds, table};
use crate::{pipeline, shell};

/// Shares of the specialists' steps.
const LENGTH_RATIOS: [f64; 3] = [0.1, 0.25, 0.5];

/// What to run, and where to.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seeds of whole experiments
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5")]
    seeds: Vec<u64>,
    /// Tokens of a generalist
    #[arg(long, default_value_t = 96_000)]
    tokens: u64,
    /// Whole experiments at a time, one thread each; no result depends on it [default: as many as there are cores]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Folder of all runs and of results.md; finished runs in it are kept
    #[arg(long, value_name = "DIR", default_value = "runs/ablate")]
    out: PathBuf,
}

/// Runs what is missing and writes the tables.
///
/// # Errors
/// A build or a run failed, or a folder could not be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    pipeline::build()?;
    let out = shell::root().join(&options.out);
    let outcomes = runs::side_by_side(options.jobs, &options.seeds, |&seed| {
        one(seed, options.tokens, &out.join(format!("seed-{seed}")))
    })?;
    let text = markdown(&outcomes.concat(), options.tokens);
    let file = out.join("results.md");
    shell::write_whole(&file, &text)?;
    shell::say(&format!("{text}\ntables in {}", file.display()));
    Ok(())
}

/// Every ablation with one seed.
fn one(seed: u64, tokens: u64, home: &Path) -> Result<Vec<Outcome>> {
    let sets =
        [format!("seed={seed}"), format!("generalist.tokens={tokens}"), format!("generalist.seeds=[{seed}]")];
    let (datasets, full) = (shell::root().join("datasets"), home.join("full"));
    runs::run(&datasets.join("ablate.toml"), &full, &sets)?;
    let mut outcomes = runs::read(&full, Size::B, tokens, seed)?;
    for ratio in LENGTH_RATIOS {
        let folder = home.join(format!("specialists-{ratio}"));
        runs::share(&["run.json", "base"], &full, &folder)?;
        let mut sets = sets.to_vec();
        sets.push(format!("specialist.length_ratio={ratio}"));
        runs::run(&datasets.join("ablate-specialists.toml"), &folder, &sets)?;
        let trained = runs::read(&folder, Size::B, tokens, seed)?;
        outcomes.extend(trained.into_iter().filter(|outcome| outcome.method != "base").map(|outcome| {
            let method = format!("{}, specialists {}%", outcome.method, 100.0 * ratio);
            Outcome { method, ..outcome }
        }));
    }
    Ok(outcomes)
}

/// A table for each mixer and metric, every line compared with the unchanged mixer of the same seed. Excess is left out:
/// with other specialists it is another quantity.
fn markdown(outcomes: &[Outcome], tokens: u64) -> String {
    let seeds = seeds(outcomes);
    let mut text = format!(
        "Mean over {} whole experiments (seeds {seeds:?}) with 95% bootstrap intervals, size set B, {tokens} tokens, test \
         pairs.\n\n",
        seeds.len()
    );
    for mixer in ["ama-s", "ama-r"] {
        let other = if mixer == "ama-s" { "ama-r" } else { "ama-s" };
        let here: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| !outcome.method.starts_with(other)).collect();
        for metric in METRICS.iter().filter(|metric| metric.key != "excess") {
            table(&mut text, &here, metric, &format!("{mixer}: {}", metric.title), mixer);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variant_is_compared_with_its_mixer() {
        let outcome = |method: &str, rate: f64| {
            let task = json!({ "win_rate": rate, "accuracy": rate, "loss": rate, "excess": rate });
            let tasks = json!({ "helpful": task, "harmless": task, "reasoning": task });
            Outcome { size: Size::B, tokens: Some(1), seed: 1, method: method.into(), tasks }
        };
        let all = [
            outcome("ama-s", 0.5),
            outcome("ama-s-raw", 0.6),
            outcome("ama-r", 0.8),
            outcome("ama-r, specialists 10%", 0.4),
        ];
        let text = markdown(&all, 1);
        let (s, r) = text.split_once("### ama-r").unwrap();
        assert!(s.contains("| ama-s-raw |") && s.contains("+20.0% [+20.0, +20.0]") && !s.contains("| ama-r"));
        assert!(r.contains("| ama-r, specialists 10% |") && r.contains("-50.0% [-50.0, -50.0]"));
        assert!(!text.contains("excess over"));
    }
}
