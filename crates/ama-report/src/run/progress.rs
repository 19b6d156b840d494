//! How far a run is, and how long it will still take.

use super::plan::Budget;
use super::stages::{self, Stage, StageKind};
use super::{Run, State};

/// A stage that is being worked on.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Under<'a> {
    /// The stage.
    pub stage: &'a Stage,
    /// How far it is, in `[0, 1]`; `None` if its length is not known.
    pub share: Option<f64>,
    /// Seconds until its last step at the present speed.
    pub seconds_left: Option<f64>,
}

/// The run as a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Ahead {
    /// Training stages that are done.
    pub done: usize,
    /// Training stages that the configuration asks for; 0 if it cannot be read.
    pub planned: usize,
    /// Seconds until the end, if one generalist is done by which to judge.
    pub seconds_left: Option<f64>,
}

impl Run {
    /// Stages that are begun and not done. Of a run that is not running: those that were cut off.
    #[must_use]
    pub fn under_way(&self) -> Vec<Under<'_>> {
        let kept = stages::kept(&self.stages);
        let all = || self.plan.tasks.iter().map(|task| kept.get(&Some(task.as_str()))).sum::<Option<u64>>();
        let under = |stage: &'_ Stage| -> Option<(f64, Option<f64>)> {
            let budget = match &stage.kind {
                StageKind::Base => self.plan.base_budget(kept.get(&None).copied()),
                StageKind::Specialist { task } => {
                    self.plan.specialist_budget(task, kept.get(&Some(task.as_str())).copied())
                }
                StageKind::Generalist { .. } => self.plan.generalist_budget(all()),
                _ => None,
            };
            left(stage, budget?)
        };
        self.stages
            .iter()
            .filter(|stage| !stage.is_done())
            .map(|stage| {
                let left = under(stage);
                let (share, seconds_left) = (left.map(|left| left.0), left.and_then(|left| left.1));
                Under { stage, share, seconds_left }
            })
            .collect()
    }

    /// Training stages done and planned.
    #[must_use]
    pub fn ahead(&self) -> Ahead {
        let trains = |stage: &&Stage| {
            matches!(
                stage.kind,
                StageKind::Base | StageKind::Specialist { .. } | StageKind::Generalist { .. }
            )
        };
        let done = self.stages.iter().filter(trains).filter(|stage| stage.is_done()).count();
        let generalists = self.plan.methods.len() * self.plan.seeds.len();
        let specialists = if self.plan.methods.iter().any(|method| self.has_excess(method)) {
            self.plan.tasks.len()
        } else {
            0
        };
        let base = usize::from(self.plan.settings.contains_key("base"));
        let planned = if generalists == 0 { 0 } else { base + specialists + generalists };
        Ahead { done, planned: planned.max(done), seconds_left: self.seconds_left(generalists) }
    }

    fn seconds_left(&self, generalists: usize) -> Option<f64> {
        let own: Vec<&Stage> =
            self.stages.iter().filter(|stage| matches!(stage.kind, StageKind::Generalist { .. })).collect();
        let took: Vec<f64> = own.iter().filter_map(|stage| stage.seconds).collect();
        if took.is_empty() || self.state != State::Running {
            return None;
        }
        let mean = took.iter().sum::<f64>() / took.len() as f64;
        let begun = own.len() - took.len();
        let under: f64 = self.under_way().iter().filter_map(|under| under.seconds_left).sum();
        Some(under + mean * generalists.saturating_sub(took.len() + begun) as f64)
    }
}

/// Share that is done and seconds that are left.
fn left(stage: &Stage, budget: Budget) -> Option<(f64, Option<f64>)> {
    let trace = stage.trace.as_ref()?;
    let line = trace.last.as_ref()?;
    let speed = trace.speed();
    let (done, amount, seconds_each) = match budget {
        Budget::Steps(steps) => (line.step, steps, speed.map(|(_, seconds)| seconds)),
        Budget::Tokens(tokens) => {
            (line.tokens_total?, tokens, speed.map(|(tokens, seconds)| seconds / tokens.max(1.0)))
        }
    };
    let share = (done as f64 / amount.max(1) as f64).min(1.0);
    Some((share, seconds_each.map(|each| each * amount.saturating_sub(done) as f64)))
}
