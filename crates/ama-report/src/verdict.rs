//! What came out, in one sentence, and what it cost.

use crate::estimate::{Cell, Estimate, Interval, Over};
use crate::format::{duration, signed};
use crate::run::{Method, Metric, Results, Run, State};

/// Whether the method that the verdict is about does better than the baseline on its worst task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The interval of the difference is above zero.
    Better,
    /// It is below zero.
    Worse,
    /// It includes zero, or there is none.
    Unclear,
    /// There is nothing to compare (yet).
    Open,
}

/// The verdict on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// For better or worse.
    pub outcome: Outcome,
    /// One sentence.
    pub sentence: String,
    /// What has to be said beside it: who else is good, and which tasks pay for it.
    pub beside: Vec<String>,
}

impl Verdict {
    /// Judges a run by the worst task, which is what AutoMixAlign minimises the loss of: of its methods the one that is best
    /// there against the baseline. A run without such a method is judged by the best of the others.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        match &run.results {
            Some(results) => compare(run, results).unwrap_or_else(|| only(run, results)),
            None => Self { outcome: Outcome::Open, sentence: unfinished(run), beside: Vec::new() },
        }
    }
}

fn compare(run: &Run, results: &Results) -> Option<Verdict> {
    let (metric, tasks) = (results.headline(), run.tasks());
    let baseline = results.method(&results.baseline)?;
    let of = |method: &Method, cell| Estimate::of(method, metric, cell, &tasks, None);
    let others: Vec<&Method> = results
        .methods
        .iter()
        .filter(|method| {
            !method.is_reference() && method.name != results.baseline && of(method, Cell::Worst).is_some()
        })
        .collect();
    let ama: Vec<&Method> = others.iter().copied().filter(|method| run.is_ama(&method.name)).collect();
    let candidates = if ama.is_empty() { &others } else { &ama };
    let best = |methods: &[&'_ Method], cell| -> Option<usize> {
        let means: Vec<f64> = methods.iter().map(|m| of(m, cell).map_or(f64::NAN, |e| e.mean)).collect();
        (0..means.len()).max_by(|&a, &b| means[a].total_cmp(&means[b]))
    };
    let chosen = candidates[best(candidates, Cell::Worst)?];
    let worst = (of(chosen, Cell::Worst)?.mean, of(baseline, Cell::Worst)?.mean);
    let gain = Estimate::difference(chosen, baseline, metric, Cell::Worst, &tasks)?;
    let average = Estimate::difference(chosen, baseline, metric, Cell::Average, &tasks)?;
    let (name, other) = (display(&chosen.name), display(&baseline.name));
    let what = metric.title();
    let (now, before) = (percent(worst.0), percent(worst.1));
    let by = evidence(&gain);
    let (outcome, sentence) = match gain.interval {
        Some(interval) if interval.low > 0.0 => (
            Outcome::Better,
            format!("{name} lifts the worst task from {before} to {now} {what} over {other} ({by})"),
        ),
        Some(interval) if interval.high < 0.0 => (
            Outcome::Worse,
            format!("{name} does worse than {other}: its worst task has {now} {what}, not {before} ({by})"),
        ),
        Some(_) => (
            Outcome::Unclear,
            format!(
                "No clear difference between {name} and {other} on the worst task: {now} against {before} {what} ({by})"
            ),
        ),
        None => (
            Outcome::Unclear,
            format!(
                "{name} has {now} {what} on the worst task where {other} has {before} ({by}); one seed cannot tell whether \
                 that is chance"
            ),
        ),
    };
    let average_text = format!(
        "; the average goes from {} to {} ({}).",
        percent(of(baseline, Cell::Average)?.mean),
        percent(of(chosen, Cell::Average)?.mean),
        points(&average)
    );

    let mut beside = Vec::new();
    for (cell, what) in [(Cell::Worst, "worst task"), (Cell::Average, "average")] {
        let mut all = others.clone();
        all.push(baseline);
        if let Some(first) = best(&all, cell).map(|index| all[index])
            && first.name != chosen.name
        {
            let (its, own) = (of(first, cell)?.mean, of(chosen, cell)?.mean);
            beside.push(format!(
                "{} has the best {what}: {} against {} of {name}.",
                display(&first.name),
                percent(its),
                percent(own)
            ));
        }
    }
    for task in &tasks {
        let Some(change) = Estimate::difference(chosen, baseline, metric, Cell::Task(task), &tasks) else {
            continue;
        };
        if change.interval.is_some_and(|interval| interval.high < 0.0) {
            let (from, to) = (of(baseline, Cell::Task(task))?.mean, of(chosen, Cell::Task(task))?.mean);
            beside.push(format!(
                "The price: on {task} {name} falls from {} to {} ({}).",
                percent(from),
                percent(to),
                points(&change)
            ));
        }
    }
    Some(Verdict { outcome, sentence: sentence + &average_text, beside })
}

/// There are results and nothing to compare.
fn only(run: &Run, results: &Results) -> Verdict {
    let (metric, tasks) = (results.headline(), run.tasks());
    let method =
        results.methods.iter().rev().find(|method| !method.is_reference()).or(results.methods.last());
    let cell = |cell| Some(percent(Estimate::of(method?, metric, cell, &tasks, None)?.mean));
    let sentence = match (method, cell(Cell::Worst), cell(Cell::Average)) {
        (Some(method), Some(worst), Some(average)) => format!(
            "{} reaches {worst} {} on its worst task and {average} on average; with the baseline and another [[method]] in \
             the configuration there would be a comparison.",
            display(&method.name),
            metric.title()
        ),
        _ => "The results have no value for every task, so there is no verdict.".to_string(),
    };
    Verdict { outcome: Outcome::Open, sentence, beside: Vec::new() }
}

fn unfinished(run: &Run) -> String {
    let ahead = run.ahead();
    let models = if ahead.planned > 0 {
        format!("{} of {} models are trained", ahead.done, ahead.planned)
    } else {
        format!("{} models are trained", ahead.done)
    };
    match run.state {
        State::Running => {
            let left = ahead.seconds_left.map(|seconds| format!(", about {} to go", duration(seconds)));
            format!("Running: {models}{}.", left.unwrap_or_default())
        }
        _ => format!("Not finished: {models}; the command below continues where it stopped."),
    }
}

/// `+23.0 points, 95% interval +17.1 to +29.4, 3 seeds`.
fn evidence(gain: &Estimate) -> String {
    match gain.interval {
        Some(Interval { low, high, over: Over::Seeds(seeds) }) => format!(
            "{} points, 95% interval {} to {}, {seeds} seeds",
            signed(Metric::WinRate, gain.mean),
            signed(Metric::WinRate, low),
            signed(Metric::WinRate, high)
        ),
        _ => points(gain),
    }
}

/// `+3.2 points`, and whether that may be chance.
fn points(gain: &Estimate) -> String {
    let chance = gain.interval.filter(|interval| !interval.excludes_zero()).map(|_| ", not clear of 0");
    format!("{} points{}", signed(Metric::WinRate, gain.mean), chance.unwrap_or_default())
}

fn percent(share: f64) -> String {
    format!("{}%", crate::format::fixed(100.0 * share, 0))
}

/// `ama-s` is AMA-S; other names are as they are.
pub(crate) fn display(method: &str) -> String {
    match method {
        "ama-s" => "AMA-S".into(),
        "ama-r" => "AMA-R".into(),
        other => other.into(),
    }
}
