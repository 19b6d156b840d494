//! The commands do what they say, on a tiny suite.

mod common;

use std::fs;
use std::path::Path;

use common::{Lab, ama, call, succeed, weights};
use serde_json::Value;

/// The JSON object that ends stdout.
#[track_caller]
fn json(out: &str) -> Value {
    serde_json::from_str(out.lines().last().expect("a last line")).expect("one JSON object last")
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        vec!["data", "inspect"],
        vec!["data", "validate"],
        vec!["data", "cluster"],
        vec!["suite", "generate"],
        vec!["sft"],
        vec!["specialist"],
        vec!["score"],
        vec!["train"],
        vec!["eval"],
        vec!["generate"],
        vec!["run"],
        vec!["report"],
        vec!["watch"],
    ] {
        let help = succeed(&[&command[..], &["--help"]].concat());
        assert!(help.out.contains("Example"), "{command:?}: {}", help.out);
        assert!(help.out.contains(&format!("ama {}", command.join(" "))), "{command:?}");
    }
}

#[test]
fn data_is_described_and_counted() {
    let lab = Lab::new();
    let (pairs, base) = (lab.path("suite/train/reasoning.parquet"), lab.path("suite/base"));
    let said = json(&succeed(&["data", "inspect", &pairs, "--json"]).out);
    assert_eq!(said["data"][0]["rows"], 20);
    assert_eq!(said["data"][0]["checkable"], 20);
    assert!(said["data"][0]["lengths"]["prompt"]["mean"].as_f64().unwrap() > 10.0);
    let whole = json(&succeed(&["data", "validate", &pairs, "--model", &base, "--json"]).out);
    assert_eq!(
        (&whole["data"][0]["kept"], &whole["data"][0]["truncated"]),
        (&Value::from(20), &Value::from(0))
    );
    // Cut short, some completions are cut and counted.
    let cut = ["data", "validate", &pairs, "--model", &base, "--max-length", "32", "--json"];
    let cut = json(&succeed(&cut).out);
    let count = |key: &str| cut["data"][0][key].as_u64().unwrap();
    assert!(count("truncated") > 0);
    assert_eq!(count("kept") + count("dropped_prompt_too_long"), 20);
}

