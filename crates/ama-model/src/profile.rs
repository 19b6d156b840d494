//! Where a step's time goes: thread-time, arithmetic and memory traffic of every op, when somebody asks.
//!
//! Off by default, and then an op pays one relaxed load. Counters are process-wide, since a step is spread over threads;
//! [`enable`] starts counting, [`take`] reads and clears.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// What time is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Gathering embeddings and the rows for the head.
    Gather,
    /// RMSNorm.
    Norm,
    /// Query, key and value projections.
    Qkv,
    /// Rotary embedding.
    Rope,
    /// Attention: scores, softmax, weighted sums.
    Attention,
    /// Attention's output projection onto the residual stream.
    Output,
    /// Gate and up projections.
    GateUp,
    /// SwiGLU.
    Swiglu,
    /// Down projection onto the residual stream.
    Down,
    /// LM head with log-softmax.
    Head,
    /// Adding up the gradients of several threads.
    Reduce,
    /// Gradient norm and clearing.
    GradNorm,
    /// AdamW.
    Optimiser,
}

impl Op {
    /// All ops, in the order of a step.
    pub const ALL: [Self; 13] = [
        Self::Gather,
        Self::Norm,
        Self::Qkv,
        Self::Rope,
        Self::Attention,
        Self::Output,
        Self::GateUp,
        Self::Swiglu,
        Self::Down,
        Self::Head,
        Self::Reduce,
        Self::GradNorm,
        Self::Optimiser,
    ];

    /// A name for a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gather => "gather",
            Self::Norm => "rmsnorm",
            Self::Qkv => "q, k, v",
            Self::Rope => "rope",
            Self::Attention => "attention",
            Self::Output => "output",
            Self::GateUp => "gate, up",
            Self::Swiglu => "swiglu",
            Self::Down => "down",
            Self::Head => "head",
            Self::Reduce => "add gradients",
            Self::GradNorm => "gradient norm",
            Self::Optimiser => "adamw",
        }
    }
}

/// Direction of the pass that an op runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Forward.
    Forward,
    /// Backward, with what it computes again.
    Backward,
}

/// What an op has to do at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Floating-point operations; a multiply-add is two.
    pub flops: u64,
    /// Bytes read and written, operands and results once each.
    pub bytes: u64,
}

impl Work {
    /// A product `[m, k] x [k, n]`, its operands read and its result written once.
    #[must_use]
    pub fn product(m: usize, n: usize, k: usize) -> Self {
        let (m, n, k) = (m as u64, n as u64, k as u64);
        Self { flops: 2 * m * n * k, bytes: 4 * (m * k + k * n + m * n) }
    }

    /// `floats` read or written, with `flops` each.
    #[must_use]
    pub fn elements(floats: usize, flops: u64) -> Self {
        Self { flops: flops * floats as u64, bytes: 4 * floats as u64 }
    }

    /// The work of doing this `times` times.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { flops: self.flops * times, bytes: self.bytes * times }
    }
}

impl std::ops::Add for Work {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

/// What was counted for one op and direction since the last [`take`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The op.
    pub op: Op,
    /// The direction.
    pub pass: Pass,
    /// Times it ran.
    pub calls: u64,
    /// Thread-seconds: wall time times the threads that were at its disposal.
    pub thread_s: f64,
    /// Work done.
    pub work: Work,
}

/// Calls, thread-nanoseconds, operations, bytes.
struct Counter([AtomicU64; 4]);

static ENABLED: AtomicBool = AtomicBool::new(false);
static COUNTERS: [[Counter; 2]; Op::ALL.len()] =
    [const { [const { Counter([const { AtomicU64::new(0) }; 4]) }; 2] }; Op::ALL.len()];

/// Starts counting, from zero.
pub fn enable() {
    take();
    ENABLED.store(true, Ordering::Relaxed);
}

/// Runs `f`, counted as `op` when counting is on.
pub fn timed<R>(op: Op, pass: Pass, work: Work, f: impl FnOnce() -> R) -> R {
    if !ENABLED.load(Ordering::Relaxed) {
        return f();
    }
    let started = Instant::now();
    let result = f();
    let ns = started.elapsed().as_nanos() as u64 * rayon::current_num_threads() as u64;
    let Counter(counter) = &COUNTERS[op as usize][pass as usize];
    for (cell, more) in counter.iter().zip([1, ns, work.flops, work.bytes]) {
        cell.fetch_add(more, Ordering::Relaxed);
    }
    result
}

/// What was counted, ops that never ran left out; the counters start again from zero.
pub fn take() -> Vec<Row> {
    let mut rows = Vec::new();
    for (op, counters) in Op::ALL.into_iter().zip(&COUNTERS) {
        for (pass, Counter(counter)) in [Pass::Forward, Pass::Backward].into_iter().zip(counters) {
            let [calls, ns, flops, bytes] = counter.each_ref().map(|cell| cell.swap(0, Ordering::Relaxed));
            if calls > 0 {
                rows.push(Row { op, pass, calls, thread_s: ns as f64 * 1e-9, work: Work { flops, bytes } });
            }
        }
    }
    rows
}

/// Rows as a table: a line an op and direction, milliseconds for each of `steps` steps on `threads` threads.
#[must_use]
pub fn table(rows: &[Row], steps: u64, threads: usize) -> String {
    use std::fmt::Write as _;
    let (steps, threads) = (steps.max(1) as f64, threads.max(1) as f64);
    let mut text = format!(
        "{:<15}{:<10}{:>9}{:>11}{:>11}{:>11}{:>11}\n",
        "op", "pass", "calls", "ms", "GFLOP", "GFLOP/s", "GB/s"
    );
    for row in rows {
        let seconds = row.thread_s / threads;
        let pass = if row.pass == Pass::Forward { "forward" } else { "backward" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<15}{:<10}{:>9.1}{:>11.3}{:>11.3}{:>11.1}{:>11.1}",
            row.op.name(),
            pass,
            row.calls as f64 / steps,
            1e3 * seconds / steps,
            row.work.flops as f64 * 1e-9 / steps,
            row.work.flops as f64 * 1e-9 / seconds,
            row.work.bytes as f64 * 1e-9 / seconds,
        );
    }
    let total: f64 = rows.iter().map(|row| row.thread_s).sum::<f64>() / threads;
    let flops: u64 = rows.iter().map(|row| row.work.flops).sum();
    let _ = writeln!(
        text,
        "{:<15}{:<10}{:>9}{:>11.3}{:>11.3}{:>11.1}",
        "all",
        "",
        "",
        1e3 * total / steps,
        flops as f64 * 1e-9 / steps,
        flops as f64 * 1e-9 / total,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_when_asked() {
        // Other tests of this process run ops too, so only lower bounds hold.
        assert_eq!(timed(Op::Reduce, Pass::Forward, Work::product(2, 3, 4), || 7), 7);
        enable();
        timed(Op::Reduce, Pass::Backward, Work::product(2, 3, 4), || ());
        timed(Op::Reduce, Pass::Backward, Work::elements(10, 2), || ());
        let rows = take();
        let row = rows.iter().find(|r| r.op == Op::Reduce && r.pass == Pass::Backward).unwrap();
        assert!(
            row.calls >= 2
                && row.work.flops >= 48 + 20
                && row.work.bytes >= 4 * 26 + 40
                && row.thread_s > 0.0
        );
    }
}
