//! Forward-only scoring of pairs, through the content-addressed store: only missing pairs are computed.

use std::ops::Range;
use std::time::{Duration, Instant};

use ama_data::{Packed, TokenStore, micro_batches};
use ama_model::Llama;
use ama_specialist_cache::{PairScore, ScoreKey, ScoreStore};

use crate::engine::view;
use crate::{Control, TrainError};

/// How the forward passes of scoring are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreOptions {
    /// Most packed tokens of one forward pass.
    pub micro_batch_tokens: usize,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self { micro_batch_tokens: 4096 }
    }
}

/// Results reach the disk so often: a killed pass loses a twentieth of its time, and these seconds at least and at most.
const FLUSH_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(20));

/// Scores of every pair of `pairs` under `model`, in the store's order; what `cache` already holds under `key` is not
/// computed again.
///
/// # Errors
/// [`TrainError::NonFinite`] for a log-probability that is NaN or infinite, [`TrainError::ScoringInterrupted`] when asked
/// to stop (what was computed is in the cache), or what the cache refuses.
pub fn score_cached(
    model: &Llama,
    pairs: &TokenStore,
    key: &ScoreKey,
    cache: &ScoreStore,
    options: ScoreOptions,
    label: &str,
    control: &mut Control<'_>,
) -> Result<Vec<PairScore>, TrainError> {
    let ids: Vec<[u8; 16]> = (0..pairs.len()).map(|i| *pairs.id(i).as_bytes()).collect();
    let table = cache.load(key)?;
    let missing = table.missing(&ids);
    // A pair that the data repeats is scored once, and counts when it has a score.
    let mut done = ids.iter().filter(|id| table.get(id).is_some()).count();
    let total = (done + missing.len()) as u64;
    drop(table);
    // Forward passes are cut from the whole store and those with a missing pair are run whole, so that a pass that was
    // cut off and continued packs every pair with the same neighbours: the same bits.
    let mut wanted = vec![false; pairs.len()];
    missing.iter().for_each(|&index| wanted[index] = true);
    let parts =
        parts(pairs, options).into_iter().filter(|part| wanted[part.clone()].contains(&true)).collect();
    let interrupted = |done: usize| TrainError::ScoringInterrupted {
        done: done as u64,
        total,
        kept: Some(cache.dir().to_path_buf()),
    };
    if !missing.is_empty() && control.stopped() {
        return Err(interrupted(done));
    }
    let mut fresh: Vec<([u8; 16], PairScore)> = Vec::new();
    let started = Instant::now();
    let mut flushed = started;
    let result = score_parts(model, pairs, parts, label, |scores| {
        let new = scores.iter().filter(|(index, _)| wanted[*index]);
        fresh.extend(new.map(|&(index, score)| (ids[index], score)));
        done += scores.iter().filter(|(index, _)| wanted[*index]).count();
        control.observer.scored(label, done as u64, total);
        if flushed.elapsed() >= (started.elapsed() / 20).clamp(FLUSH_EVERY.0, FLUSH_EVERY.1) {
            cache.append(key, &std::mem::take(&mut fresh))?;
            flushed = Instant::now();
        }
        if control.stopped() { Err(interrupted(done)) } else { Ok(()) }
    });
    if !fresh.is_empty() {
        cache.append(key, &fresh)?;
    }
    result?;
    let table = cache.load(key)?;
    ids.iter().map(|id| table.get(id).copied()).collect::<Option<Vec<_>>>().ok_or_else(|| {
        TrainError::Coverage {
            task: label.to_owned(),
            what: "the score cache",
            want: ids.len(),
            got: ids.len() - ids.iter().filter(|id| table.get(id).is_none()).count(),
        }
    })
}

/// Scores of every pair of `pairs` under `model`, without a cache.
///
/// # Errors
/// As [`score_cached`]; nothing is kept of a pass that was stopped.
pub fn score(
    model: &Llama,
    pairs: &TokenStore,
    options: ScoreOptions,
    label: &str,
    control: &mut Control<'_>,
) -> Result<Vec<PairScore>, TrainError> {
    let mut out = Vec::with_capacity(pairs.len());
    score_parts(model, pairs, parts(pairs, options), label, |scores| {
        out.extend(scores.iter().map(|&(_, score)| score));
        let done = out.len();
        control.observer.scored(label, done as u64, pairs.len() as u64);
        if control.stopped() {
            let (done, total) = (done as u64, pairs.len() as u64);
            Err(TrainError::ScoringInterrupted { done, total, kept: None })
        } else {
            Ok(())
        }
    })?;
    Ok(out)
}

/// The store cut into forward passes of at most `micro_batch_tokens` packed tokens.
fn parts(pairs: &TokenStore, options: ScoreOptions) -> Vec<Range<usize>> {
    let lengths: Vec<usize> = (0..pairs.len()).map(|i| pairs.packed_tokens(i)).collect();
    micro_batches(&lengths, options.micro_batch_tokens)
}

/// Runs the given parts of the store through the model and hands every forward pass's scores on.
fn score_parts(
    model: &Llama,
    pairs: &TokenStore,
    parts: Vec<Range<usize>>,
    label: &str,
    mut take: impl FnMut(&[(usize, PairScore)]) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let mut packed = Packed::default();
    let mut scores = Vec::new();
    for part in parts {
        packed.clear();
        for index in part.clone() {
            packed.push(pairs.example(index));
        }
        let logps = model.logps(&view(&packed))?;
        scores.clear();
        for (index, pair) in part.zip(logps.chunks_exact(2)) {
            let score = PairScore {
                chosen_logp: pair[0].sum_nats,
                rejected_logp: pair[1].sum_nats,
                chosen_tokens: pair[0].tokens,
                rejected_tokens: pair[1].tokens,
            };
            if !(score.chosen_logp.is_finite() && score.rejected_logp.is_finite()) {
                let pairs = format!("{label}: {}", pairs.place(index));
                return Err(TrainError::NonFinite {
                    step: 0,
                    what: "log-probability",
                    pairs,
                    checkpoint: None,
                });
            }
            scores.push((index, score));
        }
        take(&scores)?;
    }
    // What comes next, mostly training, has batches of another size.
    model.release_buffers();
    Ok(())
}
