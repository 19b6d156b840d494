//! Pictures of the training: mixture, losses against the specialists, gradient and learning rate, stage 1.

use super::chart::{Chart, Group};
use crate::ReportError;
use crate::plot::{LineFigure, Series};
use crate::run::{Run, Stage, StageKind};
use crate::trace::{Curve, Point, Quantity, TaskQuantity, Trace};
use crate::verdict::display;

/// Most points of a curve.
const POINTS: usize = 150;
/// Most pictures of a group: with more tasks or methods the first so many are shown.
const MOST: usize = 12;

/// All groups that have something to show.
pub(super) fn groups(run: &Run, id: &str) -> Result<Vec<Group>, ReportError> {
    let groups = [
        mixture(run, id)?,
        by_task(run, id, TaskQuantity::Loss)?,
        by_task(run, id, TaskQuantity::Excess)?,
        health(run, id)?,
        stage_one(run, id)?,
    ];
    Ok(groups.into_iter().filter(|group| !group.charts.is_empty()).collect())
}

/// A curve of a method over its seeds.
fn curve(run: &Run, method: &str, which: Curve<'_>) -> Vec<Point> {
    Trace::curve(&run.traces(method), which, POINTS)
}

fn more(all: usize) -> String {
    if all > MOST { format!(" Shown are the first {MOST} of {all}.") } else { String::new() }
}

