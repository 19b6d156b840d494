//! Training steps: DPO on random Llamas against PyTorch and TRL, SFT and DPO of the suite's small model.

use anyhow::Result;
use serde_json::{Map, Value};

use super::lab::{Lab, Turn};
use super::peers::Unlocked;
use super::samples::{Run, Runs, WARM_UP};
use super::table::{Line, Target};

/// Losses that are compared with the peers'.
const COMPARED: usize = 8;

/// Different batches in a file: the second time round the losses show what was learnt.
const BATCHES: u64 = 4;

/// A DPO row.
pub(super) struct Dpo {
    work: &'static str,
    shape: &'static str,
    ragged: bool,
    pairs: u64,
    /// Small for the 135M model: with Adam's first, sign-like steps a random model that size is chaotic, and equal
    /// losses would say nothing.
    lr: &'static str,
    /// The peak's share of PyTorch's.
    memory: Target,
}

pub(super) const DPO_135M: Dpo = Dpo {
    work: "DPO step, 135M, length 256 (prompt 128), 2 pairs",
    shape: "135m",
    ragged: false,
    pairs: 2,
    lr: "1e-6",
    memory: Target::AtMost(0.55),
};

pub(super) const DPO_10M: Dpo = Dpo {
    work: "DPO step, 5.4M (`10m`), length 256 (prompt 128), 8 pairs",
    shape: "10m",
    ragged: false,
    pairs: 8,
    lr: "1e-4",
    memory: Target::None,
};

pub(super) const DPO_10M_RAGGED: Dpo =
    Dpo { work: "DPO step, 5.4M (`10m`), ragged lengths to 256, 8 pairs", ragged: true, ..DPO_10M };

/// Measures a DPO row: speed, peak and losses against each peer.
///
/// # Errors
/// A side failed.
pub(super) fn dpo(lab: &Lab, row: &Dpo) -> Result<(Vec<Line>, Value)> {
    let model = lab.inputs.model(&lab.peers, row.shape)?;
    let data = lab.inputs.pairs(&lab.peers, 256, row.pairs * BATCHES, row.ragged)?;
    let (steps, pairs) = ((WARM_UP as u64 + lab.plan.repeat).to_string(), row.pairs.to_string());
    let shared = ["--model", &model, "--data", &data, "--steps", &steps, "--lr", row.lr, "--beta", "0.1"];
    let peer = [&shared[..], &["--batch", &pairs]].concat();
    let ours = [&shared[..], &["--batch-pairs", &pairs, "--max-length", "8192"], &FIXED].concat();

    let trl = format!("TRL {}", lab.peers.about("/versions/trl"));
    let mut sides: Vec<(&str, Turn<'_, Run>)> = vec![
        ("ours", Box::new(|| lab.ours.train("specialist", &ours))),
        (EAGER, Box::new(|| Run::of_peer(&lab.peers.run(&[&["dpo"], &peer[..]].concat())?))),
    ];
    if let Unlocked::Library(library) = &lab.peers.unlocked {
        let run = || lab.peers.run_unlocked(library, &[&["dpo"], &peer[..]].concat());
        sides.push((UNLOCKED, Box::new(move || Run::of_peer(&run()?))));
    }
    if lab.plan.trl {
        sides.push((
            trl.as_str(),
            Box::new(|| Run::of_peer(&lab.peers.run(&[&["trl"], &peer[..]].concat())?)),
        ));
    }
    let runs: Vec<Runs> = lab.in_turn(&sides)?.into_iter().map(Runs).collect();
    let rate = |runs: &Runs| runs.tokens_per_s(BATCHES as usize);

    let mut lines = Vec::new();
    for ((name, _), theirs) in sides.iter().zip(&runs).skip(1) {
        let target = match *name {
            EAGER => Target::AtLeast(3.5),
            UNLOCKED => Target::AtLeast(2.0),
            _ => Target::AtLeast(4.0),
        };
        lines.push(Line::rate(row.work, rate(&runs[0]), (name, rate(theirs)), target));
        if let (EAGER, Unlocked::AsStock(_)) = (*name, &lab.peers.unlocked) {
            lines.push(Line::rate(row.work, rate(&runs[0]), (AS_EAGER, rate(theirs)), Target::AtLeast(2.0)));
        }
    }
    for ((name, _), theirs) in sides.iter().zip(&runs).skip(1).filter(|((name, _), _)| *name != UNLOCKED) {
        let target = if *name == EAGER { row.memory } else { Target::None };
        if let Some((ours, theirs)) = runs[0].peak_rss_mib().zip(theirs.peak_rss_mib()) {
            lines.push(Line::memory("- peak resident memory", ours, (name, theirs), target));
        }
        lines.push(losses(&runs[0], theirs, name));
    }
    Ok((lines, json(&sides, &runs)))
}

