//! Kernels alone: the log-probability head, and log-probabilities from given logits.

use anyhow::Result;
use serde_json::{Map, Value};

use super::lab::{Lab, Turn};
use super::samples::{median, numbers};
use super::table::{Line, Target, mib};

/// Sizes of both rows: SmolLM2-135M's head on 2048 tokens.
const ROWS: &str = "2048";
const HIDDEN: &str = "576";
const VOCAB: &str = "49152";

/// Measures the head: time, and memory beyond operands and gradients.
///
/// # Errors
/// A side failed.
pub(super) fn head(lab: &Lab) -> Result<(Vec<Line>, Value)> {
    let repeat = lab.plan.repeat.to_string();
    let args = ["head", "--rows", ROWS, "--hidden", HIDDEN, "--vocab", VOCAB, "--repeat", &repeat];
    let mut sides: Vec<(&str, Turn<'_, Value>)> = vec![
        ("ours", Box::new(|| lab.ours.kernels(&args))),
        ("PyTorch log_softmax", Box::new(|| lab.peers.run(&[&args[..], &["--method", "full"]].concat()))),
    ];
    if lab.plan.trl {
        sides.push(("TRL chunked", Box::new(|| lab.peers.run(&[&args[..], &["--method", "trl"]].concat()))));
    }
    let measured = lab.in_turn(&sides)?;
    let times = measured.iter().map(|calls| pooled(calls, "seconds")).collect::<Result<Vec<_>>>()?;
    let extra = |calls: &[Value]| calls.iter().filter_map(|said| said["extra_mib"].as_f64()).reduce(f64::max);
    let mut lines = Vec::new();
    for (i, (name, _)) in sides.iter().enumerate().skip(1) {
        let target = if i == 1 { Target::AtLeast(2.0) } else { Target::None };
        let work = format!("log-prob head [{ROWS}x{HIDDEN}]x[{VOCAB}x{HIDDEN}]^T, forward + backward");
        lines.push(Line::time(&work, times[0], (name, times[i]), target));
    }
    let theirs: Vec<String> = (1..sides.len())
        .map(|i| format!("{}: {}", sides[i].0, extra(&measured[i]).map_or("unknown".into(), mib)))
        .collect();
    let ours = extra(&measured[0]).unwrap_or(f64::NAN);
    let work = "- memory beyond operands and gradients";
    lines.push(Line::limit(work, ours, &theirs.join(", "), Target::AtMost(64.0), mib));
    Ok((lines, raw(&sides, measured)))
}

/// Measures log-probabilities from given logits: times, and the share of the bandwidth that a plain sum reaches.
///
/// # Errors
/// A side failed.
pub(super) fn logits(lab: &Lab) -> Result<(Vec<Line>, Value)> {
    let repeat = lab.plan.repeat.to_string();
    let args = ["logits", "--rows", ROWS, "--vocab", VOCAB, "--repeat", &repeat];
    let sides: Vec<(&str, Turn<'_, Value>)> = vec![
        ("ours", Box::new(|| lab.ours.kernels(&args))),
        ("PyTorch log_softmax + gather", Box::new(|| lab.peers.run(&args))),
    ];
    let measured = lab.in_turn(&sides)?;
    let peer = sides[1].0;
    let mut lines = Vec::new();
    for (key, what, target) in
        [("forward_s", "forward", 8.0), ("forward_backward_s", "forward + backward", 4.0)]
    {
        let work = format!("log-probs from logits [{ROWS}x{VOCAB}], {what}");
        let (ours, theirs) = (pooled(&measured[0], key)?, pooled(&measured[1], key)?);
        lines.push(Line::time(&work, ours, (peer, theirs), Target::AtLeast(target)));
    }
    let (forward, read) = (pooled(&measured[0], "forward_s")?, pooled(&measured[0], "read_s")?);
    let bytes = measured[0].first().and_then(|said| said["bytes"].as_f64()).unwrap_or(f64::NAN);
    let limit = format!("a sum of the same buffer, same threads: {:.1} GB/s", bytes / read / 1e9);
    let show = |share: f64| format!("{:.0}%", 100.0 * share);
    let work = "- share of the measured read bandwidth, forward";
    lines.push(Line::limit(work, read / forward, &limit, Target::AtLeast(0.7), show));
    Ok((lines, raw(&sides, measured)))
}

/// Median of all repetitions of all calls.
fn pooled(calls: &[Value], key: &str) -> Result<f64> {
    let lists = calls.iter().map(|said| numbers(said, key)).collect::<Result<Vec<_>>>()?;
    Ok(median(lists.into_iter().flatten()))
}

fn raw(sides: &[(&str, Turn<'_, Value>)], measured: Vec<Vec<Value>>) -> Value {
    let named =
        sides.iter().zip(measured).map(|((name, _), calls)| ((*name).to_owned(), Value::Array(calls)));
    Value::Object(named.collect::<Map<_, _>>())
}
