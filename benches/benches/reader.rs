//! Reading, tokenising and packing preference pairs: the embedded suite's harmless training file.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::path::Path;

use ama_data::{Packed, PairTokenizer, RowReader, TokenStore, TokeniseOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn reader(c: &mut Criterion) {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/suite");
    let file = suite.join("train/harmless.parquet").display().to_string();
    let tokenizer = PairTokenizer::from_folder(&suite.join("base")).expect("the suite has a tokenizer");
    let rows = || RowReader::open(&file).expect("the suite is in the repository");
    let count = rows().count();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("pairs.tokens");
    let build = || TokenStore::build(rows(), &tokenizer, &TokeniseOptions::default(), &path, |_| {});
    let (store, _) = build().expect("every row is usable");

    let mut group = c.benchmark_group("reader/cpu/u32");
    group.sample_size(10).throughput(Throughput::Elements(count as u64));
    group.bench_function("parquet_rows", |b| b.iter(|| rows().count()));
    group.bench_function("tokenised_store", |b| b.iter(|| build().map(|(store, _)| store.len()).ok()));
    let mut packed = Packed::default();
    group.bench_function("packed_batch_48", |b| {
        b.iter(|| {
            packed.clear();
            (0..48).for_each(|i| packed.push(store.example(i * 97 % count)));
            packed.tokens()
        });
    });
    group.finish();
}

criterion_group!(benches, reader);
criterion_main!(benches);
