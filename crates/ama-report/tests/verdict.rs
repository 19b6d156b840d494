//! The verdict is honest: better, worse, unclear, one seed, nothing to compare.

use std::fs;
use std::path::Path;

use ama_report::verdict::{Outcome, Verdict};
use ama_report::{Reading, Run};

/// A run with one task `a` at 90% and one task `b` with these shares a seed, by method.
fn verdict(methods: &[(&str, &[f64])], baseline: &str) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), methods, baseline);
    Verdict::of(&Run::read(folder.path(), Reading::Whole).unwrap())
}

fn write(folder: &Path, methods: &[(&str, &[f64])], baseline: &str) {
    let rows: Vec<String> = methods
        .iter()
        .map(|(name, shares)| {
            let scores = |share: f64| {
                format!(r#"{{"a":{{"win_rate":0.9,"pairs":100}},"b":{{"win_rate":{share},"pairs":100}}}}"#)
            };
            let runs: Vec<String> = shares
                .iter()
                .enumerate()
                .map(|(seed, &share)| format!(r#"{{"seed":{seed},"tasks":{}}}"#, scores(share)))
                .collect();
            format!(r#"{{"name":"{name}","tasks":{},"runs":[{}]}}"#, scores(0.5), runs.join(","))
        })
        .collect();
    let results = format!(r#"{{"baseline":"{baseline}","split":"test","methods":[{}]}}"#, rows.join(","));
    fs::write(folder.join("results.json"), results).unwrap();
    fs::write(folder.join("run.json"), r#"{"format":"ama-run 1"}"#).unwrap();
}

#[test]
fn better_worse_and_unclear() {
    let pooled: (&str, &[f64]) = ("pooled", &[0.4, 0.5, 0.45]);
    let better = verdict(&[pooled, ("ama-s", &[0.6, 0.6, 0.6])], "pooled");
    assert_eq!(better.outcome, Outcome::Better);
    // By seed the gains are 20, 10 and 15 points.
    assert!(
        better.sentence.contains("from 45% to 60%") && better.sentence.contains("+10.0 to +20.0"),
        "{}",
        better.sentence
    );

    let worse = verdict(&[pooled, ("ama-s", &[0.3, 0.4, 0.35])], "pooled");
    assert_eq!(worse.outcome, Outcome::Worse);
    assert!(worse.sentence.starts_with("AMA-S does worse than pooled"), "{}", worse.sentence);
    assert_eq!(worse.beside[0], "pooled has the best worst task: 45% against 35% of AMA-S.");

    let unclear = verdict(&[pooled, ("ama-s", &[0.5, 0.45, 0.5])], "pooled");
    assert_eq!(unclear.outcome, Outcome::Unclear);
    assert!(
        unclear.sentence.starts_with("No clear difference between AMA-S and pooled"),
        "{}",
        unclear.sentence
    );
    assert!(
        unclear.sentence.contains("−5.0 to +10.0") && unclear.sentence.contains("not clear of 0"),
        "{}",
        unclear.sentence
    );
}

#[test]
fn one_seed_claims_nothing() {
    let one = verdict(&[("pooled", &[0.4]), ("ama-s", &[0.7])], "pooled");
    assert_eq!(one.outcome, Outcome::Unclear);
    assert!(one.sentence.contains("one seed cannot tell"), "{}", one.sentence);
}

#[test]
fn the_best_of_ours_is_judged_and_a_better_rival_is_named() {
    let all = verdict(
        &[
            ("pooled", &[0.4, 0.4]),
            ("group-dro", &[0.8, 0.8]),
            ("ama-r", &[0.5, 0.5]),
            ("ama-s", &[0.6, 0.6]),
        ],
        "pooled",
    );
    assert!(all.sentence.starts_with("AMA-S lifts"), "{}", all.sentence);
    assert_eq!(all.beside[0], "group-dro has the best worst task: 80% against 60% of AMA-S.");
    let none = verdict(&[("pooled", &[0.4, 0.4]), ("group-dro", &[0.8, 0.8])], "pooled");
    assert!(none.sentence.starts_with("group-dro lifts"), "{}", none.sentence);
}

#[test]
fn nothing_to_compare() {
    let alone = verdict(&[("pooled", &[0.4, 0.5])], "pooled");
    assert_eq!(alone.outcome, Outcome::Open);
    assert!(
        alone
            .sentence
            .starts_with("pooled reaches 45% verified win rate on its worst task and 68% on average"),
        "{}",
        alone.sentence
    );
    let other = verdict(&[("ama-s", &[0.4, 0.5])], "pooled");
    assert_eq!(other.outcome, Outcome::Open, "a baseline that is not there");
}
