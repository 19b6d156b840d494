//! A pooled file: tasks are proposed, written to a column, and taken up by the pipeline.

mod common;

use std::fs;
use std::path::Path;

use common::{Lab, call, refused, succeed};
use serde_json::Value;

#[test]
fn a_pooled_file_is_grouped_and_its_tasks_are_trained() {
    let lab = Lab::with_model();
    let (pooled, tasks) = (lab.path("suite/train/*.parquet"), lab.path("tasks.parquet"));
    let cluster = ["data", "cluster", &pooled, "--k", "3", "--names", "x,y,z", "--out", &tasks];
    let said = succeed(&[&cluster[..], &["--json"]].concat());
    let said: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    let rows: Vec<u64> =
        said["tasks"].as_array().unwrap().iter().map(|task| task["rows"].as_u64().unwrap()).collect();
    assert_eq!((rows.len(), rows.iter().sum::<u64>()), (3, 80));
    assert!(said["tasks"].as_array().unwrap().iter().all(|task| task["words"][0].is_string()));
    refused(&cluster, &["tasks.parquet", "--out"]);
    refused(&[&cluster[..5], &["--names", "x", "--out", &lab.path("o.parquet")]].concat(), &["--names", "3"]);
    let named = |names: &str, out: &str| {
        let (out, wants) = (lab.path(out), lab.path("nowhere"));
        let said = call(&[&cluster[..5], &["--names", names, "--out", &out]].concat());
        assert!(said.code == Some(2) && !Path::new(&out).exists() && !Path::new(&wants).exists());
        said.err
    };
    assert!(named("x,y,x", "o.parquet").contains("\"x\"; want 1 to 64 of letters"));
    assert!(named("x,y,../z", "o.parquet").contains("\"../z\"; want"));
    assert!(named("x,y,z", "nowhere/o.parquet").contains("nowhere: no such folder; make it"));

    let config = lab.write(
        "pool.toml",
        "[model]\npath = \"model\"\n[data]\nmax_length = 64\n[specialist]\nsteps = 2\nbatch_pairs = 2\n\
         [generalist]\nsteps = 2\nbatch_pairs = 3\n\
         [pool]\ntrain = \"tasks.parquet\"\ntest = \"tasks.parquet\"\neval_limit = 3\n\
         [[method]]\nname = \"ama-r\"\n[eval]\nmax_new_tokens = 2\n",
    );
    let out = lab.path("run");
    let results = succeed(&["run", &config, "--out", &out, "--json"]);
    let results: Value = serde_json::from_str(results.out.lines().last().unwrap()).unwrap();
    let ama = &results["methods"].as_array().unwrap().last().unwrap()["tasks"];
    for task in ["x", "y", "z"] {
        assert!(ama[task]["loss"].is_number(), "{results}");
    }
    // Each task has its own rows: the stores hold as many as the groups, and the resolved file says how it was split.
    let resolved = fs::read_to_string(Path::new(&out).join("config.resolved.toml")).unwrap();
    assert!(resolved.contains("select = \"x\"") && !resolved.contains("[pool]"), "{resolved}");
    for (task, rows) in ["x", "y", "z"].into_iter().zip(rows) {
        let stage = fs::read_to_string(Path::new(&out).join("data").join(task).join("stage.json")).unwrap();
        assert!(stage.contains(&format!("\"rows\": {rows}")), "{task} has {rows} rows: {stage}");
    }
}

