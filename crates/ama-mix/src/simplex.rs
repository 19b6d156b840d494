//! Weights on the simplex, held in log space.

use crate::MixError;

/// Where log-weights and their gains saturate. `exp` of anything below -746 is 0 in `f64`, so a weight held
/// here differs from a true one only in how long it takes to come back; the sum of two such values is finite.
pub(crate) const LOG_LIMIT: f64 = 1e300;

/// A point of the simplex as log-weights, for exponentiated-gradient updates.
///
/// The log-weights are shifted so that the largest is 0 before they are exponentiated, so the weights are
/// finite, not negative and sum to 1 (to rounding) after any number of finite gains, however large.
#[derive(Debug, Clone, PartialEq)]
pub struct LogWeights {
    logs: Vec<f64>,
    weights: Vec<f64>,
}

impl LogWeights {
    /// Equal weights on `tasks` tasks.
    ///
    /// # Errors
    /// [`MixError::NoTasks`].
    pub fn uniform(tasks: usize) -> Result<Self, MixError> {
        Self::from_logs(vec![0.0; tasks])
    }

    /// Weights proportional to `exp(logs[i])`.
    ///
    /// # Errors
    /// [`MixError::NoTasks`]; [`MixError::BadSetting`] on a log-weight that is not finite.
    pub fn from_logs(mut logs: Vec<f64>) -> Result<Self, MixError> {
        if logs.is_empty() {
            return Err(MixError::NoTasks);
        }
        for value in &mut logs {
            if !value.is_finite() {
                return Err(MixError::BadSetting {
                    name: "log-weight",
                    value: *value,
                    want: "a finite value",
                });
            }
            *value = value.clamp(-LOG_LIMIT, LOG_LIMIT);
        }
        let weights = vec![0.0; logs.len()];
        let mut new = Self { logs, weights };
        new.normalise();
        Ok(new)
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.logs.len()
    }

    /// The weights: finite, `>= 0`, sum 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The log-weights, up to a constant: the largest is 0.
    pub fn logs(&self) -> &[f64] {
        &self.logs
    }

    /// One step of exponentiated gradient: `w_i <- w_i exp(gain(i))`, normalised.
    ///
    /// A gain of infinite size counts as the largest possible one of its sign, a NaN as none; the mixers
    /// check their inputs before.
    pub fn exponentiate(&mut self, gain: impl Fn(usize) -> f64) {
        for (task, log) in self.logs.iter_mut().enumerate() {
            let gain = gain(task);
            if !gain.is_nan() {
                *log += gain.clamp(-LOG_LIMIT, LOG_LIMIT);
            }
        }
        self.normalise();
    }

    /// `w_i <- (1 - floor) w_i + floor / k`: mixes with the uniform weights and goes on from there (where
    /// [`mix_with_uniform`] leaves `w` as it is). `floor` in `[0, 1]`; 0 changes nothing.
    pub fn smooth(&mut self, floor: f64) {
        if floor > 0.0 {
            let mut mixed = vec![0.0; self.weights.len()];
            mix_with_uniform(&self.weights, floor, &mut mixed);
            for (log, weight) in self.logs.iter_mut().zip(mixed) {
                *log = weight.ln().max(-LOG_LIMIT);
            }
            self.normalise();
        }
    }

    fn normalise(&mut self) {
        let max = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for (log, weight) in self.logs.iter_mut().zip(&mut self.weights) {
            *log = (*log - max).max(-LOG_LIMIT);
            *weight = log.exp();
            sum += *weight;
        }
        // The largest term is exp(0), so 1 <= sum <= tasks.
        for weight in &mut self.weights {
            *weight /= sum;
        }
    }
}

/// `out[i] = (1 - floor) q[i] + floor / k`: `q` mixed with the uniform distribution (Auer et al. 2002, Exp3).
///
/// For `q` on the simplex and `floor` in `[0, 1]`, `out` is on the simplex and nowhere below `floor / k`.
/// Lengths are the caller's: the shorter slice rules.
pub fn mix_with_uniform(q: &[f64], floor: f64, out: &mut [f64]) {
    let uniform = floor / q.len() as f64;
    for (out, q) in out.iter_mut().zip(q) {
        *out = (1.0 - floor) * q + uniform;
    }
}

/// `values` scaled to sum to 1, without overflow for any finite values.
///
/// # Errors
/// [`MixError::NoTasks`] on an empty slice; [`MixError::BadSetting`] on a value that is negative or not finite,
/// and if all are zero.
pub fn proportions(values: &[f64]) -> Result<Vec<f64>, MixError> {
    if values.is_empty() {
        return Err(MixError::NoTasks);
    }
    for &value in values {
        crate::error::check_not_negative("weight", value)?;
    }
    let max = values.iter().copied().fold(0.0, f64::max);
    if max == 0.0 {
        return Err(MixError::BadSetting { name: "largest weight", value: max, want: "a value > 0" });
    }
    let sum: f64 = values.iter().map(|value| value / max).sum();
    Ok(values.iter().map(|value| value / max / sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_the_ratio_of_exponentials() {
        let mut w = LogWeights::uniform(3).unwrap();
        w.exponentiate(|task| [0.0, 2f64.ln(), 5f64.ln()][task]);
        for (got, want) in w.weights().iter().zip([0.125, 0.25, 0.625]) {
            assert!((got - want).abs() < 1e-15, "{got} vs {want}");
        }
    }

    #[test]
    fn extremes_saturate_instead_of_overflowing() {
        let mut w = LogWeights::from_logs(vec![f64::MAX, -f64::MAX, 0.0]).unwrap();
        assert_eq!(w.weights(), [1.0, 0.0, 0.0]);
        for _ in 0..10 {
            w.exponentiate(|task| if task == 1 { f64::MAX } else { -f64::MAX });
        }
        assert_eq!(w.weights(), [0.0, 1.0, 0.0]);
        assert!(w.logs().iter().all(|log| log.is_finite()));
    }

    /// 1/8, 7/8 with a quarter of uniform: 3/32 + 4/32 = 7/32 and 25/32; then a factor 25/7 on the first.
    #[test]
    fn smoothing_is_where_the_next_step_starts() {
        let mut w = LogWeights::from_logs(vec![0.0, 7f64.ln()]).unwrap();
        w.smooth(0.25);
        w.exponentiate(|task| if task == 0 { (25.0f64 / 7.0).ln() } else { 0.0 });
        assert!((w.weights()[0] - 0.5).abs() < 1e-15, "{:?}", w.weights());
        let before = w.clone();
        w.smooth(0.0);
        assert_eq!(w, before);
    }

    #[test]
    fn bad_logs_are_refused() {
        assert_eq!(LogWeights::uniform(0), Err(MixError::NoTasks));
        assert!(LogWeights::from_logs(vec![0.0, f64::NAN]).is_err());
        assert!(LogWeights::from_logs(vec![f64::NEG_INFINITY]).is_err());
    }

    #[test]
    fn proportions_survive_huge_and_tiny_values() {
        assert_eq!(proportions(&[1.0, 3.0]).unwrap(), [0.25, 0.75]);
        assert_eq!(proportions(&[f64::MAX, f64::MAX]).unwrap(), [0.5, 0.5]);
        assert_eq!(proportions(&[5e-324, 0.0]).unwrap(), [1.0, 0.0]);
        for bad in [&[][..], &[0.0, 0.0], &[-1.0, 2.0], &[f64::NAN], &[f64::INFINITY, 1.0]] {
            assert!(proportions(bad).is_err(), "{bad:?}");
        }
    }
}
