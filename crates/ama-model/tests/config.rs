//! `config.json`: both dialects, rotary frequencies against `transformers`, and what is refused.

mod support;

use std::fs;
use std::path::Path;

use ama_model::{LlamaConfig, ModelError, RopeScaling};
use serde_json::{Value, json};
use support::golden;

/// A valid file, in which each case changes one key.
fn base() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 100,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true,
        "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": [2, 3]
    })
}

fn parse(value: &Value) -> Result<LlamaConfig, ModelError> {
    LlamaConfig::from_json_str(&value.to_string(), Path::new("some/config.json"))
}

#[test]
fn rotary_frequencies_are_those_of_transformers() {
    let cases: Vec<Value> =
        serde_json::from_slice(&fs::read(golden("rope.json")).expect("there")).expect("JSON");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let ours = parse(&case["config"]).expect("a config of transformers").rope_inv_freq();
        let theirs: Vec<f64> = serde_json::from_value(case["inv_freq"].clone()).expect("numbers");
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(&theirs) {
            // They compute in f32.
            assert!((a - b).abs() <= 4e-7 * b.abs(), "{a} vs {b} in {}", case["config"]["rope_parameters"]);
        }
    }
}

#[test]
fn both_dialects_say_the_same() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let mut old = base();
    old["rope_theta"] = json!(500_000);
    old["rope_scaling"] = llama3.clone();
    let mut new = base();
    new.as_object_mut().expect("an object").remove("rope_theta");
    new["rope_parameters"] = llama3;
    new["rope_parameters"]["rope_theta"] = json!(500_000.0);
    let (old, new) = (parse(&old).expect("old"), parse(&new).expect("new"));
    assert_eq!(old, new);
    assert_eq!(old.rope_theta, 500_000.0);
    assert!(matches!(old.rope_scaling, RopeScaling::Llama3 { factor: 8.0, .. }));

    let mut linear = base();
    linear["rope_scaling"] = json!({"type": "linear", "factor": 2});
    assert_eq!(parse(&linear).expect("old key name").rope_scaling, RopeScaling::Linear { factor: 2.0 });
}

#[test]
fn defaults_are_those_of_transformers() {
    let mut sparse = base();
    for key in [
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_theta",
        "hidden_act",
        "tie_word_embeddings",
        "max_position_embeddings",
        "bos_token_id",
        "eos_token_id",
    ] {
        sparse.as_object_mut().expect("an object").remove(key);
    }
    let config = parse(&sparse).expect("defaults");
    assert_eq!((config.num_key_value_heads, config.head_dim), (8, 8));
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 10_000.0));
    assert!(!config.tie_word_embeddings);
    assert_eq!((config.bos_token_id, config.eos_token_ids.len()), (None, 0));

    let mut mistral = base();
    mistral["model_type"] = json!("mistral");
    mistral["sliding_window"] = Value::Null;
    mistral.as_object_mut().expect("an object").remove("num_key_value_heads");
    assert_eq!(parse(&mistral).expect("plain Mistral").num_key_value_heads, 8);
}

#[test]
fn whatever_is_not_plain_llama_is_refused_by_key() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    let flat = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let huge = json!(18_446_744_073_709_551_615u64);
    let cases = [
        ("hidden_size", json!(0), "hidden_size"),
        ("hidden_size", json!(-64), "hidden_size"),
        ("hidden_size", json!(64.5), "hidden_size"),
        ("hidden_size", json!("64"), "hidden_size"),
        ("hidden_size", huge.clone(), "hidden_size"),
        ("hidden_size", json!(1e300), "hidden_size"),
        ("hidden_size", Value::Null, "hidden_size"),
        ("hidden_size", json!(60), "hidden_size"),
        ("intermediate_size", json!(0), "intermediate_size"),
        ("intermediate_size", huge.clone(), "intermediate_size"),
        ("num_hidden_layers", json!(0), "num_hidden_layers"),
        ("num_hidden_layers", json!(1_000_000), "num_hidden_layers"),
        ("num_attention_heads", json!(0), "num_attention_heads"),
        ("num_key_value_heads", json!(3), "num_key_value_heads"),
        ("num_key_value_heads", json!(16), "num_key_value_heads"),
        ("head_dim", json!(7), "head_dim"),
        ("head_dim", json!(1_048_576), "head_dim"),
        ("vocab_size", json!(0), "vocab_size"),
        ("vocab_size", huge, "vocab_size"),
        ("rms_norm_eps", json!(0.0), "rms_norm_eps"),
        ("rms_norm_eps", json!("small"), "rms_norm_eps"),
        ("rope_theta", json!(0.0), "rope_theta"),
        ("rope_theta", json!(-1), "rope_theta"),
        ("max_position_embeddings", json!(-1), "max_position_embeddings"),
        ("eos_token_id", json!([2, -1]), "eos_token_id"),
        ("eos_token_id", json!("</s>"), "eos_token_id"),
        ("tie_word_embeddings", json!("yes"), "tie_word_embeddings"),
        ("model_type", json!("qwen2"), "model_type"),
        ("model_type", Value::Null, "model_type"),
        ("model_type", json!("mistral"), "sliding_window"),
        ("hidden_act", json!("gelu"), "hidden_act"),
        ("attention_bias", json!(true), "attention_bias"),
        ("mlp_bias", json!(true), "mlp_bias"),
        ("quantization_config", json!({"bits": 4}), "quantization_config"),
        ("partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
        ("rope_scaling", yarn.clone(), "rope_scaling.rope_type"),
        ("rope_parameters", yarn, "rope_parameters.rope_type"),
        ("rope_scaling", json!({"type": "dynamic", "factor": 2.0}), "rope_scaling.type"),
        ("rope_scaling", json!({"type": "linear"}), "rope_scaling.factor"),
        ("rope_scaling", json!({"type": "linear", "factor": 0.0}), "rope_scaling.factor"),
        ("rope_scaling", flat, "rope_scaling.high_freq_factor"),
        ("rope_scaling", json!([1]), "rope_scaling"),
        ("rope_parameters", json!({"rope_theta": 0}), "rope_parameters.rope_theta"),
    ];
    for (key, value, blamed) in cases {
        let mut config = base();
        config[key] = value.clone();
        let error = parse(&config).expect_err(&format!("{key} = {value}"));
        let ModelError::Config { key: named, path, .. } = &error else { panic!("{key} = {value}: {error}") };
        assert_eq!(named, blamed, "{error}");
        assert_eq!(path, Path::new("some/config.json"));
    }
    assert!(parse(&base()).is_ok());
}

#[test]
fn text_that_is_no_object_is_refused() {
    for text in ["", "{", "[]", "null", "{\"a\": 1,}", &"[".repeat(100_000)] {
        let error = LlamaConfig::from_json_str(text, Path::new("c.json")).expect_err("not an object");
        assert!(matches!(error, ModelError::Json { .. }), "{error}");
    }
    let error = LlamaConfig::from_json(Path::new("no/such/config.json")).expect_err("no file");
    assert!(error.to_string().contains("no/such/config.json"), "{error}");
}
