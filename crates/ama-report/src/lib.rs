//! A run folder of `ama`, as one self-contained HTML page and as a frame of text.
//!
//! The page has the verdict in one sentence, the results with 95% intervals, the mixture over the steps, every task's
//! loss and excess against its specialist, gradient norm and learning rate, what was drawn, time and memory, the resolved
//! configuration, and the command that continues the run. It loads nothing, has no script, is light or dark as the reader
//! likes, fits a phone, and has a table behind every picture.
//!
//! Only the folder's files are read: nothing of `ama` is linked. A run in progress, one that was killed in the middle of a
//! line, an empty one and one of a later version all give a page that says so.
//!
//! ```
//! use ama_report::{PageOptions, Reading, Run, State, page};
//!
//! let folder = std::env::temp_dir().join(format!("ama-report-doc-{}", std::process::id()));
//! let stage = folder.join("generalists/ama-s/seed-0");
//! std::fs::create_dir_all(&stage)?;
//! std::fs::write(folder.join("run.json"), r#"{"format": "ama-run 1"}"#)?;
//! let line = r#"{"step": 1, "alpha": {"code": 0.5, "<chat>": 0.5}, "loss": 0.69, "lr": 1e-6, "grad_norm": 2.0}"#;
//! std::fs::write(stage.join("metrics.jsonl"), format!("{line}\n{{\"step\": 2, \"al"))?;
//!
//! let run = Run::read(&folder, Reading::Whole)?;
//! assert_eq!(run.state, State::Stopped);
//! assert_eq!(run.stages[0].trace.as_ref().unwrap().steps(), 1); // half a line is no step
//! let html = page(&[run], PageOptions::default())?;
//! assert!(html.contains("<svg") && html.contains("&lt;chat&gt;") && !html.contains("<chat>"));
//! std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// What is read.
pub mod run;
pub mod trace;

// What is concluded.
pub mod estimate;
pub mod verdict;

// What is shown.
mod format;
mod frame;
mod page;
mod plot;

mod error;

pub use error::ReportError;
pub use frame::{FrameOptions, frame};
pub use page::{PageOptions, page};
pub use run::{Reading, Run, State};
pub use verdict::Verdict;
