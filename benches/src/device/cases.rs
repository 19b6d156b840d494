//! The list of what is measured.

use ama_loss::cuda::{
    CublasLt, Excess, Gemm, GradientOf, IGNORED, LinearLogp, Logit, LogpOut, Matrix, MatrixMut, Operand,
    PairArrays, Segments,
};
use ama_loss::{HeadShape, LogitsShape, PreferenceKind, PreferenceLoss};
use cudarc::driver::{CudaSlice, DeviceRepr, DriverError};
use half::bf16;

use super::gpu::{Error, Gpu};
use crate::numbers::uniform;

/// What a case cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Bytes read plus bytes written, each array once.
    Bytes(u64),
    /// Floating-point operations, a multiply-add counted as two.
    Flops(u64),
}

/// One thing that is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What is done, such as `head_forward`.
    pub name: &'static str,
    /// Type of the operands: `f32`, `bf16`, `f64`.
    pub dtype: &'static str,
    /// Sizes, such as `4096x131072`.
    pub shape: String,
    /// The least that has to be moved or computed.
    pub work: Work,
}

/// Puts a case's work on the stream once, without waiting for it.
pub type Enqueue<'a> = &'a mut dyn FnMut() -> Result<(), Error>;

/// What [`each`] calls for every case.
type Visit<'a> = &'a mut dyn FnMut(&Case, Enqueue<'_>) -> Result<(), Error>;

/// How large the cases are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Elements of an f32 array that is copied.
    copy: usize,
    /// Edge of the square matrices that are multiplied.
    gemm: usize,
    /// `(rows, vocab)` of given logits.
    logits: Vec<(usize, usize)>,
    /// `(rows, hidden, vocab)` of the log-probability head.
    heads: Vec<(usize, usize, usize)>,
    /// `(sequences, tokens of each)` of the sums.
    sums: (usize, usize),
    /// Pairs of the preference losses.
    pairs: usize,
    /// Bytes that are written before every measurement: more than a cache holds, and longer under way than the host needs
    /// to put a case on the stream.
    pub filler: usize,
}

impl Sizes {
    /// Those of models and batches that people train: the heads of a 1B and of a 135M model.
    pub fn full() -> Self {
        Self {
            copy: 1 << 28,
            gemm: 8192,
            logits: vec![(4096, 32 << 10), (4096, 128 << 10)],
            heads: vec![(8192, 2048, 128_256), (2048, 576, 49_152)],
            sums: (256, 1024),
            pairs: 4096,
            filler: 1 << 30,
        }
    }

    /// Small enough for an interpreter of kernels, with an odd vocabulary among them.
    pub fn small() -> Self {
        Self {
            copy: 1 << 10,
            gemm: 32,
            logits: vec![(3, 1025)],
            heads: vec![(8, 16, 264)],
            sums: (3, 40),
            pairs: 5,
            filler: 1 << 10,
        }
    }
}

/// Bytes of logits that the head may hold: some hundred rows of the largest vocabulary.
const BUDGET_BYTES: usize = 512 << 20;

