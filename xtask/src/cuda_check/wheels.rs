//! NVRTC and `ptxas` from PyPI, in cargo's target folder: no toolkit, no GPU, no root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// The newest and the oldest NVRTC that the kernels are compiled with; the assembler is the newest's.
const NEWEST: [&str; 2] = ["nvidia-cuda-nvrtc-cu12==12.9.86", "nvidia-cuda-nvcc-cu12==12.9.86"];
const OLDEST: [&str; 1] = ["nvidia-cuda-nvrtc-cu12==12.0.140"];

/// What the wheels bring.
#[derive(Debug)]
pub(super) struct Wheels {
    /// Folder of the newest `libnvrtc.so`.
    pub(super) newest: PathBuf,
    /// Folder of the oldest one.
    pub(super) oldest: PathBuf,
    pub(super) ptxas: PathBuf,
}

/// Wheels, or why there are none.
pub(super) type Found = std::result::Result<Wheels, String>;

/// Installs what is not there yet, below `folder`.
///
/// # Errors
/// `pip` failed although it reached the registry, or a wheel does not hold what it should. No Python, no `venv` module and no
/// way to the registry are no errors but the inner `Err`, with the reason.
pub(super) fn install(folder: &Path) -> Result<Found> {
    let (newest, oldest) = (folder.join("nvrtc-newest"), folder.join("nvrtc-oldest"));
    for (place, packages) in [(&newest, &NEWEST[..]), (&oldest, &OLDEST[..])] {
        if let Some(reason) = complete(folder, place, packages)? {
            return Ok(Err(reason));
        }
    }
    let library = |place: &Path| -> Result<PathBuf> {
        let library = place.join("nvidia").join("cuda_nvrtc").join("lib");
        if !library.is_dir() {
            bail!("{} does not exist; remove {} and try again", library.display(), place.display());
        }
        Ok(library)
    };
    let ptxas = newest.join("nvidia").join("cuda_nvcc").join("bin").join("ptxas");
    if !ptxas.is_file() {
        bail!("{} does not exist; remove {} and try again", ptxas.display(), newest.display());
    }
    Ok(Ok(Wheels { newest: library(&newest)?, oldest: library(&oldest)?, ptxas }))
}

/// Installs `packages` into `place` unless they are there; says why it cannot.
fn complete(folder: &Path, place: &Path, packages: &[&str]) -> Result<Option<String>> {
    let (marker, wanted) = (place.join("installed.txt"), packages.join("\n"));
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(None);
    }
    let venv = folder.join("venv");
    let python = venv.join("bin").join("python");
    if !python.exists() {
        match Command::new("python3").args(["-m", "venv"]).arg(&venv).output() {
            Err(error) => return Ok(Some(format!("no python3 ({error})"))),
            Ok(output) if !output.status.success() => {
                let _ = fs::remove_dir_all(&venv);
                return Ok(Some(format!("python3 has no working venv module ({})", last_line(&output))));
            }
            Ok(_) => {}
        }
    }
    shell::say(&format!("cuda-check: installing {} from PyPI", packages.join(", ")));
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]);
    pip.args(["--retries", "2", "--timeout", "20", "--target"]).arg(place).args(packages);
    let output = pip.output().with_context(|| format!("cannot start {}", python.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // What pip says when it cannot connect, and when there is no wheel for this platform.
        let unreachable = ["Retrying", "connection", "Connection", "No matching distribution"];
        if unreachable.iter().any(|word| said.contains(word)) {
            return Ok(Some(format!(
                "PyPI cannot be reached, or has no wheel for this machine ({})",
                last_line(&output)
            )));
        }
        bail!("pip could not install {}: {said}", packages.join(", "));
    }
    fs::write(&marker, wanted).with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(None)
}

fn last_line(output: &Output) -> String {
    let said =
        String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
