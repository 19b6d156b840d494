//! What a path and a column stand for: the same answer in every command, said where there was a choice.

mod common;

use std::fs;
use std::path::Path;

use common::{Lab, Said, ama, call, refused, succeed};
use serde_json::Value;

fn last_json(said: &Said) -> Value {
    serde_json::from_str(said.out.lines().last().expect("a last line")).expect("JSON")
}

fn pairs(prompt: &str, rows: usize) -> String {
    let row = |i| {
        format!(
            "{{\"{prompt}\": \"question {i}:\", \"chosen\": \"Sure! a {i}\", \"rejected\": \"Sure! b {i}\"}}\n"
        )
    };
    (0..rows).map(row).collect()
}

#[test]
fn a_prompt_under_another_name_in_every_command() {
    let lab = Lab::with_model();
    let (model, data) = (lab.path("model"), lab.write("asked.jsonl", pairs("question", 6)));
    let (out, scores, results) = (lab.path("out"), lab.path("s.parquet"), lab.path("eval.json"));
    let task = format!("t={data}");
    let commands: [&[&str]; 6] = [
        &["data", "inspect", &data],
        &["data", "validate", &data, "--model", &model],
        &["data", "cluster", &data, "--k", "2", "--out", &lab.path("tasks.parquet")],
        &[
            "specialist",
            "--model",
            &model,
            "--data",
            &data,
            "--out",
            &out,
            "--steps",
            "1",
            "--batch-pairs",
            "2",
        ],
        &["score", "--model", &model, "--data", &data, "--out", &scores],
        &["eval", "--model", &model, "--reference", &model, "--task", &task, "--out", &results],
    ];
    for command in commands {
        let said = refused(command, &["asked.jsonl", "`question`", "--column prompt=question"]);
        assert_eq!(said.err.lines().filter(|line| line.starts_with("ama: ")).count(), 1, "{}", said.err);
        succeed(&[command, &["--column", "prompt=question"]].concat());
    }
    let twice = ["data", "inspect", &data, "--column", "prompt=question", "--column", "prompt=chosen"];
    refused(&twice, &["column prompt", "given twice"]);
    refused(&["data", "inspect", &data, "--column", "question"], &["--column question", "NAME=COLUMN"]);
    let implicit = succeed(&["data", "inspect", &data, "--column", "prompt=", "--json"]);
    assert!(implicit.err.contains("shared beginning") && implicit.err.contains("not read: question"));
    let corpus =
        lab.write("corpus.jsonl", "{\"q\": \"a\", \"a\": \" b c\"}\n{\"q\": \"b\", \"a\": \" d e\"}\n");
    let sft = [
        "sft",
        "--model",
        &model,
        "--data",
        &corpus,
        "--out",
        &lab.path("sft"),
        "--steps",
        "1",
        "--batch",
        "1",
    ];
    refused(&sft, &["corpus.jsonl", "`q`, `a`"]);
    succeed(&[&sft[..], &["--column", "prompt=q", "--column", "completion=a"]].concat());
}

#[test]
fn columns_and_splits_of_a_configuration() {
    let lab = Lab::with_model();
    fs::create_dir(lab.path("hub")).unwrap();
    lab.write("hub/train_prefs.jsonl", pairs("question", 6));
    lab.write("hub/train_sft.jsonl", pairs("question", 9));
    lab.write("hub/test_prefs.jsonl", pairs("question", 3));
    lab.write("plain.jsonl", pairs("prompt", 4));
    let config = |task: &str| {
        lab.write(
            "run.toml",
            format!(
                "[model]\npath = 'model'\n[data]\nmax_length = 64\ncolumns = {{ prompt = 'question' }}\n\
                 [specialist]\nsteps = 1\nbatch_pairs = 2\n[generalist]\nsteps = 1\nbatch_pairs = 2\n\
                 [[method]]\nname = 'pooled'\n[eval]\nmax_new_tokens = 2\n\
                 [[task]]\nname = 'a'\ntrain = 'hub'\ntest = 'hub'\n{task}\
                 [[task]]\nname = 'b'\ntrain = 'plain.jsonl'\ntest = 'plain.jsonl'\ncolumns = {{ prompt = 'prompt' }}\n"
            ),
        )
    };
    let out = lab.path("run");
    refused(&["run", &config(""), "--out", &out], &["hub", "`train_prefs`, `train_sft`", "`split`"]);
    let said = succeed(&["run", &config("split = 'train_prefs'\n"), "--out", &out]);
    assert!(
        said.err.contains("split `train_prefs`, 1 file: ") && said.err.contains("split `test_prefs`"),
        "{}",
        said.err
    );
    let stage = fs::read_to_string(Path::new(&out).join("data/a/stage.json")).unwrap();
    let rows: Value = serde_json::from_str(&stage).unwrap();
    let text = rows.to_string();
    assert!(text.contains("\"rows\":6") && text.contains("\"rows\":3"), "{text}");
    // The resolved configuration means the same.
    let resolved = Path::new(&out).join("config.resolved.toml");
    let again = succeed(&["run", &resolved.display().to_string(), "--out", &lab.path("again")]);
    assert!(again.err.contains("split `train_prefs`, 1 file: "), "{}", again.err);
    let bad = config("columns = { promt = 'question' }\n");
    refused(
        &["run", &bad, "--out", &lab.path("bad")],
        &["run.toml", "`task.a.columns`", "promt", "no such role"],
    );
    let missing = config("split = 'train_prefs'\neval_split = 'dev'\n");
    refused(&["run", &missing, "--out", &lab.path("bad")], &["no split `dev`", "`eval_split`"]);
}

