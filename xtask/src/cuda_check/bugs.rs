//! Rung 7: every seeded bug, rung by rung, until one catches it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Outcome;
use super::bug_list::{self, Bug};
use super::mutant::{self, Mutant};
use super::rungs::{self, DEVICE, Environment};
use super::tests::{self, Verdict, named};
use super::tools::Tools;
use crate::shell;

/// A bug may make a kernel run on for ever.
const LIMIT: Duration = Duration::from_secs(150);

/// What became of a bug.
enum Fate {
    Caught {
        by: &'static str,
        how: String,
    },
    /// The rungs that could be tried let it pass.
    Survived,
    /// Its rung cannot be tried here.
    Skipped(String),
}

/// Tries the bugs whose name contains `only`.
///
/// # Errors
/// A bug does not apply or does not compile where it should.
pub(super) fn run(tools: &Tools, only: Option<&str>) -> Result<Outcome> {
    let chosen: Vec<&Bug> =
        bug_list::bugs().filter(|bug| only.is_none_or(|text| bug.name.contains(text))).collect();
    if chosen.is_empty() {
        bail!("no seeded bug is called so; the lists are in xtask/src/cuda_check/bug_list");
    }
    // A bug that no longer applies is found before minutes are spent.
    for bug in &chosen {
        mutant::mutated(bug)?;
    }
    let mut lab = Lab { tools, mutant: Mutant::new(&tools.folder)?, healthy: false };
    let mut table =
        String::from("\n| seeded bug | file | caught by rung | how | seconds |\n|---|---|---|---|---|\n");
    let (mut caught, mut skipped, mut survivors) = (0, 0, Vec::new());
    for bug in &chosen {
        let begun = Instant::now();
        let fate = lab.fate(bug)?;
        let (by, how) = match fate {
            Fate::Caught { by, how } => {
                caught += 1;
                (by, how.replace('\n', " ").replace('|', "/"))
            }
            Fate::Survived => {
                survivors.push(bug.name);
                ("NONE", String::new())
            }
            Fate::Skipped(reason) => {
                skipped += 1;
                ("-", format!("skipped: {reason}"))
            }
        };
        let seconds = begun.elapsed().as_secs_f64();
        shell::say(&format!("{}: rung {by}, {how} ({seconds:.1} s)", bug.name));
        let _ = writeln!(table, "| {} | {} | {by} | {how} | {seconds:.1} |", bug.name, bug.file);
    }
    shell::say(&table);
    if !survivors.is_empty() {
        return Ok(Outcome::Failed(format!("not caught: {}", survivors.join("; "))));
    }
    if caught == 0 {
        return Ok(Outcome::Skipped("no rung that catches bugs can be tried here".to_owned()));
    }
    let note =
        if skipped == 0 { String::new() } else { format!("{skipped} more need tools that are not here") };
    Ok(Outcome::Passed { tests: caught, note })
}

struct Lab<'a> {
    tools: &'a Tools,
    mutant: Mutant,
    /// Whether the copy without a bug has passed on the stand-in.
    healthy: bool,
}

