//! Model folders as users have them: what is read of them, and what is refused for what it is.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Lab, call, refused, succeed};
use serde_json::{Value, json};

/// Ids of the suite's tokens ` 7` and ` 8`.
const ANSWER: usize = 12;
const STOP: usize = 13;

/// Header and data of a weights file.
fn parts(path: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..end]).unwrap(), bytes[end..].to_vec())
}

fn write(path: &Path, header: &Value, data: &[u8]) {
    let text = header.to_string();
    let bytes = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat();
    fs::write(path, bytes).unwrap();
}

/// Changes one tensor's f32 values in place.
fn change(folder: &Path, tensor: &str, change: impl FnOnce(&mut [f32])) {
    let file = folder.join("model.safetensors");
    let (header, mut data) = parts(&file);
    let at = |i: usize| header[tensor]["data_offsets"][i].as_u64().unwrap() as usize;
    let bytes = &mut data[at(0)..at(1)];
    let mut values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    change(&mut values);
    for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
    write(&file, &header, &data);
}

/// Gives the tensors other names.
fn rename(folder: &Path, name: impl Fn(&str) -> String) {
    let file = folder.join("model.safetensors");
    let (header, data) = parts(&file);
    let renamed: BTreeMap<String, &Value> = header
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (if key == "__metadata__" { key.clone() } else { name(key) }, value))
        .collect();
    write(&file, &json!(renamed), &data);
}

fn edit(path: &Path, key: &str, value: Value) {
    let mut object: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    object[key] = value;
    fs::write(path, object.to_string()).unwrap();
}

fn generated(model: &str) -> Value {
    let flags = ["generate", "--model", model, "--prompt", "count", "--max-new-tokens", "9", "--json"];
    serde_json::from_str(&succeed(&flags).out).unwrap()
}

