//! A tiny suite, model and configuration, made by the program itself, and a way to call it.

// Every test file uses another part of this.
#![allow(dead_code, reason = "shared by several test binaries")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Output, Stdio};

/// The `ama` command on two threads.
pub(crate) fn ama(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ama"));
    command.args(args).args(["--threads", "2"]).env_remove("RUST_LOG");
    command
}

/// What a call printed, and its exit code.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs to the end.
pub(crate) fn call(args: &[&str]) -> Said {
    ama(args).output().expect("ama starts").into()
}

/// Runs to the end, which has to be a good one.
#[track_caller]
pub(crate) fn succeed(args: &[&str]) -> Said {
    let said = call(args);
    assert_eq!(said.code, Some(0), "ama {}\n{}{}", args.join(" "), said.out, said.err);
    said
}

/// Runs to the end, which has to be a refusal that says these things.
#[track_caller]
pub(crate) fn refused(args: &[&str], wants: &[&str]) -> Said {
    let said = call(args);
    assert_eq!(said.code, Some(2), "ama {}\n{}{}", args.join(" "), said.out, said.err);
    for want in wants {
        assert!(said.err.contains(want), "ama {}\nwant `{want}` in: {}", args.join(" "), said.err);
    }
    said
}

/// Exit code of a process that ended itself at a fail point.
pub(crate) const KILLED: Option<i32> = Some(137);

/// Runs until the fail point `NAME` or `NAME:N`, where it ends as if it were killed.
#[track_caller]
pub(crate) fn killed_at(point: &str, args: &[&str]) {
    let said: Said =
        ama(args).env("AMA_FAIL_POINT", format!("{point}=kill")).output().expect("ama starts").into();
    assert_eq!(said.code, KILLED, "ama {} reaches {point}\n{}{}", args.join(" "), said.out, said.err);
}

/// A process that holds at a fail point until it is asked to stop.
pub(crate) struct Held {
    child: std::process::Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Held {
    /// Starts a command and waits until it is at the fail point `NAME` or `NAME:N`.
    #[track_caller]
    pub(crate) fn at(point: &str, args: &[&str]) -> Self {
        let mut child = ama(args)
            .env("AMA_FAIL_POINT", format!("{point}=wait"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ama starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut held = Self { child, stderr, said: String::new() };
        loop {
            let line = held.said.len();
            let read = held.stderr.read_line(&mut held.said).expect("text");
            assert!(read > 0, "ama {} reaches {point}\n{}", args.join(" "), held.said);
            if held.said[line..].starts_with("waiting at ") {
                held.said.truncate(line);
                return held;
            }
        }
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends what Ctrl-C sends, and waits for the end.
    #[cfg(unix)]
    pub(crate) fn interrupt(mut self) -> Said {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill starts").success());
        self.stderr.read_to_string(&mut self.said).expect("text");
        let status = self.child.wait().expect("ama ends");
        Said { code: status.code(), out: String::new(), err: self.said }
    }

    /// Kills it.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }
}

/// A folder of its own for one test.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    /// With a tiny suite in `suite/`.
    pub(crate) fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let out = lab.path("suite");
        let sizes =
            ["--helpful", "30", "--harmless", "30", "--reasoning", "20", "--held-out", "4", "--sft", "120"];
        succeed(&[&["suite", "generate", "--seed", "7", "--out", &out], &sizes[..]].concat());
        lab
    }

    /// Also with a model in `model/`.
    pub(crate) fn with_model() -> Self {
        let lab = Self::new();
        let (base, data, out) = (lab.path("suite/base"), lab.path("suite/sft.parquet"), lab.path("model"));
        succeed(&[
            "sft",
            "--from-scratch",
            "--model",
            &base,
            "--data",
            &data,
            "--out",
            &out,
            "--batch",
            "20",
            "--steps",
            "3",
            "--lr",
            "1e-3",
            "--max-length",
            "64",
        ]);
        lab
    }

    /// Absolute path of something in the folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.folder.path().join(name), content).expect("a temporary file");
        self.path(name)
    }

    /// Copies the model's folder.
    pub(crate) fn copy_model(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        fs::create_dir(&to).expect("a temporary folder");
        for entry in fs::read_dir(self.path("model")).expect("the model's folder") {
            let path = entry.expect("the model's folder").path();
            fs::copy(&path, to.join(path.file_name().expect("a file name"))).expect("a copy");
        }
        to
    }

    /// Names in the folder, sorted: to see that nothing half-written is left.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }

    /// A configuration of all stages, a few steps each.
    pub(crate) fn config(&self, name: &str) -> String {
        let mut text = String::from(
            "seed = 3\n[base]\nconfig = 'suite/base'\ndata = 'suite/sft.parquet'\nsteps = 12\nbatch = 20\n\
             checkpoint_every = 3\n[data]\nmax_length = 64\n[loss]\nsft_weight = 3.0\n\
             [specialist]\nlr = 5e-4\nsteps = 6\nbatch_pairs = 6\ncheckpoint_every = 2\n\
             [generalist]\nseeds = [0, 1]\nsteps = 6\nbatch_pairs = 6\nlr = 6e-4\ncheckpoint_every = 2\n\
             [eval]\nmax_new_tokens = 8\n\
             [[method]]\nname = 'pooled'\n[[method]]\nname = 'ama-r'\n[[method]]\nname = 'ama-s'\n",
        );
        for task in ["helpful", "harmless", "reasoning"] {
            text += &format!(
                "[[task]]\nname = '{task}'\ntrain = 'suite/train/{task}.parquet'\ntest = 'suite/test/{task}.parquet'\n"
            );
        }
        self.write(name, text)
    }
}

/// Names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Every weights file below a folder, by relative path.
pub(crate) fn weights(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for name in names(&next) {
            let path = next.join(&name);
            if path.is_dir() {
                folders.push(path);
            } else if name == "model.safetensors" {
                let bytes = fs::read(&path).expect("weights");
                found.push((path.strip_prefix(folder).expect("below the folder").to_path_buf(), bytes));
            }
        }
    }
    found.sort();
    found
}
