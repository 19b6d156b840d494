//! Tables and pictures of `results.json`.

use serde::Serialize;

use super::chart::{Chart, Table};
use crate::ReportError;
use crate::estimate::{Cell, Estimate, Over};
use crate::format;
use crate::plot::{DotFigure, DotRow};
use crate::run::{Method, Metric, Results, Run, Scores, StageKind};
use crate::verdict::display;

/// Most pictures of single tasks.
const MOST: usize = 12;

/// What the section says.
#[derive(Debug, Serialize)]
pub(super) struct ResultsView {
    lead: String,
    charts: Vec<Chart>,
    against: Option<Against>,
    tables: Vec<MetricTable>,
}

/// Every method less the baseline.
#[derive(Debug, Serialize)]
struct Against {
    title: String,
    head: Vec<String>,
    rows: Vec<Row>,
}

/// One metric of all rows.
#[derive(Debug, Serialize)]
struct MetricTable {
    title: String,
    head: Vec<String>,
    rows: Vec<Row>,
    open: bool,
}

/// A row of estimates.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) reference: bool,
    pub(super) cells: Vec<CellView>,
}

/// A number, its interval, and how it stands out: `best`, `up`, `down` or nothing.
#[derive(Debug, Serialize, Default)]
pub(super) struct CellView {
    value: String,
    interval: String,
    mark: &'static str,
}

impl CellView {
    /// What is not known.
    pub(super) fn unknown() -> Self {
        Self { value: format::UNKNOWN.into(), ..Self::default() }
    }

    /// An estimate with its interval.
    pub(super) fn of(metric: Metric, estimate: Option<Estimate>) -> Self {
        estimate.map_or_else(Self::unknown, |estimate| Self {
            value: format::value(metric, estimate.mean),
            interval: format::interval(metric, &estimate),
            mark: "",
        })
    }
}

/// Columns: worst task, average, then every task.
fn columns(tasks: &[String]) -> Vec<(Cell<'_>, String)> {
    [(Cell::Worst, "worst task".to_string()), (Cell::Average, "average".to_string())]
        .into_iter()
        .chain(tasks.iter().map(|task| (Cell::Task(task), task.clone())))
        .collect()
}

pub(super) fn view(run: &Run, id: &str) -> Result<Option<ResultsView>, ReportError> {
    let Some(results) = &run.results else { return Ok(None) };
    let tasks = run.tasks();
    let known: Vec<Metric> = Metric::ALL
        .into_iter()
        .filter(|&metric| {
            results
                .methods
                .iter()
                .any(|m| tasks.iter().any(|t| m.tasks.get(t).and_then(|s| s.get(metric)).is_some()))
        })
        .collect();
    let headline = results.headline();
    let tables =
        known.iter().map(|&metric| table(run, results, metric, &tasks, metric == headline)).collect();
    Ok(Some(ResultsView {
        lead: lead(results, &tasks),
        charts: charts(run, results, headline, &tasks, id)?,
        against: against(results, headline, &tasks),
        tables,
    }))
}

/// What the intervals are, said once.
fn lead(results: &Results, tasks: &[String]) -> String {
    let seeds = results.methods.iter().map(|method| method.runs.len()).max().unwrap_or(0);
    let split =
        if results.split.is_empty() { "held-out".to_string() } else { format!("held-out {}", results.split) };
    let pairs: Vec<u64> = results
        .methods
        .iter()
        .flat_map(|method| &method.runs)
        .flat_map(|run| tasks.iter().filter_map(|task| run.tasks.get(task)?.pairs))
        .collect();
    let pairs = match (pairs.iter().min(), pairs.iter().max()) {
        (Some(low), Some(high)) if low == high => format!(" ({low} pairs a task)"),
        (Some(low), Some(high)) => format!(" ({low} to {high} pairs a task)"),
        _ => String::new(),
    };
    let intervals = match seeds {
        0 => String::new(),
        1 => " One seed: intervals of shares are over the pairs (Wilson, 95%), others have none.".to_string(),
        2..=4 => format!(
            " Intervals are 95% bootstrap intervals over the {seeds} seeds; with so few they reach from the lowest to the \
             highest seed and are too narrow. Rows without seeds: over the pairs (Wilson)."
        ),
        _ => format!(
            " Intervals are 95% bootstrap intervals over the {seeds} seeds; of rows without seeds over the pairs (Wilson)."
        ),
    };
    format!("Measured on {split} pairs{pairs}.{intervals} The worst task is each seed's own.")
}

/// Held-out pairs of a row without seeds, from the evaluation's own record.
fn pairs(run: &Run, method: &Method, task: &str) -> Option<u64> {
    let model = match method.name.as_str() {
        "specialists" => format!("specialist-{task}"),
        other => other.to_string(),
    };
    let own = StageKind::Evaluation { model };
    let stage = run.stages.iter().find(|stage| stage.kind == own)?;
    serde_json::from_value::<Scores>(stage.outputs.get(task)?.clone()).ok()?.pairs
}

fn estimate(
    run: &Run,
    method: &Method,
    metric: Metric,
    cell: Cell<'_>,
    tasks: &[String],
) -> Option<Estimate> {
    let pairs = match cell {
        Cell::Task(task) => pairs(run, method, task),
        _ => None,
    };
    Estimate::of(method, metric, cell, tasks, pairs)
}

