//! From two Parquet files to packed batches over two tasks: `cargo run -p ama-data --example read_and_pack`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ama_data::{
    BatchSampler, Order, Packed, PairTokenizer, RowReader, TokenStore, TokeniseOptions, micro_batches,
};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

/// Writes sums as preference pairs: the right answer is preferred to one that is off by one.
fn write_task(path: &Path, word: &str, rows: usize) -> Result<(), Box<dyn Error>> {
    let column = |cell: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..rows).map(cell)))
    };
    let batch = RecordBatch::try_from_iter([
        ("prompt", column(&|i| format!("How many {word} are {i} {word} and {} more?", i * 7 % 11))),
        ("chosen", column(&|i| format!(" {}", i + i * 7 % 11))),
        ("rejected", column(&|i| format!(" {}", i + i * 7 % 11 + 1))),
    ])?;
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let tokenizer = PairTokenizer::from_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"))?;

    let mut stores = Vec::new();
    for (word, rows) in [("apples", 300), ("toys", 40)] {
        let file = folder.path().join(format!("{word}.parquet"));
        write_task(&file, word, rows)?;
        let rows = RowReader::open(&file.to_string_lossy())?;
        let options = TokeniseOptions { max_length: Some(64) };
        let path = folder.path().join(format!("{word}.tokens"));
        let (store, report) = TokenStore::build(rows, &tokenizer, &options, &path, |_| ())?;
        println!("{word}: {} of {} pairs kept, {} tokens", report.kept, report.read, report.tokens);
        assert_eq!(report.kept, report.read);
        stores.push(store);
    }

    // A batch of 8 pairs, half of each task, in micro-batches of at most 100 tokens.
    let sizes: Vec<usize> = stores.iter().map(TokenStore::len).collect();
    let mut sampler = BatchSampler::new(&sizes, 42, Order::Shuffled)?;
    let draws = sampler.stratified(8);
    assert_eq!(draws.iter().filter(|draw| draw.task == 0).count(), 4);
    let lengths: Vec<usize> = draws.iter().map(|draw| stores[draw.task].packed_tokens(draw.index)).collect();
    let mut packed = Packed::default();
    let (mut fed, mut as_trl) = (0, 0);
    for range in micro_batches(&lengths, 100) {
        packed.clear();
        for draw in &draws[range] {
            packed.push(stores[draw.task].example(draw.index));
            as_trl += stores[draw.task].tokens(draw.index);
        }
        println!("a micro-batch of {} sequences in {} tokens", packed.sequences(), packed.tokens());
        assert!(packed.tokens() <= 100);
        fed += packed.tokens();
    }
    println!("{fed} tokens fed to the model; {as_trl} without sharing the prompts");
    assert!(fed < as_trl);

    // A sampler saved and restored goes on with the same pairs.
    let saved = serde_json::to_string(&sampler.state())?;
    let mut resumed = BatchSampler::restore(&sizes, &serde_json::from_str(&saved)?)?;
    assert_eq!(resumed.sampled(&[0.3, 0.7], 16)?, sampler.sampled(&[0.3, 0.7], 16)?);
    println!("resumed from {} bytes of state", saved.len());
    Ok(())
}
