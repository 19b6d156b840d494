//! Curves over steps, with their names at their ends.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{self, Area, CHAR, Drawn, SUB};
use super::{Picture, WIDTH, ink};
use crate::ReportError;
use crate::format;
use crate::trace::Point;

const HEIGHT: i32 = 222;
const LEFT: i32 = 46;
const TOP: i32 = 30;
const BOTTOM: i32 = 34;
/// Names are this far apart at least.
const NAME_GAP: f64 = 15.0;
/// Longest name, in characters.
const LONGEST_NAME: usize = 15;

/// One curve.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// Its name.
    pub(crate) name: String,
    /// Its colour's index.
    pub(crate) colour: usize,
    /// Its points: the mean is drawn as a line, minimum to maximum as a band.
    pub(crate) points: Vec<Point>,
}

/// Curves in one picture.
#[derive(Debug, Clone)]
pub(crate) struct LineFigure {
    /// What it shows, for messages.
    pub(crate) title: String,
    /// Quantity and unit of the upright axis.
    pub(crate) y_label: String,
    /// The curves.
    pub(crate) series: Vec<Series>,
    /// Levels to compare with: name and value.
    pub(crate) rules: Vec<(String, f64)>,
    /// Top of the upright axis, if several pictures are to have the same.
    pub(crate) high: Option<f64>,
}

/// Where a point lies, in sub-pixels.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
    right: i32,
}

impl Scale {
    fn at(&self, x: f64, y: f64) -> (i32, i32) {
        (self.x(x), self.y(y))
    }

    fn x(&self, x: f64) -> i32 {
        let share = (x - self.x.0) / (self.x.1 - self.x.0).max(f64::MIN_POSITIVE);
        ((f64::from(LEFT) + share.clamp(0.0, 1.0) * f64::from(self.right - LEFT)) * f64::from(SUB)).round()
            as i32
    }

    fn y(&self, y: f64) -> i32 {
        let share = (y - self.y.0) / (self.y.1 - self.y.0).max(f64::MIN_POSITIVE);
        let down = f64::from(HEIGHT - BOTTOM) - share.clamp(0.0, 1.0) * f64::from(HEIGHT - BOTTOM - TOP);
        (down * f64::from(SUB)).round() as i32
    }
}

impl LineFigure {
    /// Draws it.
    ///
    /// # Errors
    /// [`ReportError::Plot`].
    pub(crate) fn draw(&self) -> Result<Picture, ReportError> {
        let inside = canvas::paint(&self.title, (WIDTH, HEIGHT), |area| self.onto(area))?;
        Ok(Picture { inside, width: WIDTH, height: HEIGHT })
    }

    fn scale(&self) -> Scale {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let last = points().map(|point| point.step).fold(1.0, f64::max);
        let values =
            points().flat_map(|point| [point.min, point.max]).chain(self.rules.iter().map(|rule| rule.1));
        let (low, high) =
            values.fold((0.0_f64, f64::MIN_POSITIVE), |(low, high), v| (low.min(v), high.max(v)));
        let high = self.high.unwrap_or(high + 0.04 * (high - low));
        let name = |name: &str| name.chars().count().min(LONGEST_NAME) as f64;
        let names = self.series.iter().map(|s| name(&s.name)).chain(self.rules.iter().map(|r| name(&r.0)));
        let right = WIDTH - (names.fold(3.0, f64::max) * CHAR + 22.0) as i32;
        Scale { x: (if last > 2.0 { 1.0 } else { 0.0 }, last), y: (low, high), right }
    }

    fn onto(&self, area: &Area<'_>) -> Drawn {
        let scale = self.scale();
        self.axes(area, &scale)?;
        for series in &self.series {
            let (colour, _) = ink::series(series.colour);
            let upper = series.points.iter().map(|point| scale.at(point.step, point.max));
            let lower = series.points.iter().rev().map(|point| scale.at(point.step, point.min));
            let outline: Vec<_> = upper.chain(lower).collect();
            if series.points.len() > 1 && series.points.iter().any(|point| point.max > point.min) {
                area.draw(&Polygon::new(outline, colour.mix(0.15).filled()))?;
            }
        }
        for (_, value) in &self.rules {
            let y = scale.y(*value);
            canvas::dashes(area, vec![(LEFT * SUB, y), (scale.right * SUB, y)], ink::MUTED, 1.5)?;
        }
        for series in &self.series {
            let (colour, dashed) = ink::series(series.colour);
            let path: Vec<_> = series.points.iter().map(|point| scale.at(point.step, point.mean)).collect();
            match path[..] {
                [] => {}
                [only] => area.draw(&Circle::new(only, 2 * SUB, colour.filled()))?,
                _ if dashed => canvas::dashes(area, path, colour, 2.0)?,
                _ => area.draw(&PathElement::new(path, colour.stroke_width(2 * SUB as u32)))?,
            }
        }
        self.names(area, &scale)
    }

