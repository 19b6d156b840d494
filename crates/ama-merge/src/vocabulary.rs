//! Whether the rows of two embedding matrices stand for the same tokens, and texts become the same tokens.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::MergeError;
use crate::json::{read_bytes, read_object};
use crate::notice::Notice;

const FILE: &str = "tokenizer.json";

/// Files of tokenizers that have no `tokenizer.json`; they are compared as they are.
const WITHOUT_FILE: [&str; 4] = ["tokenizer.model", "vocab.json", "merges.txt", "vocab.txt"];

/// Keys of `tokenizer.json` that are compared on their own, or change no token.
const NOT_COMPARED: [&str; 4] = ["version", "truncation", "padding", "added_tokens"];

/// Refuses two tokenizers in which an id has two meanings or a token two ids. Tokens that only one of them names
/// (a padding token in a spare row, say), other rules for cutting texts into the same tokens, and tokenizers that only one
/// of the folders has are reported.
pub(crate) fn compare(dir: &Path, reference: &Path, notices: &mut Vec<Notice>) -> Result<(), MergeError> {
    let (path, wanted_path) = (dir.join(FILE), reference.join(FILE));
    let (text, wanted_text) = match (read_bytes(&path)?, read_bytes(&wanted_path)?) {
        (Some(text), Some(wanted)) => (text, wanted),
        (None, None) => {
            return WITHOUT_FILE
                .into_iter()
                .try_for_each(|file| compare_bytes(file, dir, reference, notices));
        }
        (text, _) => {
            notices.push(only_one(FILE, dir, reference, text.is_some()));
            return Ok(());
        }
    };
    let (added, wanted_added) = (added_elsewhere(dir)?, added_elsewhere(reference)?);
    if text == wanted_text && added == wanted_added {
        return Ok(());
    }
    let (tokenizer, wanted_tokenizer) = (parse(&path, &text)?, parse(&wanted_path, &wanted_text)?);
    let (tokens, wanted) = (ids(&tokenizer, added), ids(&wanted_tokenizer, wanted_added));
    if let Some(problem) = clash(&tokens, &wanted) {
        return Err(MergeError::Vocabulary {
            dir: dir.to_path_buf(),
            reference: reference.to_path_buf(),
            problem,
        });
    }
    let only_there = tokens.keys().filter(|token| !wanted.contains_key(*token)).count();
    let only_template = wanted.keys().filter(|token| !tokens.contains_key(*token)).count();
    if only_there + only_template > 0 {
        notices.push(Notice::TokensDiffer { dir: dir.to_path_buf(), only_there, only_template });
    }
    let (rules, wanted_rules) = (rules(&tokenizer), rules(&wanted_tokenizer));
    let keys: Vec<String> = rules
        .keys()
        .chain(wanted_rules.keys().filter(|key| !rules.contains_key(*key)))
        .filter(|key| rules.get(*key) != wanted_rules.get(*key))
        .cloned()
        .collect();
    if !keys.is_empty() {
        notices.push(Notice::TokenizerDiffers { dir: dir.to_path_buf(), keys });
    }
    Ok(())
}

/// The clash with the smallest id, so that the message is always the same.
fn clash(tokens: &HashMap<String, u64>, wanted: &HashMap<String, u64>) -> Option<String> {
    let by_id: HashMap<u64, &str> = wanted.iter().map(|(token, id)| (*id, token.as_str())).collect();
    let complaints = tokens.iter().filter_map(|(token, &id)| match (wanted.get(token), by_id.get(&id)) {
        (Some(&same), _) if same == id => None,
        (Some(other), _) => Some((id, format!("token {token:?} has id {id}, not {other}"))),
        (None, Some(other)) => Some((id, format!("id {id} is token {token:?}, not {other:?}"))),
        (None, None) => None,
    });
    complaints.min().map(|(_, complaint)| complaint)
}

