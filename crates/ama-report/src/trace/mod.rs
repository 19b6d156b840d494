//! A `metrics.jsonl` of any length in a bounded number of buckets.
//!
//! A bucket holds mean, minimum and maximum of every quantity over a range of steps (so a spike is never lost). Buckets
//! are one step wide until there are too many; then neighbours merge and the width doubles.

mod line;
mod log;
mod stat;

use std::collections::{BTreeMap, VecDeque};

pub use line::Line;
pub(crate) use log::read;
pub use stat::Stat;

/// Most buckets of a trace; at least half as many are used once the run is that long.
const MOST_BUCKETS: usize = 400;
/// Steps whose speed gives the ETA.
const RECENT: usize = 40;

/// What is logged once a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// What was minimised, nats.
    Loss,
    /// Learning rate.
    LearningRate,
    /// Global gradient norm before clipping.
    GradNorm,
    /// Share of the batch with a positive reward margin.
    Accuracy,
    /// Mean reward margin of the batch.
    Margin,
}

/// What is logged once a step and task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskQuantity {
    /// Share of the mixture.
    Weight,
    /// Mean excess of the drawn pairs over the specialist, nats.
    Excess,
    /// Mean preference loss of the drawn pairs, nats.
    Loss,
}

/// Steps `first..=last` in short.
#[derive(Debug, Clone, PartialEq, Default)]
struct Bucket {
    steps: Stat,
    scalars: [Stat; 5],
    tasks: BTreeMap<String, [Stat; 3]>,
}

impl Bucket {
    fn merge(&mut self, other: &Self) {
        self.steps.merge(&other.steps);
        for (own, other) in self.scalars.iter_mut().zip(&other.scalars) {
            own.merge(other);
        }
        for (task, stats) in &other.tasks {
            let own = self.tasks.entry(task.clone()).or_default();
            for (own, other) in own.iter_mut().zip(stats) {
                own.merge(other);
            }
        }
    }
}

/// One point of a curve: a bucket of steps, over all runs that were put together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Middle of the bucket.
    pub step: f64,
    /// Mean over runs of the bucket's mean.
    pub mean: f64,
    /// Smallest value of any step of any run.
    pub min: f64,
    /// Largest value of any step of any run.
    pub max: f64,
}

/// Which curve of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve<'a> {
    /// Of the whole batch.
    Whole(Quantity),
    /// Of one task.
    Task(TaskQuantity, &'a str),
}

/// One training run's log, downsampled.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    width: u64,
    buckets: Vec<Bucket>,
    drawn: BTreeMap<String, f64>,
    /// Newest line.
    pub last: Option<Line>,
    recent: VecDeque<(u64, f64)>,
    /// Lines that were read.
    pub lines: u64,
    /// Whole lines that are not what they should be.
    pub damaged: u64,
    /// Whether the log was too long to be read whole, so that lines were taken at even distances.
    pub sampled: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            width: 1,
            buckets: Vec::new(),
            drawn: BTreeMap::new(),
            last: None,
            recent: VecDeque::new(),
            lines: 0,
            damaged: 0,
            sampled: false,
        }
    }
}

impl Trace {
    /// Counts one step in.
    pub fn push(&mut self, line: Line) {
        self.lines += 1;
        let step = line.step.max(1);
        while ((step - 1) / self.width) as usize >= MOST_BUCKETS {
            self.widen();
        }
        let index = ((step - 1) / self.width) as usize;
        if self.buckets.len() <= index {
            self.buckets.resize_with(index + 1, Bucket::default);
        }
        let bucket = &mut self.buckets[index];
        bucket.steps.push(step as f64);
        let scalars = [line.loss, line.lr, line.grad_norm, line.accuracy, line.margin];
        for (stat, value) in bucket.scalars.iter_mut().zip(scalars) {
            value.into_iter().for_each(|value| stat.push(value));
        }
        for (which, values) in [(0, &line.alpha), (1, &line.excess), (2, &line.task_loss)] {
            for (task, value) in values {
                let stats = match bucket.tasks.get_mut(task) {
                    Some(stats) => stats,
                    None => bucket.tasks.entry(task.clone()).or_default(),
                };
                value.iter().for_each(|&value| stats[which].push(value));
            }
        }
        for (task, pairs) in &line.drawn {
            let pairs = pairs.filter(|pairs| pairs.is_finite()).unwrap_or(0.0);
            match self.drawn.get_mut(task) {
                Some(sum) => *sum += pairs,
                None => _ = self.drawn.insert(task.clone(), pairs),
            }
        }
        if let (Some(tokens), Some(seconds)) = (line.tokens, line.step_s) {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((tokens, seconds));
        }
        self.last = Some(line);
    }

    fn widen(&mut self) {
        self.width = self.width.saturating_mul(2);
        self.buckets = merged(&self.buckets, 2);
    }

