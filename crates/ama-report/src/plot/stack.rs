//! Amounts as bars of parts that add up, a row each.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{self, Area, CHAR, Drawn, SUB};
use super::{Picture, WIDTH, ink};
use crate::ReportError;
use crate::format;

const ROW: i32 = 28;
const TOP: i32 = 6;
const BOTTOM: i32 = 30;
const RIGHT: i32 = 16;
const LONGEST_NAME: usize = 18;

/// A row: its name and the size of every part.
#[derive(Debug, Clone)]
pub(crate) struct StackRow {
    /// Its name.
    pub(crate) name: String,
    /// The parts, from the left; the colour is that of the place.
    pub(crate) parts: Vec<f64>,
}

/// Rows in one picture.
#[derive(Debug, Clone)]
pub(crate) struct StackFigure {
    /// What it shows, for messages.
    pub(crate) title: String,
    /// Quantity of the level axis.
    pub(crate) x_label: String,
    /// The rows, from the top.
    pub(crate) rows: Vec<StackRow>,
}

impl StackFigure {
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
        let left = (longest as f64 * CHAR) as i32 + 14;
        let high = self.rows.iter().map(|row| row.parts.iter().sum()).fold(f64::MIN_POSITIVE, f64::max);
        let x = |value: f64| {
            let share = (value / high).clamp(0.0, 1.0);
            ((f64::from(left) + share * f64::from(WIDTH - RIGHT - left)) * f64::from(SUB)).round() as i32
        };
        let bottom = (height - BOTTOM) * SUB;
        for tick in canvas::ticks(0.0, high, 4) {
            canvas::line(area, (x(tick), TOP * SUB), (x(tick), bottom), ink::GRID, 1.0)?;
            let style = canvas::text(ink::MUTED, HPos::Center);
            area.draw(&Text::new(format::count(tick), (x(tick), bottom + 13 * SUB), style))?;
        }
        area.draw(&Text::new(
            self.x_label.clone(),
            (0, bottom + 13 * SUB),
            canvas::text(ink::MUTED, HPos::Left),
        ))?;
        for (index, row) in self.rows.iter().enumerate() {
            let middle = (TOP + ROW / 2 + ROW * index as i32) * SUB;
            area.draw(&Text::new(
                format::clean(&row.name, LONGEST_NAME),
                (0, middle),
                canvas::text(ink::TEXT, HPos::Left),
            ))?;
            let mut from = 0.0;
            for (place, part) in row.parts.iter().enumerate() {
                // A gap of one unit keeps neighbours apart for those who do not see the colours.
                let (start, end) = (x(from), x(from + part) - SUB);
                from += part;
                if end > start {
                    let corners = [(start, middle - 9 * SUB), (end, middle + 9 * SUB)];
                    // Where the colours repeat they are paler.
                    let (colour, again) = ink::series(place);
                    area.draw(&Rectangle::new(corners, colour.mix(if again { 0.5 } else { 1.0 }).filled()))?;
                }
            }
        }
        Ok(())
    }
}
