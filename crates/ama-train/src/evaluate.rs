//! Held-out evaluation: loss, excess over the specialist, reward accuracy, margin, and verified answers.

use ama_loss::{PairLogps, PreferenceLoss};
use ama_mix::{ExcessMode, GradientClip, pair_excess};
use ama_model::Llama;
use ama_model::generate::{GenerateOptions, generate};
use ama_specialist_cache::PairScore;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// What is known about one task's held-out pairs.
#[derive(Debug, Clone)]
pub struct EvalTask {
    /// The task's name.
    pub name: String,
    /// Reference log-probabilities of the held-out pairs.
    pub reference: Vec<PairScore>,
    /// The specialist's losses in nats, in the same order.
    pub specialist_loss_nats: Option<Vec<f64>>,
    /// Prompts whose answers a program can check.
    pub questions: Vec<Question>,
}

/// A prompt with a checkable answer.
#[derive(Debug, Clone)]
pub struct Question {
    /// Prompt token ids.
    pub prompt: Vec<u32>,
    /// Name of the verifier.
    pub verifier: String,
    /// What the verifier compares with.
    pub gold: String,
}

/// Results on one task. Means are over the task's pairs; losses in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Mean preference loss.
    pub loss: f64,
    /// Mean clipped excess over the specialist; null without a specialist.
    pub excess: Option<f64>,
    /// Share of pairs with a positive reward margin, in [0, 1].
    pub accuracy: f64,
    /// Mean reward margin.
    pub margin: f64,
    /// Share of greedy answers that the verifier accepts, in [0, 1]; null without checkable prompts.
    pub win_rate: Option<f64>,
    /// Pairs evaluated.
    pub pairs: u64,
}

/// Turns scores into per-pair losses and margins.
///
/// # Errors
/// [`TrainError::Coverage`] when the two tables differ in length.
pub fn pair_losses(
    task: &str,
    loss: &PreferenceLoss,
    policy: &[PairScore],
    reference: &[PairScore],
) -> Result<Vec<ama_loss::PairLoss>, TrainError> {
    if policy.len() != reference.len() {
        return Err(TrainError::Coverage {
            task: task.to_owned(),
            what: "the reference score table",
            want: policy.len(),
            got: reference.len(),
        });
    }
    let evaluate = |(p, r): (&PairScore, &PairScore)| loss.evaluate(&pair_logps(p, r));
    Ok(policy.iter().zip(reference).map(evaluate).collect())
}

/// A policy's and the reference's scores of one pair, as the loss wants them.
#[must_use]
pub fn pair_logps(policy: &PairScore, reference: &PairScore) -> PairLogps {
    PairLogps {
        chosen: policy.chosen_logp,
        rejected: policy.rejected_logp,
        ref_chosen: reference.chosen_logp,
        ref_rejected: reference.rejected_logp,
        chosen_tokens: policy.chosen_tokens,
        rejected_tokens: policy.rejected_tokens,
    }
}

/// Evaluates `model`, whose scores of the task's pairs are `policy` in the order of the reference's ([`score`](crate::score()) or
/// [`score_cached`](crate::score_cached)), on one task. `decode` turns token ids into text and
/// `verify(verifier, gold, answer)` judges it.
///
/// # Errors
/// Tables that do not cover the pairs; what generation or `decode` refuse.
pub fn evaluate(
    model: &Llama,
    policy: &[PairScore],
    task: &EvalTask,
    loss: &PreferenceLoss,
    generation: &GenerateOptions,
    decode: &dyn Fn(&[u32]) -> Result<String, TrainError>,
    verify: &dyn Fn(&str, &str, &str) -> bool,
) -> Result<TaskResult, TrainError> {
    let losses = pair_losses(&task.name, loss, policy, &task.reference)?;
    let count = losses.len();
    if count == 0 {
        return Err(TrainError::EmptyTask { task: task.name.clone() });
    }
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / count as f64;
    let excess = match &task.specialist_loss_nats {
        None => None,
        Some(targets) if targets.len() != count => {
            return Err(TrainError::Coverage {
                task: task.name.clone(),
                what: "the specialist's loss table",
                want: count,
                got: targets.len(),
            });
        }
        Some(targets) => Some(mean(&mut losses.iter().zip(targets).map(|(l, &target)| {
            pair_excess(ExcessMode::Clipped, GradientClip::Pair, l.loss_nats, target).value_nats
        }))),
    };
    let win_rate = if task.questions.is_empty() {
        None
    } else {
        let prompts: Vec<Vec<u32>> = task.questions.iter().map(|q| q.prompt.clone()).collect();
        let answers = generate(model, &prompts, generation)?;
        let mut won = 0_usize;
        for (question, answer) in task.questions.iter().zip(&answers) {
            won += usize::from(verify(&question.verifier, &question.gold, decode(answer)?.trim()));
        }
        Some(won as f64 / task.questions.len() as f64)
    };
    Ok(TaskResult {
        loss: mean(&mut losses.iter().map(|l| l.loss_nats)),
        excess,
        accuracy: mean(&mut losses.iter().map(|l| f64::from(u8::from(l.margin > 0.0)))),
        margin: mean(&mut losses.iter().map(|l| l.margin)),
        win_rate,
        pairs: count as u64,
    })
}
