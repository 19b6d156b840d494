//! `cargo xtask device bundle`: what travels, in one folder that nothing else is in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::assemble::{self, Kit};
use super::programs::{self, Profile};
use crate::shell;

/// Where the bundle goes, and what of Python is on the other machine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask device bundle                          target/device/, then copy it to the machine and run kit.py there\n  \
    cargo xtask device bundle --no-wheels              without the Python packages, if nothing can be downloaded\n  \
    cargo xtask device bundle --python 3.11            wheels for another Python than that of PyTorch's containers")]
pub(crate) struct Options {
    /// Folder to make; what is there is removed [default: device in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Version of Python on the other machine
    #[arg(long, value_name = "X.Y", default_value = "3.12")]
    python: String,
    /// Leave out the Python packages
    #[arg(long)]
    no_wheels: bool,
}

/// What the comparison with TRL needs and an image with PyTorch and transformers lacks.
const PACKAGES: [&str; 5] =
    ["trl==1.16.0", "datasets==5.2.0", "dill==0.4.1", "multiprocess==0.70.19", "xxhash==4.1.0"];
/// Platforms whose wheels run on glibc 2.35. pip matches these names exactly.
const PLATFORMS: [&str; 6] = [
    "manylinux_2_34_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
];
/// Most that the bundle may weigh: it has to fit where little can be carried.
const MOST_BYTES: u64 = 45 << 20;
/// Oldest glibc that the programs have to run on (Ubuntu 22.04).
const GLIBC: (u32, u32) = (2, 35);

/// Builds the bundle and prints what is in it.
///
/// # Errors
/// A build or a download that failed; a program that needs a later glibc; a bundle that weighs too much.
pub(super) fn run(options: &Options) -> Result<()> {
    let folder = match &options.out {
        Some(folder) => std::env::current_dir()?.join(folder),
        None => shell::target().join("device"),
    };
    check_replaceable(&folder)?;
    let programs = programs::build(Profile::Release)?;
    let mut about = assemble::about("release");
    about["python"] = options.python.as_str().into();
    let kit = Kit::new(folder, about)?;
    for program in &programs {
        kit.add(program, true)?;
        let path = kit.folder.join("bin").join(&program.name);
        let (major, minor) = newest_glibc(&fs::read(&path)?);
        if (major, minor) > GLIBC {
            bail!(
                "{} needs glibc {major}.{minor}, the kit is for {}.{} and newer; build it on an older system",
                program.name,
                GLIBC.0,
                GLIBC.1
            );
        }
    }
    if !options.no_wheels {
        download(&kit.folder.join("wheels"), &options.python)?;
    }
    let sizes = kit.seal()?;
    shell::say(&list(&sizes));
    let total: u64 = sizes.values().sum();
    shell::say(&format!("device: {} holds {:.1} MiB", kit.folder.display(), mib(total)));
    if total > MOST_BYTES {
        bail!("the bundle weighs {:.1} MiB; at most {} MiB", mib(total), MOST_BYTES >> 20);
    }
    shell::say(
        "device: copy that folder to a machine with an NVIDIA GPU, run `python3 kit.py` in it, and turn the \
         results.json that it leaves into docs/device.md with `cargo xtask device report results.json`",
    );
    Ok(())
}

/// A folder that is removed must be one of ours.
fn check_replaceable(folder: &Path) -> Result<()> {
    let occupied = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !folder.join("kit.py").is_file() {
        bail!("{} holds something else than a bundle; choose another --out", folder.display());
    }
    Ok(())
}

/// Wheels for the other machine's Python, whatever Python there is here.
fn download(folder: &Path, python: &str) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--implementation", "cp", "--python-version", python]);
    for platform in PLATFORMS {
        pip.args(["--platform", platform]);
    }
    pip.arg("--dest").arg(folder).args(PACKAGES);
    shell::run(&mut pip).context("the Python packages cannot be downloaded; --no-wheels leaves them out")
}

/// The newest glibc whose symbols a program names: its dynamic strings hold `GLIBC_X.Y`.
fn newest_glibc(program: &[u8]) -> (u32, u32) {
    let mark = b"GLIBC_";
    let mut newest = (0, 0);
    for at in program.windows(mark.len()).enumerate().filter(|(_, w)| w == mark).map(|(at, _)| at) {
        let rest = &program[at + mark.len()..];
        let end = rest.iter().position(|b| !b.is_ascii_digit() && *b != b'.').unwrap_or(rest.len());
        let text = std::str::from_utf8(&rest[..end.min(12)]).unwrap_or_default();
        let mut numbers = text.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
        newest = newest.max((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)));
    }
    newest
}

fn list(sizes: &BTreeMap<String, u64>) -> String {
    let lines = sizes.iter().map(|(name, bytes)| format!("{:>8.2} MiB  {name}", mib(*bytes)));
    lines.collect::<Vec<_>>().join("\n")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_newest_glibc_that_a_program_names() {
        assert_eq!(newest_glibc(b"\0GLIBC_2.2.5\0memcpy\0GLIBC_2.34\0GLIBC_2.9\0"), (2, 34));
        assert_eq!(newest_glibc(b"\0GLIBC_PRIVATE\0"), (0, 0));
        assert_eq!(newest_glibc(b"no names"), (0, 0));
    }

    #[test]
    fn what_is_no_bundle_is_not_removed() {
        let folder = std::env::temp_dir().join(format!("ama-device-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(check_replaceable(&folder).is_ok(), "empty");
        fs::write(folder.join("thesis.txt"), "years of work").unwrap();
        assert!(check_replaceable(&folder).is_err());
        fs::write(folder.join("kit.py"), "").unwrap();
        assert!(check_replaceable(&folder).is_ok());
        fs::remove_dir_all(&folder).unwrap();
    }
}
