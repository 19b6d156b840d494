//! Log-probability and preference-loss kernels for language-model alignment, on plain slices.
//!
//! What a DPO step needs between a model's last hidden state and its gradient, without a tensor library: the
//! log-probabilities of the target tokens ([`cpu::LinearLogp`] from hidden states and the head's weight, never holding all
//! logits; [`cpu::logits_logp_forward`] from logits you already have), and the preference losses with their gradients
//! ([`PreferenceLoss`]: DPO with label smoothing, IPO, hinge, robust DPO, each with an SFT term). Bring your own model.
//!
//! ```
//! use ama_loss::cpu::{HeadShape, LinearLogp, Recompute};
//! use ama_loss::{PairLogps, PreferenceKind, PreferenceLoss};
//!
//! // Hidden states of 4 positions: two tokens of the chosen completion, two of the rejected one.
//! let hidden = [1.0, 0.0, 0.5, 0.5, 0.0, 1.0, -1.0, 0.5];
//! let weight = [0.3, -0.2, 0.1, 0.4, -0.5, 0.2]; // [vocab = 3, hidden = 2]
//! let head = LinearLogp {
//!     hidden: &hidden,
//!     weight: &weight,
//!     targets: &[0, 1, 2, 1],
//!     shape: HeadShape { rows: 4, hidden: 2, vocab: 3 },
//!     budget_bytes: 64 << 20,
//! };
//! let (forward, kept) = head.forward(Recompute::OverBudget)?;
//! let sum = |rows: &[f32]| rows.iter().map(|x| f64::from(*x)).sum::<f64>();
//!
//! let dpo = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.1, 0.0)?;
//! let loss = dpo.evaluate(&PairLogps {
//!     chosen: sum(&forward.logp[..2]),
//!     rejected: sum(&forward.logp[2..]),
//!     ref_chosen: -2.2,
//!     ref_rejected: -2.1,
//!     chosen_tokens: 2,
//!     rejected_tokens: 2,
//! });
//! assert!(loss.loss_nats > 0.0);
//!
//! // Back to the hidden states and the head: every token of a completion gets its sum's gradient.
//! let (c, r) = (loss.d_chosen as f32, loss.d_rejected as f32);
//! let (mut d_hidden, mut d_weight) = ([0.0; 8], [0.0; 6]);
//! head.backward(&forward.lse, kept, &[c, c, r, r], &mut d_hidden, Some(&mut d_weight))?;
//! # Ok::<(), ama_loss::LossError>(())
//! ```
//!
//! With the feature `cuda`, the module `cuda` does the same on an NVIDIA GPU.
//!
//! Three layers, in reading order: [`reference`](mod@reference) says in `f64` what is meant, [`cpu`] does it fast, and
//! [`simd`], [`gemm`] and [`Threads`] are what `cpu` stands on (usable by themselves).

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod error;
mod preference;
pub mod reference;

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod gemm;
pub mod simd;
mod threads;

pub use cpu::{
    HeadShape, KeptLogits, LinearLogp, LogitsShape, LogpForward, Recompute, Tile, linear_logp_backward,
    linear_logp_forward, logits_logp_backward, logits_logp_backward_in_place, logits_logp_forward,
};
pub use error::LossError;
pub use preference::{PairLogps, PairLoss, PreferenceKind, PreferenceLoss};
pub use threads::Threads;
