//! The peers: a Python virtual environment, and `benches/peers/peer.py` in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::machine::Machine;
use crate::shell;

/// PyTorch and TRL, ready to run.
#[derive(Debug)]
pub(super) struct Peers {
    python: PathBuf,
    home: PathBuf,
    threads: u64,
    about: Value,
    pub(super) unlocked: Unlocked,
}

/// PyTorch with AVX-512 where its MKL does not use it by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unlocked {
    /// Preload this library.
    Library(PathBuf),
    /// There is nothing to unlock, and why.
    AsStock(&'static str),
}

impl Peers {
    /// Makes or completes the environment, and compiles the shim where it helps.
    ///
    /// # Errors
    /// No Python, no `venv` module, pip failed, no C compiler where one is needed.
    pub(super) fn open(venv: &Path, folder: &Path, machine: &Machine, threads: u64) -> Result<Self> {
        let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        let unlocked = Unlocked::on(machine, folder)?;
        let home = folder.join("hf");
        let mut peers = Self { python, home, threads, about: Value::Null, unlocked };
        if !peers.python.exists() {
            create(venv)?;
        }
        let requirements = source("requirements.txt").display().to_string();
        let about = ["about", "--requirements", &requirements];
        peers.about = peers.run(&about)?;
        if !peers.missing().is_empty() {
            shell::say(&format!("bench: {} lacks {}", venv.display(), peers.missing().join(", ")));
            let mut pip = Command::new(&peers.python);
            pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement", &requirements]);
            shell::run(&mut pip).with_context(|| {
                "pip could not install benches/peers/requirements.txt; see its message above, or name a finished \
                 environment with --venv DIR"
            })?;
            peers.about = peers.run(&about)?;
        }
        if !peers.missing().is_empty() {
            bail!("{} still lacks {}; remove it and try again", venv.display(), peers.missing().join(", "));
        }
        Ok(peers)
    }

    /// A field of what the environment says of itself, such as `/versions/torch`.
    pub(super) fn about(&self, pointer: &str) -> &str {
        self.about.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown")
    }

    fn missing(&self) -> Vec<&str> {
        self.about["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// `peer.py ARGS` with stock PyTorch.
    ///
    /// # Errors
    /// It failed, or printed no JSON last.
    pub(super) fn run(&self, args: &[&str]) -> Result<Value> {
        shell::json(&mut self.command(args))
    }

    /// `peer.py ARGS` with the shim preloaded.
    ///
    /// # Errors
    /// As [`Peers::run`].
    pub(super) fn run_unlocked(&self, library: &Path, args: &[&str]) -> Result<Value> {
        shell::json(self.command(args).env("LD_PRELOAD", library))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(source("peer.py")).args(["--threads", &self.threads.to_string()]).args(args);
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TOKENIZERS_PARALLELISM", "false")
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", &self.home)
            .env("CUDA_VISIBLE_DEVICES", "")
            // A waiting OpenMP thread sleeps; spinning, it would take the core from whoever works.
            .env("OMP_WAIT_POLICY", "PASSIVE")
            .env("GOMP_SPINCOUNT", "0")
            .env_remove("OPENBLAS_CORETYPE")
            .env_remove("OPENBLAS_L2_SIZE");
        command
    }
}

impl Unlocked {
    fn on(machine: &Machine, folder: &Path) -> Result<Self> {
        if !machine.avx512 {
            return Ok(Self::AsStock("this processor has no AVX-512"));
        }
        if !machine.amd {
            return Ok(Self::AsStock("stock PyTorch uses AVX-512 on this processor"));
        }
        let library = folder.join("mkl_avx512.so");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source("mkl_avx512.c"));
        shell::run(&mut cc).context(
            "no C compiler for benches/peers/mkl_avx512.c, which PyTorch needs for AVX-512 on AMD; install cc",
        )?;
        Ok(Self::Library(library))
    }
}

fn source(name: &str) -> PathBuf {
    shell::root().join("benches").join("peers").join(name)
}

/// A new virtual environment.
fn create(venv: &Path) -> Result<()> {
    let mut python = Command::new("python3");
    python.args(["-m", "venv"]).arg(venv);
    if Command::new("python3").arg("--version").output().is_err() {
        return Err(anyhow!(
            "no python3 on the PATH, which the peers need; install Python 3.10 or newer, or name a finished environment \
             with --venv DIR"
        ));
    }
    shell::run(&mut python).with_context(|| {
        format!(
            "cannot make {}; install Python's venv module (Debian: python3-venv), or name a finished environment with \
             --venv DIR",
            venv.display()
        )
    })
}
