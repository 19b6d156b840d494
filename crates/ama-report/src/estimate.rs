//! Means with 95% intervals.
//!
//! - Over seeds: percentile bootstrap (Efron 1979) of the mean. Up to six seeds all `n^n` resamples are enumerated, so the
//!   interval is exact; beyond, 10,000 resamples are drawn from a fixed seed. With few seeds it is too narrow: of three it is
//!   the range from the lowest to the highest.
//! - Over pairs, for a share that was measured once: Wilson's score interval (1927).

use crate::run::{Method, Metric, SeedRun};

/// A resample is drawn this often if they are too many to enumerate.
const DRAWS: usize = 10_000;
/// Most seeds of which all resamples are enumerated (6^6 = 46,656).
const ENUMERATED: usize = 6;
/// Two-sided 95% point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// What an interval is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// So many seeds.
    Seeds(usize),
    /// So many held-out pairs of one run.
    Pairs(u64),
}

/// A 95% interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// What varies.
    pub over: Over,
}

impl Interval {
    /// Whether the interval lies on one side of zero.
    #[must_use]
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// A mean, with its interval if there is something to judge it by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Mean over seeds.
    pub mean: f64,
    /// 95% interval.
    pub interval: Option<Interval>,
}

/// Which column of a table of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// One task.
    Task(&'a str),
    /// Mean over the tasks.
    Average,
    /// Each seed's worst task.
    Worst,
}

impl Estimate {
    /// Mean and bootstrap interval of one value a seed; `None` of nothing.
    #[must_use]
    pub fn over_seeds(values: &[f64]) -> Option<Self> {
        let mean = mean(values)?;
        let interval =
            bootstrap(values).map(|(low, high)| Interval { low, high, over: Over::Seeds(values.len()) });
        Some(Self { mean, interval })
    }

    /// A share of `pairs` pairs, with Wilson's interval.
    #[must_use]
    pub fn share(share: f64, pairs: u64) -> Self {
        let n = pairs as f64;
        let interval = (pairs > 0 && (0.0..=1.0).contains(&share)).then(|| {
            let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
            let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
            Interval {
                low: (middle - half).max(0.0).min(share),
                high: (middle + half).min(1.0).max(share),
                over: Over::Pairs(pairs),
            }
        });
        Self { mean: share, interval }
    }

    /// A cell of a method's row. `pairs` is the number of held-out pairs of a row without seeds.
    #[must_use]
    pub fn of(
        method: &Method,
        metric: Metric,
        cell: Cell<'_>,
        tasks: &[String],
        pairs: Option<u64>,
    ) -> Option<Self> {
        if method.runs.is_empty() {
            let whole = SeedRun { seed: 0, tasks: method.tasks.clone() };
            let value = value(&whole, metric, cell, tasks)?;
            return Some(match (pairs, cell) {
                (Some(pairs), Cell::Task(_)) if metric.is_share() => Self::share(value, pairs),
                _ => Self { mean: value, interval: None },
            });
        }
        let values: Option<Vec<f64>> =
            method.runs.iter().map(|run| value(run, metric, cell, tasks)).collect();
        let estimate = Self::over_seeds(&values?)?;
        if let ([run], Cell::Task(task)) = (&method.runs[..], cell)
            && metric.is_share()
            && let Some(pairs) = run.tasks.get(task).and_then(|scores| scores.pairs)
        {
            return Some(Self::share(estimate.mean, pairs));
        }
        Some(estimate)
    }

    /// `own - other`, paired by seed (every method of a seed draws in the same order). Without seeds in common there is
    /// no interval.
    #[must_use]
    pub fn difference(
        own: &Method,
        other: &Method,
        metric: Metric,
        cell: Cell<'_>,
        tasks: &[String],
    ) -> Option<Self> {
        let pairs = own.runs.iter().filter_map(|run| {
            let twin = other.runs.iter().find(|twin| twin.seed == run.seed)?;
            Some(value(run, metric, cell, tasks)? - value(twin, metric, cell, tasks)?)
        });
        let differences: Vec<f64> = pairs.collect();
        if let Some(estimate) = Self::over_seeds(&differences) {
            return Some(estimate);
        }
        let of = |method| Self::of(method, metric, cell, tasks, None);
        Some(Self { mean: of(own)?.mean - of(other)?.mean, interval: None })
    }
}