    /// Steps that are done.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.last.as_ref().map_or(0, |line| line.step)
    }

    /// Tasks that the log mentions, in the order of their names.
    #[must_use]
    pub fn tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> =
            self.buckets.iter().flat_map(|bucket| bucket.tasks.keys().map(String::as_str)).collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }

    /// Pairs drawn from each task so far. An estimate, if the log was sampled.
    #[must_use]
    pub fn drawn(&self) -> BTreeMap<&str, f64> {
        let scale = if self.sampled { self.steps() as f64 / self.lines.max(1) as f64 } else { 1.0 };
        self.drawn.iter().map(|(task, pairs)| (task.as_str(), pairs * scale)).collect()
    }

    /// `(tokens, seconds)` a step, over the newest steps.
    #[must_use]
    pub fn speed(&self) -> Option<(f64, f64)> {
        let steps = self.recent.len() as f64;
        let tokens: f64 = self.recent.iter().map(|(tokens, _)| *tokens as f64).sum();
        let seconds: f64 = self.recent.iter().map(|(_, seconds)| seconds).sum();
        (steps > 0.0 && seconds > 0.0).then(|| (tokens / steps, seconds / steps))
    }

    /// Mean over the last tenth of the run (at least one bucket).
    #[must_use]
    pub fn ending(&self, curve: Curve<'_>) -> Option<f64> {
        let from = self.buckets.len() - self.buckets.len().div_ceil(10);
        let mut whole = Stat::default();
        for bucket in &self.buckets[from..] {
            pick(bucket, curve).into_iter().for_each(|stat| whole.merge(&stat));
        }
        whole.mean()
    }

    /// One curve over several runs, at most `most` points.
    #[must_use]
    pub fn curve(traces: &[&Self], curve: Curve<'_>, most: usize) -> Vec<Point> {
        let mut width = traces.iter().map(|trace| trace.width).max().unwrap_or(1);
        let longest = traces
            .iter()
            .map(|trace| (trace.buckets.len() as u64).saturating_mul(trace.width))
            .max()
            .unwrap_or(0);
        while longest.div_ceil(width) > most.max(1) as u64 {
            width = width.saturating_mul(2);
        }
        let coarse: Vec<Vec<Bucket>> =
            traces.iter().map(|trace| merged(&trace.buckets, (width / trace.width) as usize)).collect();
        let buckets = coarse.iter().map(Vec::len).max().unwrap_or(0);
        let point = |index: usize| {
            let (mut means, mut steps, mut all) = (Stat::default(), Stat::default(), Stat::default());
            for bucket in coarse.iter().filter_map(|buckets| buckets.get(index)) {
                if let Some(stat) = pick(bucket, curve)
                    && let Some(mean) = stat.mean()
                {
                    means.push(mean);
                    all.merge(&stat);
                    steps.merge(&bucket.steps);
                }
            }
            let ((first, last), (min, max)) = (steps.range()?, all.range()?);
            Some(Point { step: f64::midpoint(first, last), mean: means.mean()?, min, max })
        };
        (0..buckets).filter_map(point).collect()
    }

    /// Whether [`Trace::curve`] puts several steps into a point.
    #[must_use]
    pub fn is_coarse(&self) -> bool {
        self.width > 1
    }
}

fn merged(buckets: &[Bucket], by: usize) -> Vec<Bucket> {
    let merge = |few: &[Bucket]| {
        let mut one = few[0].clone();
        few[1..].iter().for_each(|other| one.merge(other));
        one
    };
    buckets.chunks(by.max(1)).map(merge).collect()
}

fn pick(bucket: &Bucket, curve: Curve<'_>) -> Option<Stat> {
    match curve {
        Curve::Whole(quantity) => Some(bucket.scalars[quantity as usize]),
        Curve::Task(quantity, task) => bucket.tasks.get(task).map(|stats| stats[quantity as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, loss: f64, weight: f64) -> Line {
        let mut line = Line { step, loss: Some(loss), ..Line::default() };
        line.alpha.insert("a".into(), Some(weight));
        line.drawn.insert("a".into(), Some(3.0));
        line
    }

    #[test]
    fn a_long_run_fits_and_keeps_its_spike() {
        let mut trace = Trace::default();
        for step in 1..=100_000 {
            trace.push(line(step, if step == 77_777 { 50.0 } else { 1.0 }, 0.25));
        }
        assert!(trace.buckets.len() <= MOST_BUCKETS && trace.buckets.len() >= MOST_BUCKETS / 2);
        let curve = Trace::curve(&[&trace], Curve::Whole(Quantity::Loss), 100);
        assert!(curve.len() <= 100 && curve.len() > 50, "{}", curve.len());
        assert_eq!(
            curve.iter().map(|point| point.max).fold(0.0, f64::max),
            50.0,
            "a spike of one step is kept"
        );
        assert_eq!(trace.drawn()["a"], 300_000.0);
        let weights = Trace::curve(&[&trace], Curve::Task(TaskQuantity::Weight, "a"), 100);
        assert!(weights.iter().all(|point| point.mean == 0.25));
        assert!(Trace::curve(&[&trace], Curve::Task(TaskQuantity::Weight, "b"), 100).is_empty());
    }

    #[test]
    fn several_runs_are_averaged_step_by_step() {
        let (mut one, mut two) = (Trace::default(), Trace::default());
        for step in 1..=4 {
            one.push(line(step, 1.0, 0.1));
        }
        for step in 1..=6 {
            two.push(line(step, 3.0, 0.3));
        }
        let curve = Trace::curve(&[&one, &two], Curve::Whole(Quantity::Loss), 100);
        assert_eq!(curve.len(), 6);
        assert_eq!(curve[0], Point { step: 1.0, mean: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(curve[5], Point { step: 6.0, mean: 3.0, min: 3.0, max: 3.0 });
        // A run that is 1000 times as long is no obstacle.
        for step in 7..=6000 {
            two.push(line(step, 3.0, 0.3));
        }
        let curve = Trace::curve(&[&one, &two], Curve::Whole(Quantity::Loss), 100);
        assert_eq!(curve[0].mean, 2.0);
    }

    #[test]
    fn absurd_steps_and_values_do_no_harm() {
        let mut trace = Trace::default();
        trace.push(line(0, f64::NAN, f64::INFINITY));
        trace.push(line(u64::MAX, 1.0, 0.5));
        trace.push(line(3, 1e308, 0.5));
        trace.push(line(4, 1e308, 0.5));
        assert!(trace.buckets.len() <= MOST_BUCKETS);
        assert!(Trace::curve(&[&trace], Curve::Whole(Quantity::Loss), 50).len() <= 50);
    }
}
