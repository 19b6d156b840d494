//! Our side of the kernel rows of `cargo xtask bench`: one measurement a call, one line of JSON.
//!
//! Its twin is `benches/peers/logp.py`: same sizes, same names in the JSON.

use std::fs;
use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use ama_loss::{HeadShape, LinearLogp, LogitsShape, Recompute, logits_logp_backward, logits_logp_forward};
use anyhow::{Context as _, Result};
use benches::numbers::uniform;
use clap::{Parser, ValueEnum};
use rayon::prelude::*;
use serde_json::{Value, json};

/// Most bytes of logits that the head may hold.
const BUDGET_BYTES: usize = 32 << 20;

const MIB: f64 = (1u64 << 20) as f64;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kernel {
    /// Log-probabilities of targets from hidden states, forward and backward
    Head,
    /// Log-probabilities of targets from given logits: forward, with backward, and reading alone
    Logits,
}

#[derive(Debug, Parser)]
#[command(about = "Times one kernel and prints one line of JSON", version)]
struct Options {
    #[arg(value_enum)]
    kernel: Kernel,
    /// Tokens
    #[arg(long, default_value_t = 2048)]
    rows: usize,
    /// Width of a hidden state
    #[arg(long, default_value_t = 576)]
    hidden: usize,
    /// Tokens in the vocabulary
    #[arg(long, default_value_t = 49152)]
    vocab: usize,
    /// Timed repetitions, after three that are not timed
    #[arg(long, default_value_t = 5)]
    repeat: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let said = match options.kernel {
        Kernel::Head => head(&options)?,
        Kernel::Logits => logits(&options)?,
    };
    writeln!(std::io::stdout(), "{said}").context("cannot write to stdout")
}

/// Forward and backward, and the memory beyond operands and gradients.
fn head(options: &Options) -> Result<Value> {
    let Operands { hidden, weight, targets, upstream } = Operands::new(8, 16, 32);
    let shape = HeadShape { rows: 8, hidden: 16, vocab: 32 };
    let tiny = LinearLogp { hidden: &hidden, weight: &weight, targets: &targets, shape, budget_bytes: 1024 };
    head_step(&tiny, &upstream, &mut vec![0.0; hidden.len()], &mut vec![0.0; weight.len()])?; // starts the threads

    let Options { rows, hidden: width, vocab, .. } = *options;
    let Operands { hidden, weight, targets, upstream } = Operands::new(rows, width, vocab);
    let shape = HeadShape { rows, hidden: width, vocab };
    let head =
        LinearLogp { hidden: &hidden, weight: &weight, targets: &targets, shape, budget_bytes: BUDGET_BYTES };
    // Written, not zeroed: zero pages are not resident until somebody writes them.
    let (mut d_hidden, mut d_weight) = (vec![1.0; hidden.len()], vec![1.0; weight.len()]);
    // Linux begins the peak anew; elsewhere `extra_mib` is null.
    let reset = fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = resident_mib("VmRSS:");
    let seconds = time(options.repeat, || head_step(&head, &upstream, &mut d_hidden, &mut d_weight))?;
    let extra = resident_mib("VmHWM:").zip(before).filter(|_| reset).map(|(peak, before)| peak - before);
    Ok(json!({ "seconds": seconds, "extra_mib": extra }))
}

fn head_step(
    head: &LinearLogp<'_>,
    upstream: &[f32],
    d_hidden: &mut [f32],
    d_weight: &mut [f32],
) -> Result<()> {
    let (forward, kept) = black_box(head).forward(Recompute::OverBudget)?;
    head.backward(&forward.lse, kept, upstream, d_hidden, Some(d_weight))?;
    black_box(d_weight);
    Ok(())
}

fn logits(options: &Options) -> Result<Value> {
    let Options { rows, vocab, .. } = *options;
    let logits = uniform(1, rows * vocab, 4.0);
    let Operands { targets, upstream, .. } = Operands::new(rows, 1, vocab);
    let shape = LogitsShape::contiguous(rows, vocab);
    let mut gradient = vec![1.0; logits.len()];
    let forward_s = time(options.repeat, || {
        black_box(logits_logp_forward(black_box(&logits), &targets, shape)?);
        Ok(())
    })?;
    let read_s = time(options.repeat, || {
        black_box(black_box(&logits).par_chunks(vocab).map(sum).sum::<f32>());
        Ok(())
    })?;
    let forward_backward_s = time(options.repeat, || {
        let forward = logits_logp_forward(black_box(&logits), &targets, shape)?;
        logits_logp_backward(&logits, &targets, &forward.lse, &upstream, shape, &mut gradient)?;
        black_box(&mut gradient);
        Ok(())
    })?;
    Ok(json!({
        "forward_s": forward_s, "forward_backward_s": forward_backward_s, "read_s": read_s,
        "bytes": size_of_val(logits.as_slice()),
    }))
}

/// A sum in 64 independent lanes: the compiler vectorises it and memory is all that limits it.
fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 64];
    for block in x.chunks_exact(64) {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += x;
        }
    }
    lanes.iter().sum()
}

struct Operands {
    hidden: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<u32>,
    upstream: Vec<f32>,
}

impl Operands {
    fn new(rows: usize, hidden: usize, vocab: usize) -> Self {
        Self {
            hidden: uniform(1, rows * hidden, 1.0),
            weight: uniform(2, vocab * hidden, 0.02),
            targets: (0..rows).map(|i| (i * 7919 % vocab) as u32).collect(),
            upstream: vec![1.0 / rows as f32; rows],
        }
    }
}

/// Calls that nobody times: they touch fresh memory.
const WARM_UP: usize = 3;

/// Wall-clock seconds of `repeat` calls, after [`WARM_UP`].
fn time(repeat: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    (0..WARM_UP).try_for_each(|_| work())?;
    (0..repeat)
        .map(|_| {
            let start = Instant::now();
            work()?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect()
}

/// A line of `/proc/self/status` in MiB, where there is one.
fn resident_mib(field: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0 / MIB)
}
