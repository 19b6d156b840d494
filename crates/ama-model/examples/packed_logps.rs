//! A preference pair in one packed forward pass, against its two sequences one by one.
//!
//! `cargo run -p ama-model --example packed_logps`

#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use ama_model::{Init, Llama, LlamaConfig, ModelError, PackedView};

fn main() -> Result<(), ModelError> {
    let config = LlamaConfig::from_json_str(
        r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "tie_word_embeddings": true}"#,
        "example".as_ref(),
    )?;
    let model = Llama::random(&config, 7, Init::Scaled)?;

    // Prompt 5 tokens, chosen 3, rejected 2. The last token of a completion is predicted but never fed.
    let pair = PackedView {
        ids: &[10, 11, 12, 13, 14, /* chosen */ 20, 21, /* rejected */ 30],
        segment_offsets: &[0, 5, 7, 8],
        segment_prefix: &[None, Some(0), Some(0)],
        rows: &[4, 5, 6, /* rejected */ 4, 7],
        targets: &[20, 21, 22, /* rejected */ 30, 31],
        sequence_offsets: &[0, 3, 5],
    };
    let together = model.logps(&pair)?;

    let alone = |ids: &[u32], targets: &[u32]| {
        let rows: Vec<u32> = (5 - 1..ids.len() as u32).collect();
        model.logps(&PackedView {
            ids,
            segment_offsets: &[0, ids.len() as u32],
            segment_prefix: &[None],
            rows: &rows,
            targets,
            sequence_offsets: &[0, targets.len() as u32],
        })
    };
    let chosen = alone(&[10, 11, 12, 13, 14, 20, 21], &[20, 21, 22])?[0];
    let rejected = alone(&[10, 11, 12, 13, 14, 30], &[30, 31])?[0];

    for (name, packed, single) in [("chosen", together[0], chosen), ("rejected", together[1], rejected)] {
        println!(
            "{name:8} log p = {:.6} nats over {} tokens; alone {:.6}",
            packed.sum_nats, packed.tokens, single.sum_nats
        );
        assert_eq!(packed.tokens, single.tokens);
        assert!((packed.sum_nats - single.sum_nats).abs() < 1e-4);
    }
    println!("8 packed tokens instead of 13: the prompt was computed once");
    Ok(())
}
