//! NVRTC and `ptxas` from PyPI, in cargo's target folder: no toolkit, no GPU, no root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

use super::tools::link;
use crate::shell;

/// The newest and the oldest NVRTC of CUDA 12 that the kernels are compiled with; they share the newest's assembler.
const NEWEST: [&str; 2] = ["nvidia-cuda-nvrtc-cu12==12.9.86", "nvidia-cuda-nvcc-cu12==12.9.86"];
const OLDEST: [&str; 1] = ["nvidia-cuda-nvrtc-cu12==12.0.140"];
/// NVRTC of CUDA 13, with its own assembler: that of CUDA 12 does not know the PTX version which it writes for sm_90.
const NEXT: [&str; 2] = ["nvidia-cuda-nvrtc==13.5.37", "nvidia-cuda-nvcc==13.5.37"];

/// What the wheels bring.
#[derive(Debug)]
pub(super) struct Wheels {
    /// CUDA 12.9.
    pub(super) newest: Toolchain,
    /// NVRTC of CUDA 12.0.
    pub(super) oldest: Toolchain,
    /// CUDA 13.5.
    pub(super) next: Toolchain,
}

/// What makes PTX of a kernel, and machine code of PTX.
#[derive(Debug)]
pub(super) struct Toolchain {
    /// Folder of `libnvrtc.so`.
    pub(super) nvrtc: PathBuf,
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
    let [newest, oldest, next] =
        ["newest", "oldest", "next"].map(|name| folder.join(format!("nvrtc-{name}")));
    for (place, packages) in [(&newest, &NEWEST[..]), (&oldest, &OLDEST[..]), (&next, &NEXT[..])] {
        if let Some(reason) = complete(folder, place, packages)? {
            return Ok(Err(reason));
        }
    }
    let existing = |place: &Path, below: &str| -> Result<PathBuf> {
        let path = place.join("nvidia").join(below);
        if !path.exists() {
            bail!("{} does not exist; remove {} and try again", path.display(), place.display());
        }
        Ok(path)
    };
    let ptxas = existing(&newest, "cuda_nvcc/bin/ptxas")?;
    let wheels = Wheels {
        oldest: Toolchain { nvrtc: existing(&oldest, "cuda_nvrtc/lib")?, ptxas: ptxas.clone() },
        newest: Toolchain { nvrtc: existing(&newest, "cuda_nvrtc/lib")?, ptxas },
        next: Toolchain { nvrtc: existing(&next, "cu13/lib")?, ptxas: existing(&next, "cu13/bin/ptxas")? },
    };
    // The wheels have no name without a version, and where cudarc was built beside a CUDA 12 it looks for no libnvrtc.so.13.
    for (toolchain, library) in [
        (&wheels.newest, "libnvrtc.so.12"),
        (&wheels.oldest, "libnvrtc.so.12"),
        (&wheels.next, "libnvrtc.so.13"),
    ] {
        link(&toolchain.nvrtc.join(library), &toolchain.nvrtc.join("libnvrtc.so"))?;
    }
    Ok(Ok(wheels))
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
