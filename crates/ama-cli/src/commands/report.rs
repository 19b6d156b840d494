//! `ama report`: run folders as one HTML page.

use std::path::{Path, PathBuf};

use ama_report::{PageOptions, Reading, Run, State, Verdict, page};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::console::Console;
use crate::files;
use crate::live::{PAGE, RELOAD_SECONDS};
use crate::output::Output;

/// Options of `ama report`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ama report runs/pipeline\n  \
    ama report runs/pipeline runs/other --out both.html\n\n\
    `ama run` writes the page of its own folder by itself, while it runs and at the end. The page is one file that loads \
    nothing else.")]
pub(crate) struct Options {
    /// Run folders: what `ama run --out` was given
    #[arg(value_name = "RUN_DIR", required = true)]
    runs: Vec<PathBuf>,
    /// The page [default: RUN_DIR/report.html; of several runs ./report.html]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs `ama report`.
///
/// # Errors
/// A folder that is no run folder, or a page that cannot be written.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let runs =
        options.runs.iter().map(|folder| Run::read(folder, Reading::Whole)).collect::<Result<Vec<_>, _>>()?;
    let own = match &options.runs[..] {
        [only] => only.join(PAGE),
        _ => PathBuf::from(PAGE),
    };
    // Only the page in the run's own folder is brought up to date by the run itself.
    let is_own = options.out.as_deref().is_none_or(|out: &Path| out == own) && runs.len() == 1;
    let reload_seconds = is_own.then_some(RELOAD_SECONDS);
    let out = options.out.clone().unwrap_or(own);
    let html = page(&runs, PageOptions { reload_seconds })?;
    // The run itself writes it too, now and then.
    let claim = Output::claim_file(&out)?;
    files::write_whole(claim.path(), html.as_bytes())?;
    let mut said = Vec::new();
    for run in &runs {
        let verdict = Verdict::of(run);
        console.say(&format!("{}: {}", run.folder.display(), verdict.sentence))?;
        for line in &verdict.beside {
            console.say(&format!("  {line}"))?;
        }
        for note in &run.notes {
            console.say(&format!("  note: {note}"))?;
        }
        said.push(json!({
            "folder": run.folder, "state": state_name(run.state), "verdict": verdict.sentence, "notes": run.notes,
        }));
    }
    console.say(&format!("report in {}", out.display()))?;
    console.finish(&json!({ "report": out, "runs": said }))
}

/// The state as `--json` has it.
pub(super) fn state_name(state: State) -> Value {
    match state {
        State::Running => "running",
        State::Finished => "finished",
        State::Stopped => "stopped",
    }
    .into()
}
