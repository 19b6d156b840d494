//! The results as a table on the terminal.

use super::results::{Metric, Over, Row, Spread};

/// One block a metric: rows are methods, columns are tasks, their average and the worst of them.
pub(crate) fn lines(rows: &[Row], tasks: &[&str], split: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (metric, title, decimals, scale) in [
        (Metric::Loss, "loss (nats)", 3, 1.0),
        (Metric::Excess, "excess over the specialist (nats)", 3, 1.0),
        (Metric::Accuracy, "accuracy (%)", 1, 100.0),
        (Metric::WinRate, "verified win rate (%)", 1, 100.0),
    ] {
        if rows.iter().all(|row| row.cell(metric, Over::Average).is_none()) {
            continue;
        }
        let columns: Vec<(&str, Over<'_>)> = tasks
            .iter()
            .map(|task| (*task, Over::Task(task)))
            .chain([("average", Over::Average), ("worst", Over::Worst)])
            .collect();
        let text = |cell: Option<Spread>| match cell {
            None => "-".to_string(),
            Some(Spread { mean, sd: None }) => format!("{:.decimals$}", mean * scale),
            Some(Spread { mean, sd: Some(sd) }) => {
                format!("{:.decimals$} ± {:.decimals$}", mean * scale, sd * scale)
            }
        };
        let body: Vec<Vec<String>> = rows
            .iter()
            .map(|row| columns.iter().map(|(_, over)| text(row.cell(metric, *over))).collect())
            .collect();
        let first = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                let longest = body.iter().map(|cells| cells[i].chars().count()).max().unwrap_or(0);
                longest.max(name.chars().count())
            })
            .collect();
        lines.push(String::new());
        lines.push(format!("{split} {title}"));
        let mut head = format!("{:first$}", "");
        for ((name, _), &width) in columns.iter().zip(&widths) {
            head += &format!("  {name:>width$}");
        }
        lines.push(head);
        for (row, cells) in rows.iter().zip(&body) {
            let mut line = format!("{:first$}", row.name);
            for (cell, &width) in cells.iter().zip(&widths) {
                line += &format!("  {cell:>width$}");
            }
            lines.push(line);
        }
    }
    lines.push(String::new());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_unknown_cells_are_dashes() {
        let rows = super::super::results::tests::rows();
        let lines = lines(&rows, &["a", "b"], "test");
        let at = lines.iter().position(|line| line == "test verified win rate (%)").unwrap();
        assert_eq!(lines[at + 1], "                 a            b      average        worst");
        assert_eq!(lines[at + 2], "base             -            -            -            -");
        assert_eq!(lines[at + 3], "pooled  50.0 ± 0.0  50.0 ± 35.4  50.0 ± 17.7  37.5 ± 17.7");
    }
}