impl Lab<'_> {
    fn fate(&mut self, bug: &Bug) -> Result<Fate> {
        let mut missing = None;
        if !bug.file.ends_with(".rs") {
            for (by, sanitizer) in
                [("2", None), ("3 (address)", Some("address")), ("3 (thread)", Some("thread"))]
            {
                match self.emulated(bug, sanitizer)? {
                    Ok(Some(how)) => return Ok(Fate::Caught { by, how }),
                    Ok(None) => {}
                    Err(reason) => missing = Some(reason),
                }
            }
        }
        match self.compiled(bug)? {
            Ok(Some((by, how))) => Ok(Fate::Caught { by, how }),
            Ok(None) => Ok(Fate::Survived),
            Err(reason) => Ok(Fate::Skipped(missing.unwrap_or(reason))),
        }
    }

    /// Rungs 2 and 3 with the bug in a copy of the sources.
    fn emulated(
        &self,
        bug: &Bug,
        sanitizer: Option<&str>,
    ) -> Result<std::result::Result<Option<String>, String>> {
        if let Err(reason) = self.tools.compiler() {
            return Ok(Err(reason));
        }
        let mut environment = match sanitizer.map(|which| rungs::sanitized(self.tools, which)) {
            None => Environment::new(),
            Some(Ok(environment)) => environment,
            Some(Err(reason)) => return Ok(Err(reason)),
        };
        let folder = self.tools.folder.join("mutated-sources");
        for file in ["common.cuh", "logp.cu", "segment_sum.cu", "preference.cu"] {
            let text = if file == bug.file {
                mutant::mutated(bug)?
            } else {
                mutant::read(&mutant::sources().join(file))?
            };
            mutant::write(&folder.join(file), &text)?;
        }
        environment.push(("AMA_CUDA_SOURCES", folder.display().to_string()));
        let names: &[&str] = match bug.file {
            "logp.cu" => &["logp_boundaries", "logp", "far_rows"],
            "segment_sum.cu" => &["segment_sum", "far_rows"],
            "preference.cu" => &["preference"],
            _ => &["common_cuh", "segment_sum", "logp", "preference"],
        };
        let log = self.log(bug, sanitizer.unwrap_or("emulated"));
        for name in names {
            let binary = named(self.tools.emulated()?, name)?;
            let arguments = [rungs::emulator_arguments(sanitizer), &["--nocapture"]].concat();
            if let Verdict::Failed { reason, .. } = binary.run(&arguments, &environment, LIMIT, &log)? {
                if reason.contains("does not compile") {
                    bail!("seeded bug `{}` is no C++: {reason}; see {}", bug.name, log.display());
                }
                return Ok(Ok(Some(reason)));
            }
        }
        Ok(Ok(None))
    }

    /// Rungs 4, 5 and 6 with the bug in a copy of the crate.
    fn compiled(&mut self, bug: &Bug) -> Result<std::result::Result<Option<(&'static str, String)>, String>> {
        let environment = match rungs::on_driver(self.tools, |wheels| &wheels.newest)? {
            Ok(environment) => environment,
            Err(reason) => return Ok(Err(reason)),
        };
        if !self.healthy {
            if let Some(reason) =
                self.on_standin(&environment, &self.tools.folder.join("logs/mutant-healthy.log"))?
            {
                bail!("ama-loss fails on the stand-in without any seeded bug: {reason}");
            }
            self.healthy = true;
        }
        self.mutant.infect(bug)?;
        let caught = self.try_compiled(bug, environment);
        self.mutant.heal(bug)?;
        caught.map(Ok)
    }

    fn try_compiled(
        &self,
        bug: &Bug,
        mut environment: Environment,
    ) -> Result<Option<(&'static str, String)>> {
        if !bug.file.ends_with(".rs")
            && let Ok(wheels) = self.tools.wheels()?
        {
            let mut assembler = environment.clone();
            assembler.push(("AMA_PTXAS", wheels.newest.ptxas.display().to_string()));
            // The table is not looked at: another number of registers is no proof of a bug.
            let arguments = ["--include-ignored", "nothing_spills"];
            assembler.push(("AMA_UPDATE", "1".to_owned()));
            let all = self.build()?;
            let log = self.log(bug, "assembled");
            if let Verdict::Failed { reason, .. } =
                named(&all, "cuda_assembled")?.run(&arguments, &assembler, LIMIT, &log)?
            {
                return Ok(Some(("4", reason)));
            }
        }
        if let Some(reason) = self.on_standin(&environment, &self.log(bug, "standin"))? {
            return Ok(Some(("5", reason)));
        }
        environment.extend([("STANDIN_ULP", "2".to_owned()), ("STANDIN_SEED", "1".to_owned())]);
        Ok(self.on_standin(&environment, &self.log(bug, "perturbed"))?.map(|reason| ("6", reason)))
    }

    fn build(&self) -> Result<std::collections::BTreeMap<String, tests::TestBinary>> {
        let arguments = ["--offline", "--package", "ama-loss", "--features", "cuda-tests"];
        let wanted =
            ["--test", "cuda_assembled", "--test", DEVICE[0], "--test", DEVICE[1], "--test", DEVICE[2]];
        tests::build(&self.mutant.root, &[&arguments[..], &wanted[..]].concat())
    }

    /// The first failure of the copy's device tests.
    fn on_standin(&self, environment: &Environment, log: &Path) -> Result<Option<String>> {
        let all = self.build()?;
        for name in DEVICE {
            if let Verdict::Failed { reason, .. } =
                named(&all, name)?.run(&["--nocapture"], environment, LIMIT, log)?
            {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }

    fn log(&self, bug: &Bug, rung: &str) -> std::path::PathBuf {
        let name: String =
            bug.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.tools.folder.join("logs").join(format!("bug-{name}-{rung}.log"))
    }
}
