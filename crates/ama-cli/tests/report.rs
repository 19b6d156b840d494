//! The page and the frame of runs that were made here.

mod common;

use std::fs;
use std::path::Path;

#[cfg(debug_assertions)]
use common::Held;
use common::{Lab, call, refused, succeed};
use serde_json::Value;

#[track_caller]
fn last_json(out: &str) -> Value {
    serde_json::from_str(out.lines().last().expect("a last line")).expect("one JSON object last")
}

#[test]
fn a_run_writes_its_page_and_the_command_on_it_continues_the_run() {
    let lab = Lab::new();
    let (config, run) = (lab.config("run.toml"), lab.path("my run"));
    let said = succeed(&["run", &config, "--out", &run]);
    assert!(said.out.contains("report.html"), "{}", said.out);
    let page = fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    assert!(
        page.contains("state finished") && page.contains("AMA-R") && !page.contains("http-equiv=\"refresh\"")
    );

    // The command on the page, word for word, finds every stage done.
    let command = page.rsplit_once("<pre tabindex=\"0\">ama run ").unwrap().1.split_once("</pre>").unwrap().0;
    let command = command.replace("&#x27;", "'").replace("&#x2f;", "/");
    let words: Vec<&str> =
        command.split('\'').filter(|word| !word.trim().is_empty()).map(str::trim).collect();
    let again = succeed(&[&["run"], &words[..]].concat());
    assert_eq!(again.err.matches("unchanged").count(), 4 + 1 + 3 + 6 + 1 + 3 + 6, "{}", again.err);

    // On demand, here or elsewhere, alone or beside another.
    let own = last_json(&succeed(&["report", &run, "--json"]).out);
    assert_eq!(
        (&own["runs"][0]["state"], own["runs"][0]["notes"].as_array().unwrap().len()),
        (&"finished".into(), 0)
    );
    let both = lab.path("both.html");
    succeed(&["report", &run, &run, "--out", &both]);
    assert_eq!(fs::read_to_string(&both).unwrap().matches("<article").count(), 2);
    let frame = succeed(&["watch", &run]);
    assert!(frame.out.contains("finished") && !frame.out.contains('\u{1b}'), "{}", frame.out);
    assert_eq!(last_json(&succeed(&["watch", &run, "--once", "--json"]).out)["trained"], 10);
}

#[cfg(debug_assertions)]
#[test]
fn a_running_run_is_seen_and_a_killed_one_says_how_to_go_on() {
    let lab = Lab::new();
    let (config, run) = (lab.config("run.toml"), lab.path("run"));
    let long = ["run", &config, "--out", &run, "--set", "base.steps=100000"];
    let held = Held::at("step:20", &long);
    let watched = last_json(&succeed(&["watch", &run, "--json"]).out);
    let reported = last_json(&succeed(&["report", &run, "--json"]).out);
    let page = fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    held.kill();
    assert_eq!(watched["state"], "running");
    assert_eq!(reported["runs"][0]["state"], "running");
    assert!(page.contains("http-equiv=\"refresh\"") && page.contains("Being worked on"));

    let frame = succeed(&["watch", &run]);
    assert!(frame.out.contains("not finished") && frame.out.contains("continue: ama run "), "{}", frame.out);
    succeed(&["report", &run]);
    let page = fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    assert!(page.contains("Cut off") && !page.contains("http-equiv=\"refresh\""));
}

#[test]
fn what_is_no_run_folder_is_refused() {
    let lab = Lab::new();
    let suite = lab.path("suite");
    for command in ["report", "watch"] {
        refused(
            &[command, &suite],
            &["is not a run folder", "want the folder that `ama run --out` was given"],
        );
        refused(&[command, &lab.path("nowhere")], &["no such folder"]);
    }
    assert!(!Path::new(&suite).join("report.html").exists());
    assert_eq!(call(&["report"]).code, Some(2), "at least one folder");
    // A configuration that is refused leaves no page, which would make the folder look like somebody else's.
    let (config, out) = (lab.config("bad.toml"), lab.path("out"));
    refused(
        &["run", &config, "--out", &out, "--set", "task.helpful.train=/nowhere.parquet"],
        &["nowhere.parquet"],
    );
    assert!(!Path::new(&out).join("report.html").exists());
}
