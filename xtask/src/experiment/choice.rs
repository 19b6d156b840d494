//! The learning rate of every method, chosen on validation pairs with seeds that the comparison does not use.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::runs::{self, FIRST_STAGE, Outcome};
use super::suite::{Size, Suite};
use super::table::{AVERAGE, METRICS};
use crate::shell;

/// What is tried; 6e-4 is the suite's default.
const RATES: [f64; 4] = [3e-4, 6e-4, 1.2e-3, 2.4e-3];
/// Seeds of whole experiments, none of them a default seed of the comparison.
const SEEDS: [u64; 2] = [101, 102];
const TOKENS: u64 = 96_000;

/// The learning rates of a comparison.
#[derive(Debug, Clone)]
pub(super) enum Rates {
    /// One for all methods.
    Same(f64),
    /// Each method's own, with what was tried for it: method to `chosen` and `tried`.
    Chosen(serde_json::Map<String, Value>),
}

impl Rates {
    /// The rate of each method with the best average win rate on validation pairs, at [`TOKENS`]; the same for all
    /// budgets. `learning-rates.json` in `home` holds what was tried and spares a second search.
    ///
    /// # Errors
    /// A run failed, or a file could not be read or written.
    pub(super) fn choose(suite: &Suite, size: Size, home: &Path, jobs: Option<NonZeroUsize>) -> Result<Self> {
        let record = home.join("learning-rates.json");
        if let Ok(text) = fs::read_to_string(&record) {
            let tried = serde_json::from_str(&text);
            return tried
                .map(Self::Chosen)
                .with_context(|| format!("{} is no JSON object", record.display()));
        }
        let outcomes = runs::side_by_side(jobs, &SEEDS, |&seed| try_all(suite, size, home, seed))?;
        let tried = mean_win_rates(&outcomes.concat());
        shell::write_whole(&record, &serde_json::to_string_pretty(&tried)?)?;
        Ok(Self::Chosen(tried))
    }

    /// `--set` of `ama run` for these rates.
    pub(super) fn sets(&self) -> Vec<String> {
        match self {
            Self::Same(rate) => vec![format!("generalist.lr={rate:?}")],
            Self::Chosen(methods) => methods
                .iter()
                .map(|(method, tried)| format!("method.{method}.lr={}", tried["chosen"]))
                .collect(),
        }
    }

    /// What was tried, as Markdown; the chosen one in bold.
    pub(super) fn markdown(&self, size: Size) -> String {
        let Self::Chosen(methods) = self else { return String::new() };
        let mut text = format!(
            "### Size set {}: learning rates tried\n\nAverage win rate on validation pairs, %, at {TOKENS} tokens, mean \
             over experiments of seeds {SEEDS:?}; the best is used for every budget.\n\n| method |",
            size.name()
        );
        for rate in RATES {
            let _ = write!(text, " {rate:e} |");
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(RATES.len()));
        for (method, tried) in methods {
            let _ = write!(text, "| {method} |");
            for one in tried["tried"].as_array().into_iter().flatten() {
                let value = one["valid_win_rate_percent"].as_f64().unwrap_or(f64::NAN);
                let mark = if one["lr"] == tried["chosen"] { "**" } else { "" };
                let _ = write!(text, " {mark}{value:.1}{mark} |");
            }
            text.push('\n');
        }
        text.push('\n');
        text
    }
}

/// All methods at every rate, with one seed.
fn try_all(suite: &Suite, size: Size, home: &Path, seed: u64) -> Result<Vec<(f64, Outcome)>> {
    let home = home.join("learning-rates").join(format!("seed-{seed}"));
    let first = home.join(format!("lr-{}", RATES[0]));
    let mut all = Vec::new();
    for rate in RATES {
        let folder = home.join(format!("lr-{rate}"));
        if folder != first {
            runs::share(FIRST_STAGE, &first, &folder)?;
        }
        let sets = [
            format!("seed={seed}"),
            format!("generalist.tokens={TOKENS}"),
            format!("generalist.seeds=[{seed}]"),
            format!("generalist.lr={rate:?}"),
            "eval.split=\"valid\"".into(),
        ];
        runs::run(&suite.methods(size), &folder, &sets)?;
        let outcomes = runs::read(&folder, size, TOKENS, seed)?;
        all.extend(outcomes.into_iter().filter(|o| o.tokens.is_some()).map(|outcome| (rate, outcome)));
    }
    Ok(all)
}

/// Method to the average win rate at each rate (mean over seeds, percent) and the rate with the highest.
fn mean_win_rates(outcomes: &[(f64, Outcome)]) -> serde_json::Map<String, Value> {
    let mut rates: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
    for (rate, outcome) in outcomes {
        let of_method =
            rates.entry(&outcome.method).or_insert_with(|| RATES.iter().map(|_| Vec::new()).collect());
        let at = RATES.iter().position(|candidate| candidate == rate);
        if let (Some(at), Some(columns)) = (at, METRICS[0].columns(&outcome.tasks)) {
            of_method[at].push(columns[AVERAGE]);
        }
    }
    let entry = |(method, rates): (&str, Vec<Vec<f64>>)| {
        let means: Vec<f64> = rates.iter().map(|of| of.iter().sum::<f64>() / of.len() as f64).collect();
        let best = (0..means.len()).max_by(|&a, &b| means[a].total_cmp(&means[b])).unwrap_or(0);
        let tried: Vec<Value> = RATES
            .iter()
            .zip(&means)
            .map(|(rate, mean)| json!({ "lr": rate, "valid_win_rate_percent": mean }))
            .collect();
        (method.to_owned(), json!({ "chosen": RATES[best], "tried": tried }))
    };
    rates.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_mean_on_validation_pairs_is_chosen() {
        let outcome = |rate: f64, win: f64| {
            let task = json!({ "win_rate": win });
            let tasks = json!({ "helpful": task, "harmless": task, "reasoning": task });
            (rate, Outcome { size: Size::B, tokens: Some(TOKENS), seed: 1, method: "pooled".into(), tasks })
        };
        let all = [
            outcome(3e-4, 0.5),
            outcome(3e-4, 0.9),
            outcome(6e-4, 0.8),
            outcome(6e-4, 0.8),
            outcome(1.2e-3, 0.1),
            outcome(2.4e-3, 0.2),
        ];
        let chosen = mean_win_rates(&all);
        assert_eq!(chosen["pooled"]["chosen"], 6e-4);
        let tried = chosen["pooled"]["tried"][0]["valid_win_rate_percent"].as_f64().unwrap();
        assert!((tried - 70.0).abs() < 1e-9);
        let rates = Rates::Chosen(chosen);
        assert_eq!(rates.sets(), ["method.pooled.lr=0.0006"]);
        assert!(rates.markdown(Size::B).contains("| pooled | 70.0 | **80.0** | 10.0 | 20.0 |"));
        assert_eq!(Rates::Same(6e-4).sets(), ["generalist.lr=0.0006"]);
    }
}
