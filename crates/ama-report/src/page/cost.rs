//! What a run drew and what it took.

use std::collections::BTreeMap;

use serde::Serialize;

use super::chart::{Chart, Table};
use crate::ReportError;
use crate::format;
use crate::plot::{StackFigure, StackRow};
use crate::run::{Run, Stage, StageKind};
use crate::verdict::display;

/// Tokens drawn from each task.
#[derive(Debug, Serialize)]
pub(super) struct DrawnView {
    chart: Chart,
    /// Colour, whether it is the paler one, and the task.
    legend: Vec<(usize, bool, String)>,
    sampled: bool,
}

/// Time and memory of the stages.
#[derive(Debug, Serialize)]
pub(super) struct CostView {
    rows: Vec<CostRow>,
    total: String,
    memory: Option<String>,
}

#[derive(Debug, Serialize)]
struct CostRow {
    name: String,
    seconds: String,
    /// Width of the bar in per cent of the longest.
    share: u32,
    steps: String,
    tokens: String,
    tokens_per_s: String,
    memory: String,
}

/// Training pairs of a task, and tokens of one of them on average.
fn sizes(run: &Run) -> BTreeMap<&str, (f64, f64)> {
    let size = |stage: &'_ Stage| -> Option<(f64, f64)> {
        let train = &stage.outputs["train"];
        let (pairs, tokens) = (train["kept"].as_f64()?, train["tokens"].as_f64()?);
        (pairs > 0.0).then_some((pairs, tokens / pairs))
    };
    let sizes = run.stages.iter().filter_map(|stage| match &stage.kind {
        StageKind::Data { task: Some(task) } => Some((task.as_str(), size(stage)?)),
        _ => None,
    });
    sizes.collect()
}

