//! Killed at random moments and called again, a run ends with the bits of one that was left alone.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Lab, ama, call, succeed, weights};

/// Moments to kill at, as shares of the whole run's time; another set every time the seed is changed.
fn moments(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    };
    (0..count).map(|_| next()).collect()
}

/// Starts the command and kills it (SIGKILL on Unix) after a while; true if it was still running.
fn kill_after(args: &[&str], time: Duration) -> bool {
    let mut child = ama(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ama starts");
    std::thread::sleep(time);
    let running = child.try_wait().expect("a child can be asked").is_none();
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    running
}

#[test]
fn a_killed_run_ends_with_the_same_bits_and_a_second_call_skips_everything() {
    let lab = Lab::new();
    let (config, whole, cut) = (lab.config("run.toml"), lab.path("whole"), lab.path("cut"));
    let started = Instant::now();
    succeed(&["run", &config, "--out", &whole]);
    let time = started.elapsed();

    let mut kills = 0;
    // Every kill loses at most the steps since a checkpoint, so that short attempts still get on.
    for share in moments(20, 6) {
        kills += u32::from(kill_after(&["run", &config, "--out", &cut], time.mul_f64(0.1 + 0.5 * share)));
    }
    assert!(kills >= 1, "at least one attempt was killed while it ran");
    succeed(&["run", &config, "--out", &cut]);

    let (whole_weights, cut_weights) = (weights(Path::new(&whole)), weights(Path::new(&cut)));
    assert_eq!(whole_weights.len(), 1 + 3 + 3 * 2, "base, specialists, generalists");
    for ((name, a), (other, b)) in whole_weights.iter().zip(&cut_weights) {
        assert_eq!(name, other);
        assert!(a == b, "{} differs from the run that was left alone", name.display());
    }
    for name in ["generalists/ama-s/seed-1", "specialists/helpful", "base"] {
        assert_eq!(steps(&whole, name), steps(&cut, name), "{name}: a line a step, none twice");
    }

    let again = succeed(&["run", &config, "--out", &cut]);
    assert!(again.err.lines().all(|line| line.ends_with("unchanged")), "{}", again.err);
    assert!(again.err.lines().count() > 20, "{}", again.err);

    // Another learning rate in stage 2 leaves stage 1 alone.
    let changed = succeed(&["run", &config, "--out", &cut, "--set", "generalist.lr=1e-4"]);
    let line = |name: &str| changed.err.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(line("specialists/helpful").ends_with("unchanged"), "{}", changed.err);
    assert!(line("generalists/pooled/seed-0").contains("changed: done again"), "{}", changed.err);
}

/// Numbers of the steps in a stage's log.
fn steps(run: &str, stage: &str) -> Vec<u64> {
    let text = fs::read_to_string(Path::new(run).join(stage).join("metrics.jsonl")).expect("a log");
    let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["step"].as_u64();
    text.lines().map(|line| step(line).expect("a number")).collect()
}

#[test]
fn a_killed_specialist_resumes_to_the_same_bits() {
    let lab = Lab::with_model();
    let (model, data) = (lab.path("model"), lab.path("suite/train/helpful.parquet"));
    let (whole, cut) = (lab.path("whole"), lab.path("cut"));
    fn args<'a>(model: &'a str, data: &'a str, out: &'a str) -> Vec<&'a str> {
        vec![
            "specialist",
            "--model",
            model,
            "--data",
            data,
            "--out",
            out,
            "--steps",
            "30",
            "--lr",
            "1e-4",
            "--batch-pairs",
            "8",
            "--checkpoint-every",
            "2",
            "--max-length",
            "64",
        ]
    }
    let started = Instant::now();
    succeed(&args(&model, &data, &whole));
    let time = started.elapsed();
    let again = [args(&model, &data, &cut), vec!["--resume"]].concat();
    for share in moments(21, 3) {
        if Path::new(&cut).exists() {
            break;
        }
        kill_after(&again, time.mul_f64(0.3 + 0.5 * share));
    }
    if !Path::new(&cut).exists() {
        if Path::new(&lab.path("cut.partial/checkpoints")).exists() {
            let refused = call(&args(&model, &data, &cut));
            // With a checkpoint there it wants --resume; a kill before the first one leaves nothing to ask about.
            assert!(refused.code == Some(2) && refused.err.contains("--resume") || refused.code == Some(0));
        }
        if !Path::new(&cut).exists() {
            succeed(&again);
        }
    }
    assert!(weights(Path::new(&whole)) == weights(Path::new(&cut)));
    assert!(!Path::new(&lab.path("cut.partial")).exists(), "the state goes when the model is there");
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_a_checkpoint_and_exits_with_130() {
    let lab = Lab::with_model();
    let (model, data) = (lab.path("model"), lab.path("suite/train/helpful.parquet"));
    let args = |out: &str, more: &[&str]| -> Vec<String> {
        let mut args: Vec<String> = [
            "specialist",
            "--model",
            &model,
            "--data",
            &data,
            "--out",
            out,
            "--steps",
            "400",
            "--lr",
            "1e-4",
            "--batch-pairs",
            "8",
            "--checkpoint-every",
            "0",
            "--max-length",
            "64",
            "--metrics",
        ]
        .map(String::from)
        .to_vec();
        args.push(format!("{out}.jsonl"));
        args.extend(more.iter().map(|arg| arg.to_string()));
        args
    };
    let out = lab.path("out");
    let first = args(&out, &[]);
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    let child = ama(&first).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ama starts");
    // The first line of the log says that training has begun.
    let log = lab.path("out.jsonl");
    let patience = Instant::now();
    while fs::metadata(&log).map_or(0, |log| log.len()) == 0 && patience.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill starts").success());
    let said = common::Said::from(child.wait_with_output().expect("ama ends"));
    assert_eq!(said.code, Some(130), "{}{}", said.out, said.err);
    assert!(said.err.contains("--resume"), "{}", said.err);
    assert_eq!(common::names(Path::new(&lab.path("out.partial/checkpoints"))).len(), 1);
    assert!(!Path::new(&out).exists());

    let refused = call(&first);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    let resumed = args(&out, &["--resume"]);
    succeed(&resumed.iter().map(String::as_str).collect::<Vec<_>>());
    let whole = lab.path("whole");
    let whole_args = args(&whole, &[]);
    succeed(&whole_args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(weights(Path::new(&whole)) == weights(Path::new(&out)));
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let lab = Lab::new();
    let (config, out) = (lab.config("run.toml"), lab.path("run"));
    let mut first = ama(&["run", &config, "--out", &out, "--set", "base.steps=100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ama starts");
    let patience = Instant::now();
    while !Path::new(&lab.path("run/base")).exists() && patience.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = call(&["run", &config, "--out", &out]);
    first.kill().expect("a child can be killed");
    first.wait().expect("a child can be waited for");
    assert_eq!(second.code, Some(2), "{}", second.err);
    assert!(second.err.contains("another `ama`"), "{}", second.err);
}
