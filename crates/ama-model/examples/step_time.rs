//! How long a training step's forward and backward take on this machine, for two model sizes.
//!
//! `cargo run --release -p ama-model --example step_time [-- SECONDS [NAME]]` (0.3 s per size by default)

#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::time::{Duration, Instant};

use ama_model::{Init, Llama, LlamaConfig, ModelError, PackedView, ParamGrads, profile};

/// A packed batch of `count` prompts, each with `completions` completions.
struct Batch {
    ids: Vec<u32>,
    offsets: Vec<u32>,
    prefix: Vec<Option<u32>>,
    rows: Vec<u32>,
    targets: Vec<u32>,
    sequences: Vec<u32>,
    /// Prompt and completion tokens of every sequence, prompts counted once per completion as TRL does.
    tokens: usize,
}

fn batch(vocab: u32, count: usize, prompt: usize, completions: usize, completion: usize) -> Batch {
    let mut b = Batch {
        ids: vec![],
        offsets: vec![0],
        prefix: vec![],
        rows: vec![],
        targets: vec![],
        sequences: vec![0],
        tokens: count * completions * (prompt + completion),
    };
    let mut state = 1u32;
    let mut token = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % vocab
    };
    for _ in 0..count {
        let root = b.prefix.len() as u32;
        b.ids.extend((0..prompt).map(|_| token()));
        b.offsets.push(b.ids.len() as u32);
        b.prefix.push(None);
        let last = b.ids.len() as u32 - 1;
        for _ in 0..completions {
            let start = b.ids.len() as u32;
            b.ids.extend((1..completion).map(|_| token()));
            b.offsets.push(b.ids.len() as u32);
            b.prefix.push(Some(root));
            b.rows.push(last);
            b.rows.extend(start..b.ids.len() as u32);
            b.targets.extend((0..completion).map(|_| token()));
            b.sequences.push(b.rows.len() as u32);
        }
    }
    b
}

fn measure(name: &str, config: &str, batch: &Batch, time: Duration) -> Result<(), ModelError> {
    let config = LlamaConfig::from_json_str(config, name.as_ref())?;
    let model = Llama::random(&config, 0, Init::Scaled)?;
    let mut grads = ParamGrads::zeros(model.params());
    let view = PackedView {
        ids: &batch.ids,
        segment_offsets: &batch.offsets,
        segment_prefix: &batch.prefix,
        rows: &batch.rows,
        targets: &batch.targets,
        sequence_offsets: &batch.sequences,
    };
    let (mut full, mut forward) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < time || full.len() < 2 {
        grads.clear();
        let at = Instant::now();
        model.accumulate_gradients::<ModelError>(&view, &mut grads, |logps| {
            Ok(logps.iter().enumerate().map(|(q, _)| if q.is_multiple_of(2) { -0.1 } else { 0.1 }).collect())
        })?;
        full.push(at.elapsed().as_secs_f64());
        let at = Instant::now();
        let logps = model.logps(&view)?;
        forward.push(at.elapsed().as_secs_f64());
        assert!(logps.iter().all(|l| l.sum_nats.is_finite() && l.sum_nats < 0.0));
    }
    assert!(grads.global_norm() > 0.0);
    let steps = full.len();
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (full, forward) = (median(&mut full), median(&mut forward));
    profile::enable();
    model.accumulate_gradients::<ModelError>(&view, &mut grads, |logps| Ok(vec![0.1; logps.len()]))?;
    let table = profile::table(&profile::take(), 1, rayon::current_num_threads());
    println!(
        "{name}: {} steps, {} parameters, {} packed tokens; forward {:.2} ms, forward + backward {:.2} ms, {:.0} tokens/s",
        steps,
        model.params().total(),
        batch.ids.len(),
        forward * 1e3,
        full * 1e3,
        batch.tokens as f64 / full
    );
    println!("{table}");
    Ok(())
}

fn main() -> Result<(), ModelError> {
    let seconds = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0.3);
    let time = Duration::from_secs_f64(seconds);
    let wanted = std::env::args().nth(2);
    let skip = |name: &str| wanted.as_ref().is_some_and(|w| !name.starts_with(w.as_str()));
    let suite = r#"{"model_type": "llama", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 4, "vocab_size": 512, "tie_word_embeddings": true}"#;
    if !skip("suite") {
        measure("suite, 40 sequences of 27", suite, &batch(512, 40, 15, 1, 12), time)?;
    }
    let small = r#"{"model_type": "llama", "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 4096, "tie_word_embeddings": true}"#;
    if !skip("10m") {
        measure("10m, 8 pairs of 128 + 128", small, &batch(4096, 8, 128, 2, 128), time)?;
    }
    // 135 million parameters are more than an example should allocate unasked.
    if wanted.as_deref() == Some("135m") {
        let large = r#"{"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
            "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": true}"#;
        measure("135m, 2 pairs of 128 + 128", large, &batch(49152, 2, 128, 2, 128), time)?;
    }
    Ok(())
}
