//! Running commands in the workspace root, saying what runs.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The workspace root: the folder above this package.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// Writes a file under another name beside it and renames: it is there whole or not at all, even if we are killed.
///
/// # Errors
/// The folder or the disk refuses, with the path.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let temporary = path.with_extension("new");
    let mut file = std::fs::File::create(&temporary).with_context(context)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(context)?;
    std::fs::rename(&temporary, path).with_context(context)
}

/// Writes one line to stderr; a closed stderr is not an error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `cargo ARGS` in the workspace root, with the cargo that started us.
pub(crate) fn cargo<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(args).current_dir(root());
    command
}

/// Runs a command to its end.
///
/// # Errors
/// It could not be started, or it ended with another status than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(&format!("$ {}", display(command)));
    let status = command.status().with_context(|| format!("cannot start `{}`", display(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", display(command));
    }
    Ok(())
}

/// Whether `cargo NAME` exists, without printing anything.
pub(crate) fn has_cargo_command(name: &str) -> bool {
    cargo(&[name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command as the last thing we do. On Unix it takes this process's place, so that a signal sent to
/// `cargo xtask` reaches the command and its exit code is ours.
///
/// # Errors
/// It could not be started; elsewhere than on Unix also a status other than 0 that has no code.
pub(crate) fn replace_with(command: &mut Command) -> Result<()> {
    say(&format!("$ {}", display(command)));
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        let error = command.exec();
        Err(error).with_context(|| format!("cannot start `{}`", display(command)))
    }
    #[cfg(not(unix))]
    {
        let status = command.status().with_context(|| format!("cannot start `{}`", display(command)))?;
        match status.code() {
            Some(0) => Ok(()),
            Some(code) => std::process::exit(code),
            None => bail!("`{}` ended with {status}", display(command)),
        }
    }
}

/// The command as one would type it.
fn display(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs a command to its end, saying nothing, and parses the last line that it prints as JSON.
///
/// # Errors
/// It could not be started, ended with another status than 0 (with the last line of its stderr), or printed no JSON.
pub(crate) fn json(command: &mut Command) -> Result<serde_json::Value> {
    let output = command.output().with_context(|| format!("cannot start `{}`", display(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let reason = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        bail!("`{}` ended with {}: {}", display(command), output.status, reason.trim());
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("`{}` printed no JSON last: {last}", display(command)))
}
