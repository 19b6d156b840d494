//! What cargo builds, by name: programs, test binaries, benches.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::shell::{self, cargo};

/// An executable that cargo has built.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) executable: PathBuf,
    /// Folder of its package.
    pub(crate) package: PathBuf,
}

/// What an executable is to cargo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Program,
    /// An integration test.
    Test,
    Bench,
}

/// Runs `cargo ARGUMENTS`, a build, in the workspace at `root`, and lists its programs, integration tests and benches.
///
/// # Errors
/// It does not compile.
pub(crate) fn build(root: &Path, arguments: &[&str]) -> Result<Vec<Artifact>> {
    let mut command = cargo(arguments);
    command.args(["--message-format=json-render-diagnostics", "--quiet"]);
    command.current_dir(root).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell::say(&format!("$ cargo {}", arguments.join(" ")));
    // One folder for every workspace that we build, such as the mutants of `cuda-check`.
    command.env("CARGO_TARGET_DIR", shell::target());
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| artifact(line, root)).collect())
}

/// The executable that a line of cargo's messages speaks of.
fn artifact(line: &str, root: &Path) -> Option<Artifact> {
    let message: Value = serde_json::from_str(line).ok()?;
    let kind = match message["target"]["kind"].get(0)?.as_str()? {
        "bin" => Kind::Program,
        "test" => Kind::Test,
        "bench" => Kind::Bench,
        _ => return None,
    };
    let package = Path::new(message["manifest_path"].as_str()?).parent().unwrap_or(root).to_path_buf();
    Some(Artifact {
        name: message["target"]["name"].as_str()?.to_owned(),
        kind,
        executable: message["executable"].as_str()?.into(),
        package,
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn messages_of_executables_are_understood_and_others_passed_over() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"a/b/Cargo.toml","target":{"kind":["bench"],"name":"cuda"},"executable":"t/cuda-1"}"#;
        let found = artifact(line, Path::new("r")).expect("a bench");
        assert_eq!((found.name.as_str(), found.kind), ("cuda", Kind::Bench));
        assert_eq!((found.executable, found.package), ("t/cuda-1".into(), "a/b".into()));
        assert!(artifact(&line.replace("\"t/cuda-1\"", "null"), Path::new("r")).is_none());
        assert!(artifact(&line.replace("bench", "lib"), Path::new("r")).is_none());
        assert!(artifact("Compiling", Path::new("r")).is_none());
    }
}
