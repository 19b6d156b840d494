//! What the folders' configurations say differently. All keys are compared, save those that are known to change nothing:
//! a key that nobody thought of is reported rather than passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::MergeError;
use crate::folder::Folder;
use crate::json::{read_bytes, read_object};
use crate::notice::Notice;

/// Keys of `config.json` that say what weights mean; a difference is refused.
const MUST_AGREE: [&str; 4] = ["model_type", "num_attention_heads", "num_key_value_heads", "head_dim"];

/// Keys of configuration files in which a difference changes no token and no weight, or is dealt with elsewhere
/// (`tie_word_embeddings` when tensors are matched, element types when they are written, chat templates and added
/// tokens on their own).
const IGNORED: [&str; 35] = [
    "_attn_implementation_autoset",
    "_from_model_config",
    "_name_or_path",
    "added_tokens_decoder",
    "architectures",
    "attention_dropout",
    "auto_map",
    "backend",
    "chat_template",
    "clean_up_tokenization_spaces",
    "dtype",
    "embd_pdrop",
    "hidden_dropout",
    "initializer_range",
    "is_local",
    "local_files_only",
    "name_or_path",
    "output_attentions",
    "output_hidden_states",
    "padding_side",
    "pretraining_tp",
    "processor_class",
    "resid_pdrop",
    "return_dict",
    "special_tokens_map_file",
    "tie_word_embeddings",
    "tokenizer_file",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "truncation_side",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "use_fast",
];

/// Compares configuration, generation settings, tokenizer settings and chat template of a folder with the template's.
pub(crate) fn compare(
    folder: &Folder,
    reference: &Folder,
    notices: &mut Vec<Notice>,
) -> Result<(), MergeError> {
    for key in MUST_AGREE {
        if let (Some(got), Some(want)) = (present(&folder.config, key), present(&reference.config, key))
            && got != want
        {
            return Err(MergeError::Architecture {
                dir: folder.dir.clone(),
                reference: reference.dir.clone(),
                key,
                got: got.to_string(),
                want: want.to_string(),
            });
        }
    }
    let (dir, template) = (folder.dir.as_path(), reference.dir.as_path());
    let mut files = Files { dir, template, notices };
    let of = |folder: &Folder| (!folder.config.is_empty()).then(|| folder.config.clone());
    files.compare("config.json", of(folder), of(reference), true);
    let generation = "generation_config.json";
    files.compare(
        generation,
        read_object(&dir.join(generation))?,
        read_object(&template.join(generation))?,
        true,
    );
    let (tokenizer, special) = ("tokenizer_config.json", "special_tokens_map.json");
    let (got, want) = (read_object(&dir.join(tokenizer))?, read_object(&template.join(tokenizer))?);
    let chat = (chat_template(dir, got.as_ref())?, chat_template(template, want.as_ref())?);
    files.compare(tokenizer, got, want, true);
    // transformers 5 does not write this one any more, and tokenizer_config.json says the same.
    files.compare(special, read_object(&dir.join(special))?, read_object(&template.join(special))?, false);
    match chat {
        (Some((file, got)), Some((_, want))) if got != want => {
            files.notices.push(Notice::FileDiffers { dir: dir.to_path_buf(), file });
        }
        (Some((file, _)), None) => files.left_out(file),
        (None, Some(_)) => files.missing("chat template (chat_template.jinja)"),
        _ => {}
    }
    Ok(())
}

fn present<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    config.get(key).filter(|value| !value.is_null())
}

/// Two folders, and what is different about them.
struct Files<'a> {
    dir: &'a Path,
    template: &'a Path,
    notices: &'a mut Vec<Notice>,
}

