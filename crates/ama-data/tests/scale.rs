//! Memory of reading, drawing and packing does not grow with the number of pairs.
//!
//! Every size is measured in a process of its own: this test binary starts itself again. Anonymous memory (what the
//! program allocated) and mapped pages of token stores (which the system takes back when it likes) are told apart.
//!
//! `cargo test --release -p ama-data --test scale -- --ignored --nocapture a_million` prints the same figures, with
//! times, for 10,000, 100,000 and 1,000,000 pairs of 1,000 tasks.
#![allow(clippy::print_stdout, reason = "a figure, or why there is none, is what this test is for")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use ama_data::{BatchSampler, Draw, Order, Packed, PairTokenizer, RowReader, TokenStore, TokeniseOptions};
use arrow::array::{ArrayRef, ListArray, RecordBatch};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;

/// Where the process that measures finds its files; set, it is such a process.
const FOLDER: &str = "AMA_DATA_SCALE_FOLDER";
/// Tokens of a prompt and of a completion.
const TOKENS: usize = 40;
const BATCH: usize = 48;
/// Pairs that are drawn and packed at most.
const DRAWN: usize = 100_000;
/// How much more anonymous memory 400,000 pairs may take than 10,000, in KiB. Buffers of the reader and of the builder
/// that 100 pairs a task do not fill are 1,800; orders held in memory would make it 3,300.
const ANON_GROWTH_KIB: i64 = 2600;
/// How many pages of files may be there, in KiB: stores keep some 64 MiB, the program itself and its libraries have 20,
/// and the kernel maps more around an access than stores reckon with. 400,000 pairs are 203,000.
const FILE_KIB: i64 = 150_000;

/// What a process found, in the order in which it prints it. Sizes in KiB, times in seconds.
#[derive(Debug, Default, Clone, Copy)]
struct Found {
    /// Most anonymous memory at the end of a file or of a thousand pairs drawn, less what there was at the beginning.
    anon: i64,
    /// Most pages of files at such a time.
    file: i64,
    /// High-water mark of everything, at any time.
    peak: i64,
    build_s: f64,
    draw_s: f64,
    pack_s: f64,
}

fn status_kib(key: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Token ids of a part of a pair.
fn ids(pair: usize, salt: usize) -> impl Iterator<Item = i32> {
    (0..TOKENS).map(move |at| ((pair >> (at % 4 * 8) & 255) + salt + at) as i32)
}

/// One file a task, `pairs` in all, none like another: Parquet and JSON Lines in turns.
fn write_tasks(folder: &Path, pairs: usize, tasks: usize) {
    for task in 0..tasks {
        let rows: Vec<usize> = (task..pairs).step_by(tasks).collect();
        if task % 2 == 1 {
            let mut file = BufWriter::new(File::create(folder.join(format!("{task:04}.jsonl"))).unwrap());
            for pair in rows {
                let list = |salt: usize| format!("{:?}", ids(pair, salt).collect::<Vec<_>>());
                let (prompt, chosen, rejected) = (list(0), list(1), list(2));
                writeln!(
                    file,
                    "{{\"prompt_ids\": {prompt}, \"chosen_ids\": {chosen}, \"rejected_ids\": {rejected}}}"
                )
                .unwrap();
            }
            file.flush().unwrap();
            continue;
        }
        let mut writer = None;
        for rows in rows.chunks(1024) {
            let column = |salt: usize| -> ArrayRef {
                let lists = rows.iter().map(|&pair| Some(ids(pair, salt).map(Some)));
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))
            };
            let columns = [("prompt_ids", column(0)), ("chosen_ids", column(1)), ("rejected_ids", column(2))];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let writer = writer.get_or_insert_with(|| {
                let file = File::create(folder.join(format!("{task:04}.parquet"))).unwrap();
                ArrowWriter::try_new(file, batch.schema(), None).unwrap()
            });
            writer.write(&batch).unwrap();
        }
        writer.unwrap().close().unwrap();
    }
}

