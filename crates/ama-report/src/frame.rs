//! One frame of text for a terminal: what `ama watch` shows.

use std::fmt::Write as _;

use crate::format::{clean, duration, fixed, short};
use crate::page::position;
use crate::run::{Run, StageKind, State, Under};
use crate::trace::Line;
use crate::verdict::{Verdict, display};

/// How a frame is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameOptions {
    /// Columns of the terminal; lines are cut there.
    pub columns: usize,
    /// Whether to use ANSI colours and block characters of varied shade; off where the frame goes to a file.
    pub styled: bool,
}

impl Default for FrameOptions {
    fn default() -> Self {
        Self { columns: 80, styled: false }
    }
}

/// Longest name of a task.
const NAME: usize = 18;

/// The run as it is now, in lines that end with a newline. Names are stripped of control characters, so that a task
/// cannot steer the terminal.
#[must_use]
pub fn frame(run: &Run, options: FrameOptions) -> String {
    let mut lines = vec![head(run)];
    let under = run.under_way();
    for under in &under {
        lines.push(String::new());
        training(run, under, options, &mut lines);
    }
    if under.is_empty() || run.state != State::Running {
        let verdict = Verdict::of(run);
        lines.push(String::new());
        lines.extend(wrapped(&verdict.sentence, options.columns.min(100)));
        for line in &verdict.beside {
            lines.extend(wrapped(line, options.columns.min(100)));
        }
    }
    if run.state == State::Stopped {
        lines.push(String::new());
        lines.push(format!("continue: {}", clean(&run.command(), usize::MAX)));
    }
    let mut text = String::new();
    for line in lines {
        // The command line is to be copied whole.
        let cut = if line.starts_with("continue: ") { line } else { fit(&line, options.columns) };
        let _ = writeln!(text, "{}", styled(&cut, options.styled));
    }
    text
}

fn head(run: &Run) -> String {
    let state = match run.state {
        State::Running => "running",
        State::Finished => "finished",
        State::Stopped => "not finished",
    };
    let ahead = run.ahead();
    let mut line = format!("{}  {state}", clean(&run.label, 40));
    if ahead.planned > 0 {
        let _ = write!(line, "  {} of {} models trained", ahead.done, ahead.planned);
    }
    if let Some(seconds) = ahead.seconds_left {
        let _ = write!(line, "  about {} to go", duration(seconds));
    }
    line
}

/// A stage, where it stands, and its tasks.
fn training(run: &Run, under: &Under<'_>, options: FrameOptions, lines: &mut Vec<String>) {
    let name = match &under.stage.kind {
        StageKind::Generalist { method, seed } => format!("{} seed {}", display(method), seed),
        _ => under.stage.name.clone(),
    };
    lines.push(format!("{}  {}", clean(&name, 40), position(under)));
    if let Some(share) = under.share {
        let width = options.columns.saturating_sub(8).clamp(10, 60);
        lines.push(format!("{} {:>4}%", bar(share, width), fixed(100.0 * share, 0)));
    }
    let Some(last) = under.stage.trace.as_ref().and_then(|trace| trace.last.as_ref()) else { return };
    let number = |value: Option<f64>| value.map_or("-".to_string(), short);
    let speed = under.stage.trace.as_ref().and_then(crate::trace::Trace::speed);
    lines.push(format!(
        "loss {}  grad norm {}  lr {}  {} tok/s",
        number(last.loss),
        number(last.grad_norm),
        number(last.lr),
        speed.map_or("-".to_string(), |(tokens, seconds)| crate::format::count(tokens / seconds)),
    ));
    if last.alpha.len() > 1 {
        // What a mixer without targets logs as excess is the plain loss.
        let has_excess = match &under.stage.kind {
            StageKind::Generalist { method, .. } => run.has_excess(method),
            _ => false,
        };
        tasks(last, has_excess, options, lines);
    }
}

fn tasks(last: &Line, has_excess: bool, options: FrameOptions, lines: &mut Vec<String>) {
    let longest = last.alpha.keys().map(|task| clean(task, NAME).chars().count()).max().unwrap_or(0).max(4);
    let width = options.columns.saturating_sub(longest + 34).clamp(6, 40);
    lines
        .push(format!("{:longest$}  {:>6}  {:width$}  {:>8}  {:>8}", "task", "weight", "", "excess", "loss"));
    for (task, weight) in &last.alpha {
        let number = |value: Option<&Option<f64>>| match value {
            Some(Some(value)) => fixed(*value, 3),
            _ => "-".into(),
        };
        let weight = weight.unwrap_or(0.0);
        lines.push(format!(
            "{:longest$}  {:>6}  {}  {:>8}  {:>8}",
            clean(task, NAME),
            fixed(weight, 3),
            bar(weight, width),
            number(last.excess.get(task).filter(|_| has_excess)),
            number(last.task_loss.get(task)),
        ));
    }
}

/// `share` of `width` in full blocks, the rest in dots.
fn bar(share: f64, width: usize) -> String {
    let full = ((share.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    "█".repeat(full) + &"·".repeat(width - full)
}

fn fit(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns { line.to_string() } else { clean(line, columns) }
}

/// Bars in colour: the one thing that the eye should find.
fn styled(line: &str, on: bool) -> String {
    if !on || !line.contains('█') {
        return line.to_string();
    }
    let mut out = String::with_capacity(line.len() + 16);
    let mut inside = false;
    for c in line.chars() {
        if (c == '█') != inside {
            inside = c == '█';
            out.push_str(if inside { "\u{1b}[36m" } else { "\u{1b}[0m" });
        }
        out.push(c);
    }
    if inside {
        out.push_str("\u{1b}[0m");
    }
    out
}

fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in clean(text, usize::MAX).split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