#[test]
fn a_pool_without_tasks_says_what_to_do() {
    let lab = Lab::with_model();
    lab.write("pairs.jsonl", r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#);
    let config = lab.write(
        "pool.toml",
        "[model]\npath = \"model\"\n[pool]\ntrain = \"pairs.jsonl\"\ntest = \"pairs.jsonl\"\n[[method]]\nname = \"ama-s\"\n",
    );
    let wants = ["pool.toml", "pool.train", "row 1", "`task`", "ama data cluster"];
    refused(&["run", &config, "--out", &lab.path("run")], &wants);
    let valid = ["run", &config, "--out", &lab.path("run"), "--set", "eval.split=valid"];
    refused(&valid, &["missing key `pool.valid`", "eval.split"]);
    // What is wrong with the file itself is said without that advice.
    let missing = ["--set", "pool.train=none.parquet"];
    let said =
        refused(&[&["run", &config, "--out", &lab.path("run")], &missing[..]].concat(), &["none.parquet"]);
    assert!(!said.err.contains("cluster"), "{}", said.err);
}

const CONFIG: &str = "[model]\npath = \"model\"\n[pool]\ntrain = \"pairs.jsonl\"\ntest = \"pairs.jsonl\"\n\
                      [[method]]\nname = \"ama-s\"\n";

/// A row for each task, as JSON has it; no column for an empty text.
fn pooled(tasks: &[&str]) -> String {
    let row = |(n, task): (usize, &&str)| {
        let task = if task.is_empty() { String::new() } else { format!(", \"task\": {task}") };
        format!("{{\"prompt\": \"p {n}\", \"chosen\": \"a\", \"rejected\": \"b\"{task}}}\n")
    };
    tasks.iter().enumerate().map(row).collect()
}

#[test]
fn a_task_that_cannot_be_a_name_is_refused_in_the_data() {
    let lab = Lab::with_model();
    let config = lab.write("pool.toml", CONFIG);
    let long = format!("\"{}\"", "x".repeat(5000));
    for (task, name) in [
        ("\"a/b\"", "\"a/b\""),
        ("\"\"", "\"\""),
        ("\"..\"", "\"..\""),
        ("\"a b\"", "\"a b\""),
        ("\"a\\nb\"", "\"a\\nb\""),
        (long.as_str(), "xxx\"..."),
    ] {
        lab.write("pairs.jsonl", pooled(&["\"math\"", task]));
        let wants =
            ["pool.toml: `pool.train`: ", "pairs.jsonl, row 2, column `task`", name, "rename it in the data"];
        let said = refused(&["run", &config, "--out", &lab.path("run")], &wants);
        assert!(!said.err.contains("task.") && said.err.len() < 600, "{}", said.err);
    }
    // Where there is a column, writing another one is no remedy.
    lab.write("pairs.jsonl", pooled(&["\"math\"", "null"]));
    let said = refused(&["run", &config, "--out", &lab.path("run")], &["row 2", "`task`", "null"]);
    assert!(!said.err.contains("cluster"), "{}", said.err);
}

#[test]
fn tasks_are_counted_and_those_that_a_pool_would_refuse_are_noted() {
    let lab = Lab::with_model();
    let file = lab.write("pairs.jsonl", pooled(&["\"math\"", "\"chat\"", "\"math\"", "null"]));
    let said = succeed(&["data", "inspect", &file]);
    assert!(said.out.contains("tasks (column `task`): \"chat\" 1, \"math\" 2"), "{}", said.out);
    let said = succeed(&["data", "inspect", &file, "--json"]);
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["data"][0]["tasks"], serde_json::json!({ "chat": 1, "math": 2 }));
    for (tasks, want) in [
        (&["\"a\"", "null", "\"b\"", "null"][..], "names no task in 2 of 4 rows (first "),
        (&["true", "false"], "column `task` holds booleans: [pool] would refuse it"),
        (&["0.5", "1.5"], "column `task` holds a number: [pool] would refuse it"),
        (&["\"a\"", "\"b\""], ""),
        (&["", ""], ""),
    ] {
        let file = lab.write("pairs.jsonl", pooled(tasks));
        let said = succeed(&["data", "validate", &file]);
        assert!(said.err.contains(want) && said.err.contains("[pool]") != want.is_empty(), "{}", said.err);
    }
}

#[test]
fn an_integer_selects_a_task() {
    let lab = Lab::with_model();
    lab.write("pairs.jsonl", pooled(&["1", "2"]));
    let config = |select: &str| {
        format!(
            "[model]\npath = \"model\"\n[[task]]\nname = \"one\"\nselect = {select}\ntrain = \"pairs.jsonl\"\n\
             test = \"pairs.jsonl\"\n[[method]]\nname = \"ama-s\"\n"
        )
    };
    let file = lab.write("task.toml", config("3"));
    refused(&["run", &file, "--out", &lab.path("run")], &["no row has `3` in its column `task`"]);
    let file = lab.write("task.toml", config("true"));
    refused(&["run", &file, "--out", &lab.path("run")], &["`task.one", "want text or an integer"]);
}
