//! Stages `specialists/TASK`: DPO on one task alone.

use ama_data::Order;
use ama_mix::{ExcessMode, GradientClip, MixerSpec};
use ama_train::{Preference, PreferenceOptions, Stage as StageName, TrainTask};
use anyhow::Result;

use super::Context;
use super::base::{Saved, Trained};
use super::data::TaskData;
use super::scores::TaskScores;
use crate::config::TaskSettings;
use crate::job::Job;
use crate::key::{Key, derive_seed};

/// Trains (or finds) the specialist of one task.
///
/// # Errors
/// Bad input, an interruption, or a run that failed.
pub(crate) fn specialist(
    context: &Context<'_>,
    base: &Saved,
    settings: &TaskSettings,
    task: &TaskData,
    scores: &TaskScores,
) -> Result<(Saved, Trained)> {
    let training = &settings.specialist;
    let seed = derive_seed(context.config.seed, &format!("specialist/{}", task.name));
    let key = Key::of("specialist")
        .bytes("base", base.fingerprint.as_bytes())
        .bytes("pairs", &task.train.fingerprint())
        .field("loss", &context.config.loss)
        .field("training", training)
        .field("seed", &seed)
        .hex();
    let name = format!("specialists/{}", task.name);
    let folder = context.root().join(&name).join("final");
    let trained = context.stage(name.as_str(), key.clone()).run(|stage| -> Result<Trained> {
        let policy = base.policy()?;
        let mut model = policy.model.clone();
        let train_task = TrainTask {
            name: task.name.clone(),
            pairs: task.train.clone(),
            reference: scores.reference.train.clone(),
            specialist_loss_nats: None,
        };
        let preference = PreferenceOptions {
            loss: context.loss,
            batch_pairs: training.batch,
            excess: ExcessMode::Raw,
            gradient_clip: GradientClip::Pair,
            order: Order::Shuffled,
            seed,
            stage: StageName::Specialist,
        };
        let mixer = MixerSpec::Pooled.build(&[task.train.len()], 1)?;
        let mut objective = Preference::new(vec![train_task], mixer, preference)?;
        let options = training.options(task.train.len());
        let job = Job {
            label: name.clone(),
            checkpoints: stage.join("checkpoints"),
            metrics: Some(stage.join("metrics.jsonl")),
            identity: key.clone(),
            every_steps: training.checkpoint_every,
            options: &options,
            report: Some(&context.report),
        };
        let summary = job.train(&mut model, &mut objective)?;
        Trained::finish(&model, &summary, stage, &policy.folder)
    })?;
    Ok((Saved::new(folder, trained.fingerprint.clone()), trained))
}
