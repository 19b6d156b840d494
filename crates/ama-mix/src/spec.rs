//! Which mixer, with which settings: the validated form of a configuration.

use crate::{
    AmaR, AmaS, ExcessScale, Fixed, GroupDro, MixError, Mixer, Pooled, TaskNormalised, error::check_tasks,
    temperature,
};
use std::{fmt, str::FromStr};

/// The mixers by name. `Display` and `FromStr` are each other's inverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MixerKind {
    /// `pooled`: [`Pooled`].
    Pooled,
    /// `task-normalised`: [`TaskNormalised`].
    TaskNormalised,
    /// `fixed`: [`Fixed`].
    Fixed,
    /// `temperature`: [`temperature()`].
    Temperature,
    /// `group-dro`: [`GroupDro`].
    GroupDro,
    /// `ama-r`: [`AmaR`].
    AmaR,
    /// `ama-s`: [`AmaS`].
    AmaS,
}

impl MixerKind {
    /// Every mixer, baselines first.
    pub const ALL: [Self; 7] = [
        Self::Pooled,
        Self::TaskNormalised,
        Self::Fixed,
        Self::Temperature,
        Self::GroupDro,
        Self::AmaR,
        Self::AmaS,
    ];

    /// The stable name, as in configurations and results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pooled => "pooled",
            Self::TaskNormalised => "task-normalised",
            Self::Fixed => "fixed",
            Self::Temperature => "temperature",
            Self::GroupDro => "group-dro",
            Self::AmaR => "ama-r",
            Self::AmaS => "ama-s",
        }
    }

    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for MixerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for MixerKind {
    type Err = MixError;

    fn from_str(name: &str) -> Result<Self, MixError> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| MixError::UnknownMixer { name: name.to_owned() })
    }
}

/// A mixer and its settings, before the number of tasks and steps is known. `None` is the default that
/// follows from them; [`resolve`](Self::resolve) says which value that is.
#[derive(Debug, Clone, PartialEq)]
pub enum MixerSpec {
    /// [`Pooled`].
    Pooled,
    /// [`TaskNormalised`].
    TaskNormalised,
    /// [`Fixed`].
    Fixed {
        /// Sampling weight of each task, `>= 0`; they need not sum to 1.
        weights: Vec<f64>,
    },
    /// [`temperature()`].
    Temperature {
        /// Exponent on the sizes: 1 draws by size, 0 every task alike.
        tau: f64,
    },
    /// [`GroupDro`].
    GroupDro {
        /// Step over the scale; by default [`AmaR::default_eta`].
        eta: Option<f64>,
        /// Unit of the losses.
        scale: ExcessScale,
    },
    /// [`AmaR`].
    AmaR {
        /// Step over the scale; by default [`AmaR::default_eta`].
        eta: Option<f64>,
        /// Unit of the excess.
        scale: ExcessScale,
    },
    /// [`AmaS`].
    AmaS {
        /// Share of uniform exploration, in `[0, 1]`; by default [`AmaS::horizon_c`].
        c: Option<f64>,
        /// Step over the scale; by default `c/k`.
        eta: Option<f64>,
        /// Unit of the excess.
        scale: ExcessScale,
    },
}

/// The settings that a [`MixerSpec`] comes to for a number of tasks and steps, to be recorded with a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolved {
    /// Share of uniform exploration (AMA-S).
    pub c: Option<f64>,
    /// Step over the excess scale (AMA-R, AMA-S, Group DRO).
    pub eta: Option<f64>,
    /// Unit of the excess (AMA-R, AMA-S, Group DRO).
    pub scale: Option<ExcessScale>,
    /// Exponent on the sizes (temperature).
    pub tau: Option<f64>,
}

impl MixerSpec {
    /// Which mixer it is.
    pub const fn kind(&self) -> MixerKind {
        match self {
            Self::Pooled => MixerKind::Pooled,
            Self::TaskNormalised => MixerKind::TaskNormalised,
            Self::Fixed { .. } => MixerKind::Fixed,
            Self::Temperature { .. } => MixerKind::Temperature,
            Self::GroupDro { .. } => MixerKind::GroupDro,
            Self::AmaR { .. } => MixerKind::AmaR,
            Self::AmaS { .. } => MixerKind::AmaS,
        }
    }

    /// Whether the mixer acts on the excess over specialists, so that a run has to have them. (A run with
    /// [`ExcessMode::Raw`](crate::ExcessMode::Raw) needs none, whatever the mixer.)
    pub const fn needs_specialists(&self) -> bool {
        matches!(self, Self::AmaR { .. } | Self::AmaS { .. })
    }

    /// The settings for `tasks` tasks and a run of `horizon_steps` steps, defaults filled in.
    pub fn resolve(&self, tasks: usize, horizon_steps: u64) -> Resolved {
        let none = Resolved { c: None, eta: None, scale: None, tau: None };
        match *self {
            Self::Pooled | Self::TaskNormalised | Self::Fixed { .. } => none,
            Self::Temperature { tau } => Resolved { tau: Some(tau), ..none },
            Self::GroupDro { eta, scale } | Self::AmaR { eta, scale } => {
                let eta = eta.unwrap_or_else(|| AmaR::default_eta(horizon_steps));
                Resolved { eta: Some(eta), scale: Some(scale), ..none }
            }
            Self::AmaS { c, eta, scale } => {
                let c = c.unwrap_or_else(|| AmaS::horizon_c(tasks, horizon_steps));
                let eta = eta.unwrap_or(c / tasks.max(1) as f64);
                Resolved { c: Some(c), eta: Some(eta), scale: Some(scale), ..none }
            }
        }
    }

