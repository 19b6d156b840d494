//! `cargo xtask device rehearse`: the kit on a machine without a GPU.
//!
//! The same script and the same sources of the programs, on the stand-in driver. Healthy, every part passes that does not
//! want a GPU's own tools; with a kernel that computes something else, the tests of that kernel fail and the rest passes.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::assemble::{self, Kit};
use super::programs::{self, Profile, TESTS};
use super::report;
use super::results::Results;
use super::tables;
use crate::{cuda_check, shell};

/// Longest time of a part in seconds: kernels are interpreted here, one after the other, on a machine that may be busy.
const LIMIT_S: u64 = 420;

/// Parts that must pass here; the others want a GPU, its tools or PyTorch.
const MUST_PASS: [&str; 6] = ["machine", "cuda_logits", "cuda_sums", "cuda_linear", "kernels", "training"];

/// The seeded fault: what is replaced in every PTX that is loaded. The preference kernel alone multiplies f64 numbers, and
/// is in one test binary alone.
const FAULT: &str = "mul.f64=>add.f64";
/// The part that has to notice.
const NOTICES: &str = "cuda_sums";

/// Runs the rehearsal and prints how every part ended.
///
/// # Errors
/// A part failed that should pass, or passed that should fail. No Python and no NVRTC are no errors, but said.
pub(super) fn run() -> Result<()> {
    if !Command::new("python3").arg("--version").output().is_ok_and(|said| said.status.success()) {
        shell::say("device: rehearsal skipped: no python3 on this machine");
        return Ok(());
    }
    let libraries = match cuda_check::standin_library_path()? {
        Ok(path) => path,
        Err(reason) => {
            shell::say(&format!("device: rehearsal skipped: {reason}"));
            return Ok(());
        }
    };
    let folder = shell::target().join("device-rehearsal");
    let mut about = assemble::about("dev");
    let limits = MUST_PASS.map(|name| (name.to_owned(), Value::from(LIMIT_S)));
    about["limits_s"] = Value::Object(limits.into_iter().collect());
    about["total_s"] = json!(LIMIT_S * 4);
    let kit = Kit::new(folder, about)?;
    for program in &programs::build(Profile::Dev)? {
        kit.add(program, false)?;
    }
    kit.seal()?;

    let healthy = play(&kit.folder, "healthy", &libraries, &[], None)?;
    shell::say(&tables::parts(&healthy));
    shell::write_whole(&kit.folder.join("healthy").join("device.md"), &report::page(&healthy))?;
    let mut wrong: Vec<String> = healthy
        .parts()
        .filter(|part| MUST_PASS.contains(&part.name) && part.status != "passed")
        .map(|part| format!("{} {}: {}", part.name, part.status, part.reason))
        .collect();
    if healthy.parts().count() < MUST_PASS.len() || healthy.field("finished") != true {
        wrong.push("the script did not come to its end".to_owned());
    }

    let faulty = play(&kit.folder, "faulty", &libraries, &TESTS, Some(FAULT))?;
    shell::say(&format!("With a seeded fault in the kernels ({FAULT}):\n\n{}", tables::parts(&faulty)));
    for part in faulty.parts() {
        let should = if part.name == NOTICES { "failed" } else { "passed" };
        if part.status != should {
            wrong.push(format!("with a seeded fault {} {}, not {should}", part.name, part.status));
        }
    }
    if faulty.parts().count() != TESTS.len() {
        wrong.push("a part that failed has stopped others".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { bail!("device rehearsal: {}", wrong.join("; ")) }
}

/// One run of the script, on the stand-in.
fn play(folder: &Path, name: &str, libraries: &str, only: &[&str], replace: Option<&str>) -> Result<Results> {
    let out = folder.join(name);
    std::fs::create_dir_all(&out)?;
    let mut script = Command::new("python3");
    script.arg(folder.join("kit.py")).arg("--rehearse").arg("--out").arg(&out);
    if !only.is_empty() {
        script.args(["--only", &only.join(",")]);
    }
    script.env("LD_LIBRARY_PATH", libraries).env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(replace) = replace {
        script.env("STANDIN_REPLACE", replace);
    }
    shell::say(&format!("=== device rehearsal: {name}"));
    // A part that failed is the script's exit status too; which one it was is in the results.
    script.status()?;
    Results::read(&out.join("results.json"))
}
