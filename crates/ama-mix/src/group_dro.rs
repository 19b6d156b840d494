//! Group DRO: AMA-R without specialists.

use crate::{AmaR, ExcessScale, MixError, Mixer, MixerState, Plan, TaskExcess};

/// Group DRO (Sagawa et al. 2020, arXiv:1911.08731, algorithm 1): [`AmaR`] with zero targets.
///
/// The update is that of [`AmaR`]; the difference is in what the caller feeds it: the raw losses
/// ([`ExcessMode::Raw`](crate::ExcessMode::Raw)) in place of the excess over specialists.
#[derive(Debug, Clone)]
pub struct GroupDro(AmaR);

impl GroupDro {
    /// See [`AmaR::new`].
    ///
    /// # Errors
    /// As [`AmaR::new`].
    pub fn new(tasks: usize, eta: f64, scale: ExcessScale) -> Result<Self, MixError> {
        AmaR::new(tasks, eta, scale).map(Self)
    }
}

impl Mixer for GroupDro {
    fn name(&self) -> &'static str {
        "group-dro"
    }

    fn plan(&self) -> Plan<'_> {
        self.0.plan()
    }

    fn update(&mut self, tasks: &[TaskExcess]) -> Result<(), MixError> {
        self.0.update(tasks)
    }

    fn alpha(&self) -> &[f64] {
        self.0.alpha()
    }

    fn loss_weight_depends_on_batch(&self) -> bool {
        self.0.loss_weight_depends_on_batch()
    }

    fn excess_scale(&self) -> Option<f64> {
        self.0.excess_scale()
    }

    fn averaged_alpha(&self) -> Vec<f64> {
        self.0.averaged_alpha()
    }

    fn state(&self) -> MixerState {
        self.0.state_as(self.name())
    }

    fn restore(&mut self, state: &MixerState) -> Result<(), MixError> {
        self.0.restore_as(self.name(), state)
    }
}
