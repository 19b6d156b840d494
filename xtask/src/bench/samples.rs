//! What repeated calls of one side measured, and what is made of it.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Steps before the first that counts: they touch fresh memory and start threads.
pub(super) const WARM_UP: usize = 3;

/// One training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) seconds: f64,
    pub(super) tokens: f64,
}

/// All steps of one call, from the first.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Run {
    pub(super) steps: Vec<Step>,
    pub(super) losses: Vec<f64>,
    pub(super) peak_rss_mib: Option<f64>,
}

impl Run {
    /// What a training peer prints.
    ///
    /// # Errors
    /// A list is missing.
    pub(super) fn of_peer(said: &Value) -> Result<Self> {
        let (seconds, tokens) = (numbers(said, "step_s")?, numbers(said, "tokens")?);
        let steps = seconds.into_iter().zip(tokens).map(|(seconds, tokens)| Step { seconds, tokens });
        Ok(Self {
            steps: steps.collect(),
            losses: numbers(said, "losses")?,
            peak_rss_mib: said["peak_rss_mib"].as_f64(),
        })
    }
}

/// Every call of one side of a training row.
#[derive(Debug, Default)]
pub(super) struct Runs(pub(super) Vec<Run>);

impl Runs {
    /// Tokens per second after warm-up: a cycle of `batches` different batches, each at its median time.
    pub(super) fn tokens_per_s(&self, batches: usize) -> f64 {
        let (mut tokens, mut seconds) = (0.0, 0.0);
        for batch in 0..batches {
            let of_batch = |run: &'_ Run| -> Vec<Step> {
                run.steps
                    .iter()
                    .enumerate()
                    .skip(WARM_UP)
                    .filter(|(i, _)| i % batches == batch)
                    .map(|(_, s)| *s)
                    .collect()
            };
            let steps: Vec<Step> = self.0.iter().flat_map(of_batch).collect();
            if let Some(first) = steps.first() {
                tokens += first.tokens;
                seconds += median(steps.iter().map(|step| step.seconds));
            }
        }
        tokens / seconds
    }

    /// Median of the seconds of a step after warm-up.
    pub(super) fn step_s(&self) -> f64 {
        median(self.0.iter().flat_map(|run| run.steps.iter().skip(WARM_UP)).map(|step| step.seconds))
    }

    /// The highest peak of any call.
    pub(super) fn peak_rss_mib(&self) -> Option<f64> {
        self.0.iter().filter_map(|run| run.peak_rss_mib).reduce(f64::max)
    }

    /// Largest difference of the first `n` losses from the other side's; NaN if a side has none, or another number.
    pub(super) fn loss_difference(&self, other: &Self, n: usize) -> f64 {
        let (Some(ours), Some(theirs)) = (self.0.first(), other.0.first()) else { return f64::NAN };
        if ours.losses.len().min(n) != theirs.losses.len().min(n) {
            return f64::NAN;
        }
        let differences = ours.losses.iter().zip(&theirs.losses).take(n).map(|(a, b)| (a - b).abs());
        // Not `f64::max`, which forgets NaN.
        differences.reduce(|most, x| if x > most || x.is_nan() { x } else { most }).unwrap_or(f64::NAN)
    }

    /// How many losses [`Runs::loss_difference`] of at most `n` compares.
    pub(super) fn compared(&self, n: usize) -> usize {
        self.0.first().map_or(0, |run| run.losses.len().min(n))
    }

    /// All numbers, warm-up included.
    pub(super) fn json(&self) -> Value {
        let calls = self.0.iter().map(|run| {
            json!({
                "step_s": run.steps.iter().map(|step| step.seconds).collect::<Vec<_>>(),
                "tokens": run.steps.iter().map(|step| step.tokens).collect::<Vec<_>>(),
                "losses": run.losses, "peak_rss_mib": run.peak_rss_mib,
            })
        });
        json!({ "warm_up_steps": WARM_UP, "calls": calls.collect::<Vec<_>>() })
    }
}

/// Median; the mean of the middle two of an even count, NaN of none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// A list of numbers in what a program printed.
///
/// # Errors
/// It is missing, or holds something else.
pub(super) fn numbers(said: &Value, key: &str) -> Result<Vec<f64>> {
    let list = said[key].as_array().with_context(|| format!("no list `{key}` in {said}"))?;
    list.iter()
        .map(|value| value.as_f64().with_context(|| format!("`{key}` holds {value}; want numbers")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: &[f64], losses: &[f64]) -> Run {
        let tokens = |i: usize| if i.is_multiple_of(2) { 100.0 } else { 300.0 };
        let steps = seconds.iter().enumerate().map(|(i, s)| Step { seconds: *s, tokens: tokens(i) });
        Run { steps: steps.collect(), losses: losses.to_vec(), peak_rss_mib: Some(seconds.len() as f64) }
    }

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn rate_is_of_a_cycle_of_batches_at_their_medians_without_warm_up() {
        // Batch 0: 100 tokens, 1 s and 3 s; batch 1: 300 tokens, 2 s, 2 s and 50 s.
        let runs = Runs(vec![run(&[9.0, 9.0, 9.0, 2.0, 1.0, 50.0, 3.0, 2.0], &[])]);
        assert_eq!(runs.tokens_per_s(2), 400.0 / 4.0);
        assert_eq!(runs.step_s(), 2.0);
    }

    #[test]
    fn losses_differ_by_the_largest_and_nan_is_never_lost() {
        let ours = Runs(vec![run(&[1.0; 3], &[1.0, 2.0, 3.0])]);
        let theirs = Runs(vec![run(&[1.0], &[1.5, 2.25, 9.0])]);
        assert_eq!(ours.loss_difference(&theirs, 2), 0.5);
        let short = Runs(vec![run(&[1.0], &[1.0])]);
        assert!(ours.loss_difference(&short, 8).is_nan());
        let broken = Runs(vec![run(&[1.0], &[f64::NAN, 2.0])]);
        assert!(ours.loss_difference(&broken, 2).is_nan());
        assert!(ours.loss_difference(&Runs::default(), 2).is_nan());
        assert_eq!((ours.compared(8), ours.compared(2)), (3, 2));
    }

    #[test]
    fn a_peer_that_prints_something_else_is_refused_by_name() {
        let said = json!({ "step_s": [0.5], "tokens": [10], "losses": ["x"] });
        assert!(Run::of_peer(&said).unwrap_err().to_string().contains("`losses`"));
    }
}
