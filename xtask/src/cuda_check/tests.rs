//! Test binaries: built by cargo once, run with an environment of our own and under a time limit.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::artifacts::{self, Artifact, Kind};

/// An integration test, compiled.
#[derive(Debug, Clone)]
pub(super) struct TestBinary {
    executable: PathBuf,
    package: PathBuf,
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Tests that passed.
    Passed(usize),
    /// First lines that tell what went wrong, and the file with the rest.
    Failed { reason: String, log: PathBuf },
}

/// Integration tests by name, of the packages that `arguments` select in the workspace at `root`.
///
/// # Errors
/// They do not compile.
pub(super) fn build(root: &Path, arguments: &[&str]) -> Result<BTreeMap<String, TestBinary>> {
    let built = artifacts::build(root, &[&["test", "--no-run", "--tests"], arguments].concat())?;
    let tests = built.into_iter().filter(|artifact| artifact.kind == Kind::Test);
    Ok(tests
        .map(|Artifact { name, executable, package, .. }| (name, TestBinary { executable, package }))
        .collect())
}

/// A test binary of that name.
///
/// # Errors
/// There is none.
pub(super) fn named<'a>(all: &'a BTreeMap<String, TestBinary>, name: &str) -> Result<&'a TestBinary> {
    all.get(name).ok_or_else(|| anyhow!("there is no test target `{name}`; there are {:?}", all.keys()))
}

impl TestBinary {
    /// Runs it with `arguments` for libtest and the variables `environment`; output goes to `log`. With `--nocapture` it
    /// ends at the first failure.
    ///
    /// # Errors
    /// It cannot be started, or `log` not written.
    pub(super) fn run(
        &self,
        arguments: &[&str],
        environment: &[(&str, String)],
        limit: Duration,
        log: &Path,
    ) -> Result<Verdict> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.executable);
        command.args(arguments).current_dir(&self.package).stdin(Stdio::null());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.env("RUST_BACKTRACE", "0").stderr(file.try_clone()?).stdout(file);
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", self.executable.display()))?;
        let started = Instant::now();
        // Where one failure is all that is wanted, and shows at once.
        let impatient = arguments.contains(&"--nocapture");
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if impatient && let Some(reason) = what_went_wrong(&String::from_utf8_lossy(&fs::read(log)?)) {
                child.kill()?;
                child.wait()?;
                return Ok(Verdict::Failed { reason, log: log.to_path_buf() });
            }
            if started.elapsed() > limit {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        Ok(judge(status, &text, limit, log))
    }
}

fn judge(status: Option<ExitStatus>, text: &str, limit: Duration, log: &Path) -> Verdict {
    let reason = match status {
        None => format!("ran longer than {} s", limit.as_secs()),
        Some(status) if status.success() => match passed(text) {
            Some(tests) => return Verdict::Passed(tests),
            None => "ended without a result".to_owned(),
        },
        Some(status) => what_went_wrong(text).unwrap_or_else(|| status.to_string()),
    };
    Verdict::Failed { reason, log: log.to_path_buf() }
}

/// Passed tests, from libtest's last line.
fn passed(text: &str) -> Option<usize> {
    let summary = text.lines().rev().find(|line| line.starts_with("test result: ok. "))?;
    summary.strip_prefix("test result: ok. ")?.split(' ').next()?.parse().ok()
}

/// The message of the first panic or sanitizer report.
fn what_went_wrong(text: &str) -> Option<String> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.contains("ERROR: AddressSanitizer") || line.contains("WARNING: ThreadSanitizer") {
            let report = line.split_once("Sanitizer: ")?.1;
            return Some(report.split(" (pid=").next().unwrap_or(report).trim().to_owned());
        }
        if line.contains("runtime error: ") {
            return line.split_once("runtime error: ").map(|(_, report)| report.trim().to_owned());
        }
        if line.contains("' panicked at ") || line.contains(") panicked at ") {
            let message = lines.next()?.trim();
            return Some(message.chars().take(160).collect());
        }
    }
    None
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn reports_are_understood() {
        assert_eq!(passed("running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored\n"), Some(2));
        assert_eq!(passed("test result: FAILED. 1 passed; 1 failed\n"), None);
        let panicked = "x\nthread 'a' (12) panicked at src/x.rs:1:2:\nelement 3: 1 vs 2\nnote\n";
        assert_eq!(what_went_wrong(panicked).as_deref(), Some("element 3: 1 vs 2"));
        let race = "WARNING: ThreadSanitizer: data race (pid=1)\n";
        assert_eq!(what_went_wrong(race).as_deref(), Some("data race"));
        assert_eq!(
            what_went_wrong("logp.cu:3: runtime error: shift too far\n").as_deref(),
            Some("shift too far")
        );
        assert_eq!(what_went_wrong("quiet"), None);
    }
}
