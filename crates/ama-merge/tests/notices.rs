//! What a merge says about models that differ in more than their weights: each difference by key or file, and nothing about
//! models that say the same in other words.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use ama_merge::{MergeError, Method, Notice, Recipe, Vocabulary, WeightDtype, merge};
use serde_json::{Value, json};
use support::{Lab, fine_tune, random_model};

/// Two models of the same architecture with the same files beside their weights.
struct Pair {
    lab: Lab,
    base: PathBuf,
    other: PathBuf,
}

impl Pair {
    fn new() -> Self {
        let lab = Lab::new();
        let weights = random_model(1, 20);
        let base = lab.model("base", &weights, WeightDtype::F32);
        let other = lab.model("other", &fine_tune(&weights, 2, 0.1), WeightDtype::F32);
        let pair = Self { lab, base, other };
        for dir in [&pair.base, &pair.other] {
            for (file, value) in files() {
                write(dir, file, &value);
            }
            fs::write(dir.join("chat_template.jinja"), "{{ messages }}\n").unwrap();
        }
        pair
    }

    /// A pair whose second model has one file changed.
    fn with(file: &str, change: impl FnOnce(&mut Value)) -> Self {
        let pair = Self::new();
        edit(&pair.other, file, change);
        pair
    }

    fn merge(&self) -> Result<Vec<Notice>, MergeError> {
        let out = self.lab.path("out");
        let _ = fs::remove_dir_all(&out);
        let recipe = Recipe::new(Method::Linear, None, vec![self.base.clone(), self.other.clone()]);
        merge(&recipe, &out).map(|report| report.notices)
    }

    /// The merge gives exactly one note, and it says all of this.
    #[track_caller]
    fn noted(&self, wants: &[&str]) {
        let notices = self.merge().unwrap();
        let text: Vec<String> = notices.iter().map(Notice::to_string).collect();
        assert_eq!(text.len(), 1, "{text:#?}");
        for want in [&["other"], wants].concat() {
            assert!(
                text[0].contains(want) && text[0].lines().count() == 1,
                "{want:?} is not in {:?}",
                text[0]
            );
        }
    }

    #[track_caller]
    fn quiet(&self) {
        let notices = self.merge().unwrap();
        assert!(notices.is_empty(), "{notices:#?}");
    }
}

fn files() -> [(&'static str, Value); 4] {
    [
        (
            "config.json",
            json!({
                "model_type": "llama", "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "silu",
                "tie_word_embeddings": false, "rms_norm_eps": 1e-5, "max_position_embeddings": 2048,
                "eos_token_id": 0, "rope_theta": 500000, "rope_scaling": {"type": "linear", "factor": 2},
                "torch_dtype": "float32", "transformers_version": "4.50.0",
            }),
        ),
        ("generation_config.json", json!({"eos_token_id": [0, 2], "transformers_version": "4.50.0"})),
        ("tokenizer_config.json", json!({"eos_token": "</s>", "tokenizer_class": "LlamaTokenizerFast"})),
        (
            "tokenizer.json",
            json!({
                "version": "1.0", "normalizer": null,
                "added_tokens": [{"content": "</s>", "id": 0}],
                "model": {"type": "BPE", "vocab": {"</s>": 0, "a": 1, "b": 2, "ab": 3, "ba": 4}, "merges": ["a b", "b a"]},
            }),
        ),
    ]
}

fn write(dir: &Path, file: &str, value: &Value) {
    fs::write(dir.join(file), value.to_string()).unwrap();
}

fn edit(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(dir.join(file)).unwrap()).unwrap();
    change(&mut value);
    write(dir, file, &value);
}

#[test]
fn equal_models_give_no_note() {
    Pair::new().quiet();
}

#[test]
fn the_same_in_other_words_gives_no_note() {
    // What transformers 5 writes of the same model.
    Pair::with("config.json", |config| {
        let keys = config.as_object_mut().unwrap();
        keys.retain(|key, _| key != "rope_theta" && key != "rope_scaling" && key != "torch_dtype");
        config["rope_parameters"] = json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0});
        config["dtype"] = "float32".into();
        config["eos_token_id"] = json!([0]);
        config["attention_bias"] = false.into();
        config["pad_token_id"] = Value::Null;
        config["transformers_version"] = "5.23.0".into();
        config["_name_or_path"] = "models/base".into();
    })
    .quiet();
    Pair::with("generation_config.json", |config| config["eos_token_id"] = json!([2, 0])).quiet();
    Pair::with("tokenizer_config.json", |config| {
        config["eos_token"] = json!({"content": "</s>", "lstrip": false});
        config["tokenizer_class"] = "LlamaTokenizer".into();
        config["padding_side"] = "left".into();
    })
    .quiet();
    Pair::with("tokenizer.json", |tokenizer| {
        tokenizer["model"]["merges"] = json!([["a", "b"], ["b", "a"]]);
        tokenizer["model"]["byte_fallback"] = false.into();
        tokenizer["truncation"] = json!({"max_length": 512});
    })
    .quiet();
    // The same chat template at its older place.
    let pair =
        Pair::with("tokenizer_config.json", |config| config["chat_template"] = "{{ messages }}".into());
    fs::remove_file(pair.other.join("chat_template.jinja")).unwrap();
    pair.quiet();
}

