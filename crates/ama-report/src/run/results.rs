//! `results.json`: what came out, as far as the report needs it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::files;

/// What is measured on held-out pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Share of verified answers.
    WinRate,
    /// Share of pairs with a positive reward margin.
    Accuracy,
    /// Mean preference loss, nats.
    Loss,
    /// Mean clipped excess over the specialist, nats.
    Excess,
}

impl Metric {
    /// Every metric, in the order of the page.
    pub const ALL: [Self; 4] = [Self::WinRate, Self::Accuracy, Self::Loss, Self::Excess];

    /// What a reader calls it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::WinRate => "verified win rate",
            Self::Accuracy => "reward accuracy",
            Self::Loss => "loss",
            Self::Excess => "excess over the specialist",
        }
    }

    /// Its unit: `%` for shares (which are printed times 100), or `nats`.
    #[must_use]
    pub fn unit(self) -> &'static str {
        if self.is_share() { "%" } else { "nats" }
    }

    /// Whether it is a share of pairs.
    #[must_use]
    pub fn is_share(self) -> bool {
        matches!(self, Self::WinRate | Self::Accuracy)
    }

    /// Whether `a` is better than `b`.
    #[must_use]
    pub fn better(self, a: f64, b: f64) -> bool {
        if self.is_share() { a > b } else { a < b }
    }
}

/// One model on one task.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[non_exhaustive]
pub struct Scores {
    /// Nats.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Nats.
    #[serde(default)]
    pub excess: Option<f64>,
    /// Share in `[0, 1]`.
    #[serde(default)]
    pub accuracy: Option<f64>,
    /// Share in `[0, 1]`.
    #[serde(default)]
    pub win_rate: Option<f64>,
    /// Held-out pairs.
    #[serde(default)]
    pub pairs: Option<u64>,
}

impl Scores {
    /// The value of a metric, if it is there and finite.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<f64> {
        let value = match metric {
            Metric::WinRate => self.win_rate,
            Metric::Accuracy => self.accuracy,
            Metric::Loss => self.loss,
            Metric::Excess => self.excess,
        };
        value.filter(|value| value.is_finite())
    }
}

/// One seed of a method.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[non_exhaustive]
pub struct SeedRun {
    /// The seed.
    #[serde(default)]
    pub seed: u64,
    /// Results by task.
    #[serde(default)]
    pub tasks: BTreeMap<String, Scores>,
}

/// One row: a method over its seeds, the base model, or each specialist on its own task.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[non_exhaustive]
pub struct Method {
    /// Name of the method; `base` and `specialists` are no methods.
    pub name: String,
    /// Mean over seeds by task.
    #[serde(default)]
    pub tasks: BTreeMap<String, Scores>,
    /// Every seed by itself; empty for rows that have none.
    #[serde(default)]
    pub runs: Vec<SeedRun>,
    /// Mean seconds of training.
    #[serde(default)]
    pub train_seconds: Option<f64>,
    /// Mean tokens of training.
    #[serde(default)]
    pub tokens: Option<f64>,
}

impl Method {
    /// Whether the row is for comparison only.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        matches!(self.name.as_str(), "base" | "specialists")
    }
}

/// `results.json`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[non_exhaustive]
pub struct Results {
    /// Rows in the order of the configuration.
    #[serde(default)]
    pub methods: Vec<Method>,
    /// The method that others are compared with.
    #[serde(default)]
    pub baseline: String,
    /// Which pairs: `test` or `valid`.
    #[serde(default)]
    pub split: String,
}

impl Results {
    /// `None` if the file is not there or damaged; the notes say which.
    pub(crate) fn read(folder: &Path, notes: &mut Vec<String>) -> Option<Self> {
        let results: Self = files::json(&folder.join("results.json"), notes)?;
        (!results.methods.is_empty()).then_some(results)
    }

    /// A row by its name.
    #[must_use]
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// Names of all tasks that are mentioned.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().flat_map(|method| method.tasks.keys().map(String::as_str))
    }

    /// What the verdict is about: the verified win rate, or the accuracy where answers cannot be checked.
    #[must_use]
    pub fn headline(&self) -> Metric {
        let known = |method: &Method| {
            !method.tasks.is_empty() && method.tasks.values().all(|scores| scores.win_rate.is_some())
        };
        let method = self.method(&self.baseline).or_else(|| self.methods.last());
        if method.is_some_and(known) { Metric::WinRate } else { Metric::Accuracy }
    }
}
