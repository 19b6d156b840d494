//! The machine and the versions that a number belongs to.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::shell;

/// Processor, cores, commit, versions.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) avx512: bool,
    /// MKL uses AVX-512 on Intel's processors only.
    pub(super) amd: bool,
    pub(super) commit: String,
    pub(super) rustc: String,
}

impl Machine {
    /// Reads `/proc/cpuinfo` and asks git and rustc; what is not known says so.
    pub(super) fn detect() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            cpu: field(&info, "model name").unwrap_or("an unknown processor").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            avx512: field(&info, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "avx512f")),
            amd: field(&info, "vendor_id") == Some("AuthenticAMD"),
            commit: commit(),
            rustc: said("rustc", &["--version"]).unwrap_or_else(|| "rustc, version unknown".into()),
        }
    }

    /// The same for the raw numbers.
    pub(super) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "avx512": self.avx512, "commit": self.commit, "rustc": self.rustc,
        })
    }
}

/// The first value of a key of `/proc/cpuinfo`.
fn field<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    info.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// The commit, and whether tracked files differ from it.
fn commit() -> String {
    let Some(commit) = said("git", &["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_none_or(|files| files.is_empty()) { commit } else { format!("{commit} with changes") }
}

/// What a command prints, if it succeeds.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).current_dir(shell::root()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_of_cpuinfo_is_the_first_with_its_whole_name() {
        let info = "processor\t: 0\nmodel\t\t: 207\nmodel name\t: A: B\nflags\t\t: fpu avx512f\n";
        assert_eq!(field(info, "model name"), Some("A: B"));
        assert_eq!(field(info, "flags"), Some("fpu avx512f"));
        assert_eq!(field(info, "vendor_id"), None);
    }
}
