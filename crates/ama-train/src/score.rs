//! Forward-only scoring of pairs, through the content-addressed store: only missing pairs are computed.

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

/// Results reach the disk at least this often, so that a killed run loses no more than this.
const FLUSH_EVERY: Duration = Duration::from_secs(20);

/// Scores of every pair of `pairs` under `model`, in the store's order; what `cache` already holds under `key` is not
/// computed again.
///
/// # Errors
/// [`TrainError::NonFinite`] for a log-probability that is NaN or infinite, [`TrainError::Interrupted`] when asked to
/// stop (what was computed is in the cache), or what the cache refuses.
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
    let missing = cache.missing(key, &ids)?;
    let done_before = pairs.len() - missing.len();
    let mut fresh: Vec<([u8; 16], PairScore)> = Vec::new();
    let mut flushed = Instant::now();
    let result = score_rows(model, pairs, &missing, options, label, |scores, done| {
        fresh.extend(scores.iter().map(|&(index, score)| (ids[index], score)));
        control.observer.scored(label, (done_before + done) as u64, pairs.len() as u64);
        if flushed.elapsed() >= FLUSH_EVERY {
            cache.append(key, &std::mem::take(&mut fresh))?;
            flushed = Instant::now();
        }
        if control.stopped() {
            Err(TrainError::Interrupted { step: done as u64, checkpoint: None })
        } else {
            Ok(())
        }
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
/// As [`score_cached`].
pub fn score(
    model: &Llama,
    pairs: &TokenStore,
    options: ScoreOptions,
    label: &str,
    control: &mut Control<'_>,
) -> Result<Vec<PairScore>, TrainError> {
    let every: Vec<usize> = (0..pairs.len()).collect();
    let mut out = Vec::with_capacity(pairs.len());
    score_rows(model, pairs, &every, options, label, |scores, done| {
        out.extend(scores.iter().map(|&(_, score)| score));
        control.observer.scored(label, done as u64, pairs.len() as u64);
        if control.stopped() {
            Err(TrainError::Interrupted { step: done as u64, checkpoint: None })
        } else {
            Ok(())
        }
    })?;
    Ok(out)
}

/// Runs the rows `indices` through the model and hands every forward pass's scores on.
fn score_rows(
    model: &Llama,
    pairs: &TokenStore,
    indices: &[usize],
    options: ScoreOptions,
    label: &str,
    mut take: impl FnMut(&[(usize, PairScore)], usize) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let lengths: Vec<usize> = indices.iter().map(|&i| pairs.packed_tokens(i)).collect();
    let mut packed = Packed::default();
    let mut scores = Vec::new();
    for part in micro_batches(&lengths, options.micro_batch_tokens) {
        packed.clear();
        for &index in &indices[part.clone()] {
            packed.push(pairs.example(index));
        }
        let logps = model.logps(&view(&packed))?;
        scores.clear();
        for (&index, pair) in indices[part.clone()].iter().zip(logps.chunks_exact(2)) {
            let score = PairScore {
                chosen_logp: pair[0].sum_nats,
                rejected_logp: pair[1].sum_nats,
                chosen_tokens: pair[0].tokens,
                rejected_tokens: pair[1].tokens,
            };
            if !(score.chosen_logp.is_finite() && score.rejected_logp.is_finite()) {
                let pairs = format!("{label}:{}", pairs.id(index));
                return Err(TrainError::NonFinite {
                    step: 0,
                    what: "log-probability",
                    pairs,
                    checkpoint: None,
                });
            }
            scores.push((index, score));
        }
        take(&scores, part.end)?;
    }
    Ok(())
}
