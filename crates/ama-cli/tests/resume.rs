//! Killed or stopped at any moment and called again, a command ends with the bits of one that was left alone.
//!
//! The moments that matter are hit on purpose, at the fail points of debug builds; a few kills come at a moment of the clock
//! besides, of which no test asks where they land.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[cfg(debug_assertions)]
use common::killed_at;
#[cfg(all(unix, debug_assertions))]
use common::{Held, call};
use common::{Lab, ama, names, refused, succeed, weights};

/// Starts the command and kills it (SIGKILL on Unix) after a while, or finds it done.
fn kill_after(args: &[&str], time: Duration) {
    let mut child = ama(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ama starts");
    std::thread::sleep(time);
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
}

/// Hidden names in a folder: what killed processes left behind.
fn hidden(folder: impl AsRef<Path>) -> Vec<String> {
    names(folder.as_ref()).into_iter().filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_killed_run_ends_with_the_same_bits_and_a_second_call_skips_everything() {
    let lab = Lab::new();
    let (config, whole, cut) = (lab.config("run.toml"), lab.path("whole"), lab.path("cut"));
    let started = Instant::now();
    succeed(&["run", &config, "--out", &whole]);
    let time = started.elapsed();

    let args = ["run", &config, "--out", &cut];
    // Each kill is a little later in the run, which goes on from what the one before had done: while small files are
    // written, amid the base model's training, just after a checkpoint of it, before reference scores are on the disk, in
    // the second specialist, in a generalist.
    #[cfg(debug_assertions)]
    for point in
        ["temporary:1", "temporary:7", "step:8", "checkpoint", "scored", "step:9", "step:20", "checkpoint"]
    {
        killed_at(point, &args);
    }
    for share in [0.2, 0.35] {
        kill_after(&args, time.mul_f64(share));
    }
    succeed(&args);

    let (whole_weights, cut_weights) = (weights(Path::new(&whole)), weights(Path::new(&cut)));
    assert_eq!(whole_weights.len(), 1 + 3 + 3 * 2, "base, specialists, generalists");
    for ((name, a), (other, b)) in whole_weights.iter().zip(&cut_weights) {
        assert_eq!(name, other);
        assert!(a == b, "{} differs from the run that was left alone", name.display());
    }
    for name in ["generalists/ama-s/seed-1", "specialists/helpful", "base"] {
        assert_eq!(steps(&whole, name), steps(&cut, name), "{name}: a line a step, none twice");
    }
    for run in [&whole, &cut] {
        for folder in
            ["", "base", "losses", "specialists/helpful", "generalists/pooled/seed-0", "data/helpful"]
        {
            assert_eq!(hidden(Path::new(run).join(folder)), [""; 0], "{run}/{folder}");
        }
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

/// A specialist of 12 steps.
struct Specialist {
    lab: Lab,
}

impl Specialist {
    fn new() -> Self {
        Self { lab: Lab::with_model() }
    }

    fn args(&self, out: &str, checkpoint_every: &str, more: &[&str]) -> Vec<String> {
        let (model, data) = (self.lab.path("model"), self.lab.path("suite/train/helpful.parquet"));
        let fixed = ["specialist", "--model", &model, "--data", &data, "--out", out, "--max-length", "64"];
        let settings =
            ["--steps", "12", "--lr", "1e-4", "--batch-pairs", "8", "--checkpoint-every", checkpoint_every];
        fixed.iter().chain(&settings).chain(more).map(|arg| arg.to_string()).collect()
    }

    /// Trains to the end and compares with a call that was left alone.
    #[track_caller]
    fn ends_right(&self, out: &str, checkpoint_every: &str, more: &[&str]) {
        let whole = self.lab.path("whole");
        if !Path::new(&whole).exists() {
            succeed(&words(&self.args(&whole, checkpoint_every, &[])));
        }
        succeed(&words(&self.args(out, checkpoint_every, more)));
        assert!(
            weights(Path::new(&whole)) == weights(Path::new(out)),
            "other weights than without the interruption"
        );
        assert!(!Path::new(&format!("{out}.partial")).exists(), "the state goes when the model is there");
        assert_eq!(hidden(self.lab.path("")), [""; 0]);
    }
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[cfg(debug_assertions)]
#[test]
fn a_killed_specialist_resumes_to_the_same_bits() {
    let specialist = Specialist::new();
    let out = specialist.lab.path("cut");
    // Before the first checkpoint there is nothing to ask about.
    killed_at("scored", &words(&specialist.args(&out, "2", &[])));
    killed_at("step:2", &words(&specialist.args(&out, "2", &[])));
    killed_at("step:5", &words(&specialist.args(&out, "2", &[])));
    let state = format!("{out}.partial");
    refused(&words(&specialist.args(&out, "2", &[])), &["--resume", &state]);
    killed_at("checkpoint:2", &words(&specialist.args(&out, "2", &["--resume"])));
    specialist.ends_right(&out, "2", &["--resume"]);
}

/// The kill comes when the model is whole but its state is still beside it.
#[cfg(debug_assertions)]
#[test]
fn what_a_call_killed_at_its_very_end_leaves_goes_with_the_next() {
    let specialist = Specialist::new();
    let out = specialist.lab.path("cut");
    killed_at("output-whole", &words(&specialist.args(&out, "2", &[])));
    let state = format!("{out}.partial");
    assert!(Path::new(&out).exists() && Path::new(&state).exists());
    let trained = weights(Path::new(&out));
    let said = refused(&words(&specialist.args(&out, "2", &["--resume"])), &["exists already", &out]);
    assert!(said.err.contains(&format!("removed {state}")), "{}", said.err);
    assert!(!Path::new(&state).exists() && hidden(specialist.lab.path("")).is_empty());
    let whole = specialist.lab.path("whole");
    succeed(&words(&specialist.args(&whole, "2", &[])));
    assert!(trained == weights(Path::new(&whole)));
}

/// A folder that only has the name of our state is not touched.
#[test]
fn somebody_elses_folder_is_not_taken_for_state() {
    let specialist = Specialist::new();
    let out = specialist.lab.path("out");
    let notes = format!("{out}.partial/notes.txt");
    fs::create_dir(format!("{out}.partial")).unwrap();
    fs::write(&notes, "mine").unwrap();
    refused(&words(&specialist.args(&out, "2", &[])), &["out.partial", "something else"]);
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine");
}

/// A limit on the size of files kills amid the first large write: of a checkpoint, of the model.
#[cfg(all(unix, debug_assertions))]
#[test]
fn what_is_killed_while_it_is_written_goes_with_the_next_call() {
    let specialist = Specialist::new();
    let out = specialist.lab.path("cut");
    let cut_off = |checkpoint_every: &str| {
        let args = specialist.args(&out, checkpoint_every, &["--threads", "2"]);
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(r#"ulimit -c 0; ulimit -f 100; exec "$0" "$@""#).arg(env!("CARGO_BIN_EXE_ama"));
        let status =
            shell.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("sh starts");
        assert_eq!(status.code(), None, "killed by a signal");
    };
    let checkpoints = format!("{out}.partial/checkpoints");
    cut_off("2");
    assert!(hidden(&checkpoints)[0].starts_with(".step-"), "a checkpoint was being written");
    killed_at("checkpoint", &words(&specialist.args(&out, "2", &[])));
    assert!(hidden(&checkpoints).is_empty(), "{:?}", hidden(&checkpoints));
    fs::remove_dir_all(format!("{out}.partial")).unwrap();

    cut_off("0");
    let left = hidden(specialist.lab.path(""));
    assert!(left.iter().any(|name| name.starts_with(".cut.writing-")), "{left:?}");
    specialist.ends_right(&out, "0", &[]);
}

#[cfg(all(unix, debug_assertions))]
#[test]
fn ctrl_c_writes_a_checkpoint_and_exits_with_130() {
    let specialist = Specialist::new();
    let (out, log) = (specialist.lab.path("out"), specialist.lab.path("out.jsonl"));
    let args = specialist.args(&out, "0", &["--metrics", &log]);
    let said = Held::at("step:3", &words(&args)).interrupt();
    assert_eq!(said.code, Some(130), "{}{}", said.out, said.err);
    assert!(said.err.contains("stopped after step 3; its state is in"), "{}", said.err);
    assert!(said.err.contains("--resume"), "{}", said.err);
    assert_eq!(names(Path::new(&format!("{out}.partial/checkpoints"))).len(), 1);
    assert!(!Path::new(&out).exists());
    assert_eq!(call(&words(&args)).code, Some(2));
    specialist.ends_right(&out, "0", &["--metrics", &log, "--resume"]);
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 12);
}

/// Stops a command when three batches are scored, and returns its last message.
#[cfg(all(unix, debug_assertions))]
#[track_caller]
fn stopped_at_the_third_batch(args: &[&str]) -> String {
    let said = Held::at("scored:3", args).interrupt();
    assert_eq!(said.code, Some(130), "{}", said.err);
    said.err.lines().last().unwrap_or_default().to_string()
}

#[cfg(all(unix, debug_assertions))]
#[test]
fn stopped_scoring_goes_on_from_what_it_says_it_kept() {
    let lab = Lab::with_model();
    let (model, pairs, other) = (
        lab.path("model"),
        lab.path("suite/train/helpful.parquet"),
        lab.path("suite/train/harmless.parquet"),
    );
    let (out, whole, state) =
        (lab.path("out.parquet"), lab.path("whole.parquet"), lab.path("out.parquet.partial"));
    fn args<'a>(model: &'a str, data: &'a str, out: &'a str, tokens: &'a str) -> Vec<&'a str> {
        vec!["score", "--model", model, "--data", data, "--out", out, "--micro-batch-tokens", tokens]
    }
    succeed(&args(&model, &pairs, &whole, "150"));
    let said = stopped_at_the_third_batch(&args(&model, &pairs, &out, "150"));
    let (kept, rest) =
        said.strip_prefix("ama: stopped with ").unwrap().split_once(" of 30 pairs scored; ").unwrap();
    let kept: usize = kept.parse().unwrap();
    assert!(kept > 3 && kept < 30, "{said}");
    assert!(rest.starts_with(&format!("their scores are in {state}")), "{said}");
    assert!(rest.ends_with("; call it again to continue"), "{said}");
    assert!(!Path::new(&out).exists());

    // Other pairs, or the same in other batches, whose last bits differ, are other work and begin at the beginning.
    let stopped = stopped_at_the_third_batch(&args(&model, &pairs, &out, "90"));
    assert_ne!(stopped, said);
    let again = succeed(&args(&model, &pairs, &out, "150"));
    assert!(again.err.contains(&format!("score: {kept} pairs were scored already")), "{}", again.err);
    assert!(fs::read(&out).unwrap() == fs::read(&whole).unwrap());
    assert!(!Path::new(&state).exists(), "nothing of either is left");

    fs::remove_file(&out).unwrap();
    killed_at("output-whole", &args(&model, &pairs, &out, "150"));
    assert!(fs::read(&out).unwrap() == fs::read(&whole).unwrap() && Path::new(&state).exists());
    let again = succeed(&args(&model, &pairs, &out, "150"));
    assert!(again.err.contains("30 pairs were scored already"), "{}", again.err);
    assert!(fs::read(&out).unwrap() == fs::read(&whole).unwrap() && !Path::new(&state).exists());

    let said = stopped_at_the_third_batch(&args(&model, &pairs, &out, "150"));
    assert!(said.contains(&format!("stopped with {kept} of 30")), "an older output is no head start: {said}");
    let (other_out, other_whole) = (&out, lab.path("other.parquet"));
    succeed(&args(&model, &other, &other_whole, "150"));
    let fresh = succeed(&args(&model, &other, other_out, "150"));
    assert!(!fresh.err.contains("scored already"), "{}", fresh.err);
    assert!(fs::read(other_out).unwrap() == fs::read(&other_whole).unwrap());
    assert_eq!(hidden(lab.path("")), [""; 0]);
}

#[cfg(all(unix, debug_assertions))]
#[test]
fn a_specialist_keeps_its_reference_scores() {
    let specialist = Specialist::new();
    let out = specialist.lab.path("out");
    let small = ["--micro-batch-tokens", "150"];
    let said = stopped_at_the_third_batch(&words(&specialist.args(&out, "2", &small)));
    assert!(said.contains("of 30 pairs scored; their scores are in") && said.contains("--resume"), "{said}");
    let resumed = [&small[..], &["--resume"]].concat();
    let held = Held::at("step:1", &words(&specialist.args(&out, "2", &resumed)));
    let said = held.interrupt();
    assert!(said.err.contains("reference: ") && said.err.contains("scored already"), "{}", said.err);
    let whole = specialist.lab.path("whole");
    succeed(&words(&specialist.args(&whole, "2", &small)));
    specialist.ends_right(&out, "2", &resumed);
}

#[cfg(all(unix, debug_assertions))]
#[test]
fn a_stopped_evaluation_ends_with_the_same_results() {
    let lab = Lab::with_model();
    let (model, out, whole) = (lab.path("model"), lab.path("out.json"), lab.path("whole.json"));
    let tasks = ["helpful", "harmless"]
        .map(|task| format!("{task}={}", lab.path(&format!("suite/test/{task}.parquet"))));
    let (tuned, rows) = (lab.path("tuned"), lab.path("suite/sft.parquet"));
    succeed(&[
        "sft",
        "--model",
        &model,
        "--data",
        &rows,
        "--out",
        &tuned,
        "--steps",
        "1",
        "--max-length",
        "64",
    ]);
    let args = |out: &str| -> Vec<String> {
        [
            "eval",
            "--model",
            &tuned,
            "--reference",
            &model,
            "--task",
            &tasks[0],
            "--task",
            &tasks[1],
            "--out",
            out,
        ]
        .map(String::from)
        .into()
    };
    succeed(&words(&args(&whole)));
    // One batch is one table: the third is the reference's of the second task.
    let said = stopped_at_the_third_batch(&words(&args(&out)));
    assert!(said.contains("stopped with 4 of 4 pairs scored; their scores are in"), "{said}");
    let again = succeed(&words(&args(&out)));
    assert_eq!(again.err.matches("4 pairs were scored already").count(), 3, "{}", again.err);
    assert_eq!(fs::read_to_string(&out).unwrap(), fs::read_to_string(&whole).unwrap());
    assert!(!Path::new(&format!("{out}.partial")).exists());
    assert_eq!(hidden(lab.path("")), [""; 0]);
}

#[cfg(all(unix, debug_assertions))]
#[test]
fn a_run_that_is_stopped_while_scoring_says_what_it_kept() {
    let lab = Lab::new();
    let (config, out) = (lab.config("run.toml"), lab.path("run"));
    let args = ["run", &config, "--out", &out, "--set", "data.micro_batch_tokens=150"];
    let said = stopped_at_the_third_batch(&args);
    assert!(said.contains("of 30 pairs scored; their scores are in"), "{said}");
    assert!(said.contains("run/cache; call it again to continue"), "{said}");
    assert_eq!(hidden(&out), [""; 0]);
}
