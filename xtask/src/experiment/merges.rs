//! Merges of the specialists: every candidate on validation pairs, the best of each method on test pairs.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::runs::{Outcome, ama};
use super::suite::{Size, Suite, TASKS};
use crate::shell;

/// A method with the parameters that are tried.
struct Candidates {
    method: &'static str,
    lambdas: &'static [f64],
    densities: &'static [f64],
    /// Whether it draws masks: `ama merge` refuses a seed that has no use.
    seeded: bool,
}

const CANDIDATES: [Candidates; 5] = [
    Candidates { method: "linear", lambdas: &[], densities: &[], seeded: false },
    Candidates { method: "slerp", lambdas: &[], densities: &[], seeded: false },
    Candidates {
        method: "task_arithmetic",
        lambdas: &[0.15, 0.3, 0.5, 0.7, 1.0],
        densities: &[],
        seeded: false,
    },
    Candidates {
        method: "ties",
        lambdas: &[0.25, 0.5, 1.0, 1.5],
        densities: &[0.2, 0.5, 0.8],
        seeded: false,
    },
    Candidates { method: "dare_ties", lambdas: &[0.25, 0.5, 1.0], densities: &[0.5, 0.8], seeded: true },
];

/// Outcomes of all merges of a run's specialists.
///
/// # Errors
/// A merge or an evaluation failed.
pub(super) fn all(suite: &Suite, run: &Path, size: Size, seed: u64) -> Result<Vec<Outcome>> {
    let home = run.with_file_name("merges");
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    CANDIDATES
        .iter()
        .map(|candidates| {
            let chosen = choose(suite, run, &home, candidates, seed)?;
            let method = format!("merge: {}", candidates.method.replace('_', " "));
            Ok(Outcome { size, tokens: None, seed, method, tasks: chosen["test"]["tasks"].clone() })
        })
        .collect()
}

/// The best candidate by the mean win rate on validation pairs, with its results on test pairs; kept in a file.
fn choose(suite: &Suite, run: &Path, home: &Path, candidates: &Candidates, seed: u64) -> Result<Value> {
    let record = home.join(format!("{}.json", candidates.method));
    if let Ok(text) = fs::read_to_string(&record) {
        return serde_json::from_str(&text).with_context(|| format!("{} is no JSON", record.display()));
    }
    let mut tried = Vec::new();
    let mut best: Option<(f64, Vec<String>)> = None;
    for flags in candidates.flags(seed) {
        let model = merge(run, home, candidates.method, &flags)?;
        let valid = evaluate(suite, run, &model, "valid", home)?;
        let rates = TASKS.map(|task| valid["tasks"][task]["win_rate"].as_f64().unwrap_or(0.0));
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        tried.push(json!({ "flags": flags, "valid_win_rate": mean }));
        if best.as_ref().is_none_or(|(most, _)| mean > *most) {
            best = Some((mean, flags));
        }
    }
    let (_, flags) = best.context("a method without candidates")?;
    let model = merge(run, home, candidates.method, &flags)?;
    let chosen =
        json!({ "chosen": flags, "tried": tried, "test": evaluate(suite, run, &model, "test", home)? });
    shell::write_whole(&record, &chosen.to_string())?;
    Ok(chosen)
}

impl Candidates {
    /// Flags of `ama merge`, a list for each candidate.
    fn flags(&self, seed: u64) -> Vec<Vec<String>> {
        let or_default = |values: &[f64], flag: &str| -> Vec<Vec<String>> {
            if values.is_empty() {
                vec![Vec::new()]
            } else {
                values.iter().map(|value| vec![flag.to_owned(), value.to_string()]).collect()
            }
        };
        let mut all = Vec::new();
        for lambda in or_default(self.lambdas, "--lambda") {
            for density in or_default(self.densities, "--density") {
                let seed = if self.seeded { vec!["--seed".to_owned(), seed.to_string()] } else { Vec::new() };
                all.push([lambda.clone(), density, seed].concat());
            }
        }
        all
    }
}

/// Merges the specialists into a folder that the next merge replaces.
fn merge(run: &Path, home: &Path, method: &str, flags: &[String]) -> Result<std::path::PathBuf> {
    let model = home.join("model");
    if model.exists() {
        fs::remove_dir_all(&model).with_context(|| format!("cannot remove {}", model.display()))?;
    }
    let mut command = ama();
    command.args(["merge", "--json", "--method", method, "--base"]).arg(run.join("base/final"));
    for task in TASKS {
        command.arg("--model").arg(run.join("specialists").join(task).join("final"));
    }
    shell::json(command.arg("--out").arg(&model).args(flags))?;
    Ok(model)
}

fn evaluate(suite: &Suite, run: &Path, model: &Path, split: &str, home: &Path) -> Result<Value> {
    let mut command = ama();
    command.args(["eval", "--json", "--sft-weight", "3", "--max-new-tokens", "40", "--model"]).arg(model);
    command.arg("--reference").arg(run.join("base/final")).arg("--out").arg(home.join("evaluation.json"));
    for task in TASKS {
        let mut pairs = OsString::from(format!("{task}="));
        pairs.push(suite.pairs(split, task));
        command.arg("--task").arg(pairs);
    }
    shell::json(&mut command)
}
