//! `results.json`: means and spreads over seeds, and improvements over the baseline.

use std::collections::BTreeMap;

use ama_train::TaskResult;
use serde_json::{Map, Value, json};

use super::base::{Mixture, Trained};
use super::evaluation::Results;

/// What is measured on every task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Mean preference loss, nats.
    Loss,
    /// Mean clipped excess over the specialist, nats.
    Excess,
    /// Share of pairs with a positive margin.
    Accuracy,
    /// Mean reward margin.
    Margin,
    /// Share of verified answers.
    WinRate,
}

impl Metric {
    /// Every metric.
    pub(crate) const ALL: [Self; 5] = [Self::Loss, Self::Excess, Self::Accuracy, Self::Margin, Self::WinRate];

    /// Its name in `results.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Excess => "excess",
            Self::Accuracy => "accuracy",
            Self::Margin => "margin",
            Self::WinRate => "win_rate",
        }
    }

    /// Its value in one task's results.
    pub(crate) fn of(self, result: &TaskResult) -> Option<f64> {
        match self {
            Self::Loss => Some(result.loss),
            Self::Excess => result.excess,
            Self::Accuracy => Some(result.accuracy),
            Self::Margin => Some(result.margin),
            Self::WinRate => result.win_rate,
        }
    }

    /// The worst of some values: the largest loss or excess, the smallest of the others.
    fn worst(self, values: &[f64]) -> Option<f64> {
        let pick = match self {
            Self::Loss | Self::Excess => f64::max,
            Self::Accuracy | Self::Margin | Self::WinRate => f64::min,
        };
        values.iter().copied().reduce(pick)
    }
}

/// A row of the table: one method over its seeds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    seeds: Vec<u64>,
    runs: Vec<Results>,
    seconds: Vec<f64>,
    tokens: Vec<f64>,
    mixtures: Vec<Mixture>,
}

/// Mean and standard deviation over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    /// Sample standard deviation; `None` for a single value.
    pub(crate) sd: Option<f64>,
}

/// Which cell of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Over<'a> {
    /// One task.
    Task(&'a str),
    /// Mean over the tasks.
    Average,
    /// The worst task.
    Worst,
}

impl Row {
    /// A row without runs.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            seeds: Vec::new(),
            runs: Vec::new(),
            seconds: Vec::new(),
            tokens: Vec::new(),
            mixtures: Vec::new(),
        }
    }

    /// A row of one evaluation.
    pub(crate) fn single(name: &str, results: Results) -> Self {
        Self { runs: vec![results], ..Self::new(name) }
    }

    /// Adds what the training of a [`Row::single`] took.
    pub(crate) fn trained(mut self, seconds: f64, tokens: u64) -> Self {
        self.seconds.push(seconds);
        self.tokens.push(tokens as f64);
        self
    }

    /// Adds one seed's run.
    pub(crate) fn push(&mut self, seed: u64, results: Results, trained: &Trained) {
        self.seeds.push(seed);
        self.runs.push(results);
        self.seconds.push(trained.seconds);
        self.tokens.push(trained.tokens as f64);
        self.mixtures.extend(trained.mixture.clone());
    }

    /// The mixer's weights by task, last and averaged over the steps: the mean over seeds. Null if some are not known.
    fn mixture_json(&self, tasks: &[&str]) -> Value {
        if self.mixtures.is_empty() || self.mixtures.len() != self.runs.len() {
            return Value::Null;
        }
        let mean = |of: fn(&Mixture) -> &BTreeMap<String, f64>| -> Value {
            let of_task = |task: &str| -> Option<f64> {
                let weights: Option<Vec<f64>> =
                    self.mixtures.iter().map(|m| of(m).get(task).copied()).collect();
                spread(&weights?).map(|weights| weights.mean)
            };
            Value::Object(tasks.iter().map(|task| (task.to_string(), json!(of_task(task)))).collect())
        };
        json!({ "last": mean(|m| &m.last), "averaged": mean(|m| &m.averaged) })
    }

    /// A cell: the value of each seed, then their mean and spread. `None` if some value is not known.
    pub(crate) fn cell(&self, metric: Metric, over: Over<'_>) -> Option<Spread> {
        let of_run = |run: &Results| match over {
            Over::Task(task) => metric.of(run.get(task)?),
            Over::Average => {
                let values = run.values().map(|result| metric.of(result)).collect::<Option<Vec<_>>>()?;
                Some(values.iter().sum::<f64>() / values.len() as f64)
            }
            Over::Worst => {
                let values = run.values().map(|result| metric.of(result)).collect::<Option<Vec<_>>>()?;
                metric.worst(&values)
            }
        };
        spread(&self.runs.iter().map(of_run).collect::<Option<Vec<_>>>()?)
    }

    fn json(&self, tasks: &[&str]) -> Value {
        let cells = |over: Over<'_>, pick: fn(Spread) -> Option<f64>| -> Value {
            let cell =
                |metric: Metric| (metric.name().to_string(), json!(self.cell(metric, over).and_then(pick)));
            Value::Object(Metric::ALL.into_iter().map(cell).collect())
        };
        let row = |pick: fn(Spread) -> Option<f64>| {
            let by_task: Map<String, Value> =
                tasks.iter().map(|task| (task.to_string(), cells(Over::Task(task), pick))).collect();
            (Value::Object(by_task), cells(Over::Average, pick), cells(Over::Worst, pick))
        };
        let (means, average, worst) = row(|cell| Some(cell.mean));
        let (sd_tasks, sd_average, sd_worst) = row(|cell| cell.sd);
        let runs: Vec<Value> = self
            .seeds
            .iter()
            .zip(&self.runs)
            .map(|(seed, results)| json!({ "seed": seed, "tasks": results }))
            .collect();
        json!({
            "name": self.name,
            "seeds": self.seeds,
            "tasks": means,
            "average": average,
            "worst": worst,
            "sd": { "tasks": sd_tasks, "average": sd_average, "worst": sd_worst },
            "train_seconds": spread(&self.seconds).map(|s| s.mean),
            "tokens": spread(&self.tokens).map(|s| s.mean),
            "mixture": self.mixture_json(tasks),
            "runs": runs,
        })
    }
}

