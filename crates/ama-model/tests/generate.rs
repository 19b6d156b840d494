//! Generation against `transformers` (`golden/hf_folder.py`) and against full forward passes.

mod support;

use std::fs;

use ama_model::folder::load;
use ama_model::generate::{GenerateOptions, generate};
use ama_model::{Init, Llama, LlamaConfig, ModelError, PackedView};
use serde_json::Value;
use support::{FOLDERS, golden};

fn golden_model(name: &str) -> Llama {
    let folder = load(&golden(name)).expect(name);
    Llama::new(folder.config, folder.params).expect(name)
}

/// Logits after the last token of `ids`, by a whole forward pass without a cache.
fn last_logits(model: &Llama, ids: &[u32]) -> Vec<f32> {
    let n = ids.len() as u32;
    let batch = PackedView {
        ids,
        segment_offsets: &[0, n],
        segment_prefix: &[None],
        rows: &[n - 1],
        targets: &[0],
        sequence_offsets: &[0, 1],
    };
    model.logits(&batch).expect("a valid batch")
}

fn argmax(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("not empty") as u32
}

#[test]
fn greedy_ids_are_those_of_transformers() {
    let file: Value =
        serde_json::from_slice(&fs::read(golden("generate.json")).expect("there")).expect("JSON");
    let list = |v: &Value| -> Vec<Vec<u32>> { serde_json::from_value(v.clone()).expect("lists of ids") };
    let prompts = list(&file["prompts"]);
    let eos = file["eos"].as_u64().expect("an id") as u32;
    let options = GenerateOptions {
        max_new_tokens: file["new_tokens"].as_u64().expect("a count") as usize,
        stop_ids: vec![eos],
        ..GenerateOptions::default()
    };
    let mut stopped = 0;
    for name in FOLDERS {
        let mut want = list(&file["outputs"][name]);
        for ids in &mut want {
            // transformers keeps the stop token; we do not.
            if ids.last() == Some(&eos) {
                ids.pop();
                stopped += 1;
            }
        }
        assert_eq!(want.len(), prompts.len());
        assert_eq!(generate(&golden_model(name), &prompts, &options).expect(name), want, "{name}");
    }
    assert!(stopped >= 3, "the golden file must have sequences that stop early");
}

#[test]
fn the_cache_gives_what_whole_forward_passes_give() {
    let model = golden_model("untied_f16");
    let prompts: Vec<Vec<u32>> = vec![vec![3], (0..35).collect(), vec![8, 1, 8, 1, 8]];
    let options = GenerateOptions { max_new_tokens: 70, ..GenerateOptions::default() };
    let new = generate(&model, &prompts, &options).expect("generates");
    for (prompt, new) in prompts.iter().zip(&new) {
        assert_eq!(new.len(), 70);
        let mut ids = prompt.clone();
        for token in new {
            assert_eq!(*token, argmax(&last_logits(&model, &ids)), "after {} tokens", ids.len());
            ids.push(*token);
        }
    }
}

#[test]
fn a_prompt_does_not_feel_its_neighbours() {
    let model = golden_model("tied_f32");
    let prompts: Vec<Vec<u32>> =
        (0..9).map(|i| (0..=i * 3).map(|j| (i * 5 + j * 11) % 40).collect()).collect();
    for temperature in [0.0, 0.9] {
        let options =
            GenerateOptions { max_new_tokens: 30, temperature, top_p: 0.95, seed: 4, stop_ids: vec![39, 2] };
        let together = generate(&model, &prompts, &options).expect("generates");
        assert_eq!(
            generate(&model, &prompts, &options).expect("generates"),
            together,
            "same seed, same result"
        );
        for keep in 0..prompts.len() {
            // Other prompts around it, of other lengths; its place is the same, and so is its stream.
            let others: Vec<Vec<u32>> = (0..prompts.len())
                .map(|i| if i == keep { prompts[i].clone() } else { vec![1; i % 4 + 1] })
                .collect();
            let alone = generate(&model, &others[..=keep], &options).expect("generates");
            assert_eq!(alone[keep], together[keep], "prompt {keep} at temperature {temperature}");
        }
    }
    let drawn = |seed| {
        let options =
            GenerateOptions { max_new_tokens: 30, temperature: 1.0, seed, ..GenerateOptions::default() };
        generate(&model, &vec![vec![1, 2, 3]; 4], &options).expect("generates")
    };
    let four = drawn(0);
    assert!(four[0] != four[1] && four[2] != four[3], "equal prompts draw from streams of their own");
    assert_ne!(four, drawn(1));
}

