//! Which files a folder, a glob or a file stands for: one split, said so, and never all that lies there.

mod support;

use std::fs;
use std::sync::LazyLock;

use ama_data::{DataError, DataFiles, ReadOptions, SelectError, SplitChoice, SplitKind};
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
    refused(&folder.path(""), &ANY, &["README.md", "missing-*.jsonl", "no data file"]);
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

/// A folder with these files of one row each, whose prompt is the file's name.
fn with(names: &[&str]) -> Folder {
    let folder = Folder::new();
    for name in names {
        match name.ends_with(".parquet") {
            true => folder.parquet(name, &[name]),
            false => folder.write(name, lines(&[name])),
        };
    }
    folder
}

#[test]
fn cards_that_cannot_be_read_or_followed() {
    let folder = with(&["pairs.jsonl", "holdout.jsonl"]);
    let files = "data_files:\n  - split: SPLIT\n    path: PATH\n  - split: test\n    path: [holdout.jsonl]\n";
    let write = |before: &str, entry: &str| {
        folder.write("README.md", format!("---\n{before}configs:\n- {entry}---\n# T\n"));
    };
    let entry = |split: &str, path: &str| {
        format!("config_name: x\n  {files}").replace("SPLIT", split).replace("PATH", path)
    };
    for before in ["pretty_name: Foo: bar\n", "tags: a\ntags: b\n", "tags:\n\t- a\n"] {
        write(before, &entry("train", "pairs.jsonl"));
        let error = refused(&folder.path(""), &ANY, &["README.md", "`configs`", "line"]);
        assert!(matches!(error, DataError::Select(SelectError::Card { .. })), "{error}");
    }
    write("", &files.replace("SPLIT", "train").replace("PATH", "pairs.jsonl"));
    refused(&folder.path(""), &ANY, &["README.md", "config_name"]);
    write("", &entry("train", "pairs.jsonl").replace("config_name: x", "config_name: 1.10"));
    assert_eq!(prompts(&folder.path(""), &ANY), ["pairs.jsonl"]);
    write("", &entry("1", "pairs.jsonl"));
    assert_eq!(prompts(&folder.path(""), &split("1")), ["pairs.jsonl"]);
    refused(&folder.path(""), &ANY, &["no split `train`", "`1`, `test`"]);
    for (path, why) in [
        ("https://huggingface.co/x/train.parquet", "a URL"),
        ("../flat/train-*", "leaves the folder"),
        ("/flat/train-*", "leaves the folder"),
        ("nope/*", "nothing in the folder matches"),
    ] {
        write("", &entry("train", path));
        refused(&folder.path(""), &ANY, &["README.md", path, why]);
    }
    // A card that does not speak of files may be anything.
    folder.write("README.md", "---\npretty_name: Foo: bar\n---\n");
    refused(&folder.path(""), &ANY, &["no split `train`", "`holdout`"]);
}

#[test]
fn the_folder_of_a_split_is_read_whole() {
    for names in [
        ["train/a.jsonl", "train/sub/b.jsonl", "test/c.jsonl"],
        ["train/b/c/d/e/f.jsonl", "train/sub/b.jsonl", "test/sub/c.jsonl"],
    ] {
        let folder = with(&names);
        assert_eq!(prompts(&folder.path(""), &ANY), names[..2]);
        assert_eq!(prompts(&folder.path(""), &split("test")), names[2..]);
    }
    for inside in ["train/test.jsonl", "train/sub/valid-00000-of-00001.jsonl", "train/test/x.jsonl"] {
        refused(&with(&["train/train.jsonl", inside]).path(""), &ANY, &["another split", "train"]);
    }
}