fn spread(values: &[f64]) -> Option<Spread> {
    let count = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some(Spread { mean, sd: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()) })
}

/// The whole of `results.json`. Improvements are in per cent of the baseline's win rate (of its accuracy where answers
/// cannot be checked).
pub(crate) fn summary(rows: &[Row], tasks: &[&str], baseline: &str, split: &str) -> Value {
    let base = rows.iter().find(|row| row.name == baseline);
    let metric = match base.and_then(|row| row.cell(Metric::WinRate, Over::Average)) {
        Some(_) => Metric::WinRate,
        None => Metric::Accuracy,
    };
    let mut improvement = Map::new();
    for row in rows.iter().filter(|row| !["base", "specialists", baseline].contains(&row.name.as_str())) {
        let per_cent = |over: Over<'_>| -> Option<f64> {
            let (own, of_base) = (row.cell(metric, over)?.mean, base?.cell(metric, over)?.mean);
            (of_base != 0.0).then(|| 100.0 * (own - of_base) / of_base)
        };
        let mut by_task: Map<String, Value> =
            tasks.iter().map(|task| (task.to_string(), json!(per_cent(Over::Task(task))))).collect();
        by_task.insert("average".into(), json!(per_cent(Over::Average)));
        by_task.insert("worst".into(), json!(per_cent(Over::Worst)));
        improvement.insert(row.name.clone(), Value::Object(by_task));
    }
    json!({
        "format": "ama-results 1",
        "split": split,
        "methods": rows.iter().map(|row| row.json(tasks)).collect::<Vec<_>>(),
        "baseline": baseline,
        "improvement_metric": metric.name(),
        "improvement": improvement,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rows() -> Vec<Row> {
        let result = |loss: f64, accuracy: f64, win: Option<f64>| TaskResult {
            loss,
            excess: Some(loss - 0.25),
            accuracy,
            margin: 1.0,
            win_rate: win,
            pairs: 10,
        };
        let run = |a, b| Results::from([("a".to_string(), a), ("b".to_string(), b)]);
        let weights = |a: f64| BTreeMap::from([("a".to_string(), a), ("b".to_string(), 1.0 - a)]);
        let mixture = Some(Mixture { last: weights(0.25), averaged: weights(0.5) });
        let trained = Trained { fingerprint: String::new(), steps: 1, tokens: 100, seconds: 2.0, mixture };
        let mut pooled = Row::new("pooled");
        pooled.push(0, run(result(0.5, 0.5, Some(0.5)), result(1.0, 0.75, Some(0.25))), &trained);
        pooled.push(1, run(result(0.5, 0.5, Some(0.5)), result(1.0, 0.75, Some(0.75))), &trained);
        let mut ama = Row::new("ama-s");
        let other = Mixture { last: weights(0.75), averaged: weights(0.75) };
        pooled.mixtures[1] = other;
        ama.push(0, run(result(0.25, 0.5, Some(0.75)), result(0.5, 0.75, Some(0.5))), &trained);
        vec![Row::single("base", run(result(2.0, 0.5, None), result(3.0, 0.5, None))), pooled, ama]
    }

    #[test]
    fn means_spreads_and_improvements() {
        let rows = rows();
        let value = summary(&rows, &["a", "b"], "pooled", "test");
        let pooled = &value["methods"][1];
        assert_eq!(pooled["tasks"]["b"]["win_rate"], 0.5);
        // Two values at distance 0.5: sd = 0.5 / sqrt(2).
        let sd = pooled["sd"]["tasks"]["b"]["win_rate"].as_f64().unwrap();
        assert!((sd - 0.5 / 2.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(pooled["worst"]["loss"], 1.0, "the worst loss is the largest");
        // The worst of each seed, then the mean: (0.25 + 0.5) / 2.
        assert_eq!(pooled["worst"]["win_rate"], 0.375);
        assert_eq!(value["improvement"]["ama-s"]["a"], 50.0);
        assert_eq!(value["improvement"]["ama-s"]["average"], 25.0);
        assert!(value["methods"][0]["average"]["win_rate"].is_null());
        // Weights are the mean over seeds: (1/4 + 3/4)/2 and (1/2 + 3/4)/2.
        assert_eq!(pooled["mixture"]["last"]["a"], 0.5);
        assert_eq!(pooled["mixture"]["averaged"]["a"], 0.625);
        assert!(value["methods"][0]["mixture"].is_null(), "the base model has no mixer");
        assert!(value["methods"][2]["sd"]["average"]["loss"].is_null(), "one seed has no spread");
    }
}
