//! Tokenizer classes that `transformers` 5 does not take as `tokenizer.json` describes them.
//!
//! For `"tokenizer_class": "GPT2Tokenizer"` or `"LlamaTokenizer"` in `tokenizer_config.json` (with or without
//! `Fast`), `transformers` keeps vocabulary, merges, added tokens and post-processor of `tokenizer.json`, but
//! replaces its normalizer, pre-tokenizer and decoder by those of the class. SmolLM2 is such a model: its file
//! splits digits before byte-level splitting, its class does not, and one text in twenty gets other ids (`"=  5"`:
//! the two spaces are one token or two). TRL trains on what the class makes of it, so this crate does too.

use serde_json::{Map, Value, json};

/// What `tokenizer.json`, read from `bytes`, becomes; `None` if it is taken as it is.
///
/// `model_type` is from `config.json`. Other families than Llama load these classes by other rules, and their
/// files are taken as they are.
pub(super) fn rebuilt(bytes: &[u8], config: &Map<String, Value>, model_type: Option<&str>) -> Option<Value> {
    let class = config.get("tokenizer_class")?.as_str()?;
    let file: Value = serde_json::from_slice(bytes).ok()?;
    if !matches!(model_type, None | Some("llama")) || file["model"]["merges"].as_array().is_none() {
        return None;
    }
    let add_prefix_space = config.get("add_prefix_space").and_then(Value::as_bool);
    let mut parts = match class.strip_suffix("Fast").unwrap_or(class) {
        "GPT2Tokenizer" => gpt2(add_prefix_space.unwrap_or(false)),
        // A byte-level file (Llama 3) is kept even under this name; `transformers` tells by this very search.
        "LlamaTokenizer" if !bytes.windows(BYTE_LEVEL.len()).any(|window| window == BYTE_LEVEL) => {
            let legacy = config.get("legacy").and_then(Value::as_bool).unwrap_or(false);
            llama(add_prefix_space.unwrap_or(true), legacy)
        }
        _ => return None,
    };
    parts["model"]["vocab"] = file["model"]["vocab"].clone();
    parts["model"]["merges"] = file["model"]["merges"].clone();
    let mut rebuilt = file.clone();
    for (part, value) in parts.as_object()? {
        rebuilt[part] = value.clone();
    }
    Some(rebuilt)
}

const BYTE_LEVEL: &[u8] = b"\"ByteLevel\"";

fn gpt2(add_prefix_space: bool) -> Value {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true});
    json!({
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": bpe(false, false),
    })
}

fn llama(add_prefix_space: bool, legacy: bool) -> Value {
    let prepend_scheme = match (add_prefix_space, legacy) {
        (true, false) => "first",
        (true, true) => "always",
        (false, _) => "never",
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if add_prefix_space {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({
        "normalizer": null,
        "pre_tokenizer":
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend_scheme, "split": false},
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": bpe(true, true),
    })
}

fn bpe(fuse_unk: bool, byte_fallback: bool) -> Value {
    json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": fuse_unk, "byte_fallback": byte_fallback, "ignore_merges": false,
    })
}
