//! The `ama` command: AutoMixAlign (Corrado et al., ACL 2025, arXiv:2506.00569) from a terminal.
//!
//! Everything is in [`main_with`], so that the binary is one line and tests and examples can call it:
//!
//! ```
//! use std::process::ExitCode;
//!
//! let help = ama_cli::main_with(["ama", "run", "--help"]);
//! assert_eq!(format!("{help:?}"), format!("{:?}", ExitCode::SUCCESS));
//! let wrong = ama_cli::main_with(["ama", "run", "nowhere.toml", "--out", "never-made"]);
//! assert_eq!(format!("{wrong:?}"), format!("{:?}", ExitCode::from(2)), "bad input is exit code 2");
//! ```
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod config;
mod console;
mod corpus;
mod device;
mod exit;
mod fail_point;
mod files;
mod generation;
mod job;
mod key;
mod live;
mod lock;
mod notes;
mod output;
mod policy;
mod progress;
mod run;
mod scoring;
mod stop;
mod threads;
mod work;

pub use cli::main_with;
