//! `cargo xtask ci`: what continuous integration checks, cheapest first.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::cuda_check;
use crate::device;
use crate::shell::{self, cargo};

/// What to leave out.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out the quick pipeline
    #[arg(long)]
    no_pipeline: bool,
    /// Leave out `cuda-check`, the CUDA kernels on emulator, assembler and stand-in driver, and the device kit's rehearsal
    #[arg(long)]
    no_cuda: bool,
}

/// The tidy tests alone.
///
/// # Errors
/// A rule is broken.
pub(crate) fn tidy() -> Result<()> {
    shell::run(&mut cargo(&["test", "--quiet", "--package", "xtask", "--test", "tidy"]))
}

/// Every check in turn; stops at the first that fails.
///
/// # Errors
/// Names the check that failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let crates = library_crates()?;
    let nextest = shell::has_cargo_command("nextest");
    if !nextest {
        shell::say("ci: cargo-nextest is not installed; the tests run with `cargo test`");
    }

    let mut stages: Vec<(&str, Vec<Command>)> = vec![
        ("fmt", vec![cargo(&["fmt", "--all", "--check"])]),
        ("tidy", vec![cargo(&["test", "--package", "xtask"])]),
        ("clippy", vec![cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])]),
        (
            "doc",
            vec![{
                let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
                doc.env("RUSTDOCFLAGS", "-D warnings");
                doc
            }],
        ),
        (
            "test",
            vec![if nextest {
                cargo(&["nextest", "run", "--workspace", "--exclude", "xtask"])
            } else {
                cargo(&["test", "--workspace", "--exclude", "xtask", "--lib", "--bins", "--tests"])
            }],
        ),
        ("doc tests", vec![cargo(&["test", "--workspace", "--exclude", "xtask", "--doc"])]),
    ];
    stages.push((
        "each crate alone",
        crates.iter().map(|name| cargo(&["check", "--all-targets", "--package", name.as_str()])).collect(),
    ));
    stages.push(("examples", examples(&crates)?));
    if !options.no_pipeline {
        let out = shell::root().join("target").join("ci-quick");
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
        }
        // The tests' build: hot loops are optimised there too, and a release build would take longer than the run.
        let ama = shell::target().join("debug").join(format!("ama{}", std::env::consts::EXE_SUFFIX));
        let mut quick = Command::new(ama);
        quick.current_dir(shell::root()).args(["run", "datasets/quick.toml", "--out"]).arg(&out);
        stages.push(("quick pipeline", vec![quick]));
    }

    let started = Instant::now();
    let mut timings = Vec::new();
    for (name, commands) in stages {
        shell::say(&format!("=== ci: {name}"));
        let stage = Instant::now();
        for mut command in commands {
            shell::run(&mut command).with_context(|| format!("ci: {name} failed"))?;
        }
        timings.push((name, stage.elapsed()));
    }
    if !options.no_cuda {
        shell::say("=== ci: cuda-check");
        let stage = Instant::now();
        cuda_check::run(&cuda_check::Options::all()).context("ci: cuda-check failed")?;
        timings.push(("cuda-check", stage.elapsed()));
        shell::say("=== ci: device rehearsal");
        let stage = Instant::now();
        device::rehearse().context("ci: device rehearsal failed")?;
        timings.push(("device rehearsal", stage.elapsed()));
    }
    for (name, took) in timings {
        shell::say(&format!("ci: {name:<18} {:>7.1} s", took.as_secs_f64()));
    }
    shell::say(&format!("ci: all green in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// Names of the packages below crates/, sorted.
fn library_crates() -> Result<Vec<String>> {
    let folder = shell::root().join("crates");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// One build of all examples, with the dependencies that the tests have built already (`cargo run --package` would choose
/// other features of them and build them again), then each example.
fn examples(crates: &[String]) -> Result<Vec<Command>> {
    let mut commands = vec![cargo(&["build", "--workspace", "--exclude", "xtask", "--examples"])];
    let built = shell::target().join("debug").join("examples");
    for name in crates {
        let folder = shell::root().join("crates").join(name).join("examples");
        if !folder.is_dir() {
            continue;
        }
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect();
        files.sort();
        for file in files {
            if let Some(example) = file.file_stem() {
                let mut command = Command::new(built.join(example));
                command.current_dir(shell::root());
                commands.push(command);
            }
        }
    }
    Ok(commands)
}
