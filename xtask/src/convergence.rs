//! `cargo xtask convergence`: the convergence certificate as figures and tables.
//!
//! The games are played by an example of `ama-mix` that prints CSV; this module draws it.

mod figure;
mod rows;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::shell::{self, cargo};
use rows::{Row, Series};

/// Where to.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder of convergence.csv, convergence.md and the figures; docs/ of the workspace if left out
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Title and unit of the gap for each game that the example plays.
const GAMES: [(&str, &str, &str); 2] = [
    ("closed-form", "Closed-form game, 4 tasks, 5 dimensions", "loss units, largest excess 1"),
    ("linear-dpo", "DPO on a log-linear policy, 3 tasks of 24 pairs", "nats"),
];

/// Plays, draws and writes.
///
/// # Errors
/// The example fails or prints something else; the disk refuses.
pub(crate) fn run(options: &Options) -> Result<()> {
    let out = options.out.clone().unwrap_or_else(|| shell::root().join("docs"));
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut play =
        cargo(&["run", "--quiet", "--release", "--package", "ama-mix", "--example", "convergence"]);
    shell::say(
        "convergence: playing the games of `ama-mix`'s example `convergence`; this takes some minutes",
    );
    let output = play.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the example `convergence` failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let csv = String::from_utf8(output.stdout).context("the example `convergence` printed no text")?;
    let rows = Row::parse(&csv)?;

    let mut text = String::from(INTRODUCTION);
    for (game, title, unit) in GAMES {
        let series = Series::of_game(&rows, game);
        if series.is_empty() {
            bail!("the example `convergence` printed no row of the game `{game}`");
        }
        let name = format!("convergence-{game}.svg");
        write(&out.join(&name), &figure::draw(title, unit, &series)?)?;
        text.push_str(&format!("\n## {title}\n\n![Duality gap against steps, log-log]({name})\n"));
        text.push_str(&table(&series, unit));
    }
    write(&out.join("convergence.csv"), &csv)?;
    write(&out.join("convergence.md"), &text)
}

const INTRODUCTION: &str = "\
# Convergence certificate

Made by `cargo xtask convergence`; numbers in [convergence.csv](convergence.csv), games and bounds in
[`examples/convergence`](../crates/ama-mix/examples/convergence), asserted in [`tests/game.rs`](../crates/ama-mix/tests/game.rs).

The duality gap of the averaged players, `max_i E_i(theta_bar) - min_theta sum_i alpha_bar_i E_i(theta)`, is 0 at the saddle
point that AutoMixAlign looks for and positive elsewhere; on these games it is known to at least eight digits. Gradient
descent has step `R / (G sqrt T)`; AMA-R has `eta = sqrt(8 ln k / T)`, AMA-S `c = sqrt(k ln k / ((e-1) T))` and `eta = c/k`, both
over the largest excess `M`. The bounds are `G R / sqrt T + M sqrt(ln k / (2 T))` for AMA-R, and
`G R / sqrt T + 2 sqrt(e-1) M sqrt(k ln k / T)` for AMA-S in the mean over seeds (Auer et al. 2002). AMA-R sees every pair in
every step and is deterministic here; AMA-S sees one random pair a step. A neural network gives no such guarantee.
";

/// The numbers of a figure, for those who cannot see it.
fn table(series: &[Series<'_>], unit: &str) -> String {
    let mut text = format!(
        "\nGap in {unit}; for AMA-S the mean over {} seeds with its 95% confidence interval.\n\n| T |",
        series.iter().map(|one| one.rows[0].seeds).max().unwrap_or(1)
    );
    for one in series {
        text.push_str(&format!(" {0} gap | {0} bound |", one.label()));
    }
    text.push_str(&format!("\n|---:|{}\n", "---:|---:|".repeat(series.len())));
    for (at, row) in series[0].rows.iter().enumerate() {
        text.push_str(&format!("| {} |", row.steps));
        for one in series {
            let row = &one.rows[at];
            let interval =
                if row.seeds > 1 { format!(" ({:.4} to {:.4})", row.low, row.high) } else { String::new() };
            text.push_str(&format!(" {:.4}{interval} | {:.4} |", row.gap, row.bound));
        }
        text.push('\n');
    }
    text.push_str("\nSlope of ln(gap) over ln(T), least squares (the bounds have -0.5): ");
    let slopes: Vec<String> =
        series.iter().map(|one| format!("{} {:.3}", one.label(), one.slope())).collect();
    text.push_str(&slopes.join(", "));
    text.push_str(".\n");
    text
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    shell::say(&format!("convergence: {}", path.display()));
    Ok(())
}
