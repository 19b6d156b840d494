//! Long sequences: the same tokens a step in sequences of 256 to 4096. Only attention's own work may grow.

use anyhow::Result;
use serde_json::{Map, Value};

use super::lab::{Lab, Turn};
use super::samples::{Run, Runs, WARM_UP};
use super::table::{Line, Target, grouped, mib};

const LENGTHS: [u64; 5] = [256, 512, 1024, 2048, 4096];

/// Tokens a step, the prompt counted twice.
const TOKENS: u64 = 8192;

/// Different batches in a file.
const BATCHES: u64 = 2;

/// Measures DPO steps of the `10m` shape.
///
/// # Errors
/// A call failed.
pub(super) fn measure(lab: &Lab) -> Result<(Vec<Line>, Value)> {
    let model = lab.inputs.model(&lab.peers, "10m")?;
    let steps = (WARM_UP as u64 + lab.plan.repeat).to_string();
    let mut turns: Vec<(String, Turn<'_, Run>)> = Vec::new();
    for length in LENGTHS {
        let pairs = TOKENS / (2 * length);
        let data = lab.inputs.pairs(&lab.peers, length, pairs * BATCHES, false)?;
        let (model, steps) = (&model, &steps);
        turns.push((
            format!("length {length}"),
            Box::new(move || {
                #[rustfmt::skip]
                let args = [
                    "--model", model, "--data", &data, "--steps", steps, "--batch-pairs", &pairs.to_string(),
                    "--lr", "1e-5", "--max-length", "8192", "--order", "file", "--schedule", "constant",
                    // One forward pass a step, whatever the length.
                    "--micro-batch-tokens", "8192",
                ];
                lab.ours.train("specialist", &args)
            }),
        ));
    }
    let sides: Vec<(&str, Turn<'_, Run>)> =
        turns.iter().map(|(name, turn)| (name.as_str(), Box::new(turn) as Turn<'_, Run>)).collect();
    let runs: Vec<Runs> = lab.in_turn(&sides)?.into_iter().map(Runs).collect();

    let rate = |runs: &Runs| runs.tokens_per_s(BATCHES as usize);
    let short = rate(&runs[0]);
    let memory = |runs: &Runs| runs.peak_rss_mib().map_or("-".into(), mib);
    let mut lines = vec![Line {
        work: format!("DPO step, 5.4M (`10m`), {TOKENS} tokens, length {}", LENGTHS[0]),
        ours: format!("{} tokens/s, {}", grouped(short), memory(&runs[0])),
        ..Line::default()
    }];
    for (length, runs) in LENGTHS.into_iter().zip(&runs).skip(1) {
        let explained = SHAPE_10M.flops_per_token(LENGTHS[0]) / SHAPE_10M.flops_per_token(length);
        let ratio = rate(runs) / short;
        let show = |x: f64| format!("{x:.2}x");
        lines.push(Line {
            work: format!("- length {length}"),
            ours: format!("{} tokens/s, {}", grouped(rate(runs)), memory(runs)),
            peer: format!("ours at length {}", LENGTHS[0]),
            ratio: show(ratio),
            target: Target::AtLeast(explained).judge(ratio, show) + " (attention's FLOPs)",
        });
    }
    let named = sides.iter().zip(&runs).map(|((name, _), runs)| ((*name).to_owned(), runs.json()));
    Ok((lines, Value::Object(named.collect::<Map<_, _>>())))
}

/// The sizes that FLOPs depend on.
struct Shape {
    hidden: f64,
    layers: f64,
    key_values: f64,
    intermediate: f64,
    vocab: f64,
}

/// `10m` of `benches/peers/make.py`.
const SHAPE_10M: Shape =
    Shape { hidden: 256.0, layers: 6.0, key_values: 128.0, intermediate: 688.0, vocab: 4096.0 };

impl Shape {
    /// FLOPs of a forward pass over one pair, divided by its tokens (prompt counted twice). Prompt and completions have
    /// `length / 2` tokens each; the prompt is computed once, the head on completions only. A backward pass multiplies
    /// all of it by the same factor.
    fn flops_per_token(&self, length: u64) -> f64 {
        let part = length as f64 / 2.0;
        let Self { hidden: d, layers, key_values: kv, intermediate: f, vocab } = *self;
        let weights = layers * (2.0 * d * d + 2.0 * d * kv + 3.0 * d * f);
        let linear = 2.0 * weights * 3.0 * part + 2.0 * d * vocab * 2.0 * part;
        // Query-key pairs: a triangle in each of the three parts, and both completions look at the whole prompt.
        let looks = 3.0 * part * (part + 1.0) / 2.0 + 2.0 * part * part;
        let attention = layers * 4.0 * d * looks;
        (linear + attention) / (4.0 * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flops_of_a_layer_by_hand() {
        // d = 2, kv = 2, f = 1, no vocabulary: 22 weights. Length 4: 6 packed tokens, 264 FLOPs. Looks: 3 * 3 + 2 * 4 = 17,
        // 136 FLOPs. 8 tokens.
        let shape = Shape { hidden: 2.0, layers: 1.0, key_values: 2.0, intermediate: 1.0, vocab: 0.0 };
        assert_eq!(shape.flops_per_token(4), (264.0 + 136.0) / 8.0);
    }

    #[test]
    fn long_sequences_cost_more_a_token() {
        let cost = LENGTHS.map(|length| SHAPE_10M.flops_per_token(length));
        assert!(cost.windows(2).all(|pair| pair[0] < pair[1]), "{cost:?}");
    }
}