/// One picture a method, one curve a task.
fn mixture(run: &Run, id: &str) -> Result<Group, ReportError> {
    let (tasks, methods) = (run.tasks(), run.methods());
    let mut figures = Vec::new();
    for method in &methods {
        let series: Vec<Series> = tasks
            .iter()
            .enumerate()
            .map(|(colour, task)| Series {
                name: task.clone(),
                colour,
                points: curve(run, method, Curve::Task(TaskQuantity::Weight, task)),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        if !series.is_empty() {
            figures.push(LineFigure {
                title: display(method),
                y_label: "share of the mixture".into(),
                series,
                rules: vec![],
                high: None,
            });
        }
    }
    // One scale for all, so that methods can be compared by eye.
    let high =
        figures.iter().flat_map(|f| &f.series).flat_map(|s| &s.points).map(|p| p.max).fold(0.1, f64::max);
    let high = (high * 10.0).ceil() / 10.0;
    let mut charts = Vec::new();
    for (index, figure) in figures.iter_mut().take(MOST).enumerate() {
        figure.high = Some(high);
        charts.push(Chart::lines(format!("{id}-mix{index}"), "mixture weight of every task", figure)?);
    }
    Ok(Group {
        id: format!("{id}-mixture"),
        title: "Mixture".into(),
        lead: format!(
            "The weight each task had in a step: its probability in a batch, or its factor in the loss. Line: mean over \
             seeds; band: lowest to highest.{}",
            more(figures.len())
        ),
        charts,
    })
}

/// One picture a task, one curve a method, with the specialist's level.
fn by_task(run: &Run, id: &str, quantity: TaskQuantity) -> Result<Group, ReportError> {
    let excess = quantity == TaskQuantity::Excess;
    let (tasks, methods) = (run.tasks(), run.methods());
    let mut charts = Vec::new();
    for (index, task) in tasks.iter().enumerate().take(MOST) {
        let series: Vec<Series> = methods
            .iter()
            .enumerate()
            // What a mixer without targets logs as excess is the plain loss.
            .filter(|(_, method)| !excess || run.has_excess(method))
            .map(|(colour, method)| Series {
                name: display(method),
                colour,
                points: curve(run, method, Curve::Task(quantity, task)),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        if series.is_empty() {
            continue;
        }
        let level = if excess {
            Some(0.0)
        } else {
            run.specialist(task).and_then(|trace| trace.ending(Curve::Task(TaskQuantity::Loss, task)))
        };
        let rules = level.map(|level| ("specialist".to_string(), level)).into_iter().collect();
        let y_label = if excess { "excess, nats" } else { "loss, nats" };
        let figure = LineFigure { title: task.clone(), y_label: y_label.into(), series, rules, high: None };
        let (name, about) = if excess {
            ("excess", "mean excess of the drawn pairs over the specialist")
        } else {
            ("loss", "mean loss of the drawn pairs")
        };
        charts.push(Chart::lines(format!("{id}-{name}{index}"), about, &figure)?);
    }
    let (title, lead) = if excess {
        (
            "Excess over the specialists",
            "How far each task's training pairs are above their specialist's loss. AutoMixAlign minimises the largest of these; \
             at zero a task has nothing left to learn from its specialist. Methods that see the plain loss have no excess.",
        )
    } else {
        (
            "Loss by task",
            "Training loss of the pairs that were drawn. Dashed: where the task's own specialist ended (mean over the last \
             tenth of its training).",
        )
    };
    Ok(Group {
        id: format!("{id}-{}", if excess { "excess" } else { "loss" }),
        title: title.into(),
        lead: format!("{lead}{}", more(tasks.len())),
        charts,
    })
}

/// Gradient norm, learning rate, reward accuracy and margin, one curve a method.
fn health(run: &Run, id: &str) -> Result<Group, ReportError> {
    let methods = run.methods();
    let mut charts = Vec::new();
    for (quantity, title, y_label, about) in [
        (Quantity::GradNorm, "Gradient norm", "L2 norm", "before clipping"),
        (Quantity::LearningRate, "Learning rate", "per step", "of AdamW"),
        (Quantity::Accuracy, "Reward accuracy", "share of pairs", "training pairs with a positive margin"),
        (Quantity::Margin, "Reward margin", "nats", "chosen less rejected, training pairs"),
    ] {
        let series: Vec<Series> = methods
            .iter()
            .enumerate()
            .map(|(colour, method)| Series {
                name: display(method),
                colour,
                points: curve(run, method, Curve::Whole(quantity)),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        if !series.is_empty() {
            let figure = LineFigure {
                title: title.into(),
                y_label: y_label.into(),
                series,
                rules: vec![],
                high: None,
            };
            charts.push(Chart::lines(format!("{id}-health{}", quantity as usize), about, &figure)?);
        }
    }
    Ok(Group {
        id: format!("{id}-health"),
        title: "Optimisation".into(),
        lead: "Of the generalists. Line: mean over seeds; band: lowest to highest single step.".into(),
        charts,
    })
}

/// The base model and the specialists.
fn stage_one(run: &Run, id: &str) -> Result<Group, ReportError> {
    let mut charts = Vec::new();
    let is_base = |stage: &&Stage| stage.kind == StageKind::Base;
    let base = run.stages.iter().find(is_base).and_then(|stage| stage.trace.as_ref());
    let tasks = run.tasks();
    let specialists: Vec<(usize, &String, &Trace)> = tasks
        .iter()
        .enumerate()
        .filter_map(|(index, task)| Some((index, task, run.specialist(task)?)))
        .collect();
    for (which, title, y_label) in [
        (Quantity::Loss, "Specialists: loss", "nats"),
        (Quantity::Accuracy, "Specialists: reward accuracy", "share of pairs"),
        (Quantity::GradNorm, "Specialists: gradient norm", "L2 norm"),
    ] {
        let series: Vec<Series> = specialists
            .iter()
            .map(|&(colour, task, trace)| Series {
                name: task.clone(),
                colour,
                points: Trace::curve(&[trace], Curve::Whole(which), POINTS),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        if !series.is_empty() {
            let figure = LineFigure {
                title: title.into(),
                y_label: y_label.into(),
                series,
                rules: vec![],
                high: None,
            };
            charts.push(Chart::lines(
                format!("{id}-stage1-{}", which as usize),
                "each on its own task",
                &figure,
            )?);
        }
    }
    if let Some(base) = base {
        let points = Trace::curve(&[base], Curve::Whole(Quantity::Loss), POINTS);
        if !points.is_empty() {
            let series = vec![Series { name: "base".into(), colour: 0, points }];
            let figure = LineFigure {
                title: "Base model: loss".into(),
                y_label: "nats per token".into(),
                series,
                rules: vec![],
                high: None,
            };
            charts.push(Chart::lines(format!("{id}-base"), "supervised fine-tuning", &figure)?);
        }
    }
    Ok(Group {
        id: format!("{id}-stage1"),
        title: "Base model and specialists".into(),
        lead: "What stage 2 starts from and is measured against. Bands: lowest to highest single step."
            .into(),
        charts,
    })
}