#[test]
fn keys_that_differ_are_named_with_both_values() {
    for (file, key, value, wants) in [
        ("config.json", "eos_token_id", json!(2), ["eos_token_id = 2", "kept 0"]),
        ("config.json", "eos_token_id", json!([0, 2]), ["eos_token_id = [0,2]", "kept 0"]),
        ("config.json", "rms_norm_eps", json!(1e-6), ["rms_norm_eps = 1e-6", "kept 0.00001"]),
        (
            "config.json",
            "max_position_embeddings",
            json!(8192),
            ["max_position_embeddings = 8192", "kept 2048"],
        ),
        ("config.json", "rope_theta", json!(10000), ["rope_theta = 10000", "kept 500000"]),
        ("config.json", "rope_scaling", json!({"type": "linear", "factor": 4}), ["factor = 4", "kept 2"]),
        ("config.json", "bos_token_id", json!(1), ["bos_token_id = 1", "the template has none"]),
        ("config.json", "rms_norm_eps", Value::Null, ["no rms_norm_eps", "kept 0.00001"]),
        ("config.json", "a_key_of_the_future", json!("x"), ["a_key_of_the_future = \"x\"", "none"]),
        ("generation_config.json", "eos_token_id", json!(0), ["generation_config.json", "kept [0,2]"]),
        ("generation_config.json", "temperature", json!(0.6), ["temperature = 0.6", "none"]),
        ("tokenizer_config.json", "eos_token", json!("b"), ["tokenizer_config.json", "eos_token = \"b\""]),
        ("tokenizer_config.json", "add_bos_token", json!(true), ["add_bos_token = true", "none"]),
    ] {
        Pair::with(file, |object| object[key] = value).noted(&wants);
    }
}

#[test]
fn what_weights_mean_is_refused() {
    let pair = Pair::with("config.json", |config| config["num_attention_heads"] = 4.into());
    let error = pair.merge().unwrap_err();
    assert!(matches!(error, MergeError::Architecture { key: "num_attention_heads", .. }), "{error}");
}

#[test]
fn chat_templates_are_compared_wherever_they_are() {
    let pair = Pair::new();
    fs::write(pair.other.join("chat_template.jinja"), "{{ bos_token }}").unwrap();
    pair.noted(&["chat_template.jinja differs"]);
    fs::remove_file(pair.other.join("chat_template.jinja")).unwrap();
    pair.noted(&["no chat template"]);
    edit(&pair.other, "tokenizer_config.json", |config| config["chat_template"] = "{{ x }}".into());
    pair.noted(&["chat_template of tokenizer_config.json differs"]);
    fs::remove_file(pair.base.join("chat_template.jinja")).unwrap();
    pair.noted(&["chat_template of tokenizer_config.json", "is not in the result", "base has none"]);
}

#[test]
fn files_that_one_folder_lacks_are_named() {
    for file in ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"] {
        let pair = Pair::new();
        fs::remove_file(pair.other.join(file)).unwrap();
        pair.noted(&[file, "no "]);
        let pair = Pair::new();
        fs::remove_file(pair.base.join(file)).unwrap();
        pair.noted(&[file, "not in the result"]);
    }
}

#[test]
fn tokenizers_that_cut_texts_otherwise_are_named() {
    Pair::with("tokenizer.json", |t| t["model"]["merges"] = json!(["b a", "a b"])).noted(&["model.merges"]);
    Pair::with("tokenizer.json", |t| t["normalizer"] = json!({"type": "NFC"})).noted(&["normalizer"]);
    // Without tokenizer.json, the older files are compared.
    let pair = Pair::new();
    for dir in [&pair.base, &pair.other] {
        fs::remove_file(dir.join("tokenizer.json")).unwrap();
        fs::write(dir.join("tokenizer.model"), dir.display().to_string()).unwrap();
    }
    pair.noted(&["tokenizer.model differs"]);
}

#[test]
fn tokens_that_only_other_files_name_are_compared() {
    let pair = Pair::new();
    for (dir, token) in [(&pair.base, "<x>"), (&pair.other, "<y>")] {
        write(dir, "added_tokens.json", &json!({ token: 5 }));
    }
    let error = pair.merge().unwrap_err();
    assert!(matches!(error, MergeError::Vocabulary { .. }) && error.to_string().contains("id 5"), "{error}");
    let pair = Pair::new();
    let decoder = |token: &str| json!({"5": {"content": token, "special": true}});
    for (dir, token) in [(&pair.base, "<x>"), (&pair.other, "<y>")] {
        edit(dir, "tokenizer_config.json", |config| config["added_tokens_decoder"] = decoder(token));
    }
    assert!(matches!(pair.merge().unwrap_err(), MergeError::Vocabulary { .. }));
    edit(&pair.other, "tokenizer_config.json", |config| config["added_tokens_decoder"] = decoder("<x>"));
    pair.quiet();
    // Whoever trusts the vocabularies is not bothered with them.
    edit(&pair.other, "tokenizer_config.json", |config| config["added_tokens_decoder"] = decoder("<y>"));
    let mut recipe = Recipe::new(Method::Linear, None, vec![pair.base.clone(), pair.other.clone()]);
    recipe.vocabulary = Vocabulary::Trust;
    let _ = fs::remove_dir_all(pair.lab.path("out"));
    assert!(merge(&recipe, &pair.lab.path("out")).unwrap().notices.is_empty());
}

#[test]
fn folders_that_are_no_full_models_are_refused() {
    let pair = Pair::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n";
    for file in ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors"] {
        let pair = Pair::new();
        fs::write(pair.other.join(file), pointer).unwrap();
        let error = pair.merge().unwrap_err().to_string();
        assert!(error.contains(&format!("other/{file}")) && error.contains("git lfs pull"), "{error}");
        assert!(!pair.lab.path("out").exists());
    }
    write(&pair.other, "adapter_config.json", &json!({"peft_type": "LORA"}));
    fs::remove_file(pair.other.join("model.safetensors")).unwrap();
    let error = pair.merge().unwrap_err().to_string();
    assert!(error.contains("an adapter"), "{error}");
}
