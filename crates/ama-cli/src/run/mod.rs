//! `ama run`: every stage of a configuration in one folder.
//!
//! ```text
//! RUN/config.resolved.toml  run.json  results.json  report.html
//! RUN/data/TASK/            token stores, checkable questions
//! RUN/base/                 metrics.jsonl  checkpoints/  final/        (if the base model is made here)
//! RUN/cache/                scores of reference and specialists, by content
//! RUN/specialists/TASK/     metrics.jsonl  checkpoints/  final/
//! RUN/losses/               loss tables of the specialists
//! RUN/generalists/METHOD/seed-N/    run.json  metrics.jsonl  checkpoints/  final/
//! RUN/evaluation/NAME/      results of one model
//! ```

mod about;
mod base;
mod data;
mod evaluation;
mod folder;
mod generalists;
mod results;
mod scores;
mod specialists;
mod stage;
mod table;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ama_data::PairTokenizer;
use ama_loss::PreferenceLoss;
use anyhow::Result;
use serde_json::Value;

use crate::config::{Config, MethodSettings};
use crate::console::Console;
use crate::exit::bad_input;
use crate::live::LiveReport;
use base::{Saved, Trained};
use data::TaskData;
use folder::RunFolder;
use generalists::Inputs;
use results::Row;
use scores::{Scores, TaskScores};
use stage::Stage;

/// What every stage needs to know.
pub(crate) struct Context<'a> {
    config: &'a Config,
    folder: RunFolder,
    loss: PreferenceLoss,
    force: bool,
    report: LiveReport,
}

impl Context<'_> {
    fn root(&self) -> &Path {
        self.folder.root()
    }

    fn stage(&self, name: impl Into<String>, key: String) -> Stage<'_> {
        Stage::new(self.root(), name, key, self.force).reporting(&self.report)
    }
}

/// How to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunOptions<'a> {
    /// Run folder.
    pub(crate) out: &'a Path,
    /// Do every stage again.
    pub(crate) force: bool,
    /// Independent generalist runs at a time.
    pub(crate) jobs: usize,
}

/// Stage 1, and everything else that all stage-2 runs share.
struct Prepared {
    base: Saved,
    tasks: Vec<TaskData>,
    scores: Vec<TaskScores>,
    specialists: Vec<(Saved, Trained)>,
}

impl Prepared {
    fn fingerprints(&self) -> Vec<String> {
        self.specialists.iter().map(|(saved, _)| saved.fingerprint.clone()).collect()
    }
}

/// Runs all stages and writes `results.json`, which is returned, and `report.html`, however it ends.
///
/// # Errors
/// Bad input, an interruption, or a stage that failed.
pub(crate) fn run_all(config: &Config, options: RunOptions<'_>, console: Console) -> Result<Value> {
    let context = open(config, options)?;
    let outcome = all_stages(&context, options.jobs, console);
    let page = context.report.finish();
    if let (Ok(_), Some(page)) = (&outcome, page) {
        console.say(&format!("report in {}", page.display()))?;
    }
    outcome
}

fn all_stages(context: &Context<'_>, jobs: usize, console: Console) -> Result<Value> {
    let config = context.config;
    let prepared = prepare(context, &config.methods)?;
    let fingerprints = prepared.fingerprints();
    let inputs = Inputs {
        base: &prepared.base,
        tasks: &prepared.tasks,
        scores: &prepared.scores,
        specialists: &fingerprints,
    };
    let all: Vec<_> = (0..prepared.tasks.len())
        .map(|i| (&prepared.tasks[i], &prepared.scores[i], fingerprints.get(i)))
        .collect();

    let reference = evaluation::evaluation(context, "base", &prepared.base, &all, &prepared.base)?;
    let mut rows = vec![Row::single("base", reference)];
    if !prepared.specialists.is_empty() {
        let mut own = evaluation::Results::new();
        for (task, (saved, _)) in all.iter().zip(&prepared.specialists) {
            let name = format!("specialist-{}", task.0.name);
            own.extend(evaluation::evaluation(context, &name, saved, &[*task], &prepared.base)?);
        }
        let (seconds, tokens) =
            prepared.specialists.iter().fold((0.0, 0), |(seconds, tokens), (_, trained)| {
                (seconds + trained.seconds, tokens + trained.tokens)
            });
        rows.push(Row::single("specialists", own).trained(seconds, tokens));
    }

    let runs: Vec<(&MethodSettings, u64)> = config
        .methods
        .iter()
        .flat_map(|method| config.seeds.iter().map(move |&seed| (method, seed)))
        .collect();
    let outcomes = in_parallel(jobs, &runs, |&(method, seed)| {
        let (saved, trained) = generalists::generalist(context, &inputs, method, seed)?;
        let name = format!("{}.seed-{seed}", method.name);
        let results = evaluation::evaluation(context, &name, &saved, &all, &prepared.base)?;
        Ok((results, trained))
    })?;
    let mut outcomes = outcomes.into_iter();
    for method in &config.methods {
        let mut row = Row::new(&method.name);
        for (&seed, (results, trained)) in config.seeds.iter().zip(outcomes.by_ref()) {
            row.push(seed, results, &trained);
        }
        rows.push(row);
    }

    let tasks: Vec<&str> = config.tasks.iter().map(|task| task.name.as_str()).collect();
    let results = results::summary(&rows, &tasks, &config.baseline, config.split);
    crate::files::write_json(&context.root().join("results.json"), &results)?;
    for line in table::lines(&rows, &tasks, config.split) {
        console.say(&line)?;
    }
    console.say(&format!("results in {}", context.root().join("results.json").display()))?;
    Ok(results)
}

