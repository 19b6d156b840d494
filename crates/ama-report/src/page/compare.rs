//! Several runs beside each other: their results, and how their settings differ.

use std::collections::BTreeMap;

use serde::Serialize;

use super::chart::{Chart, Table};
use super::results::dots;
use crate::ReportError;
use crate::estimate::{Cell, Estimate};
use crate::format;
use crate::plot::DotRow;
use crate::run::{Metric, Run};
use crate::verdict::display;

/// Most rows of a picture.
const MOST: usize = 30;

/// What the section says.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    charts: Vec<Chart>,
    table: Table,
    settings: Table,
}

pub(super) fn compare(runs: &[Run]) -> Result<Compared, ReportError> {
    let mut tasks: Vec<String> = Vec::new();
    for task in runs.iter().flat_map(Run::tasks) {
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }
    let labels = labels(runs);
    let mut rows = Vec::new();
    let mut pictures: BTreeMap<&str, Vec<DotRow>> = BTreeMap::new();
    for (index, (run, label)) in runs.iter().zip(&labels).enumerate() {
        let Some(results) = &run.results else {
            let mut row = vec![label.clone(), format::UNKNOWN.into(), "no results yet".into()];
            row.resize(5 + tasks.len(), format::UNKNOWN.into());
            rows.push(row);
            continue;
        };
        let (metric, own) = (results.headline(), run.tasks());
        for method in results.methods.iter().filter(|method| !method.is_reference()) {
            let of = |cell| Estimate::of(method, metric, cell, &own, None);
            let text = |estimate: Option<Estimate>| match estimate {
                Some(estimate) => {
                    let interval = format::interval(metric, &estimate);
                    format!("{} {interval}", format::value(metric, estimate.mean)).trim_end().to_string()
                }
                None => format::UNKNOWN.into(),
            };
            let mut row = vec![label.clone(), display(&method.name), format!("{}, %", metric.title())];
            row.extend([Cell::Worst, Cell::Average].map(|cell| text(of(cell))));
            row.extend(tasks.iter().map(|task| text(of(Cell::Task(task)))));
            rows.push(row);
            for (title, cell) in [("Worst task", Cell::Worst), ("Average", Cell::Average)] {
                if let Some(estimate) = of(cell) {
                    pictures.entry(title).or_default().push(DotRow {
                        name: format!("{} · {label}", display(&method.name)),
                        mean: 100.0 * estimate.mean,
                        interval: estimate.interval.map(|i| (100.0 * i.low, 100.0 * i.high)),
                        colour: Some(index),
                    });
                }
            }
        }
    }
    let metrics: Vec<Metric> = runs.iter().filter_map(|run| Some(run.results.as_ref()?.headline())).collect();
    let mut charts = Vec::new();
    // Shares of different things do not belong on one axis.
    if let Some(&metric) = metrics.first()
        && metrics.iter().all(|&other| other == metric)
    {
        for (index, title) in ["Worst task", "Average"].into_iter().enumerate() {
            let mut rows = pictures.remove(title).unwrap_or_default();
            rows.truncate(MOST);
            if !rows.is_empty() {
                charts.push(dots(format!("compare{index}"), title, metric, rows, None)?);
            }
        }
    }
    let head =
        ["run", "method", "metric", "worst task", "average"].map(String::from).into_iter().chain(tasks);
    Ok(Compared { charts, table: Table { head: head.collect(), rows }, settings: settings(runs, &labels) })
}

/// Names that tell the runs apart: the folder's own, or with its parents where two are the same.
fn labels(runs: &[Run]) -> Vec<String> {
    let same = |run: &Run| runs.iter().filter(|other| other.label == run.label).count() > 1;
    let label = |run: &Run| if same(run) { run.folder.display().to_string() } else { run.label.clone() };
    runs.iter().map(label).collect()
}

/// The settings that are not the same everywhere.
fn settings(runs: &[Run], labels: &[String]) -> Table {
    let flat: Vec<BTreeMap<String, String>> =
        runs.iter().map(|run| run.plan.flat().into_iter().collect()).collect();
    let keys: std::collections::BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    let rows = keys.into_iter().filter_map(|key| {
        let values: Vec<Option<&String>> = flat.iter().map(|settings| settings.get(key)).collect();
        let differ = values.iter().any(|value| *value != values[0]);
        let text =
            |value: Option<&String>| value.map_or(format::UNKNOWN.into(), |value| format::clean(value, 60));
        differ.then(|| [key.clone()].into_iter().chain(values.into_iter().map(text)).collect())
    });
    let rows = rows.collect();
    Table { head: ["setting".to_string()].into_iter().chain(labels.iter().cloned()).collect(), rows }
}
