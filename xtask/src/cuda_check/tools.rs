//! What the ladder stands on: a C++ compiler with its sanitizers, NVRTC and `ptxas`, the stand-in driver.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};

use super::tests::{self, TestBinary};
use super::wheels::{self, Found};
use crate::shell::{self, cargo};

/// Found or made when first asked for.
#[derive(Debug)]
pub(super) struct Tools {
    /// Where everything that the ladder makes lies: `cuda-check` in cargo's target folder.
    pub(super) folder: PathBuf,
    compiler: Option<String>,
    wheels: OnceCell<Found>,
    emulated: OnceCell<BTreeMap<String, TestBinary>>,
    device: OnceCell<BTreeMap<String, TestBinary>>,
    standin: OnceCell<PathBuf>,
}

impl Tools {
    /// # Errors
    /// The target folder cannot be written.
    pub(super) fn find() -> Result<Self> {
        let folder = shell::target().join("cuda-check");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let named = std::env::var("CXX").ok().filter(|name| !name.is_empty());
        let compiler =
            named.into_iter().chain(["c++", "g++", "clang++"].map(str::to_owned)).find(|program| {
                Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
            });
        let (wheels, emulated, device, standin) = Default::default();
        Ok(Self { folder, compiler, wheels, emulated, device, standin })
    }

    /// The C++ compiler, or why its rungs are skipped.
    pub(super) fn compiler(&self) -> std::result::Result<&str, String> {
        self.compiler.as_deref().ok_or_else(|| "no C++ compiler (CXX, c++, g++, clang++)".to_owned())
    }

    /// The runtime of a sanitizer, as `libasan.so`, or why its rung is skipped.
    pub(super) fn sanitizer(&self, runtime: &str) -> std::result::Result<PathBuf, String> {
        let compiler = self.compiler()?;
        let output = Command::new(compiler)
            .arg(format!("-print-file-name={runtime}"))
            .output()
            .map_err(|error| format!("{compiler}: {error}"))?;
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        // A compiler that has no such file prints the bare name.
        if path.is_absolute() && path.exists() {
            Ok(path)
        } else {
            Err(format!("{compiler} has no {runtime}"))
        }
    }

    /// NVRTC and `ptxas`, or why their rungs are skipped.
    pub(super) fn wheels(&self) -> Result<&Found> {
        get_or_try(&self.wheels, || wheels::install(&self.folder))
    }

    /// The test binaries of `ama-cuda-emulator`.
    pub(super) fn emulated(&self) -> Result<&BTreeMap<String, TestBinary>> {
        get_or_try(&self.emulated, || tests::build(&shell::root(), &["--package", "ama-cuda-emulator"]))
    }

    /// The test binaries of `ama-loss` that want a device.
    pub(super) fn device(&self) -> Result<&BTreeMap<String, TestBinary>> {
        get_or_try(&self.device, || {
            tests::build(&shell::root(), &["--package", "ama-loss", "--features", "cuda-tests"])
        })
    }

    /// A folder that holds the stand-in under the names of the driver and of cuBLASLt.
    pub(super) fn standin(&self) -> Result<&PathBuf> {
        get_or_try(&self.standin, || {
            shell::run(&mut cargo(&["build", "--quiet", "--package", "ama-cuda-standin"]))?;
            let library = shell::target().join("debug").join("libama_cuda_standin.so");
            if !library.is_file() {
                return Err(anyhow!("{} was not built", library.display()));
            }
            let folder = self.folder.join("driver");
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            for name in
                ["libcuda.so", "libcuda.so.1", "libcublasLt.so", "libcublasLt.so.12", "libcublasLt.so.13"]
            {
                link(&library, &folder.join(name))?;
            }
            Ok(folder)
        })
    }
}

/// `OnceCell::get_or_try_init`, which is not stable yet.
fn get_or_try<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}

/// Another name for a library. All names of the stand-in are one file: its driver and cuBLASLt share what it knows.
pub(super) fn link(library: &Path, name: &Path) -> Result<()> {
    if name.symlink_metadata().is_ok() {
        fs::remove_file(name).with_context(|| format!("cannot remove {}", name.display()))?;
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(library, name).with_context(|| format!("cannot make {}", name.display()))
    }
    #[cfg(not(unix))]
    {
        Err(anyhow!("{} has to be a symbolic link to {}", name.display(), library.display()))
    }
}
