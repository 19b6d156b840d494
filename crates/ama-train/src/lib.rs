//! Two-stage AutoMixAlign training on top of the other `ama` crates: SFT, specialists, scoring, generalists and
//! evaluation (Corrado et al., ACL 2025, arXiv:2506.00569).
//!
//! Stage 1 trains one DPO specialist per task and caches its losses; stage 2 trains one generalist on the clipped
//! excess over those losses with any [`ama_mix::Mixer`]. Both are the same [`Preference`] objective over the same
//! [`train`] loop; so is supervised fine-tuning with [`Sft`].
//!
//! ```
//! use ama_train::{Budget, Decay, Schedule, Warmup};
//!
//! let schedule = Schedule { peak: 5e-4, warmup: Warmup::Fraction(0.05), decay: Decay::Linear, min_ratio: 0.1 };
//! let budget = Budget::Tokens(192_000);
//! let lr = schedule.rate(budget, 80, 96_000, 98_400);
//! assert!(lr < 5e-4 && lr > 2.5e-4);
//! ```
//!
//! Reading order: [`schedule`] and [`optim`] (how far and how fast), [`objective`] (what is minimised), [`sft`] and
//! [`preference`] (the two objectives), [`engine`] (the loop), [`checkpoint`], [`mod@score`], [`mod@evaluate`], [`record`],
//! [`metrics`], [`control`]; [`noise`] is an ablation.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod control;
pub mod engine;
mod error;
pub mod evaluate;
pub mod metrics;
pub mod noise;
pub mod objective;
pub mod optim;
pub mod preference;
pub mod record;
pub mod schedule;
pub mod score;
pub mod sft;

pub use checkpoint::Checkpoints;
pub use control::{Control, Observer, Silent};
pub use engine::{TrainOptions, train};
pub use error::TrainError;
pub use evaluate::{EvalTask, Question, TaskResult, evaluate, pair_logps, pair_losses};
pub use metrics::MetricsLog;
pub use noise::add_gaussian_noise;
pub use objective::Objective;
pub use optim::{AdamW, AdamWOptions};
pub use preference::{Preference, PreferenceOptions, PreferenceState, Stage, TrainTask, horizon_steps};
pub use record::{StepRecord, Summary, peak_rss_mib};
pub use schedule::{Budget, Decay, Schedule, Warmup};
pub use score::{ScoreOptions, score, score_cached};
pub use sft::Sft;
