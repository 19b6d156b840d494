//! Bad input: exit code 2, a message that names file, row or key, and nothing half-written.

mod common;

use std::fs;
use std::path::Path;

use common::{Lab, call, names, refused, succeed};

const GOOD: &str = r#"{"prompt": "count", "chosen": " a b", "rejected": " b a"}"#;

/// The object that ends the output.
fn json(out: &str) -> serde_json::Value {
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

#[test]
fn rows_are_refused_by_file_row_and_column() {
    let lab = Lab::with_model();
    let model = lab.path("model");
    let before = lab.names().len();
    for (name, second, wants) in [
        ("null", r#"{"prompt": "p", "chosen": null, "rejected": " b"}"#, ["row 2", "`chosen`"]),
        ("absent", r#"{"prompt": "p", "chosen": " a"}"#, ["row 2", "`rejected`"]),
        ("empty", r#"{"prompt": "p", "chosen": "", "rejected": " b"}"#, ["row 2", "`chosen`"]),
        ("number", r#"{"prompt": "p", "chosen": 3, "rejected": " b"}"#, ["row 2", "`chosen`"]),
        ("same", r#"{"prompt": "p", "chosen": " a", "rejected": " a"}"#, ["row 2", "same"]),
        ("torn", r#"{"prompt": "p", "chos"#, ["row 2", "JSON"]),
    ] {
        let file = lab.write(&format!("{name}.jsonl"), format!("{GOOD}\n{second}\n"));
        let wants = [&format!("{name}.jsonl"), wants[0], wants[1]];
        refused(&["data", "validate", &file], &wants);
        let out = lab.path("out");
        refused(&["specialist", "--model", &model, "--data", &file, "--out", &out], &wants);
        refused(&["score", "--model", &model, "--data", &file, "--out", &lab.path("s.parquet")], &wants);
        fs::remove_file(&file).unwrap();
    }
    assert_eq!(lab.names().len(), before, "nothing is left: {:?}", lab.names());
}

/// What is read would be replaced by what is made of it, under whatever name.
#[cfg(unix)]
#[test]
fn data_is_never_overwritten() {
    let lab = Lab::with_model();
    let model = lab.path("model");
    let text = format!("{GOOD}\n");
    fs::create_dir(lab.path("folder")).unwrap();
    let data = lab.write("folder/pairs.jsonl", &text);
    let folder = lab.path("folder");
    std::os::unix::fs::symlink(&data, lab.path("link.jsonl")).unwrap();
    for out in [data.clone(), lab.path("link.jsonl"), lab.path("folder/../folder/pairs.jsonl")] {
        let wants = [out.as_str(), "files that are read"];
        refused(&["score", "--model", &model, "--data", &folder, "--out", &out], &wants);
        let task = format!("t={data}");
        refused(&["eval", "--model", &model, "--reference", &model, "--task", &task, "--out", &out], &wants);
        for flag in ["--metrics", "--summary"] {
            let model_out = lab.path("out");
            let files = ["--data", &data, flag, &out, "--out", &model_out];
            refused(&[&["specialist", "--model", &model], &files[..]].concat(), &wants);
        }
        assert_eq!(fs::read_to_string(&data).unwrap(), text, "{out}");
    }
    assert!(!Path::new(&lab.path("out")).exists() && !Path::new(&lab.path("out.partial")).exists());
}

/// What is no file, and files that a model cannot do without, are not replaced.
#[cfg(unix)]
#[test]
fn outputs_that_must_not_be_replaced_are_refused() {
    let lab = Lab::with_model();
    let (model, data) = (lab.path("model"), lab.path("suite/train/helpful.parquet"));
    std::os::unix::fs::symlink("nowhere", lab.path("dangling")).unwrap();
    for (out, want) in [
        (lab.path("model/config.json"), "model folder"),
        (lab.path("model/model.safetensors"), "model folder"),
        ("/dev/null".to_owned(), "no regular file"),
        (lab.path("suite"), "is a folder"),
        (lab.path("new/"), "is a folder"),
        (lab.path("dangling"), "does not exist"),
    ] {
        refused(&["score", "--model", &model, "--data", &data, "--out", &out, "--limit", "2"], &[&out, want]);
    }
    let out = lab.path("dangling");
    refused(&["specialist", "--model", &model, "--data", &data, "--out", &out], &[&out, "does not exist"]);
    assert!(!Path::new(&lab.path("dangling.partial")).exists() && !Path::new(&lab.path("new")).exists());
}

#[test]
fn columns_and_files_are_refused_by_name() {
    let lab = Lab::with_model();
    let model = lab.path("model");
    let specialist = |data: &str, wants: &[&str]| {
        refused(&["specialist", "--model", &model, "--data", data, "--out", &lab.path("out")], wants);
        assert!(!Path::new(&lab.path("out")).exists() && !Path::new(&lab.path("out.partial")).exists());
    };
    let columns = lab.write("columns.jsonl", r#"{"question": "q", "better": "a", "worse": "b"}"#);
    specialist(&columns, &["columns.jsonl", "no column", "chosen"]);
    specialist(
        &lab.write("junk.parquet", b"PAR1 this is no parquet file PAR1"),
        &["junk.parquet", "Parquet"],
    );
    let whole = fs::read(lab.path("suite/train/helpful.parquet")).unwrap();
    specialist(&lab.write("cut.parquet", &whole[..whole.len() / 2]), &["cut.parquet"]);
    specialist(&lab.path("nowhere.parquet"), &["nowhere.parquet"]);
    specialist(&lab.path("suite/sft.parquet"), &["sft.parquet", "preference pairs"]);
    let none = lab.write("none.jsonl", "");
    specialist(&none, &["none.jsonl", "no rows"]);
    let pairs = lab.path("suite/train/helpful.parquet");
    refused(
        &["specialist", "--model", &model, "--data", &pairs, "--out", &lab.path("out"), "--max-length", "3"],
        &["helpful.parquet", "none of its 30 rows is left", "max_length"],
    );
    refused(&["sft", "--model", &model, "--data", &pairs, "--out", &lab.path("out")], &["fine-tuning rows"]);
}

/// `data validate` says what training says, and fails where training fails.
#[test]
fn validate_knows_what_training_knows() {
    let lab = Lab::with_model();
    let model = lab.path("model");
    let rows = [
        GOOD,
        GOOD,
        r#"{"prompt": "count", "chosen": "count a", "rejected": "count b"}"#,
        r#"{"prompt": "count", "chosen": " a b", "rejected": " a  b"}"#,
    ];
    let file = lab.write("rows.jsonl", rows.join("\n"));
    let validated = json(&succeed(&["data", "validate", &file, "--model", &model, "--json"]).out);
    let counts = &validated["data"][0];
    for (key, want) in [("duplicates", 1), ("repeated_prompts", 1), ("white_space_only", 1), ("kept", 4)] {
        assert_eq!(counts[key], want, "{key}");
    }
    let out = lab.path("out");
    let trained =
        succeed(&["specialist", "--model", &model, "--data", &file, "--out", &out, "--steps", "1", "--json"]);
    let mut counted = json(&trained.out)["data"].clone();
    counted["path"] = counts["path"].clone();
    assert_eq!(&counted, counts, "one count for both");
    for note in ["1 duplicates", "`chosen`", "white space only"] {
        assert!(trained.err.contains(note), "{}", trained.err);
    }
    let without = json(&succeed(&["data", "validate", &file, "--json"]).out);
    assert_eq!(without["data"][0]["duplicates"], 1);
    refused(
        &["data", "validate", &file, "--model", &model, "--max-length", "1"],
        &["rows.jsonl", "none of its 4 rows", "max_length 1"],
    );
    refused(
        &["score", "--model", &model, "--data", &file, "--out", &lab.path("s.parquet"), "--limit", "0"],
        &["rows.jsonl", "--limit"],
    );
}

/// Every row of the data has its line in the scores, and the dropped one says why.
#[test]
fn scores_name_their_rows() {
    let lab = Lab::with_model();
    let long = format!(r#"{{"prompt": "{}", "chosen": " a", "rejected": " b"}}"#, "count ".repeat(40));
    let file = lab.write("rows.jsonl", [GOOD, &long, GOOD].join("\n"));
    let out = lab.path("s.parquet");
    succeed(&["score", "--model", &lab.path("model"), "--data", &file, "--out", &out, "--max-length", "24"]);
    let rows = ama_specialist_cache::read_row_scores(&out).unwrap();
    assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(rows.iter().all(|row| row.file == file), "{rows:?}");
    assert_eq!((rows[0].id, &rows[0].score), (rows[2].id, &rows[2].score));
    assert!(rows[0].score.is_ok());
    assert!(rows[1].score.as_ref().unwrap_err().contains("max_length"), "{:?}", rows[1]);
}

#[test]
fn model_folders_are_refused_by_file_and_tensor() {
    let lab = Lab::with_model();
    let data = lab.path("suite/train/helpful.parquet");
    let check = |folder: &Path, wants: &[&str]| {
        let (model, out) = (folder.display().to_string(), lab.path("out"));
        refused(&["specialist", "--model", &model, "--data", &data, "--out", &out], wants);
        refused(&["generate", "--model", &model, "--prompt", "a"], wants);
        assert!(!Path::new(&out).exists() && !Path::new(&lab.path("out.partial")).exists());
    };
    check(Path::new(&lab.path("nowhere")), &["nowhere", "no such folder"]);

    let weights = fs::read(lab.path("model/model.safetensors")).unwrap();
    let broken = lab.copy_model("broken");
    let file = broken.join("model.safetensors");
    fs::write(&file, &weights[..weights.len() - 10]).unwrap();
    check(&broken, &["model.safetensors"]);
    let mut hostile = weights.clone();
    hostile[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&file, &hostile).unwrap();
    check(&broken, &["model.safetensors"]);
    let mut renamed = weights.clone();
    let at = find(&renamed, b"model.norm.weight");
    renamed[at..at + 17].copy_from_slice(b"model.nurm.weight");
    fs::write(&file, &renamed).unwrap();
    check(&broken, &["model.safetensors", "model.n"]);
    fs::remove_file(&file).unwrap();
    check(&broken, &["broken", "no weights"]);

    let config = fs::read_to_string(lab.path("model/config.json")).unwrap();
    let other = lab.copy_model("other");
    fs::write(
        other.join("config.json"),
        config.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"),
    )
    .unwrap();
    check(&other, &["model.layers.3"]);
    fs::write(other.join("config.json"), config.replace("\"hidden_size\": 96", "\"hidden_size\": 64"))
        .unwrap();
    check(&other, &["shape"]);
    fs::write(other.join("config.json"), "{").unwrap();
    check(&other, &["config.json"]);

    let bare = lab.copy_model("bare");
    fs::remove_file(bare.join("tokenizer.json")).unwrap();
    check(&bare, &["tokenizer.json"]);
}

#[test]
fn a_tokenizer_larger_than_the_weights_is_refused() {
    let lab = Lab::new();
    let config = fs::read_to_string(lab.path("suite/base/config.json")).unwrap();
    let at = config.find("\"vocab_size\"").unwrap();
    let end = at + config[at..].find([',', '}', '\n']).unwrap();
    fs::write(
        lab.path("suite/base/config.json"),
        format!("{}\"vocab_size\": 300{}", &config[..at], &config[end..]),
    )
    .unwrap();
    let (base, data) = (lab.path("suite/base"), lab.path("suite/sft.parquet"));
    refused(
        &["sft", "--from-scratch", "--model", &base, "--data", &data, "--out", &lab.path("out")],
        &["tokenizer.json", "300", "use the tokenizer that belongs"],
    );
}

#[test]
fn output_folders_that_exist_are_refused_before_any_work() {
    let lab = Lab::with_model();
    let (model, data) = (lab.path("model"), lab.path("suite/train/helpful.parquet"));
    refused(&["specialist", "--model", &model, "--data", &data, "--out", &model], &["exists already"]);
    refused(&["suite", "generate", "--out", &lab.path("suite")], &["exists already"]);
    let config = lab.config("run.toml");
    let taken = lab.path("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(lab.path("taken/thesis.tex"), "").unwrap();
    refused(&["run", &config, "--out", &taken], &["taken", "not a run folder"]);
    assert_eq!(names(Path::new(&taken)), ["thesis.tex"]);
}

#[test]
fn configurations_are_refused_by_file_and_key_and_make_no_folder() {
    let lab = Lab::new();
    let good = fs::read_to_string(lab.config("good.toml")).unwrap();
    let run = |text: &str, sets: &[&str], wants: &[&str]| {
        let (config, out) = (lab.write("own.toml", text), lab.path("run"));
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        refused(&[&["run", &config, "--out", &out], &sets[..]].concat(), wants);
        assert!(!Path::new(&out).exists(), "no run folder for a bad configuration");
    };
    run(
        &good.replace("sft_weight", "sft_wieght"),
        &[],
        &["own.toml", "loss.sft_wieght", "did you mean `sft_weight`"],
    );
    run(&good.replace("config = 'suite/base'\n", ""), &[], &["own.toml", "base.config"]);
    run(&good.replace("suite/train/helpful", "suite/train/nowhere"), &[], &["task.helpful.train", "nowhere"]);
    run(&good, &["generalist.lr=-1"], &["generalist.lr", "-1"]);
    run(&good, &["generalist.lrr=1"], &["generalist.lrr"]);
    run(&good, &["loss.kind=dpo"], &["loss.kind", "sigmoid"]);
    run(&good, &["nonsense"], &["--set nonsense", "key=value"]);
    run("seed = [", &[], &["own.toml", "TOML"]);
    refused(&["run", &lab.path("absent.toml"), "--out", &lab.path("run")], &["absent.toml"]);
}

#[test]
fn a_task_with_no_pairs_left_is_named() {
    let lab = Lab::new();
    let config = lab.config("run.toml");
    let out = lab.path("run");
    refused(
        &["run", &config, "--out", &out, "--set", "data.max_length=4"],
        &["helpful.parquet", "max_length"],
    );
}

#[test]
fn flags_out_of_range_are_refused() {
    let lab = Lab::with_model();
    let (model, data, out) = (lab.path("model"), lab.path("suite/train/helpful.parquet"), lab.path("out"));
    for (flag, value, want) in [
        ("--lr", "0", "lr"),
        ("--lr", "nan", "lr"),
        ("--beta", "0", "beta"),
        ("--label-smoothing", "0.5", "smoothing"),
        ("--batch-pairs", "0", "batch"),
        ("--epochs", "0", "epochs"),
        ("--clip", "-1", "clip"),
        ("--loss", "dpo", "sigmoid"),
        ("--steps", "0", "steps"),
    ] {
        let flag_value = format!("{flag}={value}");
        refused(&["specialist", "--model", &model, "--data", &data, "--out", &out, &flag_value], &[want]);
        assert!(!Path::new(&out).exists());
    }
    refused(
        &["eval", "--model", &model, "--reference", &model, "--task", "x", "--out", &out],
        &["NAME=FILE"],
    );
    assert_eq!(call(&["no-such-command"]).code, Some(2));
}

/// A disk that is full: needs a user namespace to mount one, and says so where there is none.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_leaves_no_model() {
    let lab = Lab::with_model();
    let disk = lab.path("disk");
    fs::create_dir(&disk).unwrap();
    let (model, data) = (lab.path("model"), lab.path("suite/train/helpful.parquet"));
    let script = format!(
        "mount -t tmpfs -o size=400k none '{disk}' || exit 77\n\
         '{}' specialist --model '{model}' --data '{data}' --out '{disk}/out' --steps 1 --lr 1e-5 --max-length 64\n\
         code=$?\nls -A '{disk}'\nexit $code",
        env!("CARGO_BIN_EXE_ama")
    );
    let output = std::process::Command::new("unshare").args(["-rm", "sh", "-c", &script]).output();
    let Some(output) = output.ok().filter(|output| output.status.code().is_some_and(|code| code <= 2)) else {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "skipped: this machine does not let a test mount a small disk");
        return;
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("No space left"), "{err}");
    assert!(err.contains(&disk), "the message names the path: {err}");
    assert!(!out.lines().any(|name| name == "out"), "no half-written model: {out}");
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("it is in there")
}
