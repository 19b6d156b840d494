//! Two processes, one output: the second is refused at once with the first one's id, and the first loses nothing.

mod common;

use std::fs::{self, File};
use std::path::Path;

#[cfg(all(unix, debug_assertions))]
use common::{Held, weights};
use common::{Lab, call, refused, succeed};

const PAIRS: &str = "suite/train/helpful.parquet";

/// Every command that writes, with `OUT` for its output.
fn commands(lab: &Lab) -> Vec<(&'static str, Vec<String>)> {
    let (model, pairs, rows) = (lab.path("model"), lab.path(PAIRS), lab.path("suite/sft.parquet"));
    let task = format!("helpful={pairs}");
    let commands: [(&str, &[&str]); 7] = [
        ("specialist", &["--model", &model, "--data", &pairs, "--steps", "2", "--max-length", "64"]),
        ("sft", &["--model", &model, "--data", &rows, "--steps", "2", "--max-length", "64"]),
        ("score", &["--model", &model, "--data", &pairs, "--max-length", "64"]),
        ("eval", &["--model", &model, "--reference", &model, "--task", &task, "--limit", "2"]),
        ("merge", &["--method", "linear", "--model", &model, "--model", &model]),
        (
            "suite generate",
            &["--helpful", "9", "--harmless", "9", "--reasoning", "9", "--held-out", "3", "--sft", "9"],
        ),
        ("data cluster", &[&pairs, "--k", "2"]),
    ];
    let owned = |(name, args): (&'static str, &[&str])| {
        (name, name.split(' ').chain(args.iter().copied()).chain(["--out"]).map(String::from).collect())
    };
    commands.map(owned).into()
}

#[test]
fn every_command_respects_the_lock_of_its_output_and_leaves_none() {
    let lab = Lab::with_model();
    let before = lab.names();
    for (name, args) in commands(&lab) {
        let out = lab.path("out");
        let args: Vec<&str> = args.iter().map(String::as_str).chain([out.as_str()]).collect();
        let lock = lab.write(".out.ama-lock", "4242\n");
        let held = File::open(&lock).unwrap();
        held.lock().unwrap();
        let said = refused(&args, &["another `ama` (process 4242)", &out]);
        assert_eq!(said.err.lines().count(), 1, "{name}: {}", said.err);
        assert!(!Path::new(&out).exists(), "{name}");
        // A process that was killed leaves the file without its lock.
        drop(held);
        succeed(&args);
        let after: Vec<String> = lab.names().into_iter().filter(|name| !before.contains(name)).collect();
        assert_eq!(after, ["out"], "{name} leaves its output and nothing else");
        let made = Path::new(&out);
        if made.is_dir() { fs::remove_dir_all(made).unwrap() } else { fs::remove_file(made).unwrap() }
    }
}

#[cfg(all(unix, debug_assertions))]
#[test]
fn the_first_goes_on_to_the_weights_it_would_have_had_alone() {
    let lab = Lab::with_model();
    let (model, pairs, other) =
        (lab.path("model"), lab.path(PAIRS), lab.path("suite/train/harmless.parquet"));
    let train = |data: &'static str, lr: &'static str, out: &str| -> Vec<String> {
        let data = if data == "pairs" { &pairs } else { &other };
        [
            "specialist",
            "--model",
            &model,
            "--data",
            data,
            "--out",
            out,
            "--lr",
            lr,
            "--steps",
            "6",
            "--max-length",
            "64",
        ]
        .map(String::from)
        .into()
    };
    fn call_with(args: &[String], more: &[&'static str]) -> common::Said {
        call(&args.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    }
    let (alone, out) = (lab.path("alone"), lab.path("out"));
    assert_eq!(call_with(&train("pairs", "1e-4", &alone), &[]).code, Some(0));

    let first = train("pairs", "1e-4", &out);
    let args: Vec<&str> = first.iter().map(String::as_str).collect();
    let first = Held::at("step:3", &args);
    let process = format!("process {}", first.pid());
    // The same, other data, a resumption, another command: before there is a checkpoint or anything else to see.
    for (data, lr, more) in
        [("pairs", "1e-4", &[][..]), ("other", "1e-3", &[]), ("pairs", "1e-4", &["--resume"])]
    {
        let second = call_with(&train(data, lr, &out), more);
        assert_eq!(second.code, Some(2), "{}", second.err);
        assert!(second.err.contains(&process) && second.err.contains(&out), "{}", second.err);
    }
    refused(&["merge", "--method", "linear", "--model", &model, "--out", &out], &[&process]);
    refused(&["run", &lab.config("run.toml"), "--out", &out], &[&process]);
    // What the first has done is still there.
    let stopped = first.interrupt();
    assert_eq!(stopped.code, Some(130), "{}", stopped.err);
    assert_eq!(
        call_with(&train("other", "1e-3", &out), &["--resume"]).code,
        Some(2),
        "other data into half-done work"
    );
    assert_eq!(call_with(&train("pairs", "1e-4", &out), &["--resume"]).code, Some(0));
    assert!(weights(Path::new(&out)) == weights(Path::new(&alone)));
    let hidden: Vec<String> = lab.names().into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(hidden.is_empty() && !Path::new(&lab.path("out.partial")).exists(), "{hidden:?}");
}

#[cfg(all(unix, debug_assertions))]
#[test]
fn two_runs_do_not_share_a_folder() {
    let lab = Lab::new();
    let (config, out) = (lab.config("run.toml"), lab.path("run"));
    let args = ["run", &config, "--out", &out];
    let first = Held::at("step:1", &args);
    let process = format!("process {}", first.pid());
    for second in [&args[..], &["train", &config, "--out", &out]] {
        let said = refused(second, &["another `ama`", &process]);
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    }
    first.kill();
    // Its lock went with it; the next one is not kept waiting.
    let next = Held::at("step:1", &args);
    let stopped = next.interrupt();
    assert_eq!(stopped.code, Some(130), "{}", stopped.err);
    assert!(stopped.err.contains("call it again to continue"), "{}", stopped.err);
    assert!(!Path::new(&lab.path("run/.lock")).exists());
}

/// A log that two processes write is nobody's.
#[test]
fn logs_are_locked_too() {
    let lab = Lab::with_model();
    let (model, pairs, out, log) = (lab.path("model"), lab.path(PAIRS), lab.path("out"), lab.path("log"));
    let held = File::open(lab.write(".log.ama-lock", "4242\n")).unwrap();
    held.lock().unwrap();
    for flag in ["--metrics", "--summary"] {
        let args = ["specialist", "--model", &model, "--data", &pairs, "--out", &out, flag, &log];
        refused(&args, &["process 4242", &log]);
    }
    let twice = lab.path("twice");
    let args = ["specialist", "--model", &model, "--data", &pairs, "--out", &out, "--metrics", &twice];
    refused(&[&args[..], &["--summary", &twice]].concat(), &["named for two files", &twice]);
    assert!(!Path::new(&out).exists() && !Path::new(&lab.path("out.partial")).exists());
}