fn table(run: &Run, results: &Results, metric: Metric, tasks: &[String], open: bool) -> MetricTable {
    let columns = columns(tasks);
    let best: Vec<Option<f64>> = columns
        .iter()
        .map(|(cell, _)| {
            let own = results.methods.iter().filter(|method| !method.is_reference());
            let means = own.filter_map(|method| Some(estimate(run, method, metric, *cell, tasks)?.mean));
            means.reduce(|a, b| if metric.better(b, a) { b } else { a })
        })
        .collect();
    let row = |method: &Method| {
        let cells = columns.iter().zip(&best).map(|((cell, _), best)| {
            let estimate = estimate(run, method, metric, *cell, tasks);
            let is_best =
                !method.is_reference() && best.is_some() && *best == estimate.map(|estimate| estimate.mean);
            CellView { mark: if is_best { "best" } else { "" }, ..CellView::of(metric, estimate) }
        });
        Row { name: display(&method.name), reference: method.is_reference(), cells: cells.collect() }
    };
    MetricTable {
        title: format!("{}, {}", capital(metric.title()), metric.unit()),
        head: columns.iter().map(|(_, name)| name.clone()).collect(),
        rows: results.methods.iter().map(row).collect(),
        open,
    }
}

fn against(results: &Results, metric: Metric, tasks: &[String]) -> Option<Against> {
    let baseline = results.method(&results.baseline)?;
    let columns = columns(tasks);
    let cell = |method: &Method, cell: Cell<'_>| {
        let Some(gain) = Estimate::difference(method, baseline, metric, cell, tasks) else {
            return CellView::unknown();
        };
        let interval = gain.interval.filter(|interval| matches!(interval.over, Over::Seeds(_)));
        let mark = match interval {
            Some(interval) if interval.low > 0.0 => "up",
            Some(interval) if interval.high < 0.0 => "down",
            _ => "",
        };
        let ends = interval
            .map(|i| format!("[{}, {}]", format::signed(metric, i.low), format::signed(metric, i.high)));
        CellView { value: format::signed(metric, gain.mean), interval: ends.unwrap_or_default(), mark }
    };
    let rows: Vec<Row> = results
        .methods
        .iter()
        .filter(|method| !method.is_reference() && method.name != baseline.name)
        .map(|method| {
            let mut cells: Vec<CellView> = columns.iter().map(|(of, _)| cell(method, *of)).collect();
            let relative = || {
                let of = |method| Some(Estimate::of(method, metric, Cell::Average, tasks, None)?.mean);
                let (own, base) = (of(method)?, of(baseline)?);
                (base != 0.0).then(|| format!("{}%", format::signed(metric, (own - base) / base)))
            };
            cells.push(CellView {
                value: relative().unwrap_or(format::UNKNOWN.into()),
                ..CellView::default()
            });
            Row { name: display(&method.name), reference: false, cells }
        })
        .collect();
    let head =
        columns.iter().map(|(_, name)| name.clone()).chain(["average, relative".to_string()]).collect();
    (!rows.is_empty()).then(|| Against {
        title: format!("Against {}: {}, points", display(&baseline.name), metric.title()),
        head,
        rows,
    })
}

fn charts(
    run: &Run,
    results: &Results,
    metric: Metric,
    tasks: &[String],
    id: &str,
) -> Result<Vec<Chart>, ReportError> {
    let methods = run.methods();
    let mut charts = Vec::new();
    for (index, (cell, name)) in columns(tasks).into_iter().enumerate().take(MOST + 2) {
        let mut rows = Vec::new();
        let mut rule = None;
        for method in &results.methods {
            let Some(estimate) = estimate(run, method, metric, cell, tasks) else { continue };
            let scaled = |value: f64| if metric.is_share() { 100.0 * value } else { value };
            if method.name == "specialists" {
                rule = Some(("own specialist".to_string(), scaled(estimate.mean)));
                continue;
            }
            rows.push(DotRow {
                name: display(&method.name),
                mean: scaled(estimate.mean),
                interval: estimate.interval.map(|interval| (scaled(interval.low), scaled(interval.high))),
                colour: methods.iter().position(|own| *own == method.name),
            });
        }
        if rows.is_empty() {
            continue;
        }
        let title = if matches!(cell, Cell::Task(_)) { name } else { capital(&name) };
        charts.push(dots(format!("{id}-result{index}"), &title, metric, rows, rule)?);
    }
    Ok(charts)
}

/// A picture of rows of one metric, with its table.
pub(super) fn dots(
    id: String,
    title: &str,
    metric: Metric,
    rows: Vec<DotRow>,
    rule: Option<(String, f64)>,
) -> Result<Chart, ReportError> {
    let decimals = if metric.is_share() { 1 } else { 3 };
    let number = |value: f64| format::fixed(value, decimals);
    let mut cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let (low, high) =
                row.interval.map_or((format::UNKNOWN.into(), format::UNKNOWN.into()), |(low, high)| {
                    (number(low), number(high))
                });
            vec![row.name.clone(), number(row.mean), low, high]
        })
        .collect();
    if let Some((name, value)) = &rule {
        cells.push(vec![name.clone(), number(*value), format::UNKNOWN.into(), format::UNKNOWN.into()]);
    }
    let said: Vec<String> = cells.iter().map(|row| format!("{} {}", row[0], row[1])).collect();
    let description = format!("{} in {}: {}.", capital(metric.title()), metric.unit(), said.join(", "));
    let ends =
        rows.iter().flat_map(|row| row.interval.map_or([row.mean, row.mean], |(low, high)| [low, high]));
    let ends = ends.chain(rule.iter().map(|rule| rule.1));
    let (low, high) =
        ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    // Shares are shown on the whole scale: a difference of a point should look like one.
    let range = if metric.is_share() { (0.0, 100.0) } else { (low.min(0.0), high.max(f64::MIN_POSITIVE)) };
    let figure = DotFigure { title: title.to_string(), x_label: metric.unit().into(), rows, rule, range };
    let head = ["", "mean", "95% from", "to"].map(String::from).to_vec();
    Ok(Chart::new(id, title, metric.title(), description, figure.draw()?, Table { head, rows: cells }))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}
