//! `cargo xtask cuda-check`: how far the CUDA kernels are proven on a machine without a GPU, rung by rung.

mod bug_list;
mod bugs;
mod mutant;
mod rungs;
mod tests;
mod tools;
mod wheels;

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::shell;
use tools::Tools;

/// Which rungs to climb.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// These rungs only, 1 to 7 (may be given several times, or as 2,3) [default: all]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=7))]
    rung: Vec<u8>,
    /// Rung 7, seeded bugs, as well as the rungs named
    #[arg(long)]
    bugs: bool,
    /// Of the seeded bugs, those whose name contains this
    #[arg(long, value_name = "TEXT")]
    bug: Option<String>,
}

impl Options {
    /// Every rung.
    pub(crate) fn all() -> Self {
        Self { rung: Vec::new(), bugs: false, bug: None }
    }

    fn wants(&self, rung: u8) -> bool {
        let seven = rung == 7 && (self.bugs || self.bug.is_some());
        seven || self.rung.contains(&rung) || (self.rung.is_empty() && !self.bugs && self.bug.is_none())
    }
}

/// How a step of a rung ended.
#[derive(Debug)]
enum Outcome {
    /// All tests passed: how many there were, and what else is to be said.
    Passed { tests: usize, note: String },
    /// It could not be tried here, and why.
    Skipped(String),
    /// It failed: the reason, and where the whole output is.
    Failed(String),
}

/// One line of the table.
#[derive(Debug)]
struct Line {
    rung: u8,
    what: String,
    outcome: Outcome,
    seconds: f64,
}

/// Climbs the ladder and prints it as a table.
///
/// # Errors
/// A rung failed, or a seeded bug was not caught.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let tools = Tools::find()?;
    let mut lines = Vec::new();
    for rung in 1..=7 {
        if !options.wants(rung) {
            continue;
        }
        for step in rungs::steps(rung) {
            shell::say(&format!("=== cuda-check, rung {rung}: {}", step.what));
            let begun = Instant::now();
            let outcome = (step.run)(&tools).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
            let seconds = begun.elapsed().as_secs_f64();
            lines.push(Line { rung, what: step.what.to_owned(), outcome, seconds });
        }
        if rung == 7 {
            shell::say("=== cuda-check, rung 7: seeded bugs");
            let begun = Instant::now();
            let outcome = bugs::run(&tools, options.bug.as_deref())
                .unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
            let seconds = begun.elapsed().as_secs_f64();
            lines.push(Line {
                rung,
                what: "seeded bugs, each caught by a rung".to_owned(),
                outcome,
                seconds,
            });
        }
    }
    shell::say(&table(&lines));
    shell::say(&format!("cuda-check: {:.0} s", started.elapsed().as_secs_f64()));
    let failed = lines.iter().filter(|line| matches!(line.outcome, Outcome::Failed(_))).count();
    if failed > 0 {
        bail!("cuda-check: {failed} of {} steps failed", lines.len());
    }
    Ok(())
}

/// Library path on which the stand-in is the driver and NVRTC from PyPI compiles, or why that cannot be had here.
///
/// # Errors
/// The stand-in does not compile, or `pip` failed although it reached the registry.
pub(crate) fn standin_library_path() -> Result<std::result::Result<String, String>> {
    rungs::standin_library_path(&Tools::find()?, |wheels| &wheels.newest)
}

/// The lines as a Markdown table.
fn table(lines: &[Line]) -> String {
    let mut out = String::from("\n| rung | what | tests | result | seconds |\n|---|---|---|---|---|\n");
    for Line { rung, what, outcome, seconds } in lines {
        let (tests, result) = match outcome {
            Outcome::Passed { tests, note } if note.is_empty() => (tests.to_string(), "passed".to_owned()),
            Outcome::Passed { tests, note } => (tests.to_string(), format!("passed; {note}")),
            Outcome::Skipped(reason) => ("-".to_owned(), format!("skipped: {reason}")),
            Outcome::Failed(reason) => {
                ("-".to_owned(), format!("FAILED: {}", reason.replace('\n', " ").replace('|', "/")))
            }
        };
        let _ = writeln!(out, "| {rung} | {what} | {tests} | {result} | {seconds:.1} |");
    }
    out
}

#[cfg(test)]
mod unit {
    use super::*;

    fn options(rung: &[u8], bugs: bool) -> Options {
        Options { rung: rung.to_vec(), bugs, bug: None }
    }

    #[test]
    fn all_rungs_unless_some_are_named() {
        let wanted = |o: Options| (1..=7).filter(|rung| o.wants(*rung)).collect::<Vec<u8>>();
        assert_eq!(wanted(options(&[], false)), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(wanted(options(&[2, 4], false)), [2, 4]);
        assert_eq!(wanted(options(&[2], true)), [2, 7]);
        assert_eq!(wanted(options(&[], true)), [7]);
        assert_eq!(wanted(Options { bug: Some("mask".to_owned()), ..options(&[], false) }), [7]);
    }

    #[test]
    fn a_failure_stays_in_its_line() {
        let line = |outcome| Line { rung: 2, what: "w".to_owned(), outcome, seconds: 1.0 };
        let text = table(&[line(Outcome::Failed("a\nb | c".to_owned()))]);
        assert!(text.ends_with("| 2 | w | - | FAILED: a b / c | 1.0 |\n"), "{text}");
    }
}
