//! The folder on disk: what is in it, how it is refused, and that the committed one is what the generator makes.

use ama_suite::{Sizes, Suite, SuiteError, Task, generate, verify, write};
use arrow::array::StringArray;
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const SMALL: Sizes = Sizes { helpful: 40, harmless: 50, reasoning: 30, held_out: 20, sft: 300 };

/// Reads every column of a Parquet file as text.
fn read(path: &Path) -> BTreeMap<String, Vec<String>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    assert_eq!(builder.metadata().file_metadata().created_by(), Some("ama-suite 1"));
    // From the schema, for a file may have no rows.
    let mut columns: BTreeMap<String, Vec<String>> =
        builder.schema().fields().iter().map(|field| (field.name().clone(), Vec::new())).collect();
    for batch in builder.build().unwrap() {
        let batch = batch.unwrap();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            assert_eq!(
                (field.data_type(), field.is_nullable()),
                (&DataType::Utf8, false),
                "{}",
                field.name()
            );
            let texts = column.as_any().downcast_ref::<StringArray>().unwrap();
            columns
                .entry(field.name().clone())
                .or_default()
                .extend(texts.iter().map(|t| t.unwrap().to_owned()));
        }
    }
    columns
}

/// Every file below a folder, by relative path.
fn bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn check_files(dir: &Path, suite: &Suite) {
    for splits in &suite.tasks {
        for (split, pairs) in [("train", &splits.train), ("valid", &splits.valid), ("test", &splits.test)] {
            let columns = read(&dir.join(split).join(format!("{}.parquet", splits.task)));
            let names: Vec<&str> = columns.keys().map(String::as_str).collect();
            assert_eq!(names, ["chosen", "context", "gold", "prompt", "rejected", "task", "verifier"]);
            assert_eq!(columns["prompt"].len(), pairs.len());
            for (i, pair) in pairs.iter().enumerate() {
                let cell = |column: &str| &*columns[column][i];
                assert_eq!(
                    (cell("prompt"), cell("chosen"), cell("rejected")),
                    (&*pair.prompt, &*pair.chosen, &*pair.rejected)
                );
                assert_eq!(
                    (cell("gold"), cell("context"), cell("task")),
                    (&*pair.gold, &*pair.context, splits.task.name())
                );
                let verifier = cell("verifier").parse().unwrap();
                assert!(
                    verify(verifier, cell("gold"), cell("chosen"))
                        && !verify(verifier, cell("gold"), cell("rejected"))
                );
            }
        }
    }
    let columns = read(&dir.join("sft.parquet"));
    assert_eq!(columns.keys().collect::<Vec<_>>(), ["completion", "prompt"]);
    assert_eq!(columns["prompt"].len(), suite.sft.len());
    for (i, example) in suite.sft.iter().enumerate() {
        assert_eq!(
            (&columns["prompt"][i], &columns["completion"][i]),
            (&example.prompt, &example.completion)
        );
    }
}

#[test]
fn what_is_written_reads_back() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("not/yet/there");
    let suite = generate(11, &SMALL);
    write(&suite, &dir).unwrap();
    check_files(&dir, &suite);
    let files = bytes(&dir);
    assert_eq!(files.len(), 15);
    let json = |name: &str| serde_json::from_slice::<serde_json::Value>(&files[Path::new(name)]).unwrap();
    assert_eq!(json("suite.json")["seed"], 11);
    assert_eq!(
        json("suite.json")["train"],
        serde_json::json!({"helpful": 40, "harmless": 50, "reasoning": 30})
    );
    assert_eq!(json("base/config.json")["vocab_size"], 512);
    assert_eq!(json("base/config.json")["rms_norm_eps"], 1e-5);
    assert_eq!(json("base/tokenizer_config.json")["eos_token"], "<|eos|>");
    assert_eq!(json("base/special_tokens_map.json")["pad_token"], "<|pad|>");
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(dir.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_seed_decides_every_byte() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |name: &str, seed| {
        write(&generate(seed, &SMALL), &scratch.path().join(name)).unwrap();
        bytes(&scratch.path().join(name))
    };
    let (one, again, other) = (make("one", 1), make("again", 1), make("other", 2));
    assert_eq!(one, again);
    for (path, content) in &one {
        // The tokenizer and the configuration belong to the suite, not to the seed.
        assert_eq!(content == &other[path], path.starts_with("base"), "{}", path.display());
    }
}

#[test]
fn an_empty_folder_is_filled_and_a_full_one_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let suite = generate(1, &Sizes { helpful: 0, harmless: 1, reasoning: 1, held_out: 0, sft: 0 });
    let dir = scratch.path().join("suite");
    fs::create_dir(&dir).unwrap();
    write(&suite, &dir).unwrap();
    check_files(&dir, &suite);
    let before = bytes(&dir);

    let error = write(&generate(2, &SMALL), &dir).unwrap_err();
    assert!(matches!(&error, SuiteError::Exists { path } if *path == dir));
    assert!(error.to_string().contains("remove it or choose another"), "{error}");
    assert_eq!(bytes(&dir), before);

    let file = scratch.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(write(&suite, &file), Err(SuiteError::Exists { .. })));
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let error = write(&suite, &file.join("below")).unwrap_err();
    assert!(matches!(error, SuiteError::Io { .. } | SuiteError::Exists { .. }), "{error}");
    assert!(error.to_string().contains("file"), "{error}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2);
}

/// The committed folder.
fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets")
}

#[test]
fn the_committed_suite_is_what_the_generator_makes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("suite");
    let suite = generate(1, &Sizes::UNION);
    write(&suite, &dir).unwrap();
    check_files(&dir, &suite);
    let (made, committed) = (bytes(&dir), bytes(&committed().join("suite")));
    assert_eq!(made.keys().collect::<Vec<_>>(), committed.keys().collect::<Vec<_>>());
    for (path, content) in &made {
        assert!(
            *content == committed[path],
            "datasets/suite/{} differs from what seed 1 gives; see datasets/PROVENANCE.md on how to regenerate it",
            path.display()
        );
    }
    assert!(made.values().map(Vec::len).sum::<usize>() < 2_000_000);
}

/// PROVENANCE.md lists every file with its rows and bytes.
#[test]
fn the_provenance_is_up_to_date() {
    let text = fs::read_to_string(committed().join("PROVENANCE.md")).unwrap();
    let mut total = 0;
    for (path, content) in bytes(&committed().join("suite")) {
        let path = path.to_string_lossy().replace('\\', "/");
        total += content.len();
        let rows = match path.strip_suffix(".parquet").map(|stem| stem.split('/').collect::<Vec<_>>()) {
            None => String::new(),
            Some(stem) => match stem[..] {
                ["sft"] => Sizes::UNION.sft.to_string(),
                ["train", task] => Sizes::UNION.train(task.parse::<Task>().unwrap()).to_string(),
                _ => Sizes::UNION.held_out.to_string(),
            },
        };
        let line = format!("| `suite/{path}` | {rows} | {} |", content.len());
        assert!(text.contains(&line), "datasets/PROVENANCE.md lacks the line {line}");
    }
    assert!(text.contains(&format!("| all | | {total} |")), "the total is {total}");
    assert!(text.contains("seed 1") && text.contains(ama_suite::GENERATOR));
}