    /// The mixer, for tasks of `sizes[i]` pairs and a run of `horizon_steps` optimiser steps.
    ///
    /// # Errors
    /// [`MixError::NoTasks`], [`MixError::EmptyTask`], [`MixError::TaskCount`] (of `weights`),
    /// [`MixError::BadSetting`].
    pub fn build(&self, sizes: &[usize], horizon_steps: u64) -> Result<Box<dyn Mixer + Send>, MixError> {
        if let Some(task) = sizes.iter().position(|&size| size == 0) {
            return Err(MixError::EmptyTask { task });
        }
        let tasks = sizes.len();
        // `unwrap_or_default` below never acts: `resolve` fills what the variant has.
        let Resolved { c, eta, .. } = self.resolve(tasks, horizon_steps);
        let (c, eta) = (c.unwrap_or_default(), eta.unwrap_or_default());
        Ok(match *self {
            Self::Pooled => Box::new(Pooled::new(sizes)?),
            Self::TaskNormalised => Box::new(TaskNormalised::new(tasks)?),
            Self::Fixed { ref weights } => {
                check_tasks("`weights` of the fixed mixer", tasks, weights.len())?;
                Box::new(Fixed::new(weights)?)
            }
            Self::Temperature { tau } => Box::new(temperature(sizes, tau)?),
            Self::GroupDro { scale, .. } => Box::new(GroupDro::new(tasks, eta, scale)?),
            Self::AmaR { scale, .. } => Box::new(AmaR::new(tasks, eta, scale)?),
            Self::AmaS { scale, .. } => Box::new(AmaS::new(tasks, c, eta, scale)?),
        })
    }
}

impl fmt::Display for MixerSpec {
    /// The name alone; see [`MixerKind`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

impl FromStr for MixerSpec {
    type Err = MixError;

    /// A mixer by name with its default settings.
    ///
    /// # Errors
    /// [`MixError::UnknownMixer`]; [`MixError::MissingSetting`] for `fixed` and `temperature`, which have no
    /// default.
    fn from_str(name: &str) -> Result<Self, MixError> {
        let scale = ExcessScale::default();
        let missing = |name, missing| Err(MixError::MissingSetting { name, missing });
        match name.parse::<MixerKind>()? {
            MixerKind::Pooled => Ok(Self::Pooled),
            MixerKind::TaskNormalised => Ok(Self::TaskNormalised),
            MixerKind::Fixed => missing("fixed", "weights"),
            MixerKind::Temperature => missing("temperature", "tau"),
            MixerKind::GroupDro => Ok(Self::GroupDro { eta: None, scale }),
            MixerKind::AmaR => Ok(Self::AmaR { eta: None, scale }),
            MixerKind::AmaS => Ok(Self::AmaS { c: None, eta: None, scale }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for kind in MixerKind::ALL {
            assert_eq!(kind.to_string().parse::<MixerKind>(), Ok(kind));
        }
        let error = "ama_s".parse::<MixerKind>().unwrap_err();
        let want = "no mixer is called `ama_s`; there are pooled, task-normalised, fixed, temperature, group-dro, \
                    ama-r, ama-s";
        assert_eq!(error.to_string(), want);
        assert!("fixed".parse::<MixerSpec>().is_err());
    }

    #[test]
    fn built_mixers_carry_their_kind_as_name() {
        let scale = ExcessScale::default();
        for spec in [
            MixerSpec::Pooled,
            MixerSpec::TaskNormalised,
            MixerSpec::Fixed { weights: vec![1.0, 2.0] },
            MixerSpec::Temperature { tau: 0.5 },
            MixerSpec::GroupDro { eta: None, scale },
            MixerSpec::AmaR { eta: None, scale },
            MixerSpec::AmaS { c: None, eta: None, scale },
        ] {
            let mixer = spec.build(&[3, 5], 10).unwrap();
            assert_eq!(mixer.name(), spec.to_string());
            assert!(spec.build(&[], 10).is_err(), "{spec}: no tasks");
            assert_eq!(spec.build(&[3, 0], 10).err(), Some(MixError::EmptyTask { task: 1 }));
        }
        let three = MixerSpec::Fixed { weights: vec![1.0; 3] }.build(&[3, 5], 10).err();
        assert_eq!(
            three,
            Some(MixError::TaskCount { what: "`weights` of the fixed mixer", want: 2, got: 3 })
        );
    }

    /// c and eta/M of the suite's default run as its FINDINGS give them: k 3, T 90: c = .146.
    #[test]
    fn defaults_resolve_by_the_formulas() {
        let scale = ExcessScale::default();
        let s = MixerSpec::AmaS { c: None, eta: None, scale }.resolve(3, 90);
        // python: sqrt(3 * log(3) / ((e - 1) * 90)) = 0.14598707270225908
        assert!((s.c.unwrap() - 0.145_987_072_702_259_08).abs() < 1e-15, "{s:?}");
        assert_eq!(s.eta.unwrap(), s.c.unwrap() / 3.0);
        let given = MixerSpec::AmaS { c: Some(0.3), eta: None, scale }.resolve(3, 90);
        assert_eq!((given.c, given.eta), (Some(0.3), Some(0.3 / 3.0)));
        let r = MixerSpec::AmaR { eta: None, scale }.resolve(3, 200);
        assert_eq!((r.c, r.eta), (None, Some(0.01)));
        // Few steps: exploration is all there is, and one task has nothing to explore.
        assert_eq!(AmaS::horizon_c(3, 1), 1.0);
        assert_eq!(AmaS::horizon_c(1, 100), 0.0);
    }
}
