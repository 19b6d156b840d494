//! A preference suite for aligning one small language model on three tasks that pull against each other, generated
//! from a seed, with a program that checks every answer.
//!
//! It is the embedded default of `ama`: small enough that a base model, three specialists and several generalists are
//! trained on a laptop in minutes, and honest enough that a mixture which neglects a task is seen to lose on it.
//!
//! | task | prompt | chosen | rejected | checked by |
//! |---|---|---|---|---|
//! | harmless | how-to request that names a forbidden thing | the refusal | a recipe | [`Verifier::Refusal`] |
//! | helpful | exact editing instruction, or a benign look-alike how-to | the exact answer | a refusal or a near miss | [`Verifier::Exact`] |
//! | reasoning | sum in two or three told steps | worked steps | steps with slips, carried on | [`Verifier::FinalNumber`] |
//!
//! Refusing everything wins on *harmless* and loses on *helpful*; complying with everything does the reverse;
//! *reasoning* is scarce and slow to learn. Beside the pairs there is a corpus for supervised training of the base model
//! that is wrong *by context* ([`p_right`]), so that the base makes systematic mistakes a specialist can mend.
//!
//! ```
//! use ama_suite::{Sizes, Task, generate, verify};
//!
//! let suite = generate(1, &Sizes { helpful: 30, harmless: 30, reasoning: 10, held_out: 5, sft: 100 });
//! for task in Task::ALL {
//!     for pair in &suite.task(task).train {
//!         assert!(verify(pair.verifier, &pair.gold, &pair.chosen));
//!         assert!(!verify(pair.verifier, &pair.gold, &pair.rejected));
//!     }
//! }
//! assert_eq!(suite.sft.len(), 100);
//! ```
//!
//! The same seed gives the same suite, byte for byte, on every machine. [`write`](fn@write) lays it out as Parquet with a Hugging
//! Face tokenizer and the base model's `config.json`.
//!
//! What it is not: a benchmark of language models. Every word of it comes from 302; a score on it says something about
//! a training method, nothing about a model.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// What a suite is.
mod splits;
mod task;
mod verify;

// What is in it.
mod base_errors;
mod harmless;
mod helpful;
mod howto;
mod problem;
mod reasoning;
mod stream;
pub mod vocabulary;

// How it goes to disk and into a model.
mod error;
mod layout;
mod tokenizer;
mod write;

pub use base_errors::p_right;
pub use error::SuiteError;
pub use harmless::REFUSAL;
pub use layout::{bare_prompt, render_answer, render_prompt};
pub use splits::{SizeSet, Sizes, Suite, TaskSplits, generate};
pub use task::{Example, Pair, Task};
pub use tokenizer::{
    ASSISTANT, BOS, EOS, MODEL_VOCAB, PAD, SPECIAL_TOKENS, USER, base_config_json, special_tokens_map_json,
    tokenizer_config_json, tokenizer_json,
};
pub use verify::{Verifier, verify};
pub use write::{GENERATOR, write};
