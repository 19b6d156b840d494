//! The CSV of the example, as rows and series.

use anyhow::{Context as _, Result, bail};

const HEADER: &str = "game,mixer,steps,seeds,gap,gap_low,gap_high,bound";

/// One horizon of one mixer in one game.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    game: String,
    mixer: String,
    /// Steps `T` of the run.
    pub(crate) steps: u64,
    /// Runs that the gap is the mean of.
    pub(crate) seeds: u64,
    /// Mean duality gap.
    pub(crate) gap: f64,
    /// 95% confidence interval of the mean.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// What the theory promises.
    pub(crate) bound: f64,
}

impl Row {
    /// All rows of the text.
    ///
    /// # Errors
    /// Another header, or a line that is not a row; names it.
    pub(crate) fn parse(csv: &str) -> Result<Vec<Self>> {
        let mut lines = csv.lines();
        if lines.next() != Some(HEADER) {
            bail!("the CSV does not begin with `{HEADER}`");
        }
        lines.map(|line| Self::line(line).with_context(|| format!("not a row: `{line}`"))).collect()
    }

    fn line(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [game, mixer, steps, seeds, gap, low, high, bound] = fields[..] else {
            bail!("want 8 fields, got {}", fields.len());
        };
        let row = Self {
            game: game.into(),
            mixer: mixer.into(),
            steps: steps.parse()?,
            seeds: seeds.parse()?,
            gap: gap.parse()?,
            low: low.parse()?,
            high: high.parse()?,
            bound: bound.parse()?,
        };
        // On logarithmic axes nothing else can be drawn.
        if row.steps == 0
            || [row.gap, row.low, row.high, row.bound].iter().any(|x| !(x.is_finite() && *x > 0.0))
        {
            bail!("want steps, gap, interval and bound > 0");
        }
        Ok(row)
    }
}

/// The rows of one mixer, by growing `T`.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    mixer: &'a str,
    pub(crate) rows: Vec<&'a Row>,
}

impl<'a> Series<'a> {
    /// The series of a game, in the order of the CSV.
    pub(crate) fn of_game(rows: &'a [Row], game: &str) -> Vec<Self> {
        let mut series: Vec<Self> = Vec::new();
        for row in rows.iter().filter(|row| row.game == game) {
            match series.iter_mut().find(|one| one.mixer == row.mixer) {
                Some(one) => one.rows.push(row),
                None => series.push(Self { mixer: &row.mixer, rows: vec![row] }),
            }
        }
        series
    }

    /// `AMA-R`, as the paper writes it.
    pub(crate) fn label(&self) -> String {
        self.mixer.to_uppercase()
    }

    /// Least-squares slope of ln(gap) over ln(T).
    pub(crate) fn slope(&self) -> f64 {
        let points: Vec<(f64, f64)> =
            self.rows.iter().map(|row| ((row.steps as f64).ln(), row.gap.ln())).collect();
        let count = points.len() as f64;
        let (x_mean, y_mean) =
            points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
        let covariance: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
        covariance / points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_series_with_slopes() {
        let csv = format!(
            "{HEADER}\ng,ama-r,100,1,0.4,0.4,0.4,1\ng,ama-s,100,9,0.5,0.4,0.6,2\nh,ama-r,1,1,1,1,1,1\n\
             g,ama-r,400,1,0.2,0.2,0.2,0.5\n"
        );
        let rows = Row::parse(&csv).unwrap();
        let series = Series::of_game(&rows, "g");
        assert_eq!(series.iter().map(Series::label).collect::<Vec<_>>(), ["AMA-R", "AMA-S"]);
        assert_eq!(series[0].rows.iter().map(|row| row.steps).collect::<Vec<_>>(), [100, 400]);
        // Four times the steps, half the gap.
        assert!((series[0].slope() + 0.5).abs() < 1e-12);
    }

    #[test]
    fn other_text_is_refused_by_line() {
        assert!(Row::parse("steps,gap\n").is_err());
        for bad in
            ["g,ama-r,100,1,0.4,0.4,0.4", "g,ama-r,x,1,1,1,1,1", "g,ama-r,9,1,-1,1,1,1", "g,a,9,1,NaN,1,1,1"]
        {
            let error = Row::parse(&format!("{HEADER}\n{bad}\n")).unwrap_err();
            assert!(format!("{error:#}").contains(bad), "{error:#}");
        }
    }
}