/// Visits every case in turn; what a case needs on the device is freed before the next. Cases that cannot be set up do not
/// keep the others from being visited.
///
/// # Errors
/// What could not be set up, or `visit` refused.
pub fn each(gpu: &Gpu, sizes: &Sizes, visit: Visit<'_>) -> Result<(), Error> {
    let mut failed = Vec::new();
    let mut note = |what: &str, outcome: Result<(), Error>| {
        if let Err(error) = outcome {
            failed.push(format!("{what}: {error}"));
        }
    };
    note("copy", copy(gpu, sizes.copy, visit));
    // Our own kernels before those of cuBLASLt.
    for &(rows, vocab) in &sizes.logits {
        note("logits f32", logits::<f32>(gpu, "f32", rows, vocab, |x| x, visit));
        note("logits bf16", logits::<bf16>(gpu, "bf16", rows, vocab, bf16::from_f32, visit));
    }
    note("sums", sums(gpu, sizes.sums, visit));
    note("preference", preference(gpu, sizes.pairs, visit));
    note("gemm f32", gemm::<f32>(gpu, "f32", sizes.gemm, |x| x, visit));
    note("gemm bf16", gemm::<bf16>(gpu, "bf16", sizes.gemm, bf16::from_f32, visit));
    for &(rows, hidden, vocab) in &sizes.heads {
        let shape = HeadShape { rows, hidden, vocab };
        note("head f32", head::<f32>(gpu, "f32", shape, |x| x, visit));
        note("head bf16", head::<bf16>(gpu, "bf16", shape, bf16::from_f32, visit));
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

/// Ceiling of what is limited by memory.
fn copy(gpu: &Gpu, n: usize, visit: Visit<'_>) -> Result<(), Error> {
    let (from, mut to) = (gpu.up(&uniform(1, n, 1.0))?, gpu.zeros::<f32>(n)?);
    let case =
        Case { name: "copy", dtype: "f32", shape: n.to_string(), work: Work::Bytes(bytes::<f32>(2 * n)) };
    visit(&case, &mut || Ok(gpu.stream.memcpy_dtod(&from, &mut to)?))
}

/// Ceiling of what is limited by arithmetic.
fn gemm<T: Operand + DeviceRepr>(
    gpu: &Gpu,
    dtype: &'static str,
    n: usize,
    of: fn(f32) -> T,
    visit: Visit<'_>,
) -> Result<(), Error>
where
    CublasLt: Gemm<T>,
{
    let numbers = |seed| gpu.up(&uniform(seed, n * n, 1.0).into_iter().map(of).collect::<Vec<_>>());
    let (a, b, mut c) = (numbers(1)?, numbers(2)?, gpu.zeros::<f32>(n * n)?);
    let work = Work::Flops(2 * (n as u64).pow(3));
    let case = Case { name: "gemm", dtype, shape: format!("{n}x{n}x{n}"), work };
    visit(&case, &mut || {
        let mut dst = MatrixMut { data: c.as_view_mut(), rows: n, cols: n, stride: n };
        let (lhs, rhs) = (Matrix::row_major(a.as_view(), n, n), Matrix::row_major(b.as_view(), n, n));
        Ok(gpu.gemm.multiply(&mut dst, false, &lhs, &rhs.t())?)
    })
}

/// The log-probability head. The products that the mathematics needs are counted, 2 and 6 operations per element of the
/// logits and of `hidden`; the backward pass spends 2 more, to compute the logits again instead of keeping them.
fn head<T: Operand + DeviceRepr>(
    gpu: &Gpu,
    dtype: &'static str,
    shape: HeadShape,
    of: fn(f32) -> T,
    visit: Visit<'_>,
) -> Result<(), Error>
where
    CublasLt: Gemm<T>,
{
    let HeadShape { rows, hidden, vocab } = shape;
    let numbers = |seed, n| gpu.up(&uniform(seed, n, 0.1).into_iter().map(of).collect::<Vec<_>>());
    let (h, w) = (numbers(1, rows * hidden)?, numbers(2, vocab * hidden)?);
    let (targets, upstream) = (gpu.up(&targets(rows, vocab))?, gpu.up(&uniform(3, rows, 1.0))?);
    let (mut d_h, mut d_w) = (gpu.zeros::<f32>(rows * hidden)?, gpu.zeros::<f32>(vocab * hidden)?);
    let head = LinearLogp {
        hidden: h.as_view(),
        weight: w.as_view(),
        targets: targets.as_view(),
        shape,
        ignored: IGNORED,
        budget_bytes: BUDGET_BYTES,
    };
    let case = |name, flops: usize| Case {
        name,
        dtype,
        shape: format!("{rows}x{hidden}x{vocab}"),
        work: Work::Flops(flops as u64 * (rows * hidden * vocab) as u64),
    };
    visit(&case("head_forward", 2), &mut || {
        head.forward(&gpu.kernels, &gpu.gemm)?;
        Ok(())
    })?;
    visit(&case("head_forward_backward", 6), &mut || {
        let forward = head.forward(&gpu.kernels, &gpu.gemm)?;
        let (lse, up) = (forward.lse.as_view(), upstream.as_view());
        let (d_h, d_w) = (&mut d_h.as_view_mut(), &mut d_w.as_view_mut());
        Ok(head.backward(&gpu.kernels, &gpu.gemm, &lse, &up, d_h, Some(d_w))?)
    })
}

/// Log-probabilities from given logits: read forward, read and written backward.
fn logits<T: Logit + GradientOf<T> + Copy>(
    gpu: &Gpu,
    dtype: &'static str,
    rows: usize,
    vocab: usize,
    of: fn(f32) -> T,
    visit: Visit<'_>,
) -> Result<(), Error> {
    let shape = LogitsShape::contiguous(rows, vocab);
    let row: Vec<T> = uniform(1, vocab, 8.0).into_iter().map(of).collect();
    let mut logits = gpu.up(&row.repeat(rows))?;
    let (targets, upstream) = (gpu.up(&targets(rows, vocab))?, gpu.up(&uniform(2, rows, 1.0))?);
    let (mut logp, mut entropy) = (gpu.zeros::<f32>(rows)?, gpu.zeros::<f32>(rows)?);
    let mut lse = gpu.zeros::<f32>(2 * rows)?;
    let once = bytes::<T>(rows * vocab);
    let case = |name, bytes| Case { name, dtype, shape: format!("{rows}x{vocab}"), work: Work::Bytes(bytes) };
    for (name, with_entropy) in [("logits_forward", false), ("logits_entropy_forward", true)] {
        visit(&case(name, once), &mut || {
            let mut out = LogpOut {
                logp: logp.as_view_mut(),
                lse: lse.as_view_mut(),
                entropy: with_entropy.then(|| entropy.as_view_mut()),
            };
            let (x, t) = (logits.as_view(), targets.as_view());
            Ok(gpu.kernels.logp_forward(&gpu.stream, &x, &t, shape, IGNORED, &mut out)?)
        })?;
    }
    visit(&case("logits_backward_in_place", 2 * once), &mut || {
        let (t, l, u) = (targets.as_view(), lse.as_view(), upstream.as_view());
        let x = &mut logits.as_view_mut();
        Ok(gpu.kernels.logp_backward_in_place(&gpu.stream, x, &t, &l, &u, shape, IGNORED)?)
    })
}

/// Sums over sequences and the way back.
fn sums(gpu: &Gpu, (sequences, length): (usize, usize), visit: Visit<'_>) -> Result<(), Error> {
    let rows = sequences * length;
    let offsets: Vec<u32> = (0..=sequences).map(|s| (s * length) as u32).collect();
    let segments = Segments::new(&gpu.kernels, &gpu.stream, &offsets, rows)?;
    let (mut values, mut sums) = (gpu.up(&uniform(1, rows, 5.0))?, gpu.zeros::<f64>(sequences)?);
    let work = Work::Bytes(bytes::<f32>(rows) + bytes::<f64>(sequences));
    let case = |name| Case { name, dtype: "f32", shape: format!("{sequences}x{length}"), work };
    visit(&case("segment_sum"), &mut || {
        let sums = &mut sums.as_view_mut();
        Ok(gpu.kernels.segment_sum(&gpu.stream, &values.as_view(), &segments, sums)?)
    })?;
    visit(&case("segment_spread"), &mut || {
        let values = &mut values.as_view_mut();
        Ok(gpu.kernels.segment_spread(&gpu.stream, &sums.as_view(), &segments, values)?)
    })
}

/// Preference losses with their gradients, excess and clipping.
fn preference(gpu: &Gpu, pairs: usize, visit: Visit<'_>) -> Result<(), Error> {
    let loss = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.1 }, 0.1, 0.5)?;
    let array = |seed| -> Result<CudaSlice<f64>, DriverError> {
        gpu.up(&uniform(seed, pairs, 40.0).into_iter().map(f64::from).collect::<Vec<_>>())
    };
    let (chosen, rejected, ref_chosen, ref_rejected, cached) =
        (array(1)?, array(2)?, array(3)?, array(4)?, array(5)?);
    let tokens = gpu.up(&vec![100u32; pairs])?;
    let arrays = PairArrays {
        chosen: chosen.as_view(),
        rejected: rejected.as_view(),
        ref_chosen: ref_chosen.as_view(),
        ref_rejected: ref_rejected.as_view(),
        chosen_tokens: tokens.as_view(),
        rejected_tokens: tokens.as_view(),
        weight: None,
    };
    let excess = Excess::Clipped { cached: cached.as_view(), clip_gradient: true };
    // Five arrays of f64 and two of u32 in, seven of f64 out.
    let work = Work::Bytes(bytes::<f64>(12 * pairs) + bytes::<u32>(2 * pairs));
    visit(&Case { name: "preference", dtype: "f64", shape: pairs.to_string(), work }, &mut || {
        gpu.kernels.preference(&gpu.stream, &loss, &arrays, &excess)?;
        Ok(())
    })
}

fn targets(rows: usize, vocab: usize) -> Vec<u32> {
    (0..rows).map(|i| (i * 7919 % vocab) as u32).collect()
}

fn bytes<T>(elements: usize) -> u64 {
    (elements * size_of::<T>()) as u64
}
