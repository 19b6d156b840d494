//! Scoring: passes without gradients over the 135M model, as the reference and the specialists' caches need them.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::lab::{Lab, Turn};
use super::peers::Unlocked;
use super::samples::{median, numbers};
use super::table::{Line, Target};

const WORK: &str = "scoring, 135M, length 256 (prompt 128)";

/// Pairs of a pass.
const PAIRS: u64 = 16;

/// Pairs of one of the peer's forward passes.
const PEER_BATCH: &str = "4";

/// Measures whole passes. Each of ours is a process of its own, so its first touch of memory counts; the peers' first
/// pass does not.
///
/// # Errors
/// A side failed.
pub(super) fn measure(lab: &Lab) -> Result<(Vec<Line>, Value)> {
    let model = lab.inputs.model(&lab.peers, "135m")?;
    let data = lab.inputs.pairs(&lab.peers, 256, PAIRS, false)?;
    let ours = ["--model", &model, "--data", &data, "--max-length", "8192"];
    let repeat = lab.plan.repeat.to_string();
    #[rustfmt::skip]
    let peer = ["score", "--model", &model, "--data", &data, "--batch", PEER_BATCH, "--repeat", &repeat];
    let mut sides: Vec<(&str, Turn<'_, Vec<f64>>)> = vec![
        ("ours", Box::new(|| (0..lab.plan.repeat).map(|_| lab.ours.score(&ours)).collect())),
        ("PyTorch inference mode", Box::new(|| rates(&lab.peers.run(&peer)?))),
    ];
    if let Unlocked::Library(library) = &lab.peers.unlocked {
        sides.push((
            "PyTorch, AVX-512 unlocked",
            Box::new(|| rates(&lab.peers.run_unlocked(library, &peer)?)),
        ));
    }
    let measured = lab.in_turn(&sides)?;
    let rate = |side: &Vec<Vec<f64>>| median(side.iter().flatten().copied());
    let mut lines = Vec::new();
    for (i, ((name, _), theirs)) in sides.iter().zip(&measured).enumerate().skip(1) {
        let target = Target::AtLeast(if i == 1 { 4.0 } else { 2.0 });
        lines.push(Line::rate(WORK, rate(&measured[0]), (name, rate(theirs)), target));
    }
    if let Unlocked::AsStock(_) = &lab.peers.unlocked {
        let name = "PyTorch, AVX-512 unlocked (the same here)";
        lines.push(Line::rate(WORK, rate(&measured[0]), (name, rate(&measured[1])), Target::AtLeast(2.0)));
    }
    let raw: serde_json::Map<_, _> = sides
        .iter()
        .zip(&measured)
        .map(|((name, _), rates)| ((*name).to_owned(), json!({ "tokens_per_s": rates })))
        .collect();
    Ok((lines, Value::Object(raw)))
}

/// Tokens per second of each of the peer's passes.
fn rates(said: &Value) -> Result<Vec<f64>> {
    let tokens = said["tokens"].as_f64().context("the peer gave no `tokens`")?;
    Ok(numbers(said, "seconds")?.into_iter().map(|seconds| tokens / seconds).collect())
}
