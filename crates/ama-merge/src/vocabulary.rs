//! Whether the rows of two embedding matrices stand for the same tokens.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::error::{MergeError, io};
use crate::notice::Notice;

const FILE: &str = "tokenizer.json";

/// Refuses two tokenizers in which an id has two meanings or a token two ids. Tokens that only one of them names
/// (a padding token in a spare row, say) are reported. Folders without `tokenizer.json` are not compared.
pub(crate) fn compare(dir: &Path, reference: &Path, notices: &mut Vec<Notice>) -> Result<(), MergeError> {
    let (path, wanted_path) = (dir.join(FILE), reference.join(FILE));
    if !path.is_file() || !wanted_path.is_file() {
        return Ok(());
    }
    let (text, wanted_text) = (read(&path)?, read(&wanted_path)?);
    if text == wanted_text {
        return Ok(());
    }
    let (tokens, wanted) = (ids(&path, &text)?, ids(&wanted_path, &wanted_text)?);
    let problem = |problem| MergeError::Vocabulary {
        dir: dir.to_path_buf(),
        reference: reference.to_path_buf(),
        problem,
    };
    let by_id: HashMap<u64, &str> = wanted.iter().map(|(token, id)| (*id, token.as_str())).collect();
    let mut only_there = 0;
    // The clash with the smallest id is named, so that the message is always the same.
    let mut clash: Option<(u64, String)> = None;
    for (token, &id) in &tokens {
        let complaint = match (wanted.get(token), by_id.get(&id)) {
            (Some(&same), _) if same == id => continue,
            (Some(other), _) => format!("token {token:?} has id {id}, not {other}"),
            (None, Some(other)) => format!("id {id} is token {token:?}, not {other:?}"),
            (None, None) => {
                only_there += 1;
                continue;
            }
        };
        if clash.as_ref().is_none_or(|(first, _)| id < *first) {
            clash = Some((id, complaint));
        }
    }
    if let Some((_, complaint)) = clash {
        return Err(problem(complaint));
    }
    let only_template = wanted.keys().filter(|token| !tokens.contains_key(*token)).count();
    if only_there + only_template > 0 {
        notices.push(Notice::TokensDiffer { dir: dir.to_path_buf(), only_there, only_template });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, MergeError> {
    std::fs::read(path).map_err(io("read", path))
}

/// Tokens and their ids: the model's vocabulary (an object from tokens to ids, or a list of `[token, score]`) and
/// the added tokens, which override it.
fn ids(path: &Path, text: &[u8]) -> Result<HashMap<String, u64>, MergeError> {
    let tokenizer: Value = serde_json::from_slice(text)
        .map_err(|source| MergeError::Json { path: path.to_path_buf(), source })?;
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
    Ok(ids)
}
