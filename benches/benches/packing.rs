//! Packing a batch of pairs, each prompt once and nothing padded, against the naive way: every sequence with its prompt,
//! all padded to the longest, with a mask. `pack/cpu/u32`, throughput in tokens as TRL counts them.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

mod common;

use std::hint::black_box;

use ama_data::tokenise::ExampleRef;
use ama_data::{Packed, PairId, micro_batches};
use common::{brief, ids};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Lengths of prompt, chosen and rejected of pair `i`: ragged, the mean prompt as long as the mean completion.
fn lengths(i: usize, longest: usize) -> [usize; 3] {
    [37, 61, 89].map(|step| longest / 4 + i * step % (longest / 2))
}

fn padded(examples: &[ExampleRef<'_>]) -> (Vec<u32>, Vec<u8>) {
    let sequences = || examples.iter().flat_map(|pair| pair.completions().map(move |c| (pair.prompt, c)));
    let longest = sequences().map(|(prompt, completion)| prompt.len() + completion.len()).max().unwrap_or(0);
    let (mut tokens, mut mask) = (Vec::new(), Vec::new());
    for (prompt, completion) in sequences() {
        tokens.extend_from_slice(prompt);
        tokens.extend_from_slice(completion);
        mask.resize(tokens.len(), 1);
        let end = tokens.len().next_multiple_of(longest);
        tokens.resize(end, 0);
        mask.resize(end, 0);
    }
    (tokens, mask)
}

fn packing(c: &mut Criterion) {
    let mut group = c.benchmark_group("pack/cpu/u32");
    brief(&mut group, 500);
    for longest in [40, 512, 2048] {
        let tokens = ids(48 * 3 * longest, 49152);
        let mut rest = tokens.as_slice();
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at(n);
            rest = tail;
            head
        };
        let examples: Vec<ExampleRef<'_>> = (0..48)
            .map(|i| {
                let [prompt, chosen, rejected] = lengths(i, longest).map(&mut take);
                ExampleRef::pair(PairId::from_bytes([0; 16]), prompt, chosen, rejected)
            })
            .collect();
        let total: usize = examples.iter().map(ExampleRef::tokens).sum();
        group.throughput(Throughput::Elements(total as u64));
        let mut packed = Packed::default();
        group.bench_function(BenchmarkId::new("packed", longest), |b| {
            b.iter(|| {
                packed.clear();
                black_box(&examples).iter().for_each(|example| packed.push(*example));
                packed.tokens()
            });
        });
        group.bench_function(BenchmarkId::new("naive", longest), |b| {
            b.iter(|| padded(black_box(&examples)));
        });
        let parts: Vec<usize> = examples.iter().map(ExampleRef::packed_tokens).collect();
        group.bench_function(BenchmarkId::new("micro_batches", longest), |b| {
            b.iter(|| micro_batches(black_box(&parts), 4096));
        });
    }
    group.finish();
}

criterion_group!(benches, packing);
criterion_main!(benches);
