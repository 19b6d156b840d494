//! The unit in which a mixer measures excess.

use crate::{MixError, TaskExcess};

/// A running scale never divides by less than this many nats.
pub const SCALE_FLOOR_NATS: f64 = 1e-6;

/// The excess scale `M` that mixer steps are divided by, so that their step size has no unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ExcessScale {
    /// A fixed bound `M` in nats, as the theory has it. `Fixed(1.0)` leaves the excess as it is.
    Fixed(f64),
    /// `M <- decay * M + (1 - decay) * max_i |e_i|` over the tasks drawn in the step, `e_i` their mean excess;
    /// the first step sets `M` to what it sees. The size `|e_i|` matters for unclipped excess only, which
    /// may be negative. Never below [`SCALE_FLOOR_NATS`] where it divides.
    Running {
        /// Weight of the past, in `[0, 1)`; 0.9 by default.
        decay: f64,
    },
}

impl Default for ExcessScale {
    /// `Running { decay: 0.9 }`: excess is often far below its worst case.
    fn default() -> Self {
        Self::Running { decay: 0.9 }
    }
}

impl ExcessScale {
    pub(crate) fn checked(self) -> Result<Self, MixError> {
        match self {
            Self::Fixed(value) if !(value.is_finite() && value > 0.0) => {
                Err(MixError::BadSetting { name: "fixed excess scale", value, want: "a finite value > 0" })
            }
            Self::Running { decay } if !(0.0..1.0).contains(&decay) => Err(MixError::BadSetting {
                name: "decay of the running excess scale",
                value: decay,
                want: "a value in [0, 1)",
            }),
            good => Ok(good),
        }
    }
}

/// An [`ExcessScale`] with what it has seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ScaleTracker {
    rule: ExcessScale,
    /// The running average; stays `None` for a fixed scale and before the first step.
    seen: Option<f64>,
}

impl ScaleTracker {
    pub(crate) fn new(rule: ExcessScale) -> Result<Self, MixError> {
        Ok(Self { rule: rule.checked()?, seen: None })
    }

    /// The scale in nats that the last step divided by (that a first one will, if fixed).
    pub(crate) fn current(&self) -> Option<f64> {
        match self.rule {
            ExcessScale::Fixed(value) => Some(value),
            ExcessScale::Running { .. } => self.seen.map(|seen| seen.max(SCALE_FLOOR_NATS)),
        }
    }

    /// Sees a step's excess (all finite) and returns the scale to divide it by.
    pub(crate) fn observe(&mut self, tasks: &[TaskExcess]) -> f64 {
        match self.rule {
            ExcessScale::Fixed(value) => value,
            ExcessScale::Running { decay } => {
                let drawn = tasks.iter().filter(|task| task.drawn > 0);
                let largest = drawn.map(|task| task.mean_excess_nats.abs()).fold(0.0, f64::max);
                let seen = match self.seen {
                    None => largest,
                    Some(seen) => decay * seen + (1.0 - decay) * largest,
                };
                self.seen = Some(seen);
                seen.max(SCALE_FLOOR_NATS)
            }
        }
    }

    pub(crate) fn seen(&self) -> Option<f64> {
        self.seen
    }

    pub(crate) fn restored(&self, seen: Option<f64>) -> Result<Self, MixError> {
        let running = matches!(self.rule, ExcessScale::Running { .. });
        let good = seen.is_none_or(|seen| running && seen.is_finite() && seen >= 0.0);
        if good { Ok(Self { seen, ..*self }) } else { Err(MixError::StateField { field: "running_scale" }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(means: &[f64]) -> Vec<TaskExcess> {
        means.iter().map(|&mean_excess_nats| TaskExcess { drawn: 1, mean_excess_nats }).collect()
    }

    #[test]
    fn the_first_value_is_the_first_observation() {
        let mut scale = ScaleTracker::new(ExcessScale::Running { decay: 0.75 }).unwrap();
        assert_eq!(scale.current(), None);
        assert_eq!(scale.observe(&tasks(&[0.5, 2.0])), 2.0);
        assert_eq!(scale.observe(&tasks(&[1.0, 0.25])), 1.75); // .75 * 2 + .25 * 1
        assert_eq!(scale.observe(&tasks(&[-3.75, 0.25])), 2.25); // .75 * 1.75 + .25 * 3.75
        assert_eq!(scale.current(), Some(2.25));
    }

    #[test]
    fn a_task_that_was_not_drawn_does_not_count() {
        let mut scale = ScaleTracker::new(ExcessScale::default()).unwrap();
        let seen =
            [TaskExcess { drawn: 0, mean_excess_nats: 9.0 }, TaskExcess { drawn: 1, mean_excess_nats: 1.0 }];
        assert_eq!(scale.observe(&seen), 1.0);
    }

    #[test]
    fn zero_excess_divides_by_the_floor() {
        let mut scale = ScaleTracker::new(ExcessScale::default()).unwrap();
        assert_eq!(scale.observe(&tasks(&[0.0])), SCALE_FLOOR_NATS);
    }

    #[test]
    fn bad_rules_are_refused() {
        for bad in [ExcessScale::Fixed(0.0), ExcessScale::Fixed(f64::NAN), ExcessScale::Fixed(f64::INFINITY)]
        {
            assert!(ScaleTracker::new(bad).is_err(), "{bad:?}");
        }
        for decay in [-0.1, 1.0, f64::NAN] {
            assert!(ScaleTracker::new(ExcessScale::Running { decay }).is_err(), "{decay}");
        }
    }
}
