//! `ama watch`: where a run is, live.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ama_report::{FrameOptions, Reading, Run, State, frame};
use anyhow::{Context as _, Result};
use clap::Args;
use console::Term;
use serde_json::json;

use super::report::state_name;
use crate::console::Console;
use crate::stop;

/// Time between two frames.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two looks at the stop flag.
const NAP: Duration = Duration::from_millis(50);
/// Bytes of logs that are read for a frame; longer logs are sampled.
const READ: u64 = 2 << 20;
/// Another screen, without a cursor; what was on the terminal comes back with [`LEAVE`].
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// Options of `ama watch`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ama watch runs/pipeline\n  ama watch runs/pipeline --once\n\n\
    Shows the weight, excess and loss of every task and the time left, until the run ends. Ctrl-C ends the watching, not \
    the run. Without a terminal one frame is printed.")]
pub(crate) struct Options {
    /// Run folder: what `ama run --out` was given
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Print one frame and end
    #[arg(long)]
    once: bool,
}

/// Runs `ama watch`.
///
/// # Errors
/// A folder that is no run folder, or a terminal that cannot be written.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let read = || Run::read(&options.run, Reading::Within(READ));
    let mut run = read()?;
    let term = Term::stdout();
    if run.state == State::Running && !options.once && term.is_term() {
        term.write_str(ENTER).context("writing to the terminal")?;
        let outcome = follow(&term, &mut run, || Ok(read()?));
        // The terminal is given back whatever happened.
        term.write_str(LEAVE).context("writing to the terminal")?;
        outcome?;
    }
    let columns = if term.is_term() { usize::from(term.size().1) } else { FrameOptions::default().columns };
    for line in frame(&run, FrameOptions { columns, styled: term.is_term() }).lines() {
        console.say(line)?;
    }
    let ahead = run.ahead();
    console.finish(&json!({
        "folder": run.folder, "state": state_name(run.state), "trained": ahead.done, "planned": ahead.planned,
        "seconds_left": ahead.seconds_left,
    }))
}

/// Draws frames until the run ends or the user does.
fn follow(term: &Term, run: &mut Run, read: impl Fn() -> Result<Run>) -> Result<()> {
    while run.state == State::Running && !stop::flag().load(Ordering::Relaxed) {
        let (rows, columns) = term.size();
        let columns = usize::from(columns);
        let mut screen = String::from("\u{1b}[H");
        for line in frame(run, FrameOptions { columns, styled: true })
            .lines()
            .take(usize::from(rows).saturating_sub(1))
        {
            // Each line wipes what the last frame has left of it, the last wipes the rest of the screen.
            screen += line;
            screen += "\u{1b}[K\n";
        }
        screen += "\u{1b}[J";
        term.write_str(&screen).context("writing to the terminal")?;
        let drawn = Instant::now();
        while drawn.elapsed() < EVERY && !stop::flag().load(Ordering::Relaxed) {
            std::thread::sleep(NAP);
        }
        *run = read()?;
    }
    Ok(())
}