/// Runs everything that one generalist needs, and that generalist.
///
/// # Errors
/// As [`run_all`]; a method that the configuration does not have.
pub(crate) fn train_one(
    config: &Config,
    options: RunOptions<'_>,
    method: Option<&str>,
    seed: Option<u64>,
    console: Console,
) -> Result<Value> {
    let method = match method {
        None => &config.methods[0],
        Some(name) => config.methods.iter().find(|method| method.name == name).ok_or_else(|| {
            let known: Vec<_> = config.methods.iter().map(|method| method.name.as_str()).collect();
            bad_input(format!(
                "{} has no [[method]] `{name}`; it has {}",
                config.file.display(),
                known.join(", ")
            ))
        })?,
    };
    let seed = seed.unwrap_or(config.seeds[0]);
    let context = open(config, options)?;
    let outcome = one_generalist(&context, method, seed, console);
    context.report.finish();
    outcome
}

fn one_generalist(
    context: &Context<'_>,
    method: &MethodSettings,
    seed: u64,
    console: Console,
) -> Result<Value> {
    let prepared = prepare(context, std::slice::from_ref(method))?;
    let fingerprints = prepared.fingerprints();
    let inputs = Inputs {
        base: &prepared.base,
        tasks: &prepared.tasks,
        scores: &prepared.scores,
        specialists: &fingerprints,
    };
    let (saved, trained) = generalists::generalist(context, &inputs, method, seed)?;
    console.say(&format!(
        "{} seed {seed}: {} steps, {} tokens; model in {}",
        method.name,
        trained.steps,
        trained.tokens,
        saved.folder.display()
    ))?;
    Ok(serde_json::json!({
        "method": method.name, "seed": seed, "model": saved.folder, "steps": trained.steps, "tokens": trained.tokens,
        "train_seconds": trained.seconds,
    }))
}

fn open<'a>(config: &'a Config, options: RunOptions<'_>) -> Result<Context<'a>> {
    let loss = config.loss.build().map_err(|error| bad_input(error.to_string()))?;
    let folder = RunFolder::open(options.out)?;
    let report = LiveReport::new(options.out);
    Ok(Context { config, folder, loss, force: options.force, report })
}

/// Data, base model, reference scores and, if a method needs them, specialists with their losses.
fn prepare(context: &Context<'_>, methods: &[MethodSettings]) -> Result<Prepared> {
    let config = context.config;
    base::check_start(&config.start)?;
    let tokenizer = PairTokenizer::from_folder(base::tokenizer_folder(&config.start))?;
    context.folder.describe(&config.resolved, about::run_json(config))?;
    let tasks = data::tasks(context, &tokenizer)?;
    let base = base::base(context, &tokenizer)?;
    let cache = Scores::open(context, tokenizer.fingerprint())?;
    let mut scores = cache.reference(&base, &tasks)?;
    let mut specialists = Vec::new();
    if methods.iter().any(MethodSettings::needs_specialists) {
        for ((settings, task), scores) in config.tasks.iter().zip(&tasks).zip(&mut scores) {
            let (saved, trained) = specialists::specialist(context, &base, settings, task, scores)?;
            cache.specialist(&base, &saved, task, scores)?;
            specialists.push((saved, trained));
        }
    }
    Ok(Prepared { base, tasks, scores, specialists })
}

/// Does independent pieces of work, `jobs` at a time, each on a thread pool of its own; the outcomes are in the order
/// of the work. With one job the pieces run on the global pool.
///
/// # Errors
/// The first error, in the order of the work; pieces that were running then are finished, no other is begun.
fn in_parallel<W: Sync, R: Send>(
    jobs: usize,
    work: &[W],
    run: impl Fn(&W) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    if jobs <= 1 {
        return work.iter().map(run).collect();
    }
    let threads = (rayon::current_num_threads() / jobs).max(1);
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Result<R>>>> = Mutex::new(work.iter().map(|_| None).collect());
    let failed = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..jobs.min(work.len()) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let (next, outcomes, failed, run) = (&next, &outcomes, &failed, &run);
            scope.spawn(move || {
                while !failed.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(piece) = work.get(index) else { break };
                    let outcome = pool.install(|| run(piece));
                    if outcome.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    // A panic of another job ends the program anyway; its lock is as good as any.
                    outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[index] = Some(outcome);
                }
            });
        }
        Ok(())
    })?;
    let outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut done = Vec::with_capacity(work.len());
    let mut skipped = false;
    for outcome in outcomes {
        match outcome {
            Some(outcome) => done.push(outcome?),
            None => skipped = true,
        }
    }
    if skipped { Err(bad_input("a piece of work was left out after an error")) } else { Ok(done) }
}