/// One seed's value of a cell; `None` if some task lacks it.
fn value(run: &SeedRun, metric: Metric, cell: Cell<'_>, tasks: &[String]) -> Option<f64> {
    let all = || tasks.iter().map(|task| run.tasks.get(task)?.get(metric)).collect::<Option<Vec<f64>>>();
    match cell {
        Cell::Task(task) => run.tasks.get(task)?.get(metric),
        Cell::Average => mean(&all()?),
        Cell::Worst => all()?.into_iter().reduce(|a, b| if metric.better(a, b) { b } else { a }),
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Percentile bootstrap of the mean; `None` of fewer than two values.
fn bootstrap(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let mut means: Vec<f64> = if n <= ENUMERATED {
        let all = n.pow(u32::try_from(n).ok()?);
        let resample = |mut index: usize| {
            let mut sum = 0.0;
            for _ in 0..n {
                sum += values[index % n];
                index /= n;
            }
            sum / n as f64
        };
        (0..all).map(resample).collect()
    } else {
        let mut state = 0_u64;
        let mut next = || {
            // SplitMix64 (Steele et al. 2014); the bias of the remainder is below 1e-16.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        (0..DRAWS)
            .map(|_| (0..n).map(|_| values[(next() % n as u64) as usize]).sum::<f64>() / n as f64)
            .collect()
    };
    means.sort_by(f64::total_cmp);
    // Rounding may push the mean of equal values past them by a bit.
    let (min, max) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
    let low = (0.025 * means.len() as f64).ceil() as usize - 1;
    Some((means[low].clamp(min, max), means[means.len() - 1 - low].clamp(min, max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(got: f64, want: f64, within: f64) {
        assert!((got - want).abs() <= within, "{got} vs {want}");
    }

    /// Expected values from numpy and scipy: tests/golden/intervals.py.
    #[test]
    fn intervals_agree_with_numpy_and_scipy() {
        let three = Estimate::over_seeds(&[0.71, 0.66, 0.80]).unwrap();
        close(three.mean, 0.723_333_333_333_333_4, 1e-12);
        let interval = three.interval.unwrap();
        assert_eq!((interval.low, interval.high, interval.over), (0.66, 0.80, Over::Seeds(3)));

        let five = Estimate::over_seeds(&[1.0, 2.0, 4.0, 8.0, 16.0]).unwrap().interval.unwrap();
        close(five.low, 2.0, 1e-12);
        close(five.high, 11.4, 1e-12);

        let ten: Vec<f64> = (1..=10).map(|i| f64::from(i * i)).collect();
        let ten = Estimate::over_seeds(&ten).unwrap().interval.unwrap();
        close(ten.low, 19.4, 1.0);
        close(ten.high, 59.3, 1.0);

        let share = Estimate::share(0.83, 300).interval.unwrap();
        close(share.low, 0.783_385_737_4, 1e-9);
        close(share.high, 0.868_269_901_6, 1e-9);
        let all = Estimate::share(1.0, 300).interval.unwrap();
        close(all.low, 0.987_357_028_8, 1e-9);
        assert_eq!(all.high, 1.0);
    }

    #[test]
    fn one_seed_has_no_interval_over_seeds_and_nothing_has_none_at_all() {
        assert_eq!(Estimate::over_seeds(&[0.5]).unwrap().interval, None);
        assert_eq!(Estimate::over_seeds(&[]), None);
        assert_eq!(Estimate::share(0.5, 0).interval, None);
        assert_eq!(Estimate::share(f64::NAN, 10).interval, None);
    }
}
