//! A tiny model and tiny tasks, made on the fly: no files of the repository are needed.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::Path;
use std::sync::Arc;

use ama_data::{PairTokenizer, Row, RowContent, TokenStore, TokeniseOptions};
use ama_model::access::values;
use ama_model::{Init, Llama, LlamaConfig};
use ama_specialist_cache::PairScore;
use ama_train::{Control, ScoreOptions, Silent, TrainTask, score};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::sync::atomic::AtomicBool;

pub(crate) const VOCAB: u32 = 40;

/// A folder with a word-level tokenizer of [`VOCAB`] words; word `i` has id `i`, EOS is 0.
pub(crate) fn tokenizer(folder: &Path) -> PairTokenizer {
    let words: Vec<String> = (0..VOCAB).map(|i| format!("\"w{i}\": {i}")).collect();
    let json = format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{{"type":"WhitespaceSplit"}},"post_processor":null,"decoder":null,
        "model":{{"type":"WordLevel","vocab":{{{}}},"unk_token":"w1"}}}}"#,
        words.join(",")
    );
    std::fs::write(folder.join("tokenizer.json"), json).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), r#"{"eos_token": "w0"}"#).unwrap();
    PairTokenizer::from_folder(folder).unwrap()
}

pub(crate) fn config() -> LlamaConfig {
    let json = format!(
        r#"{{"model_type":"llama","hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":2,
        "num_key_value_heads":1,"vocab_size":{VOCAB},"max_position_embeddings":64,"rms_norm_eps":1e-5,
        "rope_theta":10000.0,"tie_word_embeddings":true,"hidden_act":"silu"}}"#
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, json).unwrap();
    LlamaConfig::from_json(&path).unwrap()
}

pub(crate) fn model(seed: u64) -> Llama {
    Llama::random(&config(), seed, Init::Scaled).unwrap()
}

fn row_of(row: usize, content: RowContent) -> Row {
    Row { source: Arc::from(Path::new("memory")), row: row as u64 + 1, content, check: None, task: None }
}

/// A task whose chosen completions use low words and whose rejected ones use high words.
pub(crate) fn pairs(folder: &Path, name: &str, rows: usize, seed: u64) -> TokenStore {
    let tok = tokenizer(folder);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut words = |n: usize, from: u32, to: u32| -> Vec<u32> {
        (0..n).map(|_| from + rng.next_u32() % (to - from)).collect()
    };
    let rows: Vec<_> = (0..rows)
        .map(|row| {
            let prompt = words(2 + row % 4, 2, VOCAB);
            let mut chosen = words(1 + row % 3, 2, 20);
            let mut rejected = words(1 + row % 5, 20, VOCAB);
            chosen.push(0);
            rejected.push(0);
            let content = RowContent::Ids { prompt, chosen, rejected };
            Ok(row_of(row, content))
        })
        .collect();
    let options = TokeniseOptions { max_length: Some(64) };
    let path = folder.join(format!("{name}.tokens"));
    TokenStore::build(rows.into_iter(), &tok, &options, &path, |_| {}).unwrap().0
}

/// Prompt and completion rows whose completion repeats the prompt's words.
pub(crate) fn completions(folder: &Path, rows: usize, seed: u64) -> TokenStore {
    let tok = tokenizer(folder);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows: Vec<_> = (0..rows)
        .map(|row| {
            let words: Vec<String> =
                (0..2 + row % 4).map(|_| format!("w{}", 2 + rng.next_u32() % (VOCAB - 2))).collect();
            let content =
                RowContent::Completion { prompt: words.join(" "), completion: format!(" {} w0", words[0]) };
            Ok(row_of(row, content))
        })
        .collect();
    let path = folder.join("completions.tokens");
    TokenStore::build(rows.into_iter(), &tok, &TokeniseOptions::default(), &path, |_| {}).unwrap().0
}

pub(crate) fn scores(model: &Llama, pairs: &TokenStore) -> Vec<PairScore> {
    let stop = AtomicBool::new(false);
    score(model, pairs, ScoreOptions::default(), "test", &mut Control::new(&stop, &mut Silent)).unwrap()
}

/// Two tasks of different sizes with reference scores and made-up specialist losses.
pub(crate) fn tasks(folder: &Path, reference: &Llama) -> Vec<TrainTask> {
    [("large", 40, 1), ("small", 12, 2)]
        .into_iter()
        .map(|(name, rows, seed)| {
            let pairs = pairs(folder, name, rows, seed);
            let specialist = (0..pairs.len()).map(|i| 0.1 + 0.01 * (i % 7) as f64).collect();
            TrainTask {
                name: name.into(),
                reference: scores(reference, &pairs),
                pairs,
                specialist_loss_nats: Some(specialist),
            }
        })
        .collect()
}

/// Every parameter's bits, to compare two runs exactly.
pub(crate) fn bits(model: &Llama) -> Vec<u32> {
    model.params().iter().flat_map(|p| values(&p.tensor).iter().map(|v| v.to_bits())).collect()
}
