//! Outcomes as Markdown.

use std::fmt::Write as _;

use serde_json::Value;

use super::runs::Outcome;
use super::stats::{Estimate, estimate};
use super::suite::TASKS;

/// The method that others are compared with: the paper's uniform DPO.
const BASELINE: &str = "pooled";

/// A number of `results.json` and how it is shown.
pub(crate) struct Metric {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// From the number to what is shown.
    factor: f64,
    decimals: usize,
    /// Whether the worst task is the one with the smallest number.
    worst_is_least: bool,
}

pub(crate) const METRICS: [Metric; 4] = [
    Metric {
        key: "win_rate",
        title: "verified win rate, %",
        factor: 100.0,
        decimals: 1,
        worst_is_least: true,
    },
    Metric { key: "accuracy", title: "reward accuracy, %", factor: 100.0, decimals: 1, worst_is_least: true },
    Metric { key: "loss", title: "loss, nats", factor: 1.0, decimals: 3, worst_is_least: false },
    Metric {
        key: "excess",
        title: "excess over the specialist, nats",
        factor: 1.0,
        decimals: 3,
        worst_is_least: false,
    },
];

/// Summaries of the three tasks: each, the mean, the worst.
const COLUMNS: [&str; 5] = ["helpful", "harmless", "reasoning", "average", "worst"];
/// Columns of the mean and of the worst task.
pub(crate) const AVERAGE: usize = 3;
const WORST: usize = 4;

impl Metric {
    /// The columns of one outcome; `None` where the metric is missing.
    pub(crate) fn columns(&self, tasks: &Value) -> Option<[f64; 5]> {
        let mut values = [0.0; 3];
        for (value, task) in values.iter_mut().zip(TASKS) {
            *value = tasks[task][self.key].as_f64()? * self.factor;
        }
        let worst = |a: f64, b: f64| if self.worst_is_least { a.min(b) } else { a.max(b) };
        let [a, b, c] = values;
        Some([a, b, c, (a + b + c) / 3.0, worst(worst(a, b), c)])
    }

    fn show(&self, estimate: Option<Estimate>) -> String {
        let d = self.decimals;
        estimate.map_or_else(String::new, |e| format!("{:.d$} [{:.d$}, {:.d$}]", e.mean, e.low, e.high))
    }
}

/// All tables: a size set and budget each, then the maps of what methods gain on each other.
pub(crate) fn markdown(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let seeds = seeds(outcomes);
    let _ = writeln!(
        text,
        "Mean over {} whole experiments (base model, specialists and generalist of seeds {seeds:?}) with 95% bootstrap\n\
         intervals, test pairs. Merges have no budget and stand beside every one.\n",
        seeds.len()
    );
    let budgets = budgets(outcomes);
    for size in distinct(outcomes.iter().map(|outcome| outcome.size)) {
        for &tokens in &budgets {
            let here: Vec<&Outcome> = outcomes
                .iter()
                .filter(|outcome| {
                    outcome.size == size && outcome.tokens.is_none_or(|budget| budget == tokens)
                })
                .collect();
            for metric in &METRICS {
                let title = format!("Size set {}, {tokens} tokens: {}", size.name(), metric.title);
                table(&mut text, &here, metric, &title, BASELINE);
            }
        }
    }
    for (rival, method) in [
        ("pooled", None),
        ("task-normalised", Some("ama-s")),
        ("temperature", Some("ama-s")),
        ("group-dro", None),
    ] {
        map(&mut text, outcomes, rival, method);
    }
    text
}

/// The seeds, each once, in order.
pub(crate) fn seeds(outcomes: &[Outcome]) -> Vec<u64> {
    let mut seeds = distinct(outcomes.iter().map(|outcome| outcome.seed));
    seeds.sort_unstable();
    seeds
}

fn budgets(outcomes: &[Outcome]) -> Vec<u64> {
    let mut budgets = distinct(outcomes.iter().filter_map(|outcome| outcome.tokens));
    budgets.sort_unstable();
    budgets
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}

/// One table: a line for each method, and what its average gains on `baseline` with the same seed.
pub(crate) fn table(text: &mut String, outcomes: &[&Outcome], metric: &Metric, title: &str, baseline: &str) {
    let mut lines = String::new();
    for method in distinct(outcomes.iter().map(|outcome| outcome.method.as_str())) {
        let rows: Vec<[f64; 5]> = of(outcomes, method).filter_map(|o| metric.columns(&o.tasks)).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = write!(lines, "| {method} |");
        for column in 0..COLUMNS.len() {
            let values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
            let _ = write!(lines, " {} |", metric.show(estimate(&values)));
        }
        let gain = estimate(&gains(outcomes, method, baseline, metric, AVERAGE, true));
        let _ = writeln!(lines, " {} |", gain.map_or_else(String::new, percent));
    }
    if !lines.is_empty() {
        let titles = COLUMNS.join(" | ");
        let _ = writeln!(
            text,
            "### {title}\n\n| method | {titles} | average against {baseline} |\n|---|{}---|",
            "---|".repeat(5)
        );
        let _ = writeln!(text, "{lines}");
    }
}