impl Files<'_> {
    fn missing(&mut self, file: &'static str) {
        self.notices.push(Notice::FileMissing { dir: self.dir.to_path_buf(), file });
    }

    fn left_out(&mut self, file: &'static str) {
        let (dir, template) = (self.dir.to_path_buf(), self.template.to_path_buf());
        self.notices.push(Notice::FileLeftOut { dir, template, file });
    }

    /// Compares two objects key by key; with `wanted`, a file that one folder lacks is a difference, too.
    fn compare(
        &mut self,
        file: &'static str,
        got: Option<Map<String, Value>>,
        want: Option<Map<String, Value>>,
        wanted: bool,
    ) {
        let (got, want) = match (got, want) {
            (Some(got), Some(want)) => (flat(&got), flat(&want)),
            (None, Some(_)) if wanted => return self.missing(file),
            (Some(_), None) if wanted => return self.left_out(file),
            _ => return,
        };
        let keys: BTreeSet<&String> = got.keys().chain(want.keys()).collect();
        for key in keys {
            let (got, want) = (got.get(key), want.get(key));
            let differs = match (got, want) {
                (Some(got), Some(want)) => !same(got, want),
                (Some(only), None) | (None, Some(only)) => !is_default(key, only),
                (None, None) => false,
            };
            if differs {
                self.notices.push(Notice::ConfigDiffers {
                    dir: self.dir.to_path_buf(),
                    file,
                    key: key.clone(),
                    got: got.map(shown),
                    kept: want.map(shown),
                });
            }
        }
    }
}

/// Keys and values that are compared, in one spelling: without `null`, and with the rotary settings of either dialect
/// (`rope_theta` and `rope_scaling` up to transformers 4, `rope_parameters` from 5 on) side by side.
fn flat(config: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    let mut rope = Vec::new();
    for (key, value) in config.iter().filter(|(key, _)| !IGNORED.contains(&key.as_str())) {
        match value {
            Value::Null => {}
            Value::Object(nested) if key == "rope_parameters" || key == "rope_scaling" => rope.push(nested),
            _ => drop(keys.insert(key.clone(), in_one_spelling(key, value))),
        }
    }
    for (key, value) in rope.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let key = match key.as_str() {
            "type" | "rope_type" => "rope_type".to_owned(),
            "rope_theta" => key.clone(),
            _ => format!("rope_parameters.{key}"),
        };
        keys.insert(key, value.clone());
    }
    keys
}

/// Token ids as a sorted list, a token as its text, a tokenizer's class without what only says that it is the fast one.
fn in_one_spelling(key: &str, value: &Value) -> Value {
    match value {
        Value::Number(_) if key.ends_with("_token_id") => Value::Array(vec![value.clone()]),
        Value::Array(ids) if key.ends_with("_token_id") => {
            let mut ids = ids.clone();
            ids.sort_by_key(Value::as_u64);
            Value::Array(ids)
        }
        Value::Object(token) if key.ends_with("_token") => {
            token.get("content").cloned().unwrap_or_else(|| value.clone())
        }
        Value::String(class) if key == "tokenizer_class" => match class.trim_end_matches("Fast") {
            // The names of the same class in transformers 4 and 5.
            "TokenizersBackend" => "PreTrainedTokenizer".into(),
            class => class.into(),
        },
        _ => value.clone(),
    }
}

/// Whether a value says what its absence says.
fn is_default(key: &str, value: &Value) -> bool {
    match (key, value) {
        ("rope_type", Value::String(kind)) => kind == "default",
        ("rope_theta", value) => value.as_f64() == Some(10_000.0),
        (_, Value::Bool(on)) => !on,
        (_, Value::Array(list)) => list.is_empty(),
        (_, Value::Object(map)) => map.is_empty(),
        _ => key == "head_dim" || key == "num_key_value_heads",
    }
}

/// Equality in which `10000` and `10000.0` are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// A value short enough for a line.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = match value {
        // A single id as it is usually written.
        Value::Array(list) if list.len() == 1 => list[0].to_string(),
        value => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The chat template that `transformers` would take, and the file it is in.
fn chat_template(
    dir: &Path,
    tokenizer: Option<&Map<String, Value>>,
) -> Result<Option<(&'static str, Value)>, MergeError> {
    // Jinja passes over one line end at the end.
    let text = |text: &str| Value::from(text.strip_suffix('\n').unwrap_or(text));
    let (jinja, json) = ("chat_template.jinja", "chat_template.json");
    if let Some(bytes) = read_bytes(&dir.join(jinja))? {
        return Ok(Some((jinja, text(&String::from_utf8_lossy(&bytes)))));
    }
    let json_file = read_object(&dir.join(json))?;
    let places = [(json, json_file.as_ref()), ("chat_template of tokenizer_config.json", tokenizer)];
    Ok(places.into_iter().find_map(|(file, object)| {
        let value = present(object?, "chat_template")?;
        Some((file, value.as_str().map_or_else(|| value.clone(), text)))
    }))
}
