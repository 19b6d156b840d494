//! Writes a suite: by default a small one into a temporary folder, checked and removed again.
//!
//! ```text
//! cargo run --release -p ama-suite --example write_suite
//! cargo run --release -p ama-suite --example write_suite -- --seed 1 --out DIR     the committed sizes
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use ama_suite::{Sizes, Task, generate, verify, write};
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut seed, mut out) = (1, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} wants a value"))?;
        match flag.as_str() {
            "--seed" => seed = value.parse()?,
            "--out" => out = Some(PathBuf::from(value)),
            _ => return Err(format!("unknown flag {flag}; want --seed S, --out DIR").into()),
        }
    }
    let scratch = tempfile::tempdir()?;
    let (dir, sizes) = match out {
        Some(dir) => (dir, Sizes::UNION),
        None => (
            scratch.path().join("suite"),
            Sizes { helpful: 60, harmless: 60, reasoning: 60, held_out: 20, sft: 500 },
        ),
    };

    let suite = generate(seed, &sizes);
    for task in Task::ALL {
        let splits = suite.task(task);
        for pair in splits.train.iter().chain(&splits.valid).chain(&splits.test) {
            assert!(verify(pair.verifier, &pair.gold, &pair.chosen), "{pair:?}");
            assert!(!verify(pair.verifier, &pair.gold, &pair.rejected), "{pair:?}");
        }
        let Some(pair) = splits.train.first() else { continue };
        println!("{task}: {} pairs to train on, {} to test", splits.train.len(), splits.test.len());
        println!("  prompt   {}\n  chosen  {}\n  rejected{}", pair.prompt, pair.chosen, pair.rejected);
    }

    write(&suite, &dir)?;
    let mut files = Vec::new();
    for folder in ["train", "valid", "test", "base", ""] {
        for entry in std::fs::read_dir(dir.join(folder))? {
            let entry = entry?;
            if entry.metadata()?.is_file() {
                files.push((
                    format!("{folder}/{}", entry.file_name().to_string_lossy()),
                    entry.metadata()?.len(),
                ));
            }
        }
    }
    files.sort();
    assert_eq!(files.len(), 15);
    for (name, bytes) in &files {
        println!("{bytes:>9} {}", name.trim_start_matches('/'));
    }
    println!("{:>9} bytes in all", files.iter().map(|(_, bytes)| bytes).sum::<u64>());
    Ok(())
}
