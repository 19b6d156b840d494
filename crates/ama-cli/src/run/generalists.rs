//! Stages `generalists/METHOD/seed-N`: one model on all tasks, mixed.

use ama_data::Order;
use ama_mix::{Mixer, Resolved};
use ama_train::{
    Preference, PreferenceOptions, Stage as StageName, TrainTask, add_gaussian_noise, horizon_steps,
};
use anyhow::Result;
use serde_json::{Value, json};

use super::Context;
use super::base::{Mixture, Saved, Trained};
use super::data::TaskData;
use super::scores::TaskScores;
use crate::config::{MethodSettings, SpecialistNoise};
use crate::files;
use crate::job::Job;
use crate::key::{Key, derive_seed};

/// What every stage-2 run starts from.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    pub(crate) base: &'a Saved,
    pub(crate) tasks: &'a [TaskData],
    pub(crate) scores: &'a [TaskScores],
    /// The specialists' fingerprints, in the order of the tasks; empty if no method needs them.
    pub(crate) specialists: &'a [String],
}

impl Inputs<'_> {
    fn train_tasks(&self, noise: Option<SpecialistNoise>) -> Vec<TrainTask> {
        let task = |(task, scores): (&TaskData, &TaskScores)| {
            let mut specialist = scores.specialist.as_ref().map(|losses| losses.train.clone());
            if let (Some(losses), Some(noise)) = (&mut specialist, noise) {
                let seed = derive_seed(noise.seed, &format!("specialist-noise/{}", task.name));
                add_gaussian_noise(losses, noise.sd_nats, seed);
            }
            TrainTask {
                name: task.name.clone(),
                pairs: task.train.clone(),
                reference: scores.reference.train.clone(),
                specialist_loss_nats: specialist,
            }
        };
        self.tasks.iter().zip(self.scores).map(task).collect()
    }

    fn mixture(&self, mixer: &dyn Mixer) -> Mixture {
        let by_task = |weights: &[f64]| {
            self.tasks.iter().map(|task| task.name.clone()).zip(weights.iter().copied()).collect()
        };
        Mixture { last: by_task(mixer.alpha()), averaged: by_task(&mixer.averaged_alpha()) }
    }

    fn pairs(&self) -> usize {
        self.tasks.iter().map(|task| task.train.len()).sum()
    }
}

/// Folder of one run below the run folder.
pub(crate) fn folder_name(method: &MethodSettings, seed: u64) -> String {
    format!("generalists/{}/seed-{seed}", method.name)
}

/// Trains (or finds) one generalist.
///
/// # Errors
/// Bad input, an interruption, or a run that failed.
pub(crate) fn generalist(
    context: &Context<'_>,
    inputs: &Inputs<'_>,
    method: &MethodSettings,
    seed: u64,
) -> Result<(Saved, Trained)> {
    let training = &method.training(&context.config.generalist);
    // The same draws for every method of a seed: what differs is the method.
    let run_seed = derive_seed(context.config.seed, &format!("generalist/{seed}"));
    let mut key = Key::of("generalist")
        .bytes("base", inputs.base.fingerprint.as_bytes())
        .field("loss", &context.config.loss)
        .field("training", training)
        .field("mixer", &method.mixer)
        .field("excess", &method.excess)
        .field("gradient clip", &method.gradient_clip)
        .field("seed", &run_seed);
    for task in inputs.tasks {
        key = key.bytes("task", task.name.as_bytes()).bytes("pairs", &task.train.fingerprint());
    }
    if let Some(noise) = method.noise {
        key = key.field("specialist noise", &noise);
    }
    if method.needs_specialists() {
        for fingerprint in inputs.specialists {
            key = key.bytes("specialist", fingerprint.as_bytes());
        }
    }
    let key = key.hex();
    let name = folder_name(method, seed);
    let folder = context.root().join(&name).join("final");
    let trained = context.stage(name.as_str(), key.clone()).run(|stage| -> Result<Trained> {
        let policy = inputs.base.policy()?;
        let mut model = policy.model.clone();
        let tasks = inputs.train_tasks(method.noise);
        let options = training.options(inputs.pairs());
        let horizon = horizon_steps(&tasks, training.batch, options.budget);
        let sizes: Vec<usize> = tasks.iter().map(|task| task.pairs.len()).collect();
        let mixer = method.mixer.build(&sizes, horizon)?;
        let about = json!({
            "format": "ama-generalist 1",
            "method": method.name,
            "seed": seed,
            "draw_seed": run_seed,
            "horizon_steps": horizon,
            "excess": format!("{:?}", method.excess).to_lowercase(),
            "specialist_noise": method.noise.map(|noise| json!({ "sd_nats": noise.sd_nats, "seed": noise.seed })),
            "mixer": resolved_json(&method.mixer.resolve(tasks.len(), horizon)),
        });
        files::write_json(&stage.join("run.json"), &about)?;
        let preference = PreferenceOptions {
            loss: context.loss,
            batch_pairs: training.batch,
            excess: method.excess,
            gradient_clip: method.gradient_clip,
            order: Order::Shuffled,
            seed: run_seed,
            stage: StageName::Generalist,
        };
        let mut objective = Preference::new(tasks, mixer, preference)?;
        let job = Job {
            label: format!("{} seed {seed}", method.name),
            checkpoints: stage.join("checkpoints"),
            metrics: Some(stage.join("metrics.jsonl")),
            identity: key.clone(),
            every_steps: training.checkpoint_every,
            options: &options,
            report: Some(&context.report),
        };
        let summary = job.train(&mut model, &mut objective)?;
        let trained = Trained::finish(&model, &summary, stage, &policy.folder)?;
        Ok(Trained { mixture: Some(inputs.mixture(objective.mixer())), ..trained })
    })?;
    Ok((Saved::new(folder, trained.fingerprint.clone()), trained))
}

/// The constants that a mixer runs with, as `run.json` records them.
pub(crate) fn resolved_json(resolved: &Resolved) -> Value {
    json!({
        "c": resolved.c,
        "eta": resolved.eta,
        "gamma": resolved.gamma,
        "tau": resolved.tau,
        "smoothing": resolved.smoothing,
        "tilt": resolved.tilt,
        "alpha": if resolved.averaged { "averaged" } else { "last" },
        "excess_scale": resolved.scale.map(|scale| match scale {
            ama_mix::ExcessScale::Fixed(nats) => json!(nats),
            ama_mix::ExcessScale::Running { decay } => json!({ "running_decay": decay }),
        }),
    })
}
