//! A picture with its caption, its description, and the table behind it.

use serde::Serialize;

use crate::ReportError;
use crate::format;
use crate::plot::{LineFigure, Picture};

/// Rows of the table behind a curve.
const TABLE_ROWS: usize = 24;

/// A picture as the template wants it.
#[derive(Debug, Serialize)]
pub(super) struct Chart {
    id: String,
    title: String,
    about: String,
    description: String,
    inside: String,
    width: i32,
    height: i32,
    table: Table,
}

/// Numbers behind a picture.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Pictures that belong together.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) lead: String,
    pub(super) charts: Vec<Chart>,
}

impl Chart {
    pub(super) fn new(
        id: String,
        title: &str,
        about: &str,
        description: String,
        picture: Picture,
        table: Table,
    ) -> Self {
        let Picture { inside, width, height } = picture;
        Self { id, title: title.into(), about: about.into(), description, inside, width, height, table }
    }

    /// A picture of curves; description and table come from the curves themselves.
    ///
    /// # Errors
    /// [`ReportError::Plot`].
    pub(super) fn lines(id: String, about: &str, figure: &LineFigure) -> Result<Self, ReportError> {
        let picture = figure.draw()?;
        let mut said = vec![format!("{} by step.", figure.y_label)];
        for series in &figure.series {
            if let (Some(first), Some(last)) = (series.points.first(), series.points.last()) {
                let (from, to) = (format::short(first.mean), format::short(last.mean));
                said.push(format!("{} from {from} to {to}.", series.name));
            }
        }
        for (name, value) in &figure.rules {
            said.push(format!("Line to compare with: {name} at {}.", format::short(*value)));
        }
        Ok(Self::new(id, &figure.title, about, said.join(" "), picture, table(figure)))
    }
}

fn table(figure: &LineFigure) -> Table {
    let bands = |index: usize| figure.series[index].points.iter().any(|point| point.max > point.min);
    let mut head = vec!["step".to_string()];
    for (index, series) in figure.series.iter().enumerate() {
        head.push(series.name.clone());
        if bands(index) {
            head.push("lowest".into());
            head.push("highest".into());
        }
    }
    head.extend(figure.rules.iter().map(|rule| rule.0.clone()));
    let longest = figure.series.iter().max_by_key(|series| series.points.len());
    let steps: Vec<f64> =
        longest.map(|s| s.points.iter().map(|point| point.step).collect()).unwrap_or_default();
    let mut rows = Vec::new();
    for row in 0..steps.len().min(TABLE_ROWS) {
        let index = if steps.len() <= TABLE_ROWS { row } else { row * (steps.len() - 1) / (TABLE_ROWS - 1) };
        let step = steps[index];
        let mut cells = vec![format::short(step.round())];
        for (index, series) in figure.series.iter().enumerate() {
            // Runs end at different steps: after its end a curve has no value.
            let near =
                series.points.iter().min_by(|a, b| (a.step - step).abs().total_cmp(&(b.step - step).abs()));
            let ended = series.points.last().is_none_or(|last| step > last.step + 1.0);
            let cell = |value: fn(&crate::trace::Point) -> f64| match near {
                Some(point) if !ended => format::short(value(point)),
                _ => format::UNKNOWN.into(),
            };
            cells.push(cell(|point| point.mean));
            if bands(index) {
                cells.push(cell(|point| point.min));
                cells.push(cell(|point| point.max));
            }
        }
        cells.extend(figure.rules.iter().map(|rule| format::short(rule.1)));
        rows.push(cells);
    }
    Table { head, rows }
}