#[test]
fn a_model_is_trained_scored_evaluated_and_asked() {
    let lab = Lab::with_model();
    let (model, data, out) = (lab.path("model"), lab.path("suite/train/harmless.parquet"), lab.path("tuned"));
    let (summary, metrics) = (lab.path("summary.json"), lab.path("metrics.jsonl"));
    let args = [
        "specialist",
        "--model",
        &model,
        "--data",
        &data,
        "--out",
        &out,
        "--steps",
        "12",
        "--lr",
        "1e-3",
        "--batch-pairs",
        "10",
        "--sft-weight",
        "1",
        "--order",
        "file",
        "--schedule",
        "constant",
        "--max-length",
        "64",
        "--summary",
        &summary,
        "--metrics",
        &metrics,
        "--json",
    ];
    let said = json(&succeed(&args).out);
    assert_eq!(said["steps"], 12);
    let summary: Value = serde_json::from_str(&fs::read_to_string(&summary).unwrap()).unwrap();
    let keys = [
        "steps",
        "tokens",
        "tokens_per_s",
        "step_s",
        "losses",
        "grad_norms",
        "margins",
        "wall_s",
        "peak_rss_mib",
    ];
    for key in keys {
        assert!(!summary[key].is_null(), "{key} is in the summary");
    }
    let losses: Vec<f64> = summary["losses"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    assert_eq!(losses.len(), 12);
    assert!(losses[11] < losses[0], "it learns: {losses:?}");
    assert_eq!(fs::read_to_string(&metrics).unwrap().lines().count(), 12);

    let scores = lab.path("scores.parquet");
    succeed(&["score", "--model", &out, "--data", &data, "--out", &scores, "--max-length", "64"]);
    let rows = ama_specialist_cache::read_row_scores(&scores).unwrap();
    assert_eq!(rows.len(), 30);
    assert!((1..).zip(&rows).all(|(number, row)| row.row == number && row.file == data), "{:?}", rows[0]);
    let scores: Vec<_> = rows.into_iter().map(|row| row.score.unwrap()).collect();
    let higher = scores.iter().filter(|score| score.chosen_logp > score.rejected_logp).count();
    assert!(higher > 15, "{higher} of 30 refusals are likelier than the compliance");

    let (test, result) = (lab.path("suite/test/harmless.parquet"), lab.path("eval.json"));
    let task = format!("harmless={test}");
    let said = json(
        &succeed(&[
            "eval",
            "--model",
            &out,
            "--reference",
            &model,
            "--task",
            &task,
            "--out",
            &result,
            "--json",
        ])
        .out,
    );
    assert_eq!(said["tasks"]["harmless"]["pairs"], 4);
    assert!(said["tasks"]["harmless"]["win_rate"].is_number());
    assert!(Path::new(&result).exists());

    let ask = ["generate", "--model", &out, "--prompt", "<|bos|><|user|> hello<|assistant|>", "--json"];
    let one = json(&succeed(&[&ask[..], &["--max-new-tokens", "6"]].concat()).out);
    assert!(one["new_tokens"].as_u64().unwrap() <= 6);
    let warm = [&ask[..], &["--max-new-tokens", "6", "--temperature", "1.5", "--seed", "4"]].concat();
    assert_eq!(succeed(&warm).out, succeed(&warm).out, "a seed repeats itself");
}

#[test]
fn a_run_is_repeatable_and_its_resolved_configuration_is_one() {
    let lab = Lab::new();
    let (config, first, second) = (lab.config("run.toml"), lab.path("first"), lab.path("second"));
    let results = json(&succeed(&["run", &config, "--out", &first, "--json"]).out);
    let resolved = format!("{first}/config.resolved.toml");
    succeed(&["run", &resolved, "--out", &second, "--jobs", "2"]);
    assert!(
        weights(Path::new(&first)) == weights(Path::new(&second)),
        "the same bits, however many runs at a time"
    );

    let names: Vec<_> =
        results["methods"].as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["base", "specialists", "pooled", "ama-r", "ama-s"]);
    assert_eq!(results["baseline"], "pooled");
    for row in results["methods"].as_array().unwrap() {
        for task in ["helpful", "harmless", "reasoning"] {
            for metric in ["loss", "excess", "accuracy", "margin", "win_rate"] {
                assert!(row["tasks"][task][metric].is_number(), "{} {task} {metric}", row["name"]);
            }
        }
    }
    assert!(
        results["improvement"]["ama-s"]["average"].is_number() || results["improvement"]["ama-s"].is_object()
    );
    let run: Value = serde_json::from_str(&fs::read_to_string(format!("{first}/run.json")).unwrap()).unwrap();
    assert_eq!(run["seed"], 3);
    let own = fs::read_to_string(format!("{first}/generalists/ama-s/seed-0/run.json")).unwrap();
    let own: Value = serde_json::from_str(&own).unwrap();
    assert_eq!(own["horizon_steps"], 6);
    assert!(own["mixer"]["c"].is_number() && own["mixer"]["eta"].is_number());

    // One of its runs alone finds everything there.
    let train = ["train", &config, "--out", &first, "--method", "ama-r", "--seed", "1", "--json"];
    let said = succeed(&train);
    assert!(!said.err.contains("done in"), "{}", said.err);
    assert_eq!(json(&said.out)["steps"], 6);
    assert_eq!(call(&["train", &config, "--out", &first, "--method", "ama-x"]).code, Some(2));
}

#[test]
fn the_metrics_of_a_generalist_replay_its_mixer_by_hand() {
    let lab = Lab::new();
    let (config, out) = (lab.config("run.toml"), lab.path("run"));
    succeed(&["train", &config, "--out", &out, "--method", "ama-s", "--set", "generalist.steps=20"]);
    let folder = format!("{out}/generalists/ama-s/seed-0");
    let run: Value =
        serde_json::from_str(&fs::read_to_string(format!("{folder}/run.json")).unwrap()).unwrap();
    let (c, eta) = (run["mixer"]["c"].as_f64().unwrap(), run["mixer"]["eta"].as_f64().unwrap());
    let tasks = ["helpful", "harmless", "reasoning"];
    let mut q = [1.0 / 3.0; 3];
    let mut scale: Option<f64> = None;
    for line in fs::read_to_string(format!("{folder}/metrics.jsonl")).unwrap().lines() {
        let step: Value = serde_json::from_str(line).unwrap();
        let alpha = q.map(|q| (1.0 - c) * q + c / 3.0);
        for (task, want) in tasks.iter().zip(alpha) {
            let got = step["alpha"][task].as_f64().unwrap();
            assert!(
                (got - want).abs() < 1e-9,
                "step {}: alpha of {task} is {got}, by hand {want}",
                step["step"]
            );
        }
        // DESIGN, AMA-S: e_i = sum of excess / (B alpha_i), q_i <- q_i exp(eta e_i / M), M = EMA(0.9) of max_i e_i.
        let drawn = tasks.map(|task| step["drawn"][task].as_f64().unwrap_or(0.0));
        let mean = tasks.map(|task| step["excess"][task].as_f64().unwrap_or(0.0));
        let largest = mean.into_iter().fold(0.0, f64::max);
        let now = scale.map_or(largest, |old| 0.9 * old + 0.1 * largest);
        scale = Some(now);
        assert!((step["excess_scale"].as_f64().unwrap() - now).abs() < 1e-9 * now.max(1.0));
        let batch: f64 = drawn.iter().sum();
        for i in 0..3 {
            q[i] *= (eta * drawn[i] * mean[i] / (batch * alpha[i]) / now).exp();
        }
        let sum: f64 = q.iter().sum();
        q = q.map(|q| q / sum);
    }
}

