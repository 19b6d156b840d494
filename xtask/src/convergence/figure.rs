//! One figure: duality gap against steps on logarithmic axes, as SVG.

use anyhow::{Result, anyhow};
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::rows::{Row, Series};

const SIZE: (u32, u32) = (800, 520);
/// Of Okabe and Ito's palette, which colour-blind readers can tell apart: blue and vermillion. Marks differ as well.
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];

/// Draws the series of a game. `unit` is that of the gap.
///
/// # Errors
/// The drawing library refuses.
pub(crate) fn draw(title: &str, unit: &str, series: &[Series<'_>]) -> Result<String> {
    let mut svg = String::new();
    draw_into(&mut svg, title, unit, series).map_err(|error| anyhow!("cannot draw `{title}`: {error}"))?;
    Ok(svg)
}

fn draw_into(
    svg: &mut String,
    title: &str,
    unit: &str,
    series: &[Series<'_>],
) -> Result<(), Box<dyn std::error::Error>> {
    let rows = || series.iter().flat_map(|one| one.rows.iter());
    let steps = |row: &&&Row| row.steps as f64;
    let (first, last) = (
        rows().map(|row| steps(&row)).fold(f64::MAX, f64::min),
        rows().map(|row| steps(&row)).fold(0.0, f64::max),
    );
    let least = rows().map(|row| row.low.min(row.gap)).fold(f64::MAX, f64::min);
    let most = rows().map(|row| row.bound.max(row.high)).fold(0.0, f64::max);

    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d((first * 0.85..last * 1.15).log_scale(), (least * 0.7..most * 1.4).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("optimiser steps T")
        .y_desc(format!("duality gap ({unit})"))
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| format!("{y}"))
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .light_line_style(RGBColor(235, 235, 235))
        .draw()?;
    for (at, one) in series.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let label = one.label();
        if one.rows.iter().any(|row| row.seeds > 1) {
            let upper = one.rows.iter().map(|row| (row.steps as f64, row.high));
            let lower = one.rows.iter().rev().map(|row| (row.steps as f64, row.low));
            let band: Vec<(f64, f64)> = upper.chain(lower).collect();
            chart.draw_series([Polygon::new(band, colour.mix(0.25).filled())])?;
        }
        let line = one.rows.iter().map(|row| (row.steps as f64, row.gap));
        let seeds = one.rows[0].seeds;
        let text =
            if seeds > 1 { format!("{label}, mean of {seeds} seeds, 95% band") } else { label.clone() };
        chart
            .draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?
            .label(text)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(2)));
        if at == 0 {
            chart.draw_series(line.map(|point| Circle::new(point, 4, colour.filled())))?;
        } else {
            chart.draw_series(line.map(|point| TriangleMarker::new(point, 6, colour.filled())))?;
        }
        let bound = one.rows.iter().map(|row| (row.steps as f64, row.bound));
        chart
            .draw_series(DashedLineSeries::new(bound, 6, 4, colour.stroke_width(2)))?
            .label(format!("{label}, bound"))
            .legend(move |(x, y)| {
                DashedPathElement::new([(x, y), (x + 24, y)], 6, 4, colour.stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(180, 180, 180))
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_what_it_shows() {
        let csv = "game,mixer,steps,seeds,gap,gap_low,gap_high,bound\ng,ama-r,100,1,0.4,0.4,0.4,1\n\
                   g,ama-r,400,1,0.2,0.2,0.2,0.5\ng,ama-s,100,9,0.5,0.4,0.6,2\ng,ama-s,400,9,0.3,0.2,0.4,1\n";
        let rows = Row::parse(csv).unwrap();
        let svg = draw("A game", "nats", &Series::of_game(&rows, "g")).unwrap();
        for want in [
            "<svg",
            "A game",
            "optimiser steps T",
            "duality gap (nats)",
            "AMA-R, bound",
            "AMA-S, mean of 9 seeds",
            "#0072B2",
            "#D55E00",
        ] {
            assert!(svg.contains(want), "no `{want}` in the figure");
        }
        // Half the gap at four times the steps: AMA-R's second mark is below and right of the first.
        let marks: Vec<(i32, i32)> = svg
            .split("<circle ")
            .skip(1)
            .map(|mark| {
                let number =
                    |name: &str| mark.split(name).nth(1).unwrap().split('"').nth(1).unwrap().parse().unwrap();
                (number("cx="), number("cy="))
            })
            .collect();
        assert_eq!(marks.len(), 2);
        assert!(marks[1].0 > marks[0].0 && marks[1].1 > marks[0].1, "{marks:?}");
    }
}
