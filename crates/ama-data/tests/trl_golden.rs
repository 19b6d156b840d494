//! Token ids identical to TRL 1.16's, on 200 real pairs and some nasty ones (`golden/trl_ids.py`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ama_data::{
    CellFault, DataError, ExampleRef, PairTokenizer, Row, RowContent, RowReader, TokenStore, TokeniseOptions,
    Tokenised, tokenise,
};
use serde_json::{Value, json};

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(golden_folder().join("trl_ids.json")).unwrap()).unwrap()
}

/// The golden tokenizer with another post-processor.
fn tokenizer(run: &Value, folder: &Path) -> PairTokenizer {
    let mut json: Value =
        serde_json::from_slice(&std::fs::read(golden_folder().join("tokenizer.json")).unwrap()).unwrap();
    json["post_processor"] = run["post_processor"].clone();
    // As a careless export would leave them: transformers ignores both when TRL calls it.
    json["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({
        "strategy": {"Fixed": 300}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<|end|>"
    });
    std::fs::write(folder.join("tokenizer.json"), json.to_string()).unwrap();
    std::fs::copy(golden_folder().join("tokenizer_config.json"), folder.join("tokenizer_config.json"))
        .unwrap();
    PairTokenizer::from_folder(folder).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn pair_row(number: usize, pair: &Value) -> Row {
    Row {
        source: Arc::from(Path::new("golden")),
        row: number as u64 + 1,
        content: RowContent::Text {
            prompt: text(pair, "prompt").into(),
            chosen: text(pair, "chosen").into(),
            rejected: text(pair, "rejected").into(),
        },
        check: None,
        task: None,
    }
}

fn options(run: &Value) -> TokeniseOptions {
    TokeniseOptions { max_length: run["max_length"].as_u64().map(|n| n as usize) }
}

/// FNV-1a over little-endian ids, as in the script.
fn fnv(ids: &[u32]) -> String {
    let hash = ids.iter().flat_map(|id| id.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn with_prompt(example: ExampleRef<'_>) -> Vec<Vec<u32>> {
    example.completions().map(|completion| [example.prompt, completion].concat()).collect()
}

/// Checks one row against TRL's: `None` where TRL drops it.
#[track_caller]
fn check_row(row: &Row, tokenizer: &PairTokenizer, run: &Value, trl: Option<&Value>) {
    let got = tokenise(row, tokenizer, &options(run));
    let place = format!("row {} of {}", row.row, run["tokenizer"]);
    let Some(trl) = trl else {
        assert!(matches!(got, Ok(Tokenised::Dropped(_))), "{place}: TRL drops it, got {got:?}");
        return;
    };
    if trl[1] == 0 {
        // TRL trains on a completion whose first token nothing predicts; this crate refuses.
        let no_prompt = matches!(got, Err(DataError::Cell { fault: CellFault::NoPromptToken, .. }));
        assert!(no_prompt, "{place}: got {got:?}");
        return;
    }
    let Tokenised::Kept { example, .. } = got.unwrap() else { panic!("{place}: TRL keeps it") };
    let ids = with_prompt(example.as_ref());
    let numbers: Vec<u64> = ids.iter().map(|ids| ids.len() as u64).collect();
    let ours = match (ids.as_slice(), trl[2].is_array()) {
        ([chosen, rejected], true) => json!([trl[0], example.prompt.len(), chosen, rejected]),
        ([chosen, rejected], false) => {
            json!([
                trl[0],
                example.prompt.len(),
                numbers[0],
                numbers[1],
                fnv(&[&chosen[..], rejected].concat())
            ])
        }
        ([whole], _) => json!([trl[0], example.prompt.len(), numbers[0], fnv(whole)]),
        other => panic!("{} completions", other.0.len()),
    };
    assert_eq!(&ours, trl, "{place}");
}

#[test]
fn same_ids_as_trl() {
    let golden = golden();
    assert_eq!(golden["trl"], "1.16.0");
    assert_eq!(golden["real"], 200);
    let mut dropped = 0;
    for run in golden["runs"].as_array().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(run, folder.path());
        for (i, pair) in golden["pairs"].as_array().unwrap().iter().enumerate() {
            let find = |key: &str| run[key].as_array().unwrap().iter().find(|kept| kept[0] == i);
            let row = pair_row(i, pair);
            check_row(&row, &tokenizer, run, find("dpo"));
            dropped += usize::from(find("dpo").is_none());
            let content = RowContent::Completion {
                prompt: text(pair, "prompt").into(),
                completion: text(pair, "chosen").into(),
            };
            check_row(&Row { content, ..row }, &tokenizer, run, find("sft"));
        }
    }
    assert!(dropped > 100, "the golden file has rows to drop");
}

#[test]
fn same_ids_as_trl_for_implicit_prompts() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.jsonl");
    let lines: Vec<String> = golden["implicit"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| json!({"chosen": pair[0], "rejected": pair[1]}).to_string())
        .collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    for run in golden["runs"].as_array().unwrap() {
        let tokenizer = tokenizer(run, folder.path());
        for (i, row) in RowReader::open(file.to_str().unwrap()).unwrap().enumerate() {
            let trl = run["implicit"].as_array().unwrap().iter().find(|kept| kept[0] == i);
            check_row(&row.unwrap(), &tokenizer, run, trl);
        }
    }
}