/// The mixers of other papers and the ablations train, and DoReMi's weights go into a second run.
#[test]
fn other_mixers_and_ablations_run_and_doremi_has_a_second_phase() {
    let lab = Lab::new();
    let text = fs::read_to_string(lab.config("run.toml")).unwrap();
    let text = text.replace("seeds = [0, 1]", "seeds = [0]").replace("[[method]]\nname = 'pooled'\n", "");
    let text = text.replace("[[method]]\nname = 'ama-r'\n[[method]]\nname = 'ama-s'\n", "");
    let methods = "[[method]]\nname = 'doremi'\neta = 3.0\n[[method]]\nname = 'odm'\n[[method]]\nname = 'term'\n\
                   [[method]]\nname = 'famo'\n[[method]]\nname = 'ama-s-ix'\n\
                   [[method]]\nname = 'ama-r-averaged'\nkind = 'ama-r'\neta = 0.5\nalpha = 'averaged'\n\
                   [[method]]\nname = 'ama-r-last'\nkind = 'ama-r'\neta = 0.5\n\
                   [[method]]\nname = 'ama-r-noise'\nkind = 'ama-r'\neta = 0.5\nspecialist_noise = 0.3\n";
    let (config, out) = (lab.write("ablations.toml", format!("{text}{methods}")), lab.path("first"));
    let results = json(&succeed(&["run", &config, "--out", &out, "--json"]).out);
    let tasks = ["helpful", "harmless", "reasoning"];
    let weights = |name: &str, which: &str| -> Vec<f64> {
        let row = results["methods"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
        tasks.map(|task| row["mixture"][which][task].as_f64().unwrap()).to_vec()
    };
    for name in ["doremi", "odm", "term", "famo", "ama-s-ix", "ama-r-averaged", "ama-r-noise"] {
        let sum: f64 = weights(name, "averaged").iter().sum();
        assert!((sum - 1.0).abs() < 1e-12, "{name}");
    }
    assert!(weights("ama-r-last", "last") != weights("ama-r-noise", "last"), "noise moves the weights");

    // The mean over the steps of the weights that each used, from the log.
    let log = fs::read_to_string(format!("{out}/generalists/doremi/seed-0/metrics.jsonl")).unwrap();
    let steps: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (task, got) in tasks.iter().zip(weights("doremi", "averaged")) {
        let mean = steps.iter().map(|step| step["alpha"][task].as_f64().unwrap()).sum::<f64>() / 6.0;
        assert!((got - mean).abs() < 1e-9, "{task}: {got} vs {mean}");
    }

    let second = "[[method]]\nname = 'second'\nkind = 'fixed'\nproportions_from = 'first/results.json'\n";
    let (config, out) = (lab.write("second.toml", format!("{text}{second}")), lab.path("second"));
    succeed(&["train", &config, "--out", &out, "--method", "second"]);
    let log = fs::read_to_string(format!("{out}/generalists/second/seed-0/metrics.jsonl")).unwrap();
    let step: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    for (task, want) in tasks.iter().zip(weights("doremi", "averaged")) {
        assert!((step["alpha"][task].as_f64().unwrap() - want).abs() < 1e-9);
    }
}

#[test]
fn a_closed_pipe_is_not_a_panic() {
    let lab = Lab::new();
    let pairs = lab.path("suite/train/helpful.parquet");
    let mut child = ama(&["data", "inspect", &pairs, &pairs, &pairs])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("ama starts");
    drop(child.stdout.take());
    let said = common::Said::from(child.wait_with_output().expect("ama ends"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(!said.err.contains("panic"), "{}", said.err);
}