fn of<'a>(outcomes: &'a [&'a Outcome], method: &'a str) -> impl Iterator<Item = &'a Outcome> {
    outcomes.iter().copied().filter(move |outcome| outcome.method == method)
}

/// Change of a column over the baseline of the same seed: in percent of it, or in the metric's unit.
fn gains(
    outcomes: &[&Outcome],
    method: &str,
    baseline: &str,
    metric: &Metric,
    column: usize,
    relative: bool,
) -> Vec<f64> {
    of(outcomes, method)
        .filter_map(|outcome| {
            let base = of(outcomes, baseline).find(|base| base.seed == outcome.seed)?;
            let (new, old) = (metric.columns(&outcome.tasks)?[column], metric.columns(&base.tasks)?[column]);
            Some(if relative { 100.0 * (new - old) / old } else { new - old })
        })
        .collect()
}

fn percent(e: Estimate) -> String {
    format!("{:+.1}% [{:+.1}, {:+.1}]", e.mean, e.low, e.high)
}

/// Points of win rate that methods (or one) gain on a rival, budget by size set.
fn map(text: &mut String, outcomes: &[Outcome], rival: &str, only: Option<&str>) {
    let metric = &METRICS[0];
    let budgets = budgets(outcomes);
    let titles: Vec<String> = budgets.iter().map(|tokens| format!("{tokens} tokens")).collect();
    let _ = writeln!(
        text,
        "### Points of win rate over {rival} of the same seed: average / worst task\n\n\
         | size set | method | {} |\n|---|---|{}",
        titles.join(" | "),
        "---|".repeat(budgets.len())
    );
    for size in distinct(outcomes.iter().map(|outcome| outcome.size)) {
        let of_size: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.size == size).collect();
        let with_budget = of_size.iter().filter(|outcome| outcome.tokens.is_some());
        for method in distinct(with_budget.map(|outcome| outcome.method.as_str())) {
            if method == rival || only.is_some_and(|only| only != method) {
                continue;
            }
            let _ = write!(text, "| {} | {method} |", size.name());
            for tokens in &budgets {
                let here: Vec<&Outcome> =
                    of_size.iter().copied().filter(|outcome| outcome.tokens == Some(*tokens)).collect();
                let points = |column| {
                    let gain = estimate(&gains(&here, method, rival, metric, column, false));
                    gain.map_or_else(String::new, |e| {
                        format!("{:+.1} [{:+.1}, {:+.1}]", e.mean, e.low, e.high)
                    })
                };
                let _ = write!(text, " {} / {} |", points(AVERAGE), points(WORST));
            }
            text.push('\n');
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::suite::Size;
    use super::*;

    fn outcome(method: &str, seed: u64, rates: [f64; 3]) -> Outcome {
        let task = |rate: f64| json!({ "win_rate": rate, "accuracy": rate, "loss": 1.0 - rate });
        let tasks =
            json!({ "helpful": task(rates[0]), "harmless": task(rates[1]), "reasoning": task(rates[2]) });
        Outcome { size: Size::B, tokens: Some(96_000), seed, method: method.into(), tasks }
    }

    #[test]
    fn gains_are_paired_by_seed() {
        let all = [
            outcome("pooled", 1, [0.4, 1.0, 0.7]),
            outcome("pooled", 2, [0.6, 1.0, 0.8]),
            outcome("ama-s", 1, [0.5, 1.0, 0.9]),
            outcome("ama-s", 2, [0.7, 1.0, 1.0]),
        ];
        let text = markdown(&all);
        assert!(text.contains("| pooled | 50.0 [40.0, 60.0] | 100.0 [100.0, 100.0] | 75.0 [70.0, 80.0] | 75.0 [70.0, 80.0] | 50.0 [40.0, 60.0] |"), "{text}");
        // +0.1 on average for both seeds: 14.29% of 0.7 and 12.5% of 0.8.
        assert!(text.contains("+13.4% [+12.5, +14.3] |"), "{text}");
        assert!(text.contains("| B | ama-s | +10.0 [+10.0, +10.0] / +10.0 [+10.0, +10.0] |"), "{text}");
        assert!(!text.contains("excess over"), "no excess was measured");
    }
}
