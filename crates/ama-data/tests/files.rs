//! Which files a folder, a glob or a file stands for: one split, said so, and never all that lies there.

mod support;

use std::fs;
use std::sync::LazyLock;

use ama_data::{DataError, DataFiles, ReadOptions, SplitChoice, SplitKind};
use support::{Folder, lines, open, prompts, refused, split};

static ANY: LazyLock<ReadOptions> = LazyLock::new(ReadOptions::default);

fn of(kind: SplitKind) -> ReadOptions {
    ReadOptions { split: SplitChoice::Of(kind), ..ReadOptions::default() }
}

#[test]
fn shards_of_two_splits() {
    let folder = Folder::new();
    folder.parquet("data/train-00000-of-00002.parquet", &["a", "b"]);
    folder.parquet("data/train-00001-of-00002.parquet", &["c"]);
    folder.parquet("data/test-00000-of-00001.parquet", &["t"]);
    // The folder, and the repository's root above it.
    for path in [folder.path("data"), folder.path("")] {
        let reader = open(&path, &ANY).unwrap();
        assert_eq!((reader.split(), reader.files().len()), (Some("train"), 2));
        assert_eq!(prompts(&path, &ANY), ["a", "b", "c"]);
        assert_eq!(prompts(&path, &split("test")), ["t"]);
        assert_eq!(prompts(&path, &of(SplitKind::Test)), ["t"]);
        refused(&path, &split("dev"), &["no split `dev`", "`train`", "`test`", "--split"]);
        refused(&path, &of(SplitKind::Validation), &["no split `validation`", "`test`"]);
    }
    // A glob and a file name files.
    assert_eq!(prompts(&folder.path("data/*.parquet"), &ANY), ["t", "a", "b", "c"]);
    assert_eq!(prompts(&folder.path("data/test-00000-of-00001.parquet"), &ANY), ["t"]);
    refused(&folder.path("data/*.parquet"), &split("train"), &["names files", "`train`"]);
}

#[test]
fn names_of_splits() {
    let folder = Folder::new();
    for name in ["train_prefs", "train_sft", "test_prefs"] {
        folder.parquet(&format!("{name}-00000-of-00001-0a1b.parquet"), &[name]);
    }
    refused(&folder.path(""), &ANY, &["`train`", "`train_prefs`, `train_sft`", "glob"]);
    assert_eq!(prompts(&folder.path(""), &split("train_sft")), ["train_sft"]);
    assert_eq!(prompts(&folder.path(""), &split("test")), ["test_prefs"]);
    fs::remove_file(folder.path("train_sft-00000-of-00001-0a1b.parquet")).unwrap();
    assert_eq!(prompts(&folder.path(""), &ANY), ["train_prefs"]);

    let folder = Folder::new();
    for name in ["train.jsonl", "valid.jsonl", "test.jsonl", "extra.jsonl", "notes.csv"] {
        folder.write(name, lines(&[name]));
    }
    assert_eq!(prompts(&folder.path(""), &ANY), ["train.jsonl"]);
    assert_eq!(prompts(&folder.path(""), &of(SplitKind::Validation)), ["valid.jsonl"]);
    fs::remove_file(folder.path("train.jsonl")).unwrap();
    refused(&folder.path(""), &ANY, &["no split `train`", "`test`, `valid`", "extra.jsonl"]);

    // Two tasks, each with its splits, are not one data set.
    let folder = Folder::new();
    for name in ["a.train.parquet", "b.train.parquet", "a.test.parquet"] {
        folder.parquet(name, &[name]);
    }
    refused(&folder.path(""), &ANY, &["`a.train`, `b.train`"]);
    assert_eq!(prompts(&folder.path(""), &split("b.train")), ["b.train.parquet"]);
}

#[test]
fn folders_of_splits_and_configurations() {
    let folder = Folder::new();
    folder.parquet("default/train/0000.parquet", &["a"]);
    folder.parquet("default/train/0001.parquet", &["b"]);
    folder.parquet("default/test/0000.parquet", &["t"]);
    assert_eq!(prompts(&folder.path(""), &ANY), ["a", "b"]);
    assert_eq!(prompts(&folder.path("default/test"), &ANY), ["t"]);
    folder.parquet("other/train/0000.parquet", &["o"]);
    assert_eq!(prompts(&folder.path(""), &ANY), ["a", "b"]);
    fs::rename(folder.path("default"), folder.path("english")).unwrap();
    refused(&folder.path(""), &ANY, &["several folders", "english", "other"]);
    assert_eq!(prompts(&folder.path("other"), &ANY), ["o"]);

    // All files of an unsplit folder, but no cache, no index, nothing hidden.
    let folder = Folder::new();
    folder.parquet("helpful.parquet", &["h"]);
    folder.parquet("harmless.parquet", &["x"]);
    folder.stream("cache-0123456789abcdef.arrow", &["cached"]);
    folder.write("dataset_info.json", "{}");
    folder.write(".hidden.parquet", "no data");
    folder.write("summary.csv", "a,b\n");
    assert_eq!(prompts(&folder.path(""), &ANY), ["x", "h"]);
    refused(&folder.path(""), &split("test"), &["no split `test`", "no split"]);
    assert!(matches!(open(&Folder::new().path(""), &ANY), Err(DataError::NoFiles { .. })));
}

