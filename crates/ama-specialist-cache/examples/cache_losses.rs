//! Score once, derive losses as often as you like: `cargo run -p ama-specialist-cache --example cache_losses`.

#![allow(clippy::print_stdout, reason = "an example shows what it finds")]

use ama_specialist_cache::{
    CacheError, LossMeta, PairId, PairScore, ScoreKey, ScoreStore, derive_losses, read_losses, write_losses,
};
use std::{error::Error, fs};

/// Stands in for a language model: log-probabilities that depend on a "weight" and the pair.
fn run_model(weight: f64, id: &PairId, runs: &mut usize) -> PairScore {
    *runs += 1;
    let x = f64::from(id[0]);
    PairScore {
        chosen_logp: -20.0 - x + weight,
        rejected_logp: -19.0 - x,
        chosen_tokens: 12,
        rejected_tokens: 10,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = ScoreStore::open(folder.path().join("cache"))?;
    let pairs: Vec<PairId> = (0..100).map(|pair| [pair; 16]).collect();
    let reference = ScoreKey { model: [1; 32], tokenizer: [3; 32], max_length: Some(512) };
    let specialist = ScoreKey { model: [2; 32], ..reference };

    // Score what is missing: first 60 pairs (as if cut off), then all of them, then again.
    let mut runs = 0;
    for known in [60, 100, 100] {
        for (key, weight) in [(&reference, 0.0), (&specialist, 4.0)] {
            let rows: Vec<_> = store
                .missing(key, &pairs[..known])?
                .into_iter()
                .map(|pair| (pairs[pair], run_model(weight, &pairs[pair], &mut runs)))
                .collect();
            let added = store.append(key, &rows)?;
            println!("{known:>4} pairs wanted, {added:>3} scored");
        }
    }
    assert_eq!(runs, 200, "every pair once by each model");

    // Any beta from the same numbers: the margin is 4 beta.
    let (policy_scores, reference_scores) = (store.load(&specialist)?, store.load(&reference)?);
    for beta in [0.1, 0.5] {
        let rows = derive_losses(&pairs, &policy_scores, &reference_scores, |policy, reference| {
            let chosen = policy.chosen_logp - reference.chosen_logp;
            let rejected = policy.rejected_logp - reference.rejected_logp;
            (-beta * (chosen - rejected)).exp().ln_1p()
        })?;
        let (task, loss) = ("demo".to_owned(), format!("sigmoid beta={beta}"));
        let path = folder.path().join(format!("losses-{beta}.parquet"));
        write_losses(&path, &LossMeta { policy: specialist, reference, task, loss }, &rows)?;
        let (meta, rows) = read_losses(&path)?;
        println!("{}: {:.4} nats a pair", meta.loss, rows[0].loss_nats);
        assert!((rows[99].loss_nats - (-4.0f64 * beta).exp().ln_1p()).abs() < 1e-12);
    }

    // A flipped bit does not go unnoticed.
    let path = folder.path().join("losses-0.1.parquet");
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes)?;
    let error = read_losses(&path).unwrap_err();
    println!("{}", error.to_string().replace(&*folder.path().to_string_lossy(), "FOLDER"));
    assert!(matches!(error, CacheError::Corrupt { .. }));
    Ok(())
}