/// Answers, win rates and what is trained stop where `generation_config.json` says, too.
#[test]
fn answers_stop_at_the_tokens_of_generation_config() {
    let lab = Lab::with_model();
    // Nothing but the embeddings is left: ANSWER follows every other token, and STOP follows both.
    let folder = lab.copy_model("talker");
    for layer in 0..3 {
        for part in ["self_attn.o_proj", "mlp.down_proj"] {
            change(&folder, &format!("model.layers.{layer}.{part}.weight"), |values| values.fill(0.0));
        }
    }
    change(&folder, "model.norm.weight", |values| values.fill(1.0));
    change(&folder, "model.embed_tokens.weight", |values| {
        values.fill(0.0);
        let width = 96;
        values.iter_mut().step_by(width).for_each(|v| *v = 1.0);
        (values[ANSWER * width], values[ANSWER * width + 1]) = (3.0, 1.0);
        (values[STOP * width], values[STOP * width + 1]) = (0.0, 20.0);
    });
    let model = lab.path("talker");
    let row =
        r#"{"prompt": "count", "chosen": " a b", "rejected": " b a", "verifier": "exact", "gold": "7"}"#;
    let data = lab.write("rows.jsonl", format!("{row}\n"));
    let win_rate = |model: &str| {
        let (task, out) = (format!("t={data}"), lab.path("eval.json"));
        let flags =
            ["eval", "--model", model, "--reference", model, "--task", &task, "--out", &out, "--json"];
        let said: Value = serde_json::from_str(&succeed(&flags).out).unwrap();
        said["tasks"]["t"]["win_rate"].as_f64().unwrap()
    };
    let endless = generated(&model);
    assert_eq!((&endless["new_tokens"], &endless["stopped"]), (&json!(9), &json!(false)), "{endless}");
    assert_eq!(win_rate(&model), 0.0);

    let file = folder.join("generation_config.json");
    for ids in [json!({"eos_token_id": STOP}), json!({"eos_token_id": [0, STOP]})] {
        fs::write(&file, ids.to_string()).unwrap();
        let said = generated(&model);
        assert_eq!((&said["text"], &said["stopped"]), (&json!(" 7"), &json!(true)), "{ids}: {said}");
        assert_eq!(win_rate(&model), 1.0, "{ids}");
    }
    let out = lab.path("trained");
    succeed(&["specialist", "--model", &model, "--data", &data, "--out", &out, "--steps", "1"]);
    assert_eq!(fs::read(Path::new(&out).join("generation_config.json")).unwrap(), fs::read(&file).unwrap());
    assert_eq!(generated(&out)["text"], json!(" 7"));

    fs::write(&file, r#"{"eos_token_id": "</s>"}"#).unwrap();
    refused(
        &["generate", "--model", &model, "--prompt", "count"],
        &["generation_config.json", "eos_token_id"],
    );
}

/// The results of a run are those of the stop tokens that its model has today.
#[test]
fn a_run_evaluates_again_when_the_stop_tokens_change() {
    let lab = Lab::with_model();
    let folder = lab.copy_model("start");
    let text = fs::read_to_string(lab.config("run.toml")).unwrap();
    let at = text.find("[base]").unwrap();
    let end = text.find("[data]").unwrap();
    let methods = text.find("[[method]]\nname = 'ama-r'").unwrap();
    let tasks = text.find("[[task]]").unwrap();
    let text = format!("{}[model]\npath = 'start'\n{}{}", &text[..at], &text[end..methods], &text[tasks..]);
    let (config, out) = (lab.write("start.toml", text.replace("[0, 1]", "[0]")), lab.path("run"));
    succeed(&["run", &config, "--out", &out]);
    let again = |what: &str| {
        let said = succeed(&["run", &config, "--out", &out]);
        said.err.lines().any(|line| line.contains(what) && line.contains("done in"))
    };
    assert!(!again("evaluation/base"), "nothing is done twice");
    fs::write(folder.join("generation_config.json"), r#"{"eos_token_id": [4, 9]}"#).unwrap();
    assert!(again("evaluation/base"), "the base model's answers stop elsewhere now");
}

#[test]
fn what_is_no_full_model_is_refused_for_what_it_is() {
    let lab = Lab::with_model();
    let data = lab.path("suite/train/helpful.parquet");
    let check = |model: &str, wants: &[&str]| {
        let before = lab.names();
        for said in [
            refused(&["generate", "--model", model, "--prompt", "a"], wants),
            refused(&["specialist", "--model", model, "--data", &data, "--out", &lab.path("out")], wants),
            refused(&["score", "--model", model, "--data", &data, "--out", &lab.path("s.parquet")], wants),
        ] {
            assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        }
        assert_eq!(lab.names(), before, "nothing is left");
    };
    check("some-org-of-nobody/no-such-model", &["some-org-of-nobody/no-such-model", "Hub", "download"]);
    check("~/models/tiny", &["~/models/tiny", "shell"]);
    check(&lab.write("m.gguf", "GGUF"), &["m.gguf", "GGUF"]);
    check(&lab.path("model/model.safetensors"), &["model.safetensors", "the folder"]);

    let lora = lab.copy_model("lora");
    fs::rename(lora.join("model.safetensors"), lora.join("adapter_model.safetensors")).unwrap();
    fs::write(lora.join("adapter_config.json"), r#"{"base_model_name_or_path": "org/base"}"#).unwrap();
    check(&lab.path("lora"), &["an adapter of org/base", "merge_and_unload"]);
    let merge = ["merge", "--method", "linear", "--model"];
    refused(
        &[&merge[..], &[&lab.path("lora"), "--out", &lab.path("out")]].concat(),
        &["an adapter of org/base"],
    );

    fs::create_dir(lab.path("parent")).unwrap();
    fs::rename(lab.copy_model("step"), lab.path("parent/step-10")).unwrap();
    check(&lab.path("parent"), &["parent/step-10"]);
    fs::create_dir_all(lab.path("models--org--name/snapshots")).unwrap();
    fs::rename(lab.copy_model("snapshot"), lab.path("models--org--name/snapshots/0123abc")).unwrap();
    check(&lab.path("models--org--name"), &["Hub cache", "models--org--name/snapshots/0123abc"]);

    let pieces = lab.copy_model("pieces");
    fs::rename(pieces.join("tokenizer.json"), pieces.join("tokenizer.model")).unwrap();
    check(&lab.path("pieces"), &["pieces", "tokenizer.model", "save_pretrained"]);
    fs::remove_file(lab.copy_model("unconfigured").join("config.json")).unwrap();
    check(&lab.path("unconfigured"), &["unconfigured", "no config.json beside the weights", "copy"]);
    rename(&lab.copy_model("wrapped"), |name| format!("_orig_mod.{name}"));
    check(&lab.path("wrapped"), &["wrapped/model.safetensors", "`_orig_mod.`"]);
    rename(&lab.copy_model("bare"), |name| name.trim_start_matches("model.").to_owned());
    check(
        &lab.path("bare"),
        &["bare/model.safetensors", "`embed_tokens.weight`", "lack the prefix `model.`"],
    );
    edit(&lab.copy_model("headless").join("config.json"), "tie_word_embeddings", json!(false));
    check(&lab.path("headless"), &["lm_head.weight", "tie_word_embeddings"]);
    edit(&lab.copy_model("family").join("config.json"), "model_type", json!("qwen2"));
    check(&lab.path("family"), &["family/config.json", "model_type", "qwen2"]);

    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n";
    for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"] {
        let folder = lab.copy_model(&format!("lfs-{file}"));
        fs::write(folder.join(file), pointer).unwrap();
        check(&folder.display().to_string(), &[file, "git lfs pull"]);
    }
}

/// The same for configurations: before any stage begins, and without a run folder full of stores.
#[test]
fn a_run_refuses_its_model_first() {
    let lab = Lab::with_model();
    let lora = lab.copy_model("lora");
    fs::write(lora.join("adapter_config.json"), "{}").unwrap();
    let text = fs::read_to_string(lab.config("run.toml")).unwrap();
    let (at, end) = (text.find("[base]").unwrap(), text.find("[data]").unwrap());
    let config = lab.write("lora.toml", format!("{}[model]\npath = 'lora'\n{}", &text[..at], &text[end..]));
    refused(&["run", &config, "--out", &lab.path("run")], &["lora", "full weights and an adapter"]);
    assert!(!Path::new(&lab.path("run/data")).exists());
}

#[test]
fn broken_weights_are_named_and_nothing_is_written() {
    let lab = Lab::with_model();
    let tensor = "model.layers.1.mlp.up_proj.weight";
    change(&lab.copy_model("nan"), tensor, |values| values[5 * 96 + 7] = f32::NAN);
    let (model, data, out) = (lab.path("nan"), lab.path("suite/train/helpful.parquet"), lab.path("out"));
    let before = lab.names();
    let wants = ["nan/model.safetensors", tensor, "NaN", "[5, 7]"];
    refused(&["specialist", "--model", &model, "--data", &data, "--out", &out], &wants);
    refused(&["score", "--model", &model, "--data", &data, "--out", &out], &wants);
    refused(&["generate", "--model", &model, "--prompt", "a"], &wants);
    let task = format!("t={data}");
    refused(&["eval", "--model", &model, "--reference", &model, "--task", &task, "--out", &out], &wants);
    let both = ["--model", &model, "--model", &lab.path("model"), "--out", &out];
    refused(&[&["merge", "--method", "linear"], &both[..]].concat(), &["nan", tensor]);
    assert_eq!(lab.names(), before, "nothing is left");
}

/// A learning rate that blows up: whatever step it happens in, no model and no checkpoint holds what it left.
#[test]
fn diverged_weights_are_never_written() {
    let lab = Lab::with_model();
    let (model, data) = (lab.path("model"), lab.path("suite/train/helpful.parquet"));
    for (name, flags) in [
        // In the last step there is no later loss to find out.
        ("last", ["--lr", "1e39", "--steps", "1", "--checkpoint-every", "100"]),
        ("checkpoint", ["--lr", "1e39", "--steps", "3", "--checkpoint-every", "1"]),
        ("later", ["--lr", "1e30", "--steps", "9", "--checkpoint-every", "100"]),
    ] {
        let out = lab.path(name);
        let common = ["--clip", "0", "--sft-weight", "1", "--schedule", "constant", "--max-length", "64"];
        let files = ["--model", &model, "--data", &data, "--out", &out];
        let said = call(&[&["specialist"], &files[..], &common[..], &flags[..]].concat());
        assert_eq!(said.code, Some(1), "{name}: {}", said.err);
        assert!(said.err.contains("step") && said.err.contains("lower the learning rate"), "{}", said.err);
        assert!(!Path::new(&out).exists(), "{name}");
        // Huge but finite weights make a checkpoint, broken ones make none; the reference's scores stay for the next call.
        let checkpoints = fs::read_dir(lab.path(&format!("{name}.partial/checkpoints")));
        let steps = checkpoints.into_iter().flatten().flatten();
        let steps = steps.filter(|step| step.file_name().to_string_lossy().starts_with("step-")).count();
        assert_eq!(steps > 0, name == "later", "{name}: {}", said.err);
    }
}

#[test]
fn a_cause_is_said_once_and_without_colours() {
    let lab = Lab::with_model();
    let folder = lab.copy_model("broken");
    fs::write(folder.join("config.json"), "{").unwrap();
    let said = call(&["generate", "--model", &lab.path("broken"), "--prompt", "a"]);
    assert_eq!(said.err.matches("line 1").count(), 1, "{}", said.err);
    assert!(said.err.lines().count() == 1 && !said.err.contains('\u{1b}'), "{}", said.err);
    let said = call(&["run", &lab.path("absent.toml"), "--out", &lab.path("run")]);
    assert_eq!(said.err.matches("os error").count(), 1, "{}", said.err);
}