/// Tokens by task and method, mean over seeds: drawn pairs times the task's mean length.
pub(super) fn drawn(run: &Run, id: &str) -> Result<Option<DrawnView>, ReportError> {
    let (tasks, sizes) = (run.tasks(), sizes(run));
    let (mut rows, mut cells, mut sampled) = (Vec::new(), Vec::new(), false);
    for method in run.methods() {
        let traces = run.traces(&method);
        if traces.iter().all(|trace| trace.steps() == 0) {
            continue;
        }
        sampled |= traces.iter().any(|trace| trace.sampled);
        let pairs = |task: &str| {
            let sum: f64 = traces.iter().filter_map(|trace| trace.drawn().get(task).copied()).sum();
            sum / traces.len() as f64
        };
        let tokens = |task: &String| sizes.get(task.as_str()).map(|(_, length)| pairs(task) * length);
        // Without lengths the bars are pairs; the axis says so.
        let parts: Vec<f64> = tasks.iter().map(|task| tokens(task).unwrap_or_else(|| pairs(task))).collect();
        let all: f64 = parts.iter().sum();
        for (task, part) in tasks.iter().zip(&parts) {
            let passes = sizes.get(task.as_str()).map(|(all, _)| format::short(pairs(task) / all));
            cells.push(vec![
                display(&method),
                task.clone(),
                format::count(pairs(task)),
                tokens(task).map_or(format::UNKNOWN.into(), format::count),
                format!("{}%", format::fixed(100.0 * part / all.max(f64::MIN_POSITIVE), 1)),
                passes.unwrap_or(format::UNKNOWN.into()),
            ]);
        }
        rows.push(StackRow { name: display(&method), parts });
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let known = tasks.iter().all(|task| sizes.contains_key(task.as_str()));
    let unit = if known { "tokens" } else { "pairs" };
    let said: Vec<String> = cells.iter().map(|row| format!("{} {} {}", row[0], row[1], row[4])).collect();
    let description = format!("Share of every task in the {unit} drawn: {}.", said.join(", "));
    let title = format!("{} drawn from each task", if known { "Tokens" } else { "Pairs" });
    let figure = StackFigure { title: title.clone(), x_label: unit.into(), rows };
    let head = ["method", "task", "pairs", "tokens", "share", "passes"].map(String::from).to_vec();
    let about = if known { "mean over seeds; pairs times the task's mean length" } else { "mean over seeds" };
    let chart = Chart::new(
        format!("{id}-drawn"),
        &title,
        about,
        description,
        figure.draw()?,
        Table { head, rows: cells },
    );
    let legend = tasks.iter().enumerate().map(|(index, task)| {
        (index % crate::plot::SERIES.len(), index >= crate::plot::SERIES.len(), task.clone())
    });
    Ok(Some(DrawnView { chart, legend: legend.collect(), sampled }))
}

/// Stages that are one row of the table.
struct Sum {
    name: String,
    seconds: f64,
    steps: f64,
    tokens: f64,
    train_seconds: f64,
    memory: Option<f64>,
}

pub(super) fn cost(run: &Run) -> Option<CostView> {
    let mut sums: Vec<Sum> = Vec::new();
    let counts: BTreeMap<String, usize> = run.stages.iter().fold(BTreeMap::new(), |mut counts, stage| {
        *counts.entry(row_of(stage)).or_default() += usize::from(stage.is_done());
        counts
    });
    for stage in &run.stages {
        let Some(seconds) = stage.seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) else {
            continue;
        };
        let name = row_of(stage);
        let index = sums.iter().position(|sum| sum.name == name).unwrap_or_else(|| {
            sums.push(Sum { name, seconds: 0.0, steps: 0.0, tokens: 0.0, train_seconds: 0.0, memory: None });
            sums.len() - 1
        });
        let sum = &mut sums[index];
        let output = |key: &str| stage.outputs[key].as_f64().unwrap_or(0.0);
        sum.seconds += seconds;
        if !matches!(stage.kind, StageKind::Data { .. }) {
            sum.steps += output("steps");
            sum.tokens += output("tokens");
            sum.train_seconds += output("seconds");
        }
        sum.memory = sum.memory.into_iter().chain(stage.peak_rss_mib).reduce(f64::max);
    }
    let longest = sums.iter().map(|sum| sum.seconds).fold(0.0, f64::max);
    let known = |value: f64, text: String| if value > 0.0 { text } else { format::UNKNOWN.into() };
    let rows: Vec<CostRow> = sums
        .iter()
        .map(|sum| CostRow {
            name: match counts.get(&sum.name) {
                Some(&count) if count > 1 => format!("{} (×{count})", sum.name),
                _ => sum.name.clone(),
            },
            seconds: format::duration(sum.seconds),
            share: (100.0 * sum.seconds / longest.max(f64::MIN_POSITIVE)).round().max(1.0) as u32,
            steps: known(sum.steps, format::count(sum.steps)),
            tokens: known(sum.tokens, format::count(sum.tokens)),
            tokens_per_s: known(sum.train_seconds, format::count(sum.tokens / sum.train_seconds)),
            memory: sum.memory.map_or(format::UNKNOWN.into(), |mib| format!("{} MiB", format::fixed(mib, 0))),
        })
        .collect();
    let memory = sums.iter().filter_map(|sum| sum.memory).reduce(f64::max);
    let total = format::duration(sums.iter().map(|sum| sum.seconds).sum());
    let memory = memory.map(|mib| format!("{} MiB", format::fixed(mib, 0)));
    (!rows.is_empty()).then_some(CostView { rows, total, memory })
}

fn row_of(stage: &Stage) -> String {
    match &stage.kind {
        StageKind::Data { .. } => "Tokenising".into(),
        StageKind::Base => "Base model".into(),
        StageKind::Specialist { task } => format!("Specialist: {task}"),
        StageKind::Generalist { method, .. } => format!("Generalist: {}", display(method)),
        StageKind::Evaluation { .. } => "Evaluation".into(),
    }
}
