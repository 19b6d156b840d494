//! The frame of `ama watch`.

mod common;

use std::fs;

use ama_report::{FrameOptions, Reading, Run, frame};
use common::{copy, edit, fixture};

#[test]
fn a_finished_run_gives_its_verdict() {
    let run = Run::read(&fixture(), Reading::Whole).unwrap();
    let text = frame(&run, FrameOptions { columns: 72, styled: true });
    assert_eq!(
        text,
        "run  finished  10 of 10 models trained\n\n\
         AMA-S lifts the worst task from 44% to 67% verified win rate over pooled\n\
         (+23.0 points, 95% interval +21.0 to +26.7, 3 seeds); the average goes\n\
         from 74% to 77% (+3.2 points).\n\
         The price: on harmless AMA-S falls from 100% to 69% (−31.1 points).\n"
    );
}

#[test]
fn a_running_run_shows_every_task() {
    let (_folder, folder) = copy();
    fs::remove_file(folder.join("results.json")).unwrap();
    fs::remove_file(folder.join("generalists/ama-s/seed-2/stage.json")).unwrap();
    let lock = fs::File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let run = Run::read(&folder, Reading::Whole).unwrap();
    let text = frame(&run, FrameOptions { columns: 60, styled: false });
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("run  running  9 of 10 models trained  about "), "{text}");
    assert!(lines[2].starts_with("AMA-S seed 2  step 8, 21%, about 0.9 s left"), "{text}");
    assert_eq!(lines[3].chars().filter(|&c| c == '█').count(), 11, "a fifth of 52: {text}");
    assert!(lines[4].starts_with("loss "), "{text}");
    assert_eq!(lines.len(), 9, "{text}");
    for (line, task) in lines[6..].iter().zip(["harmless", "helpful", "reasoning"]) {
        assert!(line.starts_with(task), "{text}");
        assert!(line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() > 0.2);
    }
    for columns in [0, 1, 20, 59] {
        let narrow = frame(&run, FrameOptions { columns, styled: false });
        assert!(narrow.lines().all(|line| line.chars().count() <= columns.max(1)), "{columns}: {narrow}");
    }
    assert!(frame(&run, FrameOptions { columns: 60, styled: true }).contains("\u{1b}[36m█"));
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let (_folder, folder) = copy();
    fs::remove_file(folder.join("generalists/ama-s/seed-2/stage.json")).unwrap();
    edit(
        &folder.join("generalists/ama-s/seed-2/metrics.jsonl"),
        "\"helpful\"",
        r#""\u001b[2J\u0007\nhelpful""#,
    );
    let lock = fs::File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let run = Run::read(&folder, Reading::Whole).unwrap();
    let text = frame(&run, FrameOptions { columns: 80, styled: false });
    assert!(text.contains("[2Jhelpful"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}