/// Compares a file that both folders may have as bytes.
fn compare_bytes(
    file: &'static str,
    dir: &Path,
    reference: &Path,
    notices: &mut Vec<Notice>,
) -> Result<(), MergeError> {
    match (read_bytes(&dir.join(file))?, read_bytes(&reference.join(file))?) {
        (Some(got), Some(want)) if got != want => {
            notices.push(Notice::FileDiffers { dir: dir.to_path_buf(), file });
        }
        (Some(_), Some(_)) | (None, None) => {}
        (got, _) => notices.push(only_one(file, dir, reference, got.is_some())),
    }
    Ok(())
}

fn only_one(file: &'static str, dir: &Path, reference: &Path, there: bool) -> Notice {
    let dir = dir.to_path_buf();
    if there {
        Notice::FileLeftOut { dir, template: reference.to_path_buf(), file }
    } else {
        Notice::FileMissing { dir, file }
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Value, MergeError> {
    serde_json::from_slice(text).map_err(|source| MergeError::Json { path: path.to_path_buf(), source })
}

/// Tokens and their ids: the model's vocabulary (an object from tokens to ids, or a list of `[token, score]`), the
/// added tokens, which override it, and those that only other files of the folder name.
fn ids(tokenizer: &Value, added_elsewhere: BTreeMap<String, u64>) -> HashMap<String, u64> {
    let mut ids = HashMap::new();
    match &tokenizer["model"]["vocab"] {
        Value::Object(vocab) => {
            ids.extend(vocab.iter().filter_map(|(token, id)| Some((token.clone(), id.as_u64()?))));
        }
        Value::Array(vocab) => {
            let tokens = vocab.iter().map(|entry| entry[0].as_str());
            ids.extend((0u64..).zip(tokens).filter_map(|(id, token)| Some((token?.to_owned(), id))));
        }
        _ => {}
    }
    for added in tokenizer["added_tokens"].as_array().into_iter().flatten() {
        if let (Some(token), Some(id)) = (added["content"].as_str(), added["id"].as_u64()) {
            ids.insert(token.to_owned(), id);
        }
    }
    for (token, id) in added_elsewhere {
        ids.entry(token).or_insert(id);
    }
    ids
}

/// Tokens of `added_tokens.json` and of `added_tokens_decoder` in `tokenizer_config.json`.
fn added_elsewhere(dir: &Path) -> Result<BTreeMap<String, u64>, MergeError> {
    let mut ids = BTreeMap::new();
    let added = read_object(&dir.join("added_tokens.json"))?.unwrap_or_default();
    ids.extend(added.into_iter().filter_map(|(token, id)| Some((token, id.as_u64()?))));
    let config = read_object(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    let decoder = config.get("added_tokens_decoder").and_then(Value::as_object);
    for (id, token) in decoder.into_iter().flatten() {
        if let (Ok(id), Some(token)) = (id.parse(), token["content"].as_str()) {
            ids.insert(token.to_owned(), id);
        }
    }
    Ok(ids)
}

/// Everything of `tokenizer.json` that decides how a text is cut, by dotted key.
fn rules(tokenizer: &Value) -> BTreeMap<String, Value> {
    // What newer versions write out and older ones leave to the default.
    let unset = |value: &Value| value.is_null() || value == &Value::Bool(false) || value == "";
    let empty = Map::new();
    let top = tokenizer.as_object().unwrap_or(&empty);
    let mut rules = BTreeMap::new();
    for (key, value) in top.iter().filter(|(key, _)| !NOT_COMPARED.contains(&key.as_str())) {
        match value {
            Value::Object(model) if key == "model" => {
                let parts = model.iter().filter(|(part, value)| *part != "vocab" && !unset(value));
                rules.extend(parts.map(|(part, value)| {
                    let value = if part == "merges" { merges(value) } else { value.clone() };
                    (format!("model.{part}"), value)
                }));
            }
            _ if unset(value) => {}
            _ => drop(rules.insert(key.clone(), value.clone())),
        }
    }
    rules
}

/// Merges as pairs; older files write each as one text with a blank.
fn merges(list: &Value) -> Value {
    let pair = |merge: &Value| match merge.as_str().and_then(|text| text.split_once(' ')) {
        Some((left, right)) => Value::from(vec![left, right]),
        None => merge.clone(),
    };
    list.as_array().map_or_else(|| list.clone(), |list| list.iter().map(pair).collect())
}
