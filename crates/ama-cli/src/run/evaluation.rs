//! Stages `evaluation/NAME`: a model on the held-out split of every task.

use std::collections::BTreeMap;

use ama_train::{EvalTask, TaskResult, TrainError, evaluate};
use anyhow::Result;

use super::Context;
use super::base::Saved;
use super::data::TaskData;
use super::scores::{Scores, TaskScores};
use crate::corpus::verify;
use crate::generation;
use crate::key::Key;

/// Results by task.
pub(crate) type Results = BTreeMap<String, TaskResult>;

/// Evaluates a model on some tasks: `(data, scores, fingerprint of the task's specialist)`.
///
/// # Errors
/// The model cannot be loaded, scoring or generation failed, or the user asked to stop.
pub(crate) fn evaluation(
    context: &Context<'_>,
    name: &str,
    model: &Saved,
    tasks: &[(&TaskData, &TaskScores, Option<&String>)],
    reference: &Saved,
) -> Result<Results> {
    let config = context.config;
    let mut key = Key::of("evaluation")
        .bytes("model", model.fingerprint.as_bytes())
        .bytes("reference", reference.fingerprint.as_bytes())
        .field("loss", &config.loss)
        .field("max_new_tokens", &config.max_new_tokens)
        // The model's fingerprint is that of its weights: where answers stop is another matter.
        .field("stop tokens", &generation::configured_stop_ids(&model.folder)?);
    for (task, _, specialist) in tasks {
        key = key
            .bytes("task", task.name.as_bytes())
            .bytes("pairs", &task.eval.fingerprint())
            .field("questions", &task.questions)
            .field("specialist", specialist);
    }
    context.stage(format!("evaluation/{name}"), key.hex()).run(|_| {
        let policy = model.load()?;
        let generate = generation::greedy(&policy, config.max_new_tokens);
        let cache = Scores::open(context, policy.tokenizer.fingerprint())?;
        let decode = |ids: &[u32]| generation::decode(&policy.tokenizer, ids).map_err(TrainError::from);
        let mut results = Results::new();
        for (task, scores, _) in tasks {
            let eval = EvalTask {
                name: task.name.clone(),
                reference: scores.reference.eval.clone(),
                specialist_loss_nats: scores.specialist.as_ref().map(|losses| losses.eval.clone()),
                questions: task.questions.clone(),
            };
            let label = format!("evaluate {name} {}", task.name);
            let by_model = cache.score_with(model, &policy, &task.eval, &label)?;
            let result =
                evaluate(&policy.model, &by_model, &eval, &context.loss, &generate, &decode, &verify)?;
            results.insert(task.name.clone(), result);
        }
        Ok(results)
    })
}
