//! The page: what is said about runs, and the template that it is put into.

mod chart;
mod compare;
mod cost;
mod curves;
mod results;

use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;

use crate::ReportError;
use crate::format;
use crate::run::{Run, State};
use crate::verdict::{Outcome, Verdict};
use chart::Group;

/// How the page is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageOptions {
    /// A page of a running run loads itself again after so many seconds; of a run that is not running it never does.
    pub reload_seconds: Option<u32>,
}

/// What the template is given for one run. All text is escaped there.
#[derive(Debug, Serialize)]
struct RunView {
    id: String,
    label: String,
    folder: String,
    state: &'static str,
    state_text: String,
    outcome: &'static str,
    verdict: String,
    beside: Vec<String>,
    facts: Vec<(String, String)>,
    notes: Vec<String>,
    under_way: Vec<(String, String)>,
    results: Option<results::ResultsView>,
    groups: Vec<Group>,
    drawn: Option<cost::DrawnView>,
    cost: Option<cost::CostView>,
    constants: Vec<Vec<String>>,
    config: String,
    command: String,
}

/// The page of one run, or of several side by side: HTML that needs nothing but itself.
///
/// It has no script; everything from data is escaped. Its size and the time it takes depend on the number of stages and
/// tasks, not on the number of steps.
///
/// # Errors
/// [`ReportError::NoRuns`]; [`ReportError::Plot`] or [`ReportError::Template`], which should not happen.
pub fn page(runs: &[Run], options: PageOptions) -> Result<String, ReportError> {
    let (Some(first), Some(read_at)) = (runs.first(), runs.iter().map(|run| run.read_at).max()) else {
        return Err(ReportError::NoRuns);
    };
    let views =
        runs.iter().enumerate().map(|(index, run)| view(run, index)).collect::<Result<Vec<_>, _>>()?;
    let running = runs.iter().any(|run| run.state == State::Running);
    let title = match runs {
        [only] => format!("{} · ama report", only.label),
        _ => format!("{} and {} more · ama report", first.label, runs.len() - 1),
    };
    let compared = if runs.len() > 1 { Some(compare::compare(runs)?) } else { None };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("page", include_str!("page.html"))?;
    let as_of = humantime::format_rfc3339_seconds(read_at).to_string().replace('T', " ").replace('Z', " UTC");
    let page = environment.get_template("page")?.render(context! {
        title,
        runs => views,
        compared,
        as_of,
        style => include_str!("style.css"),
        reload => options.reload_seconds.filter(|_| running),
        sub => crate::plot::SUB,
    })?;
    Ok(page)
}

fn view(run: &Run, index: usize) -> Result<RunView, ReportError> {
    let id = format!("run{index}");
    let verdict = Verdict::of(run);
    let (state, state_text) = match run.state {
        State::Running => ("running", "running".to_string()),
        State::Finished => ("finished", "finished".to_string()),
        State::Stopped => ("stopped", "not finished".to_string()),
    };
    let outcome = match verdict.outcome {
        Outcome::Better => "better",
        Outcome::Worse => "worse",
        Outcome::Unclear => "unclear",
        Outcome::Open => "open",
    };
    let under_way = run.under_way().iter().map(|under| (under.stage.name.clone(), position(under))).collect();
    Ok(RunView {
        label: run.label.clone(),
        folder: run.folder.display().to_string(),
        state,
        state_text,
        outcome,
        verdict: verdict.sentence,
        beside: verdict.beside,
        facts: facts(run),
        notes: run.notes.clone(),
        under_way,
        results: results::view(run, &id)?,
        groups: curves::groups(run, &id)?,
        drawn: cost::drawn(run, &id)?,
        cost: cost::cost(run),
        constants: constants(run),
        config: run.plan.text.clone(),
        command: run.command(),
        id,
    })
}

/// How far a stage is, in words.
pub(crate) fn position(under: &crate::run::Under<'_>) -> String {
    let steps = under.stage.trace.as_ref().map_or(0, crate::trace::Trace::steps);
    let share = under.share.map(|share| format!(", {}%", format::fixed(100.0 * share, 0)));
    let left = under.seconds_left.map(|seconds| format!(", about {} left", format::duration(seconds)));
    match steps {
        0 => "begun".into(),
        _ => format!("step {steps}{}{}", share.unwrap_or_default(), left.unwrap_or_default()),
    }
}

fn facts(run: &Run) -> Vec<(String, String)> {
    let about = |pointer: &str| match run.about.pointer(pointer) {
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let mut facts = Vec::new();
    let mut add =
        |name: &str, value: Option<String>| facts.extend(value.map(|value| (name.to_string(), value)));
    add("Folder", Some(run.folder.display().to_string()));
    add("Configuration", about("/config"));
    add("Tasks", Some(run.tasks().join(", ")).filter(|text| !text.is_empty()));
    add("Methods", Some(run.methods().join(", ")).filter(|text| !text.is_empty()));
    let seeds: Vec<String> = run.plan.seeds.iter().map(u64::to_string).collect();
    add("Seeds", Some(seeds.join(", ")).filter(|text| !text.is_empty()));
    let threads = about("/host/threads").map(|threads| format!(", {threads} threads"));
    add(
        "Machine",
        about("/host/cpu").or_else(|| about("/host/arch")).map(|cpu| cpu + &threads.unwrap_or_default()),
    );
    add("Version", about("/versions/ama").map(|version| format!("ama {version}")));
    facts
}

/// Constants of the mixers: one row a method, as its generalists recorded them.
fn constants(run: &Run) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for method in run.methods() {
        let about = run.stages.iter().find(|stage| stage.about["method"].as_str() == Some(method.as_str()));
        let Some(about) = about.map(|stage| &stage.about) else { continue };
        let number = |value: &serde_json::Value| value.as_f64().map_or(format::UNKNOWN.into(), format::short);
        let scale = match &about["mixer"]["excess_scale"] {
            serde_json::Value::Object(scale) => {
                match scale.get("running_decay").and_then(serde_json::Value::as_f64) {
                    Some(decay) => format!("running, decay {}", format::short(decay)),
                    None => format::UNKNOWN.into(),
                }
            }
            fixed => {
                fixed.as_f64().map_or(format::UNKNOWN.into(), |nats| format!("{} nats", format::short(nats)))
            }
        };
        rows.push(vec![
            method,
            about["excess"].as_str().unwrap_or(format::UNKNOWN).to_string(),
            number(&about["mixer"]["eta"]),
            number(&about["mixer"]["c"]),
            scale,
            number(&about["horizon_steps"]),
        ]);
    }
    rows
}
