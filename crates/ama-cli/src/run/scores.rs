//! Reference and specialist scores, through the content-addressed cache in `cache/`, and the loss tables in `losses/`.
//!
//! No `stage.json` here: the cache knows by itself which pairs are missing, and a loss table names what it was made
//! from.

use ama_data::TokenStore;
use ama_loss::PreferenceLoss;
use ama_specialist_cache::{
    CacheError, LossMeta, PairScore, ScoreKey, ScoreStore, derive_losses, read_losses_of, write_losses,
};
use ama_train::{Control, ScoreOptions, pair_logps, score_cached};
use anyhow::{Context as _, Result};

use super::Context;
use super::base::Saved;
use super::data::TaskData;
use crate::exit::bad_input;
use crate::policy::Policy;
use crate::progress::Progress;
use crate::{console, stop};

/// Scores of one task's two splits, in the order of the stores.
#[derive(Debug, Clone)]
pub(crate) struct Split<T> {
    pub(crate) train: T,
    pub(crate) eval: T,
}

/// What the reference and the specialist say about one task.
#[derive(Debug, Clone)]
pub(crate) struct TaskScores {
    pub(crate) reference: Split<Vec<PairScore>>,
    /// The specialist's losses in nats; `None` until it was scored, or if no method needs it.
    pub(crate) specialist: Option<Split<Vec<f64>>>,
}

/// The store of scores of a run.
pub(crate) struct Scores<'a> {
    context: &'a Context<'a>,
    store: ScoreStore,
    tokenizer: [u8; 32],
}

impl<'a> Scores<'a> {
    /// Opens the run's cache.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn open(context: &'a Context<'a>, tokenizer: [u8; 32]) -> Result<Self> {
        Ok(Self { context, store: ScoreStore::open(context.root().join("cache"))?, tokenizer })
    }

    /// Reference scores of every task.
    ///
    /// # Errors
    /// Scoring failed or was interrupted; the cache is damaged.
    pub(crate) fn reference(&self, base: &Saved, tasks: &[TaskData]) -> Result<Vec<TaskScores>> {
        let score = |task: &TaskData| {
            let reference = self.both(base, task, &format!("reference/{}", task.name))?;
            Ok(TaskScores { reference, specialist: None })
        };
        tasks.iter().map(score).collect()
    }

    /// Adds the specialist's losses to one task's scores, and writes its loss tables.
    ///
    /// # Errors
    /// As [`Scores::reference`].
    pub(crate) fn specialist(
        &self,
        base: &Saved,
        specialist: &Saved,
        task: &TaskData,
        scores: &mut TaskScores,
    ) -> Result<()> {
        self.both(specialist, task, &format!("specialist/{}", task.name))?;
        let loss = self.context.loss;
        scores.specialist = Some(Split {
            train: self.losses(base, specialist, &task.name, "train", &task.train, &loss)?,
            eval: self.losses(base, specialist, &task.name, self.context.config.split, &task.eval, &loss)?,
        });
        Ok(())
    }

    fn both(&self, model: &Saved, task: &TaskData, label: &str) -> Result<Split<Vec<PairScore>>> {
        Ok(Split {
            train: self.score(model, &task.train, label)?,
            eval: self.score(model, &task.eval, label)?,
        })
    }

    /// Scores of a store; the model is loaded only if some are missing.
    fn score(&self, model: &Saved, pairs: &TokenStore, label: &str) -> Result<Vec<PairScore>> {
        let key = self.key(model)?;
        let ids = ids(pairs);
        let table = self.store.load(&key)?;
        if let Some(scores) = ids.iter().map(|id| table.get(id).copied()).collect() {
            return Ok(scores);
        }
        let scores = self.score_with(model, model.policy()?, pairs, label)?;
        console::note(&format!("{label:<34} scored {} pairs", scores.len()));
        Ok(scores)
    }

    /// Scores of a store under `model`, which is loaded as `policy`; the cache keeps them as they come.
    ///
    /// # Errors
    /// Scoring failed or was interrupted; the cache is damaged.
    pub(crate) fn score_with(
        &self,
        model: &Saved,
        policy: &Policy,
        pairs: &TokenStore,
        label: &str,
    ) -> Result<Vec<PairScore>> {
        let options = ScoreOptions { micro_batch_tokens: self.context.config.micro_batch_tokens };
        let key = self.key(model)?;
        let mut progress = Progress::new(label);
        let control = &mut Control::new(stop::flag(), &mut progress);
        let scores = score_cached(&policy.model, pairs, &key, &self.store, options, label, control);
        progress.finish()?;
        scores.with_context(|| label.to_string())
    }

    /// Losses of a store's pairs, from the table on disk if it was made from the same scores.
    fn losses(
        &self,
        base: &Saved,
        specialist: &Saved,
        task: &str,
        split: &str,
        pairs: &TokenStore,
        loss: &PreferenceLoss,
    ) -> Result<Vec<f64>> {
        let meta = LossMeta {
            policy: self.key(specialist)?,
            reference: self.key(base)?,
            task: task.to_string(),
            loss: self.context.config.loss.text(),
        };
        let folder = self.context.root().join("losses");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join(format!("{task}.{split}.parquet"));
        let ids = ids(pairs);
        if path.exists() {
            match read_losses_of(&path, &meta) {
                Ok(rows) if rows.iter().map(|row| &row.id).eq(&ids) => {
                    return Ok(rows.into_iter().map(|row| row.loss_nats).collect());
                }
                // Made from other scores or other pairs: out of date, and derived anew.
                Ok(_) | Err(CacheError::Mismatch { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (policy, reference) = (self.store.load(&meta.policy)?, self.store.load(&meta.reference)?);
        let of = |policy: &PairScore, reference: &PairScore| {
            loss.evaluate(&pair_logps(policy, reference)).loss_nats
        };
        let rows = derive_losses(&ids, &policy, &reference, of)?;
        write_losses(&path, &meta, &rows)?;
        Ok(rows.into_iter().map(|row| row.loss_nats).collect())
    }

    fn key(&self, model: &Saved) -> Result<ScoreKey> {
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(model.fingerprint.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16)
                .map_err(|_| bad_input(format!("{}: damaged fingerprint", model.folder.display())))?;
        }
        let max_length = u32::try_from(self.context.config.max_length).ok();
        Ok(ScoreKey { model: bytes, tokenizer: self.tokenizer, max_length })
    }
}

fn ids(pairs: &TokenStore) -> Vec<[u8; 16]> {
    (0..pairs.len()).map(|i| *pairs.id(i).as_bytes()).collect()
}