/// Our settings that match the peers' loops.
const FIXED: [&str; 6] = ["--order", "file", "--schedule", "constant", "--weight-decay", "0"];

const EAGER: &str = "PyTorch eager";
const UNLOCKED: &str = "PyTorch, AVX-512 unlocked";
/// Where there is nothing to unlock, one measurement has both targets.
const AS_EAGER: &str = "PyTorch, AVX-512 unlocked (the same here)";

/// Shows the largest difference of the first losses.
fn losses(ours: &Runs, theirs: &Runs, name: &str) -> Line {
    let work = format!("- largest difference of the first {} losses", ours.compared(COMPARED));
    Line::limit(&work, ours.loss_difference(theirs, COMPARED), name, Target::AtMost(1e-4), |x| {
        format!("{x:.0e}")
    })
}

fn json(sides: &[(&str, Turn<'_, Run>)], runs: &[Runs]) -> Value {
    let named = sides.iter().zip(runs).map(|((name, _), runs)| ((*name).to_owned(), runs.json()));
    Value::Object(named.collect::<Map<_, _>>())
}

/// A row of the suite's model.
pub(super) struct Suite {
    work: &'static str,
    /// Our command and the peer's task.
    command: &'static str,
    task: &'static str,
    batch_flag: &'static str,
    batch: u64,
    batches: u64,
    lr: &'static str,
    /// Settings that both sides know.
    shared: &'static [&'static str],
}

pub(super) const SUITE_SFT: Suite = Suite {
    work: "SFT step, suite's 362k model, 40 rows",
    command: "sft",
    task: "suite-sft",
    batch_flag: "--batch",
    batch: 40,
    batches: 8,
    lr: "1e-3",
    shared: &[],
};

pub(super) const SUITE_DPO: Suite = Suite {
    work: "DPO step, suite's 362k model, 48 pairs",
    command: "specialist",
    task: "suite-dpo",
    batch_flag: "--batch-pairs",
    batch: 48,
    batches: 4,
    lr: "3e-4",
    shared: &["--sft-weight", "3", "--beta", "0.1"],
};

/// Steps of the small model for one of another: they take milliseconds.
const SMALL_STEPS: u64 = 8;

/// Measures a row of the suite's model; the faster of one and all threads is PyTorch's number.
///
/// # Errors
/// A side failed.
pub(super) fn suite(lab: &Lab, row: &Suite) -> Result<(Vec<Line>, Value)> {
    let model = lab.inputs.suite_model(&lab.peers)?;
    let data = match row.command {
        "sft" => lab.inputs.suite_sft(&lab.peers, row.batch, row.batches)?,
        _ => lab.inputs.suite_dpo(&lab.peers, row.batch * row.batches)?,
    };
    let steps = (WARM_UP as u64 + SMALL_STEPS * lab.plan.repeat).to_string();
    let batch = row.batch.to_string();
    let shared = ["--model", &model, "--data", &data, "--steps", &steps, "--lr", row.lr];
    let shared = [&shared[..], row.shared].concat();
    let ours = [&shared[..], &[row.batch_flag, &batch, "--betas", "0.9", "0.98"], &FIXED].concat();
    let peer = |threads: &str| {
        lab.peers.run(&[&[row.task, "--threads", threads, "--batch", &batch], &shared[..]].concat())
    };
    let all = lab.plan.threads.to_string();
    let names = ["PyTorch, 1 thread".to_owned(), format!("PyTorch, {all} threads")];
    let mut sides: Vec<(&str, Turn<'_, Run>)> = vec![
        ("ours", Box::new(|| lab.ours.train(row.command, &ours))),
        (&names[0], Box::new(|| Run::of_peer(&peer("1")?))),
    ];
    if lab.plan.threads > 1 {
        sides.push((&names[1], Box::new(|| Run::of_peer(&peer(&all)?))));
    }
    let runs: Vec<Runs> = lab.in_turn(&sides)?.into_iter().map(Runs).collect();
    let cycle = row.batches as usize;
    let fastest = runs[1..].iter().map(|runs| runs.tokens_per_s(cycle)).fold(0.0, f64::max);
    let mut lines = Vec::new();
    for ((name, _), theirs) in sides.iter().zip(&runs).skip(1) {
        let rate = theirs.tokens_per_s(cycle);
        let target = if rate >= fastest { Target::AtLeast(4.0) } else { Target::None };
        lines.push(Line::rate(row.work, runs[0].tokens_per_s(cycle), (name, rate), target));
        lines.push(Line::time("- median of a step", runs[0].step_s(), (name, theirs.step_s()), Target::None));
    }
    lines.push(losses(&runs[0], &runs[1], sides[1].0));
    Ok((lines, json(&sides, &runs)))
}
