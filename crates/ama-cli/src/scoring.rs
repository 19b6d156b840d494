//! Scores of a data set under a model, kept on the way in the command's work folder.

use ama_data::TokenStore;
use ama_specialist_cache::{PairScore, ScoreKey};
use ama_train::{Control, ScoreOptions, score_cached};
use anyhow::Result;

use crate::key::Key;
use crate::policy::Policy;
use crate::progress::Progress;
use crate::work::WorkFolder;
use crate::{console, device, stop, threads};

/// Scores of a data set.
#[derive(Debug)]
pub(crate) struct Scored {
    /// Of every pair, in the order of the store.
    pub(crate) scores: Vec<PairScore>,
    /// Tokens of the distinct pairs that this call scored; the others were kept by an earlier one.
    pub(crate) tokens: u64,
}

/// Scores every pair, from what an earlier call has kept of the same work; the bits are those of a call that was not cut
/// off. `label` names the work in progress.
///
/// # Errors
/// Scoring failed or was interrupted; the disk refuses.
pub(crate) fn resumable(
    policy: &Policy,
    pairs: &TokenStore,
    max_length: usize,
    options: ScoreOptions,
    label: &str,
    work: &WorkFolder,
) -> Result<Scored> {
    let key = ScoreKey {
        model: policy.fingerprint,
        tokenizer: policy.tokenizer.fingerprint(),
        max_length: u32::try_from(max_length).ok(),
    };
    // Everything that decides how the sums are added up, besides what decides their values.
    let bits = Key::of("scores")
        .bytes("version", env!("CARGO_PKG_VERSION").as_bytes())
        .bytes("model", &key.model)
        .bytes("tokenizer", &key.tokenizer)
        .bytes("pairs", &pairs.fingerprint())
        .field("micro_batch_tokens", &options.micro_batch_tokens)
        .field("threads", &threads::count())
        .field("device", &device::used());
    let store = work.scores(&bits)?;
    let ids: Vec<[u8; 16]> = (0..pairs.len()).map(|i| *pairs.id(i).as_bytes()).collect();
    let kept = store.load(&key)?;
    let missing = kept.missing(&ids);
    let tokens = missing.iter().map(|&i| pairs.example(i).tokens() as u64).sum();
    if !kept.is_empty() {
        console::note(&format!("{label}: {} pairs were scored already", kept.len()));
    }
    drop((ids, kept));
    let mut progress = Progress::new(label);
    let control = &mut Control::new(stop::flag(), &mut progress);
    let scores = score_cached(&policy.model, pairs, &key, &store, options, label, control);
    progress.finish()?;
    Ok(Scored { scores: scores?, tokens })
}
