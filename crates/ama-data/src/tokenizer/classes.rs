//! Tokenizer classes that `transformers` 5 does not take as `tokenizer.json` describes them.
//!
//! For most classes, `TokenizersBackend` among them, `tokenizer.json` is the tokenizer. Some classes keep vocabulary,
//! merges and (mostly) post-processor of the file, and replace its normalizer, pre-tokenizer, decoder and added tokens
//! by their own. SmolLM2 is such a model: its file splits digits before byte-level splitting, its class does not,
//! and one text in twenty gets other ids (`"=  5"`: the two spaces are one token or two). TRL trains on what the class
//! makes of it, so this crate does too. Classes that are not repeated here are refused by name.

use serde_json::{Map, Value, json};

use super::families;

/// The tokenizer classes that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// `tokenizer.json` as it is.
    File,
    Llama,
    CodeLlama,
    Gemma,
    Gpt2,
    CodeGen,
    GptNeoX,
    Qwen2,
    Qwen3_5,
    Cohere,
}

/// Why no class could be chosen.
#[derive(Debug)]
pub(super) enum Refused {
    /// A class that is built anew in a way that is not repeated here.
    Class(String),
    /// Python code in the folder.
    RemoteCode,
}

/// The class that `AutoTokenizer` of `transformers` 5.23 chooses (without `mistral-common`, without remote code).
///
/// `byte_level` is whether `"ByteLevel"` stands in `tokenizer.json`.
pub(super) fn choose(
    config: &Map<String, Value>,
    model: &Map<String, Value>,
    byte_level: bool,
) -> Result<Class, Refused> {
    let text = |map: &Map<String, Value>, key: &str| {
        map.get(key).and_then(Value::as_str).map(|text| text.strip_suffix("Fast").unwrap_or(text).to_owned())
    };
    let (in_config, in_model) = (text(config, "tokenizer_class"), text(model, "tokenizer_class"));
    let model_type = model.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let registered = families::registered(model_type);
    let remote_code = match config.get("auto_map") {
        Some(Value::Object(map)) => map.get("AutoTokenizer").is_some_and(|code| !code.is_null()),
        Some(Value::Array(_)) => true,
        _ => false,
    };
    if let (false, Some(wanted)) = (remote_code, in_config.as_ref().or(in_model.as_ref())) {
        if wanted == "LlamaTokenizer" && byte_level && !families::wrongly_labelled(model_type) {
            return Ok(Class::File);
        }
        if let Some(registered) = registered.filter(|class| class != wanted) {
            if registered == "TokenizersBackend" {
                return Ok(Class::File);
            }
            let wrong = families::wrongly_labelled(model_type);
            return named(if wrong { registered } else { wanted });
        }
    }
    if let Some(wanted) = &in_config {
        let here = families::registered_by_config(model_type).is_some() || families::known(wanted);
        if remote_code && !here && !families::wrongly_labelled(model_type) {
            return Err(Refused::RemoteCode);
        }
        return named(wanted);
    }
    let of_model = in_model.as_deref().or(families::registered_by_config(model_type));
    named(of_model.unwrap_or("TokenizersBackend"))
}

fn named(class: &str) -> Result<Class, Refused> {
    Ok(match class {
        "LlamaTokenizer" => Class::Llama,
        "CodeLlamaTokenizer" => Class::CodeLlama,
        "GemmaTokenizer" => Class::Gemma,
        "GPT2Tokenizer" => Class::Gpt2,
        "CodeGenTokenizer" => Class::CodeGen,
        "GPTNeoXTokenizer" => Class::GptNeoX,
        "Qwen2Tokenizer" => Class::Qwen2,
        "Qwen3_5Tokenizer" => Class::Qwen3_5,
        "CohereTokenizer" => Class::Cohere,
        "TokenizersBackend" | "PreTrainedTokenizer" => Class::File,
        other if families::known(other) => return Err(Refused::Class(other.to_owned())),
        // Of a class that nobody knows, `transformers` takes the file.
        _ => Class::File,
    })
}

