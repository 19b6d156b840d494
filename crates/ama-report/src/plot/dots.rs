//! Values with their intervals, a row each.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{self, Area, CHAR, Drawn, SUB};
use super::{Picture, WIDTH, ink};
use crate::ReportError;
use crate::format;

const ROW: i32 = 24;
const TOP: i32 = 26;
const BOTTOM: i32 = 30;
const RIGHT: i32 = 26;
const LONGEST_NAME: usize = 27;

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct DotRow {
    /// Its name.
    pub(crate) name: String,
    /// The value.
    pub(crate) mean: f64,
    /// Its interval.
    pub(crate) interval: Option<(f64, f64)>,
    /// Colour's index; `None` for a row to compare with.
    pub(crate) colour: Option<usize>,
}

/// Rows in one picture.
#[derive(Debug, Clone)]
pub(crate) struct DotFigure {
    /// What it shows, for messages.
    pub(crate) title: String,
    /// Quantity and unit of the level axis.
    pub(crate) x_label: String,
    /// The rows, from the top.
    pub(crate) rows: Vec<DotRow>,
    /// A level to compare with.
    pub(crate) rule: Option<(String, f64)>,
    /// Ends of the level axis.
    pub(crate) range: (f64, f64),
}

impl DotFigure {
    /// Draws it.
    ///
    /// # Errors
    /// [`ReportError::Plot`].
    pub(crate) fn draw(&self) -> Result<Picture, ReportError> {
        let height = TOP + BOTTOM + ROW * self.rows.len() as i32;
        let inside = canvas::paint(&self.title, (WIDTH, height), |area| self.onto(area, height))?;
        Ok(Picture { inside, width: WIDTH, height })
    }

    fn onto(&self, area: &Area<'_>, height: i32) -> Drawn {
        let longest =
            self.rows.iter().map(|row| row.name.chars().count().min(LONGEST_NAME)).max().unwrap_or(0);
        let left = (longest as f64 * CHAR) as i32 + 16;
        let (low, high) = self.range;
        let x = |value: f64| {
            let share = ((value - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
            ((f64::from(left) + share * f64::from(WIDTH - RIGHT - left)) * f64::from(SUB)).round() as i32
        };
        let (top, bottom) = (TOP * SUB, (height - BOTTOM) * SUB);
        for tick in canvas::ticks(low, high, 4) {
            canvas::line(area, (x(tick), top), (x(tick), bottom), ink::GRID, 1.0)?;
            let style = canvas::text(ink::MUTED, HPos::Center);
            area.draw(&Text::new(format::short(tick), (x(tick), bottom + 13 * SUB), style))?;
        }
        area.draw(&Text::new(
            self.x_label.clone(),
            (0, bottom + 13 * SUB),
            canvas::text(ink::MUTED, HPos::Left),
        ))?;
        if let Some((name, value)) = &self.rule {
            let at = x(*value);
            canvas::dashes(area, vec![(at, top - 6 * SUB), (at, bottom)], ink::MUTED, 1.5)?;
            let align = if *value > f64::midpoint(low, high) { HPos::Right } else { HPos::Left };
            let beside = if matches!(align, HPos::Right) { -6 * SUB } else { 6 * SUB };
            let style = canvas::text(ink::MUTED, align);
            area.draw(&Text::new(format::clean(name, 24), (at + beside, top - 12 * SUB), style))?;
        }
        for (index, row) in self.rows.iter().enumerate() {
            let y = (TOP + ROW / 2 + ROW * index as i32) * SUB;
            let colour = row.colour.map_or(ink::MUTED, |index| ink::series(index).0);
            let style = canvas::text(if row.colour.is_some() { ink::TEXT } else { ink::MUTED }, HPos::Left);
            area.draw(&Text::new(format::clean(&row.name, LONGEST_NAME), (0, y), style))?;
            if let Some((from, to)) = row.interval {
                canvas::line(area, (x(from), y), (x(to), y), colour, 2.0)?;
                for end in [from, to] {
                    canvas::line(area, (x(end), y - 5 * SUB), (x(end), y + 5 * SUB), colour, 2.0)?;
                }
            }
            area.draw(&Circle::new((x(row.mean), y), 4 * SUB, colour.filled()))?;
        }
        Ok(())
    }
}
