//! `cargo xtask device`: everything that a machine with an NVIDIA GPU, met for some minutes and with nothing on it, needs to
//! tell whether the CUDA kernels are right and how fast they are.
//!
//! ```text
//! bundle -> target/device/ -> (carried to the machine) kit.py -> results.json -> report -> docs/device.md
//! rehearse: the same script on the stand-in driver, with small shapes and without the peers
//! ```

mod assemble;
mod bundle;
mod programs;
mod rehearse;
mod report;
mod results;
mod tables;

use anyhow::Result;
use clap::{Args, Subcommand};

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the folder that travels: programs, device tests, benches, Python wheels, the script
    Bundle(bundle::Options),
    /// Turn results.json into docs/device.md
    Report(report::Options),
    /// Run the script here on the stand-in driver, healthy and with a seeded fault
    Rehearse,
}

/// Runs `cargo xtask device`.
///
/// # Errors
/// A build or a rehearsal that failed, or a file that cannot be read or written.
pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.action {
        Action::Bundle(options) => bundle::run(options),
        Action::Report(options) => report::run(options),
        Action::Rehearse => rehearse(),
    }
}

/// The kit on the stand-in driver.
///
/// # Errors
/// A part failed that should pass, or passed that should fail.
pub(crate) fn rehearse() -> Result<()> {
    rehearse::run()
}