#[test]
fn limits_are_kept() {
    let model = golden_model("tied_f32");
    let with = |max_new_tokens, stop_ids: &[u32]| {
        let options =
            GenerateOptions { max_new_tokens, stop_ids: stop_ids.to_vec(), ..GenerateOptions::default() };
        generate(&model, &[vec![0], vec![5]], &options).expect("generates")
    };
    assert_eq!(with(0, &[]), [vec![], vec![]] as [Vec<u32>; 2]);
    let free = with(6, &[]);
    assert_eq!(free.iter().map(Vec::len).collect::<Vec<_>>(), [6, 6]);
    assert_eq!(with(1, &[]), [vec![free[0][0]], vec![free[1][0]]]);
    // Stopping at the very first token gives nothing.
    assert!(with(6, &[free[0][0]])[0].is_empty());
    assert!(generate(&model, &[], &GenerateOptions::default()).expect("no prompts").is_empty());
}

#[test]
fn bad_requests_are_refused() {
    let model = golden_model("tied_f32");
    let ok = GenerateOptions { max_new_tokens: 2, ..GenerateOptions::default() };
    let error = generate(&model, &[vec![1], vec![]], &ok).expect_err("empty");
    assert!(matches!(error, ModelError::EmptyPrompt { prompt: 1 }), "{error}");
    let error = generate(&model, &[vec![1], vec![2, 40]], &ok).expect_err("beyond the vocabulary");
    assert!(matches!(error, ModelError::TokenOutOfRange { prompt: 1, token: 40, vocab_size: 40 }), "{error}");
    for (options, blamed) in [
        (GenerateOptions { temperature: -0.1, ..ok.clone() }, "temperature"),
        (GenerateOptions { temperature: f64::NAN, ..ok.clone() }, "temperature"),
        (GenerateOptions { top_p: 0.0, ..ok.clone() }, "top_p"),
        (GenerateOptions { top_p: 1.5, ..ok.clone() }, "top_p"),
        (GenerateOptions { max_new_tokens: usize::MAX, ..ok.clone() }, "max_new_tokens"),
    ] {
        let error = generate(&model, &[vec![1]], &options).expect_err(blamed);
        assert!(error.to_string().contains(blamed), "{error}");
    }

    // Weights gone NaN are an error with the sequence named, not a token.
    let config = model.config().clone();
    let mut vecs: std::collections::HashMap<_, _> =
        model.params().iter().map(|p| (p.name.clone(), p.tensor.as_vec())).collect();
    vecs.get_mut("model.norm.weight").expect("there")[0] = f32::NAN;
    let params = ama_model::Params::from_vecs(&config, vecs).expect("fits");
    let broken = Llama::new(config, params).expect("a model");
    let error = generate(&broken, &[vec![1, 2]], &ok).expect_err("NaN");
    assert!(matches!(error, ModelError::NonFiniteLogits { sequence: 0, tokens: 2 }), "{error}");
}

/// The size of the suite's evaluation; run with `--ignored --nocapture` in release to see how long it takes.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr, reason = "it reports a time")]
fn nine_hundred_prompts() {
    let config = LlamaConfig::from_json_str(
        r#"{"model_type": "llama", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 512, "tie_word_embeddings": true}"#,
        "measurement".as_ref(),
    )
    .expect("a valid configuration");
    let model = Llama::random(&config, 1, Init::Scaled).expect("a model");
    let prompts: Vec<Vec<u32>> =
        (0..900u32).map(|i| (0..16 + i % 9).map(|j| (i * 31 + j * 17) % 512).collect()).collect();
    let options = GenerateOptions { max_new_tokens: 36, ..GenerateOptions::default() };
    for _ in 0..3 {
        let start = std::time::Instant::now();
        let new = generate(&model, &prompts, &options).expect("generates");
        assert_eq!(new.iter().map(Vec::len).sum::<usize>(), 900 * 36);
        eprintln!("900 prompts x 36 tokens: {:?}", start.elapsed());
    }
}
