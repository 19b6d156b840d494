//! Token ids identical to `AutoTokenizer`'s of transformers 5.23, for tokens in any of a folder's files
//! (`golden/token_files.py`).

use std::collections::HashMap;
use std::path::Path;

use ama_data::{DataError, PairTokenizer};
use serde_json::{Value, json};

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Ids of all texts, or what was refused.
fn encode(variant: &Value, base: &Value, texts: &[Value]) -> Result<(Vec<Vec<u32>>, String), DataError> {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let mut file = base.clone();
    for (key, value) in variant["keys"].as_object().unwrap() {
        file[key] = value.clone();
    }
    put("tokenizer.json", file.to_string());
    for (name, text) in variant["files"].as_object().unwrap() {
        put(name, text.as_str().unwrap().to_owned());
    }
    let tokenizer = PairTokenizer::from_folder(folder.path())?;
    let ids = texts.iter().map(|text| tokenizer.encode(text.as_str().unwrap())).collect::<Result<_, _>>()?;
    Ok((ids, tokenizer.eos_token().to_owned()))
}

#[test]
fn same_ids_as_transformers() {
    let golden_ids = golden("trl_ids.json");
    let files = golden_ids["files"].as_array().unwrap();
    let pieces = files.iter().find(|file| file["model"]["byte_fallback"] == true).unwrap();
    let bases = HashMap::from([("byte_level", golden("tokenizer.json")), ("pieces", pieces.clone())]);
    let golden = golden("token_files.json");
    let (texts, lists) = (golden["texts"].as_array().unwrap(), golden["lists"].as_array().unwrap());
    let want = |variant: &Value| -> Option<Value> {
        let ids = variant.get("ids")?.as_array()?;
        Some(ids.iter().map(|i| lists[i.as_u64().unwrap() as usize].clone()).collect())
    };
    let mut wrong = Vec::new();
    let variants = golden["variants"].as_array().unwrap();
    for variant in variants {
        let got = encode(variant, &bases[variant["base"].as_str().unwrap()], texts);
        let name = variant["name"].as_str().unwrap();
        // An object that lacks the mark of a saved token can mean nothing else; transformers stumbles over some.
        let twin = variants.iter().find(|twin| twin["name"] == name.replace("(token)", "(typed)"));
        let same = match (&got, want(twin.unwrap_or(variant))) {
            // A completion needs an end. TRL has none to put there either.
            (Err(error), Some(_)) if variant["eos"].is_null() => {
                error.to_string().contains("no end-of-sequence token")
            }
            (Err(error), None) => !error.to_string().is_empty(),
            (Ok((ids, eos)), Some(want)) => json!(ids) == want && variant.get("eos").is_none_or(|e| e == eos),
            _ => false,
        };
        if !same {
            wrong.push(format!(
                "{}: {got:?}, want {}",
                variant["name"],
                variant.get("error").unwrap_or(&variant["ids"])
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), variants.len(), wrong.join("\n"));
    assert!(variants.len() > 400);
}