/// The classes that `transformers` puts above `tokenizer.json`, and those that it does not.
#[test]
fn same_ids_as_trl_for_tokenizer_classes() {
    let golden = golden();
    let real = golden["real"].as_u64().unwrap() as usize;
    let mut different = std::collections::HashSet::new();
    for run in golden["classes"].as_array().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        let put =
            |name: &str, value: &Value| std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        put("tokenizer.json", &golden["files"][run["file"].as_u64().unwrap() as usize]);
        put("tokenizer_config.json", &run["config"]);
        put("config.json", &json!({"model_type": "llama"}));
        let tokenizer = PairTokenizer::from_folder(folder.path()).unwrap();
        different.insert(tokenizer.fingerprint());
        for (i, pair) in golden["pairs"].as_array().unwrap()[real..].iter().enumerate() {
            check_row(&pair_row(i, pair), &tokenizer, run, Some(&run["dpo"][i]));
        }
    }
    // The byte-level file under two class names that leave it alone is one tokenizer.
    assert_eq!(different.len(), golden["classes"].as_array().unwrap().len() - 1);
}

/// The whole way: rows through a store give TRL's ids, in order, and TRL's token count.
#[test]
fn a_store_holds_what_trl_trains_on() {
    let golden = golden();
    let real = golden["real"].as_u64().unwrap() as usize;
    for run in golden["runs"].as_array().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(run, folder.path());
        let rows = golden["pairs"].as_array().unwrap()[..real].iter().enumerate();
        let rows = rows.map(|(i, pair)| Ok(pair_row(i, pair)));
        let path = folder.path().join("store");
        let (store, report) = TokenStore::build(rows, &tokenizer, &options(run), &path, |_| ()).unwrap();
        let trl: Vec<&Value> =
            run["dpo"].as_array().unwrap().iter().filter(|kept| kept[0].as_u64() < Some(200)).collect();
        assert_eq!((report.read, report.kept as usize), (200, trl.len()));
        assert_eq!(report.dropped_prompt_too_long as usize, 200 - trl.len());
        let length = |value: &Value| value.as_u64().unwrap_or_else(|| value.as_array().unwrap().len() as u64);
        let tokens: u64 = trl.iter().map(|kept| length(&kept[2]) + length(&kept[3])).sum();
        assert_eq!(store.total_tokens(), tokens);
        for (i, kept) in trl.iter().enumerate() {
            let ids = with_prompt(store.example(i));
            assert_eq!([ids[0].len() as u64, ids[1].len() as u64], [length(&kept[2]), length(&kept[3])]);
            if kept[2].is_array() {
                assert_eq!(json!(ids), json!([kept[2], kept[3]]));
            } else {
                assert_eq!(json!(fnv(&ids.concat())), kept[4]);
            }
        }
    }
}