/// Files to packed batches, and how much memory that took.
fn walk(folder: &Path) -> Found {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let tokenizer = PairTokenizer::from_folder(&golden).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let build = |file: &Path| {
        let rows = RowReader::open(file.to_str().unwrap()).unwrap();
        let to = file.with_extension("tokens");
        TokenStore::build(rows, &tokenizer, &TokeniseOptions::default(), &to, |_| ()).unwrap().0
    };
    // Threads, thread-local pools and code pages are there from here on.
    files.iter().take(2).for_each(|file| drop(build(file)));
    let anon = status_kib("RssAnon");
    let mut found = Found::default();
    let look = |found: &mut Found| {
        found.anon = found.anon.max(status_kib("RssAnon") - anon);
        found.file = found.file.max(status_kib("RssFile"));
    };

    let clock = Instant::now();
    let mut stores = Vec::with_capacity(files.len());
    for file in &files {
        stores.push(build(file));
        look(&mut found);
    }
    found.build_s = clock.elapsed().as_secs_f64();

    let sizes: Vec<usize> = stores.iter().map(TokenStore::len).collect();
    let mut sampler = BatchSampler::new(&sizes, 1, Order::Shuffled).unwrap();
    let uniform = vec![1.0 / sizes.len() as f64; sizes.len()];
    let mut packed = Packed::default();
    let batches = sizes.iter().sum::<usize>().min(DRAWN) / BATCH;
    for batch in 0..batches {
        let clock = Instant::now();
        let mut draws: Vec<Draw> = Vec::new();
        draws.extend(sampler.pooled(BATCH / 3));
        draws.extend(sampler.stratified(BATCH / 3));
        draws.extend(sampler.sampled(&uniform, BATCH / 3).unwrap());
        found.draw_s += clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        packed.clear();
        draws.iter().for_each(|draw| packed.push(stores[draw.task].example(draw.index)));
        found.pack_s += clock.elapsed().as_secs_f64();
        assert_eq!(packed.tokens(), BATCH * (3 * TOKENS - 2));
        if batch % 20 == 0 {
            look(&mut found);
        }
    }
    black_box(&packed);
    (found.draw_s, found.pack_s) = (found.draw_s / batches as f64, found.pack_s / batches as f64);
    found.peak = status_kib("VmHWM");
    found
}

/// Measures a number of pairs in a new process.
fn measure(pairs: usize, tasks: usize) -> Found {
    let folder = tempfile::tempdir().unwrap();
    write_tasks(folder.path(), pairs, tasks);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_process_that_measures", "--nocapture"])
        .env(FOLDER, folder.path())
        // The same buffers on every machine.
        .env("RAYON_NUM_THREADS", "2")
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.split_once("FOUND ").map(|(_, figures)| figures));
    let line = line.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)));
    let figures: Vec<f64> = line.split(' ').map(|figure| figure.parse().unwrap()).collect();
    let kib = |at: usize| figures[at] as i64;
    let (anon, file, peak) = (kib(0), kib(1), kib(2));
    Found { anon, file, peak, build_s: figures[3], draw_s: figures[4], pack_s: figures[5] }
}

#[test]
#[ignore = "not a test by itself: the others start it"]
fn the_process_that_measures() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let Found { anon, file, peak, build_s, draw_s, pack_s } = walk(Path::new(&folder));
        println!("FOUND {anon} {file} {peak} {build_s} {draw_s} {pack_s}");
    }
}

#[test]
fn memory_does_not_grow_with_the_number_of_pairs() {
    if !cfg!(target_os = "linux") {
        println!("skipped: /proc/self/status is Linux's");
        return;
    }
    let (small, large) = (measure(10_000, 100), measure(400_000, 100));
    println!("{small:?}\n{large:?}");
    assert!(large.anon - small.anon < ANON_GROWTH_KIB, "anonymous memory grows: {small:?} {large:?}");
    assert!(large.file < FILE_KIB, "mapped pages of files are not given back: {small:?} {large:?}");
}

#[test]
#[ignore = "prints figures; takes a minute"]
fn a_million_pairs_of_a_thousand_tasks() {
    println!(
        "{:>9} {:>6} {:>11} {:>11} {:>11} {:>11} {:>11} {:>11}",
        "pairs", "tasks", "anon KiB", "file KiB", "peak KiB", "pairs/s", "draw us", "pack us"
    );
    for (pairs, tasks) in [(10_000, 1000), (100_000, 1000), (1_000_000, 1000), (10_000, 1), (1_000_000, 1)] {
        let Found { anon, file, peak, build_s, draw_s, pack_s } = measure(pairs, tasks);
        let rate = pairs as f64 / build_s;
        let (draw, pack) = (draw_s * 1e6, pack_s * 1e6);
        println!(
            "{pairs:>9} {tasks:>6} {anon:>11} {file:>11} {peak:>11} {rate:>11.0} {draw:>11.1} {pack:>11.1}"
        );
    }
}