    fn axes(&self, area: &Area<'_>, scale: &Scale) -> Drawn {
        let (left, right, bottom) = (LEFT * SUB, scale.right * SUB, (HEIGHT - BOTTOM) * SUB);
        for tick in canvas::ticks(scale.y.0, scale.y.1, 4) {
            let y = scale.y(tick);
            canvas::line(area, (left, y), (right, y), ink::GRID, 1.0)?;
            let style = canvas::text(ink::MUTED, HPos::Right);
            area.draw(&Text::new(format::short(tick), (left - 6 * SUB, y), style))?;
        }
        for tick in canvas::ticks(scale.x.0, scale.x.1, 4) {
            let x = scale.x(tick);
            canvas::line(area, (x, bottom), (x, bottom + 4 * SUB), ink::MUTED, 1.0)?;
            let style = canvas::text(ink::MUTED, HPos::Center);
            area.draw(&Text::new(step(tick), (x, bottom + 13 * SUB), style))?;
        }
        canvas::line(area, (left, bottom), (right, bottom), ink::MUTED, 1.0)?;
        let muted = |align| canvas::text(ink::MUTED, align);
        area.draw(&Text::new(self.y_label.clone(), (0, 10 * SUB), muted(HPos::Left)))?;
        area.draw(&Text::new("step", (right + 10 * SUB, bottom + 13 * SUB), muted(HPos::Left)))?;
        Ok(())
    }

    /// The names beside the ends of the curves, pushed apart where they would overlap.
    fn names(&self, area: &Area<'_>, scale: &Scale) -> Drawn {
        let curves = self.series.iter().filter_map(|series| {
            let end = series.points.last()?;
            Some((scale.y(end.mean), series.name.as_str(), Some(ink::series(series.colour))))
        });
        let rules = self.rules.iter().map(|(name, value)| (scale.y(*value), name.as_str(), None));
        let mut names: Vec<_> = curves.chain(rules).collect();
        names.sort_by_key(|name| name.0);
        let room = f64::from(HEIGHT - BOTTOM - TOP + 16);
        names.truncate((room / NAME_GAP) as usize);
        let wanted: Vec<f64> = names.iter().map(|name| f64::from(name.0) / f64::from(SUB)).collect();
        let places = spread(&wanted, NAME_GAP, f64::from(TOP - 6), f64::from(HEIGHT - BOTTOM - 3));
        for ((_, name, colour), y) in names.into_iter().zip(places) {
            let (x, y) = (scale.right * SUB, (y * f64::from(SUB)).round() as i32);
            match colour {
                Some((colour, false)) => {
                    area.draw(&Circle::new((x + 6 * SUB, y), 3 * SUB, colour.filled()))?
                }
                // A ring stands for a dashed curve.
                Some((colour, true)) => {
                    area.draw(&Circle::new(
                        (x + 6 * SUB, y),
                        5 * SUB / 2,
                        colour.stroke_width(3 * SUB as u32 / 2),
                    ))?;
                }
                None => canvas::line(area, (x + 2 * SUB, y), (x + 9 * SUB, y), ink::MUTED, 1.5)?,
            }
            let style = canvas::text(if colour.is_some() { ink::TEXT } else { ink::MUTED }, HPos::Left);
            area.draw(&Text::new(format::clean(name, LONGEST_NAME), (x + 13 * SUB, y), style))?;
        }
        Ok(())
    }
}

/// A step on the axis: 20000 is `20 k`.
fn step(step: f64) -> String {
    if step >= 10_000.0 { format::count(step) } else { format::short(step) }
}

/// Moves sorted places apart to at least `gap`, between `low` and `high`.
fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut places: Vec<f64> = wanted.iter().map(|place| place.clamp(low, high)).collect();
    for i in 1..places.len() {
        places[i] = places[i].max(places[i - 1] + gap);
    }
    let mut limit = high;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - gap;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_overlap() {
        let places = spread(&[10.0, 11.0, 12.0, 199.0, 200.0], 15.0, 5.0, 200.0);
        assert_eq!(places, [10.0, 25.0, 40.0, 185.0, 200.0]);
        assert!(spread(&[], 15.0, 0.0, 1.0).is_empty());
    }

    #[test]
    fn nothing_one_point_and_absurd_numbers_can_be_drawn() {
        let figure = |points: Vec<Point>| LineFigure {
            title: "t".into(),
            y_label: "nats".into(),
            series: vec![Series { name: "<script>".into(), colour: 7, points }],
            rules: vec![("specialist".into(), 0.5)],
            high: None,
        };
        let point = |step, mean| Point { step, mean, min: mean, max: mean };
        for points in [vec![], vec![point(1.0, 0.0)], vec![point(1.0, -1e300), point(1e18, 1e300)]] {
            let picture = figure(points).draw().unwrap();
            assert!(!picture.inside.contains("<script>") && picture.inside.contains("specialist"));
        }
    }
}
