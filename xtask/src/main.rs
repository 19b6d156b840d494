//! Developer tasks of the workspace: `cargo xtask --help`.
//!
//! Thin on purpose: it links none of the `ama-*` crates, it runs `cargo` and the `ama` binary.

#![forbid(unsafe_code)]

mod ablate;
mod artifacts;
mod bench;
mod ci;
mod convergence;
mod cuda_check;
mod datasets;
mod device;
mod experiment;
mod pipeline;
mod shell;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Developer tasks of the ama workspace", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build `ama` in release and run both stages: base, specialists, generalists, evaluation
    Pipeline(pipeline::Options),
    /// Regenerate the embedded suite in datasets/ and say whether a byte changed
    Datasets(datasets::Options),
    /// Every method on the embedded suite, over seeds, size sets and budgets, as tables with intervals
    Experiment(experiment::Options),
    /// AMA with one thing changed at a time, on the embedded suite over seeds, as tables with intervals
    Ablate(ablate::Options),
    /// Measure `ama` side by side with PyTorch and TRL, and write a table
    Bench(bench::Options),
    /// The CUDA kernels as far as a machine without a GPU can prove them, rung by rung, as a table
    CudaCheck(cuda_check::Options),
    /// The kit for a machine with an NVIDIA GPU: bundle what travels there, rehearse it here, report what came back
    Device(device::Options),
    /// Play the convex games of the convergence guarantee and draw duality gap against steps into docs/
    Convergence(convergence::Options),
    /// Check the layout rules: arrows between crates, file sizes, READMEs, examples, CHANGELOG
    Tidy,
    /// Everything that continuous integration checks, cheapest first
    Ci(ci::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Pipeline(options) => pipeline::run(&options),
        Task::Datasets(options) => datasets::run(&options),
        Task::Experiment(options) => experiment::run(&options),
        Task::Ablate(options) => ablate::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::CudaCheck(options) => cuda_check::run(&options),
        Task::Device(options) => device::run(&options),
        Task::Convergence(options) => convergence::run(&options),
        Task::Tidy => ci::tidy(),
        Task::Ci(options) => ci::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