impl Class {
    /// Named special tokens where no file says anything.
    pub(super) fn default_tokens(self) -> &'static [(&'static str, &'static str)] {
        const END: &str = "<|endoftext|>";
        match self {
            Self::File => &[],
            Self::Llama | Self::CodeLlama => {
                &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")]
            }
            Self::Gemma => &[
                ("unk_token", "<unk>"),
                ("bos_token", "<bos>"),
                ("eos_token", "<eos>"),
                ("pad_token", "<pad>"),
                ("mask_token", "<mask>"),
            ],
            Self::Gpt2 | Self::CodeGen => &[("unk_token", END), ("bos_token", END), ("eos_token", END)],
            Self::GptNeoX => {
                &[("unk_token", END), ("bos_token", END), ("eos_token", END), ("pad_token", "<|padding|>")]
            }
            Self::Qwen2 | Self::Qwen3_5 => &[("unk_token", END), ("eos_token", END), ("pad_token", END)],
            Self::Cohere => &[
                ("unk_token", "<UNK>"),
                ("bos_token", "<BOS_TOKEN>"),
                ("eos_token", "<|END_OF_TURN_TOKEN|>"),
                ("pad_token", "<PAD>"),
                ("cls_token", "<CLS>"),
                ("sep_token", "<SEP>"),
                ("mask_token", "<MASK_TOKEN>"),
            ],
        }
    }

    /// Special tokens of the class's own, unless a file says that there is none.
    pub(super) fn own_tokens(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::CodeLlama => &[
                ("prefix_token", "▁<PRE>"),
                ("middle_token", "▁<MID>"),
                ("suffix_token", "▁<SUF>"),
                ("eot_token", "▁<EOT>"),
                ("fill_token", "<FILL_ME>"),
            ],
            _ => &[],
        }
    }

    /// Whether the class has no padding token that stands above the one of `tokenizer.json`'s padding.
    pub(super) fn takes_padding_token(self) -> bool {
        matches!(self, Self::File | Self::Llama | Self::CodeLlama)
    }

    /// `file` (`tokenizer.json`) as this class has it; `None` if it is taken as it is.
    pub(super) fn rebuild(
        self,
        file: &Value,
        config: &Map<String, Value>,
        unk_token: Option<&str>,
    ) -> Option<Value> {
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        let prefix_space = flag("add_prefix_space");
        // The classes put the texts of their unknown tokens into Python's `str`.
        let unk = json!(unk_token.unwrap_or("None"));
        let (normalizer, pre_tokenizer, decoder, model) = match self {
            Self::File => return None,
            Self::Llama => {
                let prefix_space = prefix_space.unwrap_or(true);
                let scheme = match (prefix_space, flag("legacy").unwrap_or(false)) {
                    (true, false) => "first",
                    (true, true) => "always",
                    (false, _) => "never",
                };
                (Value::Null, metaspace(scheme), pieces(prefix_space), bpe(true, true, Value::Null))
            }
            Self::CodeLlama => {
                let scheme = if prefix_space.unwrap_or(true) { "first" } else { "never" };
                (Value::Null, metaspace(scheme), pieces(true), bpe(true, true, unk))
            }
            Self::Gemma => (
                json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
                json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
                pieces(false),
                bpe(true, true, unk),
            ),
            Self::Gpt2 | Self::CodeGen => {
                let prefix_space = prefix_space.unwrap_or(false);
                (Value::Null, byte_level(prefix_space, true), byte_level(true, true), plain_bpe())
            }
            Self::GptNeoX => {
                (nfc(), byte_level(prefix_space.unwrap_or(false), true), byte_level(true, true), plain_bpe())
            }
            Self::Qwen2 | Self::Qwen3_5 => {
                let regex = if self == Self::Qwen2 { QWEN2 } else { QWEN3_5 };
                let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
                let bytes = byte_level(prefix_space.unwrap_or(false), false);
                (nfc(), sequence([split, bytes]), byte_level(true, true), plain_bpe())
            }
            Self::Cohere => {
                let bytes = byte_level(prefix_space.unwrap_or(false), true);
                let digits = json!({"type": "Digits", "individual_digits": true});
                (nfc(), sequence([digits, bytes.clone()]), bytes, plain_bpe())
            }
        };
        let mut model = model;
        model["vocab"] = match &file["model"]["vocab"] {
            // A Unigram file: the pieces in their order.
            Value::Array(pieces) => pieces
                .iter()
                .enumerate()
                .filter_map(|(id, piece)| {
                    let piece = piece.as_str().or_else(|| piece.get(0)?.as_str())?;
                    Some((piece.to_owned(), json!(id)))
                })
                .collect::<Map<_, _>>()
                .into(),
            vocab => vocab.clone(),
        };
        model["merges"] = file["model"].get("merges").cloned().unwrap_or_else(|| json!([]));
        let post_processor = match (self, &file["post_processor"]) {
            // This class has no post-processor but for a BOS or EOS that is asked for in Python.
            (Self::GptNeoX, _) => &Value::Null,
            (_, post_processor) => post_processor,
        };
        Some(json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
            "decoder": decoder, "model": model,
        }))
    }
}

pub(super) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const QWEN3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn byte_level(add_prefix_space: bool, use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex})
}

fn nfc() -> Value {
    json!({"type": "NFC"})
}

fn sequence(parts: [Value; 2]) -> Value {
    json!({"type": "Sequence", "pretokenizers": parts})
}

fn metaspace(prepend_scheme: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend_scheme, "split": false})
}

fn pieces(strip: bool) -> Value {
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if strip {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": decoders})
}

fn plain_bpe() -> Value {
    bpe(false, false, Value::Null)
}

fn bpe(fuse_unk: bool, byte_fallback: bool, unk_token: Value) -> Value {
    json!({
        "type": "BPE", "dropout": null, "unk_token": unk_token, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": fuse_unk, "byte_fallback": byte_fallback, "ignore_merges": false,
    })
}
