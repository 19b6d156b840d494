//! Means and their uncertainty.

/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 10_000;

/// A mean with its 95% percentile bootstrap interval (Efron 1979), over whole experiments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The estimate from one value per experiment; `None` without a value. The same values give the same interval.
pub(super) fn estimate(values: &[f64]) -> Option<Estimate> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let n = values.len();
    let mean = |sum: f64| sum / n as f64;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        // SplitMix64 (Steele et al. 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean((0..n).map(|_| values[draw()]).sum())).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Some(Estimate { mean: mean(values.iter().sum()), low: at(0.025), high: at(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_covers_the_mean_and_narrows() {
        let few: Vec<f64> = (0..5).map(f64::from).collect();
        let many: Vec<f64> = (0..500).map(|i| f64::from(i % 5)).collect();
        let (few, many) = (estimate(&few).unwrap(), estimate(&many).unwrap());
        assert_eq!((few.mean, many.mean), (2.0, 2.0));
        assert!(few.low < 2.0 && few.high > 2.0);
        // Standard deviation sqrt 2: 1.96 sqrt(2 / 500) = 0.124.
        assert!((many.high - 2.124).abs() < 0.02 && (many.low - 1.876).abs() < 0.02, "{many:?}");
        assert!(few.high - few.low > 5.0 * (many.high - many.low));
    }

    #[test]
    fn nothing_and_nonsense_have_no_estimate() {
        assert_eq!(estimate(&[]), None);
        assert_eq!(estimate(&[1.0, f64::NAN]), None);
        assert_eq!(estimate(&[3.0]), Some(Estimate { mean: 3.0, low: 3.0, high: 3.0 }));
    }
}
