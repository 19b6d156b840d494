//! Mixers for many-task alignment: who gets how much weight in the next training step.
//!
//! AutoMixAlign (Corrado et al., ACL 2025, arXiv:2506.00569) trains one model on several preference
//! tasks by always pushing on the task whose loss is furthest above that of a specialist:
//! `min_theta max_i E_i(theta)`, where `E_i` is the mean *excess* of task `i`. The inner maximum is
//! played by a [`Mixer`], an online learner on the simplex of tasks:
//!
//! - [`AmaR`] **reweights**: every batch holds equally many pairs of each task, and the mixer moves the
//!   factor on each task's loss (exponentiated gradient, the order of Group DRO);
//! - [`AmaS`] **resamples**: the mixer moves the probability of drawing from each task (EXP3);
//! - [`AmaSIx`] is AMA-S with a bandit of less variance (Exp3-IX), and [`Averaged`] steps with averaged weights;
//! - [`Pooled`], [`TaskNormalised`], [`Fixed`], [`temperature`] and [`GroupDro`] are the baselines;
//! - [`Odm`], [`DoReMi`], [`Term`] and [`Famo`] are mixers of other papers, over the same loop.
//!
//! All of it is arithmetic: no input or output, no clock, and no random numbers. The caller draws the
//! batch, so the crate fits in any training loop, in any framework.
//!
//! # Example
//!
//! One step of any mixer, whatever it is. The loop never asks which:
//!
//! ```
//! use ama_mix::{DrawRule, ExcessMode, GradientClip, MixerSpec, TaskExcess, pair_excess};
//!
//! // Two tasks of 1000 and 50 pairs, 400 steps to go.
//! let mut mixer = "ama-r".parse::<MixerSpec>()?.build(&[1000, 50], 400)?;
//!
//! // 1. Draw a batch by the plan: AMA-R wants equally many pairs of every task.
//! assert_eq!(mixer.plan().draw, DrawRule::Stratified);
//! let tasks = [0, 0, 1, 1];
//!
//! // 2. Forward: losses of the four pairs (nats), and those of their specialists from the cache.
//! let (loss, specialist) = ([0.50, 0.30, 0.90, 0.70], [0.45, 0.40, 0.20, 0.20]);
//! let excess: Vec<_> = (0..4)
//!     .map(|i| pair_excess(ExcessMode::Clipped, GradientClip::Pair, loss[i], specialist[i]))
//!     .collect();
//! assert!(!excess[1].active, "a pair below its specialist gives no gradient");
//!
//! // 3. The mixer learns from the mean excess of each task ...
//! let values: Vec<f64> = excess.iter().map(|e| e.value_nats).collect();
//! mixer.update(&TaskExcess::collect(2, &tasks, &values)?)?;
//! assert!(mixer.alpha()[1] > mixer.alpha()[0], "task 1 is further above its specialist");
//!
//! // 4. ... and its plan gives every pair's factor in the loss to step on.
//! let weights = mixer.plan().pair_weights(&tasks)?;
//! let step_loss: f64 = weights.iter().zip(&values).map(|(w, e)| w * e).sum();
//! assert!((step_loss - (mixer.alpha()[0] * 0.025 + mixer.alpha()[1] * 0.6)).abs() < 1e-12);
//! # Ok::<(), ama_mix::MixError>(())
//! ```
#![forbid(unsafe_code)]

mod error;

mod excess;
mod plan;
mod simplex;

mod average;
mod scale;
mod state;

mod mixer;

mod ama_r;
mod ama_s;
mod ama_s_ix;
mod averaged;
mod baselines;
mod group_dro;

mod doremi;
mod famo;
mod odm;
mod term;

mod spec;

pub use ama_r::AmaR;
pub use ama_s::AmaS;
pub use ama_s_ix::AmaSIx;
pub use averaged::Averaged;
pub use baselines::{Fixed, Pooled, TaskNormalised, temperature};
pub use doremi::DoReMi;
pub use error::MixError;
pub use excess::{ExcessMode, GradientClip, PairExcess, pair_excess};
pub use famo::Famo;
pub use group_dro::GroupDro;
pub use mixer::{Mixer, TaskExcess};
pub use odm::Odm;
pub use plan::{DrawRule, Plan};
pub use scale::{ExcessScale, SCALE_FLOOR_NATS};
pub use simplex::{LogWeights, mix_with_uniform, proportions};
pub use spec::{MixerKind, MixerSpec, Resolved};
pub use state::{MixerState, STATE_VERSION};
pub use term::Term;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
