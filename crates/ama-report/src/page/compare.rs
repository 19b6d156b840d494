//! Several runs beside each other: their results, and how their settings differ.

use std::collections::BTreeMap;

use serde::Serialize;

use super::chart::{Chart, Table};
use super::results::{CellView, Row, dots};
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
    title: String,
    head: Vec<String>,
    rows: Vec<Row>,
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
    let metrics: Vec<Metric> = runs.iter().filter_map(|run| Some(run.results.as_ref()?.headline())).collect();
    // Shares of different things do not belong on one axis.
    let metric = metrics.first().copied().filter(|first| metrics.iter().all(|other| other == first));
    let mut rows = Vec::new();
    let mut pictures: [(&str, Cell<'_>, Vec<DotRow>); 2] =
        [("Worst task", Cell::Worst, Vec::new()), ("Average", Cell::Average, Vec::new())];
    for (index, (run, label)) in runs.iter().zip(&labels).enumerate() {
        let Some(results) = &run.results else {
            let cells = (0..2 + tasks.len()).map(|_| CellView::unknown()).collect();
            rows.push(Row { name: format!("{label}: no results yet"), reference: true, cells });
            continue;
        };
        let (headline, own) = (results.headline(), run.tasks());
        for method in results.methods.iter().filter(|method| !method.is_reference()) {
            let of = |cell| Estimate::of(method, headline, cell, &own, None);
            let name = format!("{} · {label}", display(&method.name));
            let cells =
                [Cell::Worst, Cell::Average].into_iter().chain(tasks.iter().map(|task| Cell::Task(task)));
            let cells = cells.map(|cell| CellView::of(headline, of(cell))).collect();
            for (_, cell, dots) in &mut pictures {
                if let Some(estimate) = of(*cell) {
                    dots.push(DotRow {
                        name: name.clone(),
                        mean: 100.0 * estimate.mean,
                        interval: estimate.interval.map(|i| (100.0 * i.low, 100.0 * i.high)),
                        colour: Some(index),
                    });
                }
            }
            rows.push(Row { name, reference: false, cells });
        }
    }
    let mut charts = Vec::new();
    for (index, (title, _, mut dots_of)) in pictures.into_iter().enumerate() {
        dots_of.truncate(MOST);
        if let Some(metric) = metric
            && !dots_of.is_empty()
        {
            charts.push(dots(format!("compare{index}"), title, metric, dots_of, None)?);
        }
    }
    let title = match metric {
        Some(metric) => format!("Results: {}, %", metric.title()),
        None => "Results: verified win rate, or reward accuracy where answers are not checked, %".to_string(),
    };
    let head = ["worst task", "average"].map(String::from).into_iter().chain(tasks).collect();
    Ok(Compared { charts, title, head, rows, settings: settings(runs, &labels) })
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