#[test]
fn what_a_card_names() {
    let folder = Folder::new();
    folder.write("main.jsonl", lines(&["m"]));
    folder.write("held/out.jsonl", lines(&["t"]));
    folder.write("other.jsonl", lines(&["o"]));
    let config = |name: &str, file: &str| {
        format!(
            "- config_name: {name}\n  data_files:\n  - split: train\n    path: {file}\n  - split: test\n    path: \"held/*\"\n"
        )
    };
    let card = |configs: &[String]| {
        folder.write("README.md", format!("---\nconfigs:\n{}---\nText\n", configs.concat()))
    };
    card(&[config("all", "main.jsonl")]);
    assert_eq!(prompts(&folder.path(""), &ANY), ["m"]);
    assert_eq!(prompts(&folder.path(""), &split("test")), ["t"]);
    card(&[config("a", "main.jsonl"), config("b", "other.jsonl")]);
    refused(&folder.path(""), &ANY, &["README.md", "`a`, `b`"]);
    card(&[config("a", "main.jsonl"), config("default", "other.jsonl")]);
    assert_eq!(prompts(&folder.path(""), &ANY), ["o"]);
    card(&[config("a", "missing-*.jsonl")]);
    refused(&folder.path(""), &ANY, &["missing-*.jsonl", "no data file"]);
    card(&[config("a", "../main.jsonl")]);
    refused(&folder.path(""), &ANY, &["no data file"]);
    folder.write("README.md", "---\nlicense: mit\n---\n");
    assert_eq!(prompts(&folder.path(""), &ANY), ["m", "o"]);
}

#[test]
fn what_datasets_saved() {
    let folder = Folder::new();
    let state = |place: &str, files: &[&str]| {
        let files: Vec<String> = files.iter().map(|file| format!("{{\"filename\": \"{file}\"}}")).collect();
        folder.write(
            &format!("{place}/state.json"),
            format!("{{\"_data_files\": [{}], \"_split\": null}}", files.join(", ")),
        );
    };
    for (place, prompt) in [("dict/train", "a"), ("dict/test", "t")] {
        folder.stream(&format!("{place}/data-00000-of-00002.arrow"), &[prompt]);
        folder.stream(&format!("{place}/data-00001-of-00002.arrow"), &[&format!("{prompt}2")]);
        folder.stream(&format!("{place}/cache-0123.arrow"), &["cached"]);
        state(place, &["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]);
    }
    folder.write("dict/dataset_dict.json", r#"{"splits": ["train", "test"]}"#);
    assert_eq!(prompts(&folder.path("dict"), &ANY), ["a", "a2"]);
    assert_eq!(prompts(&folder.path("dict"), &split("test")), ["t", "t2"]);
    assert_eq!(prompts(&folder.path("dict/test"), &ANY), ["t", "t2"]);
    refused(&folder.path("dict"), &split("dev"), &["`train`, `test`"]);
    state("dict/train", &["data-00000-of-00002.arrow"]);
    assert_eq!(prompts(&folder.path("dict/train"), &ANY), ["a"]);
    for (files, want) in [("data-9.arrow", "not there"), ("../test/state.json", "no file of this folder")] {
        state("dict/train", &[files]);
        refused(&folder.path("dict"), &ANY, &["state.json", want, "save_to_disk"]);
    }
    folder.write("dict/train/state.json", "{\"_data_files\": 3}");
    let error = open(&folder.path("dict"), &ANY).unwrap_err().to_string();
    assert!(error.contains("state.json") && error.contains("expected a sequence"), "{error}");
    state("dict/train", &[]);
    refused(&folder.path("dict"), &ANY, &["state.json", "lists no file"]);
}

#[test]
fn one_split_in_two_formats() {
    let folder = Folder::new();
    folder.parquet("train.parquet", &["a"]);
    folder.parquet("test.parquet", &["t"]);
    folder.write("train.jsonl", lines(&["a"]));
    refused(&folder.path(""), &ANY, &["train.parquet", "train.jsonl", "glob"]);
    assert_eq!(prompts(&folder.path(""), &split("test")), ["t"]);
    fs::remove_file(folder.path("train.jsonl")).unwrap();
    folder.write("train.csv", "prompt,chosen,rejected\n");
    refused(&folder.path(""), &ANY, &["train.parquet", "train.csv"]);
}

#[test]
fn formats_that_are_not_read() {
    let folder = Folder::new();
    let csv = folder.write("pairs.csv", "prompt,chosen,rejected\na,b,c\n");
    for path in [csv, folder.path("")] {
        refused(&path, &ANY, &["pairs.csv", "read_csv", "to_parquet"]);
    }
    refused(&folder.write("pairs.csv.gz", ""), &ANY, &["read_csv"]);
    refused(&folder.write("pairs.parquet.gz", ""), &ANY, &["decompress it"]);
    refused(&folder.write("pairs.bin", ""), &ANY, &["unknown kind", "convert"]);
}

#[test]
fn pointers_of_git_lfs() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4f4f\nsize 1414464\n";
    let folder = Folder::new();
    for name in ["a.parquet", "a.jsonl", "a.arrow", "a.jsonl.gz"] {
        let file = folder.write(name, pointer);
        let error = refused(&file, &ANY, &[name, "git lfs pull"]);
        assert!(matches!(error, DataError::GitLfsPointer { .. }));
    }
}

/// The files alone, without a look into them.
#[test]
fn files_are_found_without_reading_them() {
    let folder = Folder::new();
    folder.write("data/train-1.jsonl", "no JSON");
    let found = DataFiles::find(folder.path("data").to_str().unwrap(), &SplitChoice::default()).unwrap();
    assert_eq!(
        found,
        DataFiles { files: vec![folder.path("data/train-1.jsonl")], split: Some("train".into()) }
    );
}
