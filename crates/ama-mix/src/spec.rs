//! Which mixer, with which settings: the validated form of a configuration.

use crate::{
    AmaR, AmaS, AmaSIx, Averaged, DoReMi, ExcessScale, Famo, Fixed, GroupDro, MixError, Mixer, Odm, Pooled,
    TaskNormalised, Term, error::check_tasks, temperature,
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
    /// `ama-s-ix`: [`AmaSIx`].
    AmaSIx,
    /// `odm`: [`Odm`].
    Odm,
    /// `doremi`: [`DoReMi`].
    DoReMi,
    /// `term`: [`Term`].
    Term,
    /// `famo`: [`Famo`].
    Famo,
}

impl MixerKind {
    /// Every mixer: baselines, AutoMixAlign, other papers.
    pub const ALL: [Self; 12] = [
        Self::Pooled,
        Self::TaskNormalised,
        Self::Fixed,
        Self::Temperature,
        Self::GroupDro,
        Self::AmaR,
        Self::AmaS,
        Self::AmaSIx,
        Self::Odm,
        Self::DoReMi,
        Self::Term,
        Self::Famo,
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
            Self::AmaSIx => "ama-s-ix",
            Self::Odm => "odm",
            Self::DoReMi => "doremi",
            Self::Term => "term",
            Self::Famo => "famo",
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
    /// [`AmaSIx`].
    AmaSIx {
        /// Implicit exploration, `> 0`; by default `eta / 2`.
        gamma: Option<f64>,
        /// Step over the scale; by default [`AmaSIx::horizon_eta`].
        eta: Option<f64>,
        /// Unit of the excess.
        scale: ExcessScale,
    },
    /// [`Odm`].
    Odm {
        /// Weight of the past in the rewards, in `[0, 1)`; [`Odm::DEFAULT_SMOOTHING`] by default.
        smoothing: Option<f64>,
        /// Unit of the losses; `Fixed(1.0)` in the paper.
        scale: ExcessScale,
    },
    /// [`DoReMi`].
    DoReMi {
        /// Smoothing towards equal weights, in `[0, 1]`; [`DoReMi::DEFAULT_C`] by default.
        c: Option<f64>,
        /// Step over the scale; [`DoReMi::DEFAULT_ETA`] by default.
        eta: Option<f64>,
        /// Unit of the excess; `Fixed(1.0)` in the paper.
        scale: ExcessScale,
    },
    /// [`Term`].
    Term {
        /// Tilt `t`, in 1/nats; [`Term::DEFAULT_TILT`] by default.
        tilt: Option<f64>,
    },
    /// [`Famo`].
    Famo {
        /// Learning rate `beta` of the logits; [`Famo::DEFAULT_BETA`] by default.
        eta: Option<f64>,
        /// Decay of the logits; [`Famo::DEFAULT_GAMMA`] by default.
        gamma: Option<f64>,
    },
    /// [`Averaged`]: another mixer, but the model steps with the mean of its weights.
    Averaged(Box<MixerSpec>),
}

/// The settings that a [`MixerSpec`] comes to for a number of tasks and steps, to be recorded with a run. `None` for
/// what the mixer does not have.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Resolved {
    /// Share of uniform exploration (AMA-S) or of smoothing (DoReMi).
    pub c: Option<f64>,
    /// Step over the excess scale, or (FAMO) of the logits.
    pub eta: Option<f64>,
    /// Implicit exploration (AMA-S with Exp3-IX) or decay of the logits (FAMO).
    pub gamma: Option<f64>,
    /// Unit of the excess.
    pub scale: Option<ExcessScale>,
    /// Exponent on the sizes (temperature).
    pub tau: Option<f64>,
    /// Weight of the past in the rewards (ODM).
    pub smoothing: Option<f64>,
    /// Tilt in 1/nats (TERM).
    pub tilt: Option<f64>,
    /// Whether the model steps with averaged weights ([`Averaged`]).
    pub averaged: bool,
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
            Self::AmaSIx { .. } => MixerKind::AmaSIx,
            Self::Odm { .. } => MixerKind::Odm,
            Self::DoReMi { .. } => MixerKind::DoReMi,
            Self::Term { .. } => MixerKind::Term,
            Self::Famo { .. } => MixerKind::Famo,
            Self::Averaged(inner) => inner.kind(),
        }
    }

    /// Whether the mixer acts on the excess over specialists, so that a run has to have them. (A run with
    /// [`ExcessMode::Raw`](crate::ExcessMode::Raw) needs none, whatever the mixer.)
    pub const fn needs_specialists(&self) -> bool {
        use MixerKind::{AmaR, AmaS, AmaSIx, DoReMi};
        matches!(self.kind(), AmaR | AmaS | AmaSIx | DoReMi)
    }

    /// The settings for `tasks` tasks and a run of `horizon_steps` steps, defaults filled in.
    pub fn resolve(&self, tasks: usize, horizon_steps: u64) -> Resolved {
        let none = Resolved::default();
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
            Self::AmaSIx { gamma, eta, scale } => {
                let eta = eta.unwrap_or_else(|| AmaSIx::horizon_eta(tasks, horizon_steps));
                let gamma = gamma.unwrap_or(eta / 2.0);
                Resolved { gamma: Some(gamma), eta: Some(eta), scale: Some(scale), ..none }
            }
            Self::Odm { smoothing, scale } => {
                let smoothing = smoothing.unwrap_or(Odm::DEFAULT_SMOOTHING);
                Resolved { smoothing: Some(smoothing), scale: Some(scale), ..none }
            }
            Self::DoReMi { c, eta, scale } => {
                let (c, eta) = (c.unwrap_or(DoReMi::DEFAULT_C), eta.unwrap_or(DoReMi::DEFAULT_ETA));
                Resolved { c: Some(c), eta: Some(eta), scale: Some(scale), ..none }
            }
            Self::Term { tilt } => Resolved { tilt: Some(tilt.unwrap_or(Term::DEFAULT_TILT)), ..none },
            Self::Famo { eta, gamma } => {
                let (eta, gamma) = (eta.unwrap_or(Famo::DEFAULT_BETA), gamma.unwrap_or(Famo::DEFAULT_GAMMA));
                Resolved { eta: Some(eta), gamma: Some(gamma), ..none }
            }
            Self::Averaged(ref inner) => Resolved { averaged: true, ..inner.resolve(tasks, horizon_steps) },
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
        let resolved = self.resolve(tasks, horizon_steps);
        let (c, eta) = (resolved.c.unwrap_or_default(), resolved.eta.unwrap_or_default());
        let gamma = resolved.gamma.unwrap_or_default();
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
            Self::AmaSIx { scale, .. } => Box::new(AmaSIx::new(tasks, gamma, eta, scale)?),
            Self::Odm { scale, .. } => {
                Box::new(Odm::new(tasks, resolved.smoothing.unwrap_or_default(), scale)?)
            }
            Self::DoReMi { scale, .. } => Box::new(DoReMi::new(tasks, c, eta, scale)?),
            Self::Term { .. } => Box::new(Term::new(tasks, resolved.tilt.unwrap_or_default())?),
            Self::Famo { .. } => Box::new(Famo::new(tasks, eta, gamma)?),
            Self::Averaged(ref inner) => Box::new(Averaged::new(inner.build(sizes, horizon_steps)?)),
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
        let (scale, nats) = (ExcessScale::default(), ExcessScale::Fixed(1.0));
        let missing = |name, missing| Err(MixError::MissingSetting { name, missing });
        match name.parse::<MixerKind>()? {
            MixerKind::Pooled => Ok(Self::Pooled),
            MixerKind::TaskNormalised => Ok(Self::TaskNormalised),
            MixerKind::Fixed => missing("fixed", "weights"),
            MixerKind::Temperature => missing("temperature", "tau"),
            MixerKind::GroupDro => Ok(Self::GroupDro { eta: None, scale }),
            MixerKind::AmaR => Ok(Self::AmaR { eta: None, scale }),
            MixerKind::AmaS => Ok(Self::AmaS { c: None, eta: None, scale }),
            MixerKind::AmaSIx => Ok(Self::AmaSIx { gamma: None, eta: None, scale }),
            MixerKind::Odm => Ok(Self::Odm { smoothing: None, scale: nats }),
            MixerKind::DoReMi => Ok(Self::DoReMi { c: None, eta: None, scale: nats }),
            MixerKind::Term => Ok(Self::Term { tilt: None }),
            MixerKind::Famo => Ok(Self::Famo { eta: None, gamma: None }),
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
                    ama-r, ama-s, ama-s-ix, odm, doremi, term, famo";
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
            MixerSpec::AmaSIx { gamma: None, eta: None, scale },
            MixerSpec::Odm { smoothing: None, scale },
            MixerSpec::DoReMi { c: None, eta: None, scale },
            MixerSpec::Term { tilt: None },
            MixerSpec::Famo { eta: None, gamma: None },
            MixerSpec::Averaged(Box::new(MixerSpec::AmaR { eta: None, scale })),
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
        // python: sqrt(2 * log(3) / (3 * 90)) = 0.0902101369301087
        let ix = MixerSpec::AmaSIx { gamma: None, eta: None, scale }.resolve(3, 90);
        assert!((ix.eta.unwrap() - 0.090_210_136_930_108_7).abs() < 1e-15, "{ix:?}");
        assert_eq!(ix.gamma.unwrap(), ix.eta.unwrap() / 2.0);
        let paper: MixerSpec = "doremi".parse().unwrap();
        let paper = paper.resolve(3, 90);
        assert_eq!((paper.eta, paper.c, paper.scale), (Some(1.0), Some(1e-3), Some(ExcessScale::Fixed(1.0))));
        let averaged =
            MixerSpec::Averaged(Box::new(MixerSpec::AmaR { eta: Some(0.5), scale })).resolve(3, 90);
        assert_eq!((averaged.eta, averaged.averaged), (Some(0.5), true));
        // Few steps: exploration is all there is, and one task has nothing to explore.
        assert_eq!(AmaS::horizon_c(3, 1), 1.0);
        assert_eq!(AmaS::horizon_c(1, 100), 0.0);
    }
}
