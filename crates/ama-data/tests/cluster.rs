//! Proposed tasks, and the column that they are written to.

#![cfg(feature = "cluster")]

use std::fs;
use std::path::{Path, PathBuf};

use ama_data::cluster::{ClusterOptions, propose, write_tasks};
use ama_data::{DataError, ReadOptions, Row, RowReader, task_names};

/// The embedded suite's tasks, as far as they are there, with the first so many rows of each.
fn suite(rows: usize) -> Vec<(&'static str, Vec<Row>)> {
    ["helpful", "harmless", "reasoning"]
        .map(|task| {
            let file = format!("{}/../../datasets/suite/train/{task}.parquet", env!("CARGO_MANIFEST_DIR"));
            (task, RowReader::open(&file).unwrap().take(rows).map(Result::unwrap).collect())
        })
        .to_vec()
}

/// Rows of several tasks in turn as JSON Lines.
fn pool(folder: &Path, tasks: &[(&str, Vec<Row>)], with_task: bool) -> PathBuf {
    let mut text = String::new();
    for at in 0..tasks.iter().map(|(_, rows)| rows.len()).max().unwrap() {
        for (task, rows) in tasks {
            let Some(row) = rows.get(at) else { continue };
            let ama_data::RowContent::Text { prompt, chosen, rejected } = &row.content else {
                unreachable!()
            };
            let mut line = serde_json::json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected });
            if let Some(check) = &row.check {
                line["verifier"] = check.verifier.clone().into();
                line["gold"] = check.gold.clone().into();
            }
            if with_task {
                line["task"] = (*task).into();
            }
            text += &format!("{line}\n");
        }
    }
    let file = folder.join(if with_task { "named.jsonl" } else { "pooled.jsonl" });
    fs::write(&file, text).unwrap();
    file
}

/// Three tasks of different words are found again, row by row, whichever rows k-means was shown.
#[test]
fn tasks_of_different_words_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = suite(120);
    let pooled = pool(folder.path(), &tasks, false);
    let named = pool(folder.path(), &tasks, true);
    let truth: Vec<String> =
        RowReader::open(named.to_str().unwrap()).unwrap().map(|row| row.unwrap().task.unwrap()).collect();
    for sample in [20_000, 150] {
        let options = ClusterOptions { sample, ..ClusterOptions::new(3) };
        let proposal = propose(pooled.to_str().unwrap(), &ReadOptions::default(), &options).unwrap();
        assert_eq!(proposal.labels.len(), truth.len());
        assert_eq!(proposal.groups.iter().map(|group| group.rows).sum::<u64>(), truth.len() as u64);
        // Purity: rows that share the group's most frequent task.
        let alike: usize = (0..proposal.groups.len() as u32)
            .map(|group| {
                tasks
                    .iter()
                    .map(|(task, _)| {
                        let both = |(label, name): &(&u32, &String)| **label == group && name == task;
                        proposal.labels.iter().zip(&truth).filter(both).count()
                    })
                    .max()
                    .unwrap()
            })
            .sum();
        let purity = alike as f64 / truth.len() as f64;
        assert!(purity > 0.98, "purity {purity} of a sample of {sample}: {:?}", proposal.groups);
        assert!(proposal.groups.iter().all(|group| !group.words.is_empty()));
        assert_eq!(
            propose(pooled.to_str().unwrap(), &ReadOptions::default(), &options).unwrap(),
            proposal,
            "the seed decides"
        );
    }
}

/// What is written has every row as it was, with a task that the reader selects by.
#[test]
fn the_written_column_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let pooled = pool(folder.path(), &suite(20), false);
    let out = folder.path().join("tasks.parquet");
    let name = |row: usize| if row.is_multiple_of(2) { "even".to_owned() } else { "odd".to_owned() };
    write_tasks(pooled.to_str().unwrap(), &ReadOptions::default(), &out, name).unwrap();
    let before: Vec<Row> = RowReader::open(pooled.to_str().unwrap()).unwrap().map(Result::unwrap).collect();
    let after: Vec<Row> = RowReader::open(out.to_str().unwrap()).unwrap().map(Result::unwrap).collect();
    assert_eq!(before.len(), after.len());
    for (at, (old, new)) in before.iter().zip(&after).enumerate() {
        assert_eq!((&old.content, &old.check), (&new.content, &new.check));
        assert_eq!(new.task.as_deref(), Some(name(at).as_str()));
    }
    assert_eq!(task_names(out.to_str().unwrap(), &ReadOptions::default()).unwrap(), ["even", "odd"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode(&out), mode(&pooled), "the permissions of any other new file");
    }
    let odd: Vec<Row> =
        RowReader::open(out.to_str().unwrap()).unwrap().only_task("odd").map(Result::unwrap).collect();
    assert_eq!(odd, after.into_iter().skip(1).step_by(2).collect::<Vec<_>>());
}

/// Token ids are grouped and written as well.
#[test]
fn tokenised_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ids.jsonl");
    let lines: String = (0..40_u32)
        .map(|row| {
            let of = 100 * (row % 2);
            format!(
                "{{\"prompt_ids\": [{}, {}], \"chosen_ids\": [{of}], \"rejected_ids\": [{}]}}\n",
                of + 1,
                of + 2 + row / 20,
                of + 3
            )
        })
        .collect();
    fs::write(&file, lines).unwrap();
    let proposal = propose(file.to_str().unwrap(), &ReadOptions::default(), &ClusterOptions::new(2)).unwrap();
    let first = proposal.labels[0];
    assert!(proposal.labels.iter().enumerate().all(|(row, &label)| (label == first) == (row % 2 == 0)));
    let out = folder.path().join("out.parquet");
    write_tasks(file.to_str().unwrap(), &ReadOptions::default(), &out, |row| {
        proposal.labels[row].to_string()
    })
    .unwrap();
    let (old, new) =
        (RowReader::open(file.to_str().unwrap()).unwrap(), RowReader::open(out.to_str().unwrap()).unwrap());
    assert!(old.map(|row| row.unwrap().content).eq(new.map(|row| row.unwrap().content)));
}

/// Rows that are all alike, and numbers of groups that cannot be, end in a proposal or a message, never in a panic.
#[test]
fn what_cannot_be_grouped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("same.jsonl");
    fs::write(&file, "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n".repeat(5)).unwrap();
    let proposal = propose(file.to_str().unwrap(), &ReadOptions::default(), &ClusterOptions::new(3)).unwrap();
    assert_eq!(proposal.groups.len(), 1, "five equal rows are one group");
    for k in [0, 1, 6] {
        let error =
            propose(file.to_str().unwrap(), &ReadOptions::default(), &ClusterOptions::new(k)).unwrap_err();
        assert!(matches!(error, DataError::Cluster { .. }));
        assert!(error.to_string().contains("want 2 to 5"), "{error}");
    }
    let few = ClusterOptions { sample: 0, ..ClusterOptions::new(3) };
    let error = propose(file.to_str().unwrap(), &ReadOptions::default(), &few).unwrap_err().to_string();
    assert!(error.contains("a sample of 0 rows for k = 3"), "{error}");
}
