//! The programs of the kit, built.

use anyhow::{Result, bail};

use crate::artifacts::{self, Artifact, Kind};
use crate::shell;

/// Device tests of `ama-loss`, also named in `kit.py`.
pub(super) const TESTS: [&str; 3] = ["cuda_logits", "cuda_sums", "cuda_linear"];

/// How the programs are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// As continuous integration compiles everything else.
    Dev,
    Release,
}

/// `ama` and the kernels' timer, the criterion bench of the kernels, and the device tests.
///
/// # Errors
/// They do not compile.
pub(super) fn build(profile: Profile) -> Result<Vec<Artifact>> {
    let release: &[&str] = if profile == Profile::Release { &["--release"] } else { &[] };
    // All of the workspace, so that dependencies have the features that they have in every other build of it.
    let workspace = ["build", "--workspace", "--exclude", "xtask", "--bins", "--bench", "cuda"];
    let features = ["--features", "ama-cli/cuda,benches/cuda"];
    let tests = ["test", "--no-run", "--package", "ama-loss", "--features", "cuda-tests", "--tests"];
    let mut found = artifacts::build(&shell::root(), &[&workspace[..], &features, release].concat())?;
    found.extend(artifacts::build(&shell::root(), &[&tests[..], release].concat())?);
    let wanted = [("ama", Kind::Program), ("gpu", Kind::Program), ("cuda", Kind::Bench)]
        .into_iter()
        .chain(TESTS.map(|name| (name, Kind::Test)));
    wanted
        .map(|(name, kind)| {
            let is_it = |artifact: &&Artifact| artifact.name == name && artifact.kind == kind;
            match found.iter().find(is_it) {
                Some(artifact) => Ok(artifact.clone()),
                None => bail!("cargo built no {kind:?} called `{name}`"),
            }
        })
        .collect()
}
