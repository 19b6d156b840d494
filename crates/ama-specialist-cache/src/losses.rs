//! The loss table of a specialist.

use crate::sealed::{Draft, Sealed};
use crate::{CacheError, PairId, PairScore, ScoreKey, ScoreTable, hex};
use std::path::Path;

const FORMAT: &str = "ama losses";

/// One pair's loss under a policy, and the scores that it follows from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossRow {
    /// The pair.
    pub id: PairId,
    /// Scores by the policy (the specialist).
    pub policy: PairScore,
    /// Scores by the frozen reference. Its token counts equal the policy's.
    pub reference: PairScore,
    /// The loss, nats.
    pub loss_nats: f64,
}

/// What a loss table was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossMeta {
    /// Key of the policy's scores.
    pub policy: ScoreKey,
    /// Key of the reference's scores.
    pub reference: ScoreKey,
    /// Name of the task.
    pub task: String,
    /// The loss and its settings as text, such as `sigmoid beta=0.1`: compared as it stands.
    pub loss: String,
}

impl LossMeta {
    fn fields(&self) -> [(&'static str, String); 8] {
        let [model, tokenizer, max_length] = self.policy.fields();
        let [reference_model, reference_tokenizer, reference_max_length] = self.reference.fields();
        [
            ("policy.model", model),
            ("policy.tokenizer", tokenizer),
            ("policy.max_length", max_length),
            ("reference.model", reference_model),
            ("reference.tokenizer", reference_tokenizer),
            ("reference.max_length", reference_max_length),
            ("task", self.task.clone()),
            ("loss", self.loss.clone()),
        ]
    }
}

/// Losses of the pairs `ids`, in their order, from scores on hand: another beta or another loss needs no model.
/// `loss` gets the policy's and the reference's score and returns nats.
///
/// # Errors
/// [`CacheError::MissingScore`], [`CacheError::TokenMismatch`], [`CacheError::NotFinite`] on a loss.
pub fn derive_losses(
    ids: &[PairId],
    policy: &ScoreTable,
    reference: &ScoreTable,
    loss: impl Fn(&PairScore, &PairScore) -> f64,
) -> Result<Vec<LossRow>, CacheError> {
    let missing = |id: &PairId, which| CacheError::MissingScore { pair: hex::encode(id), which };
    let row = |id: &PairId| {
        let policy = *policy.get(id).ok_or_else(|| missing(id, "policy"))?;
        let reference = *reference.get(id).ok_or_else(|| missing(id, "reference"))?;
        let row = LossRow { id: *id, policy, reference, loss_nats: loss(&policy, &reference) };
        check(&row).map(|()| row)
    };
    ids.iter().map(row).collect()
}

/// Writes a loss table to one Parquet file: columns `id`, `policy_chosen_logp`, `policy_rejected_logp`,
/// `reference_chosen_logp`, `reference_rejected_logp` (f64, summed nats), `chosen_tokens`, `rejected_tokens`
/// (u32), `loss_nats` (f64). A file that is there already is replaced at once or not at all.
///
/// # Errors
/// [`CacheError::NotFinite`], [`CacheError::TokenMismatch`], [`CacheError::ReservedText`], [`CacheError::Io`],
/// [`CacheError::Parquet`].
pub fn write_losses(path: impl AsRef<Path>, meta: &LossMeta, rows: &[LossRow]) -> Result<(), CacheError> {
    rows.iter().try_for_each(check)?;
    let mut draft = Draft::new(FORMAT, rows.iter().map(|row| row.id))
        .f64("policy_chosen_logp", rows.iter().map(|row| row.policy.chosen_logp))
        .f64("policy_rejected_logp", rows.iter().map(|row| row.policy.rejected_logp))
        .f64("reference_chosen_logp", rows.iter().map(|row| row.reference.chosen_logp))
        .f64("reference_rejected_logp", rows.iter().map(|row| row.reference.rejected_logp))
        .u32("chosen_tokens", rows.iter().map(|row| row.policy.chosen_tokens))
        .u32("rejected_tokens", rows.iter().map(|row| row.policy.rejected_tokens))
        .f64("loss_nats", rows.iter().map(|row| row.loss_nats));
    for (field, text) in meta.fields() {
        draft = draft.meta(field, text)?;
    }
    draft.write(path.as_ref())
}

/// Reads what [`write_losses`] wrote.
///
/// # Errors
/// [`CacheError::Io`], [`CacheError::Corrupt`], [`CacheError::Mismatch`] for another kind of file.
pub fn read_losses(path: impl AsRef<Path>) -> Result<(LossMeta, Vec<LossRow>), CacheError> {
    let file = Sealed::read(path.as_ref(), FORMAT)?;
    Ok((meta(&file)?, rows(&file)?))
}

/// Reads a loss table that must have been made from `want`.
///
/// # Errors
/// As [`read_losses`], and [`CacheError::Mismatch`] on the first field that differs.
pub fn read_losses_of(path: impl AsRef<Path>, want: &LossMeta) -> Result<Vec<LossRow>, CacheError> {
    let file = Sealed::read(path.as_ref(), FORMAT)?;
    for (field, text) in want.fields() {
        file.expect(field, &text)?;
    }
    rows(&file)
}

fn meta(file: &Sealed) -> Result<LossMeta, CacheError> {
    let key = |model, tokenizer, max_length| {
        ScoreKey::from_fields(file.meta(model), file.meta(tokenizer), file.meta(max_length))
            .ok_or_else(|| file.corrupt(format!("its metadata `{model}` and following are no score key")))
    };
    Ok(LossMeta {
        policy: key("policy.model", "policy.tokenizer", "policy.max_length")?,
        reference: key("reference.model", "reference.tokenizer", "reference.max_length")?,
        task: file.meta("task").to_owned(),
        loss: file.meta("loss").to_owned(),
    })
}

fn rows(file: &Sealed) -> Result<Vec<LossRow>, CacheError> {
    let policy = [file.f64("policy_chosen_logp")?, file.f64("policy_rejected_logp")?];
    let reference = [file.f64("reference_chosen_logp")?, file.f64("reference_rejected_logp")?];
    let tokens = [file.u32("chosen_tokens")?, file.u32("rejected_tokens")?];
    let loss_nats = file.f64("loss_nats")?;
    let row = |(row, id): (usize, PairId)| {
        // Columns of one record batch have one length, so every index is in range.
        let score = |logps: &[Vec<f64>; 2]| PairScore {
            chosen_logp: logps[0][row],
            rejected_logp: logps[1][row],
            chosen_tokens: tokens[0][row],
            rejected_tokens: tokens[1][row],
        };
        let row =
            LossRow { id, policy: score(&policy), reference: score(&reference), loss_nats: loss_nats[row] };
        check(&row).map(|()| row)
    };
    file.ids()?.into_iter().enumerate().map(row).collect()
}

fn check(row: &LossRow) -> Result<(), CacheError> {
    row.policy.check(&row.id)?;
    row.reference.check(&row.id)?;
    let pair = || hex::encode(&row.id);
    if !row.loss_nats.is_finite() {
        return Err(CacheError::NotFinite { pair: pair(), column: "loss_nats", value: row.loss_nats });
    }
    for (column, policy, reference) in [
        ("chosen_tokens", row.policy.chosen_tokens, row.reference.chosen_tokens),
        ("rejected_tokens", row.policy.rejected_tokens, row.reference.rejected_tokens),
    ] {
        if policy != reference {
            return Err(CacheError::TokenMismatch { pair: pair(), column, policy, reference });
        }
    }
    Ok(())
}
