//! What the benches share: numbers to compute with, batches, and how long to measure.
#![allow(dead_code, unused_imports, reason = "each bench uses its own part")]

use std::time::Duration;

use ama_data::tokenise::ExampleRef;
use ama_data::{Packed, PairId};
pub(crate) use benches::numbers::uniform;
use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;

/// `n` token ids below `vocab`, in no order.
pub(crate) fn ids(n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7919 % vocab) as u32).collect()
}

/// A packed batch of pairs: `prompt` tokens each, and `completion` tokens of chosen and rejected.
pub(crate) fn batch(pairs: usize, prompt: usize, completion: usize, vocab: usize) -> Packed {
    let tokens = ids(pairs * (prompt + 2 * completion), vocab);
    let examples = tokens.chunks_exact(prompt + 2 * completion).map(|pair| {
        let (prompt, completions) = pair.split_at(prompt);
        let (chosen, rejected) = completions.split_at(completion);
        ExampleRef::pair(PairId::from_bytes([0; 16]), prompt, chosen, rejected)
    });
    Packed::of(examples)
}

/// Ten samples in about `milliseconds`, after half as much warming up.
pub(crate) fn brief(group: &mut BenchmarkGroup<'_, WallTime>, milliseconds: u64) {
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(milliseconds / 2));
    group.measurement_time(Duration::from_millis(milliseconds));
}