#[cfg(unix)]
#[test]
fn links_that_lead_nowhere() {
    for link in ["train/b.jsonl", "train.jsonl", "train"] {
        let folder = with(&["test/c.jsonl"]);
        fs::create_dir_all(folder.path(link).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("blobs/gone", folder.path(link)).unwrap();
        refused(&folder.path(""), &ANY, &[link, "blobs/gone", "not there"]);
    }
}

#[test]
fn words_of_splits_that_are_glued_to_others() {
    for (train, test) in [("trainset", "testset"), ("trainPairs", "testPairs"), ("trains", "tests")] {
        let (train, test) = (format!("{train}.jsonl"), format!("{test}.jsonl"));
        let folder = with(&[&train, &test]);
        assert_eq!(prompts(&folder.path(""), &ANY), [train]);
        assert_eq!(prompts(&folder.path(""), &of(SplitKind::Test)), [test]);
    }
    let held_out = with(&["mytrain.jsonl", "heldout.jsonl"]);
    refused(&held_out.path(""), &ANY, &["no split `train`", "`heldout`", "mytrain.jsonl"]);
    refused(&with(&["mytrain.jsonl", "mytest.jsonl"]).path(""), &ANY, &["mytrain", "mytest", "two splits"]);
}

#[test]
fn shards_that_are_missing_or_of_two_writings() {
    for (names, wants) in [
        (
            &["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"][..],
            &["2 of the 3", "00001-of-00003"][..],
        ),
        (
            &["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
            &["train-00000-of-00001", "train-00000-of-00002", "twice"],
        ),
        (&["train-00000-of-00001.parquet", "train.parquet"], &["train.parquet", "twice"]),
        (
            &["train-00000-of-00001-0a1b.parquet", "train-00000-of-00001-2c3d.parquet"],
            &["0a1b", "2c3d", "twice"],
        ),
        (&["part-00000-of-00002.parquet"], &["1 of the 2", "00001-of-00002"]),
    ] {
        refused(&with(names).path(""), &ANY, wants);
        let below: Vec<String> = names.iter().map(|name| format!("data/train/{name}")).collect();
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        refused(&with(&below).path(""), &ANY, wants);
    }
    // The other split does not matter, and a card's pattern is no way around.
    let folder = with(&["train-00000-of-00002.parquet", "test-00000-of-00001.parquet"]);
    assert_eq!(prompts(&folder.path(""), &split("test")), ["test-00000-of-00001.parquet"]);
    folder.write(
        "README.md",
        "---\nconfigs:\n- config_name: x\n  data_files:\n  - split: train\n    path: train-*\n---\n",
    );
    refused(&folder.path(""), &ANY, &["1 of the 2", "00001-of-00002"]);
}

#[test]
fn json_files_by_their_names() {
    for (names, train) in [
        (&["train.json", "train-2.json", "test.json"][..], &["train-2.json", "train.json"][..]),
        (&["train_0.json", "train_1.json", "test.json"], &["train_0.json", "train_1.json"]),
        (&["train_prefs.json", "test_prefs.json"], &["train_prefs.json"]),
        (&["train.json", "training_args.json", "train_results.json", "eval_results.json"], &["train.json"]),
    ] {
        assert_eq!(prompts(&with(names).path(""), &ANY), train);
    }
    refused(
        &with(&["pairs.json", "more.json"]).path(""),
        &ANY,
        &["`more.json`, `pairs.json`", "name the file"],
    );
    refused(&with(&["train/pairs.json"]).path("train"), &ANY, &["`pairs.json`", "name the file"]);
}

#[test]
fn saved_data_sets_that_name_a_split_or_contradict_themselves() {
    let folder = Folder::new();
    folder.stream("one/data-00000-of-00001.arrow", &["a"]);
    folder.write(
        "one/state.json",
        r#"{"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}"#,
    );
    let one = folder.path("one");
    for options in [&*ANY, &split("train"), &of(SplitKind::Test)] {
        assert_eq!(prompts(&one, options), ["a"]);
    }
    refused(&one, &split("test"), &["no split `test`", "`train`"]);

    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4f4f\nsize 1414464\n";
    for (dict, wants) in [
        (r#"{"splits": ["train", "test"]}"#, &["`train`", "folder is missing"][..]),
        (r#"{"splits": []}"#, &["lists no split"]),
        (r#"{"splits": ["../one"]}"#, &["../one", "no folder beside it"]),
        (r#"{"splits":"#, &["line 1, column 10"]),
        (pointer, &["pointer of git-lfs"]),
    ] {
        folder.write("dict/dataset_dict.json", dict);
        let error = refused(&folder.path("dict"), &ANY, wants).to_string();
        assert!(error.contains("dataset_dict.json"), "{error}");
    }
    folder.write("one/state.json", pointer);
    refused(&one, &ANY, &["state.json", "pointer of git-lfs"]);
}

#[test]
fn paths_that_are_not_on_this_machine() {
    for (path, want) in [
        ("hf://datasets/a/b", "download it first"),
        ("https://huggingface.co/x/train.parquet", "download it first"),
        ("trl-lib/ultrafeedback_binarized", "Hugging Face Hub"),
        ("~/pairs.jsonl", "write the path in full"),
        ("missing/pairs.jsonl", "no data file there"),
    ] {
        let error = DataFiles::find(path, &SplitChoice::default()).unwrap_err().to_string();
        assert!(error.starts_with(path) && error.contains(want), "{error}");
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