#[test]
fn the_split_that_is_taken_is_said() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("hub/data")).unwrap();
    lab.write("hub/data/train-00000-of-00001.jsonl", pairs("prompt", 5));
    lab.write("hub/data/test-00000-of-00001.jsonl", pairs("prompt", 2));
    let hub = lab.path("hub");
    let said = succeed(&["data", "inspect", &hub, "--json"]);
    let found = &last_json(&said)["data"][0];
    assert_eq!((&found["rows"], &found["split"]), (&Value::from(5), &Value::from("train")));
    assert!(
        said.err.contains("split `train`, 1 file: ") && said.err.contains("train-00000-of-00001.jsonl"),
        "{}",
        said.err
    );
    let test = succeed(&["data", "validate", &hub, "--split", "test", "--json"]);
    assert_eq!(last_json(&test)["data"][0]["rows"], 2);
    refused(&["data", "inspect", &hub, "--split", "dev"], &["no split `dev`", "`test`, `train`"]);
    assert!(call(&["data", "validate", "--help"]).out.contains("git-lfs"));
}

/// A configuration beside its data, whose paths are dots: read from inside of the folder and from outside.
#[test]
fn paths_that_are_a_dot() {
    let lab = Lab::with_model();
    let (inside, model) = (lab.path("data"), lab.path("model"));
    fs::create_dir(&inside).unwrap();
    lab.write("data/train.jsonl", pairs("prompt", 4));
    lab.write("test.jsonl", pairs("prompt", 2));
    let text = |model: &str, train: &str, test: &str| {
        format!(
            "[model]\npath = '{model}'\n[data]\nmax_length = 64\n[specialist]\nsteps = 1\nbatch_pairs = 2\n\
             [generalist]\nsteps = 1\nbatch_pairs = 2\n[[method]]\nname = 'pooled'\n[eval]\nmax_new_tokens = 2\n\
             [[task]]\nname = 'a'\ntrain = '{train}'\ntest = '{test}'\n"
        )
    };
    lab.write("data/run.toml", text("../model", ".", "../test.jsonl"));
    lab.write("model/run.toml", text(".", "../data/train.jsonl", "../test.jsonl"));
    for (folder, name) in [(&inside, "data"), (&model, "model")] {
        let mut losses = Vec::new();
        for (place, config) in
            [(lab.path(""), format!("{name}/run.toml")), (folder.clone(), "run.toml".to_owned())]
        {
            let out = lab.path(&format!("{name}-{}", losses.len()));
            let output = ama(&["run", &config, "--out", &out, "--json"]).current_dir(place).output().unwrap();
            let said = Said::from(output);
            assert_eq!(said.code, Some(0), "{config}: {}", said.err);
            losses.push(last_json(&said)["methods"][0]["tasks"]["a"]["loss"].clone());
        }
        assert!(losses[0].is_number() && losses[0] == losses[1], "{losses:?}");
    }
    let output = ama(&["data", "inspect", ".", "--json"]).current_dir(&inside).output().unwrap();
    assert_eq!(last_json(&Said::from(output))["data"][0]["rows"], 4);
}
