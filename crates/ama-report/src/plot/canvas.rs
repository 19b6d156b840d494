//! A drawing area that becomes the inside of an `<svg>` element.

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::ReportError;

/// The library draws in whole pixels; this many of them are one unit of the picture, so that curves are smooth.
pub(crate) const SUB: i32 = 8;
/// Size of all text, in units.
pub(crate) const TEXT_SIZE: f64 = 12.0;
/// Rough width of a character, in units.
pub(crate) const CHAR: f64 = 6.4;

/// Where the picture is drawn, in sub-pixels.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a picture of `width` by `height` units and returns the inside of its `<svg>`, to stand in a
/// `viewBox="0 0 {width * SUB} {height * SUB}"`.
pub(crate) fn paint(
    figure: &str,
    (width, height): (i32, i32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<String, ReportError> {
    let refused = |reason: String| ReportError::Plot { figure: figure.to_string(), reason };
    let mut svg = String::new();
    {
        let size = ((width * SUB) as u32, (height * SUB) as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area).map_err(|error| refused(error.to_string()))?;
        area.present().map_err(|error| refused(error.to_string()))?;
    }
    let inside =
        svg.split_once('>').and_then(|(_, rest)| rest.rsplit_once("</svg>")).map(|(inside, _)| inside);
    inside.map(str::to_string).ok_or_else(|| refused("no <svg> element came out".into()))
}

/// A text style; `(x, y)` of the text is its left, middle or right end at half height.
pub(crate) fn text(colour: RGBColor, align: HPos) -> TextStyle<'static> {
    // The library makes its font sizes smaller by this factor.
    let size = TEXT_SIZE * f64::from(SUB) * 1.24;
    let mut style = TextStyle::from(("sans-serif", size).into_font()).pos(Pos::new(align, VPos::Center));
    style.color = colour.to_backend_color();
    style
}

/// Round numbers from `low` to `high`, about `count` of them.
pub(crate) fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = high - low;
    if !(span.is_finite() && span > 0.0) {
        return vec![low];
    }
    let rough = span / count.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|&s| s >= rough * 0.999)
        .unwrap_or(rough);
    let first = (low / step - 1e-9).ceil();
    (0..=2 * count + 2)
        .map(|i| (first + i as f64) * step)
        .take_while(|&tick| tick <= high + 1e-9 * span)
        .map(|tick| if tick.abs() < 1e-9 * span { 0.0 } else { tick })
        .collect()
}

/// A horizontal or vertical line.
pub(crate) fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor, width: f64) -> Drawn {
    let style = colour.stroke_width((width * f64::from(SUB)).round() as u32);
    area.draw(&PathElement::new(vec![from, to], style))?;
    Ok(())
}

/// A dashed line.
pub(crate) fn dashes(area: &Area<'_>, path: Vec<(i32, i32)>, colour: RGBColor, width: f64) -> Drawn {
    let style = colour.stroke_width((width * f64::from(SUB)).round() as u32);
    area.draw(&DashedPathElement::new(path, 5 * SUB, 4 * SUB, style))?;
    Ok(())
}

/// What drawing returns.
pub(crate) type Drawn = Result<(), Box<dyn std::error::Error>>;

#[cfg(test)]
mod tests {
    use super::super::ink;
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 1.0, 4), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(0.0, 41.0, 4), [0.0, 20.0, 40.0]);
        assert_eq!(ticks(1.0, 1.0, 4), [1.0]);
        assert_eq!(ticks(0.0, f64::INFINITY, 4), [0.0]);
        assert_eq!(ticks(-2.0, 3.0, 5), [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]);
        assert!(ticks(0.0, 7e-4, 4).len() >= 3);
    }

    #[test]
    fn text_from_data_is_escaped() {
        let inside = paint("x", (100, 50), |area| {
            area.draw(&Text::new("<b a='1' b=\"2\">&", (0, 0), text(ink::TEXT, HPos::Left)))?;
            Ok(())
        });
        assert!(inside.unwrap().contains("&lt;b a=&apos;1&apos; b=&quot;2&quot;&gt;&amp;"));
    }
}
