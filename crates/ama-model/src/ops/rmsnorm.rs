//! RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4), as Llama has it.
//!
//! `s = 1 / sqrt(mean_j x_j^2 + eps)`, `y_j = w_j x_j s`. Backward, with `c = mean_j gy_j w_j x_j`:
//! `gx_j += s (gy_j w_j - x_j s^2 c)` and `gw_j += sum over rows of gy_j x_j s`. The statistics of a row are summed
//! in f32 over 32 lanes and a tree, which errs less than a plain f32 sum.

use dfdx::prelude::*;
use rayon::prelude::*;

use super::rows_per_task;
use super::tape::{Act, Flat, add_to, record};
use crate::ModelError;
use crate::access::values;
use crate::profile::{Op, Pass, Work, timed};
use crate::simd::{LANES, add_lanes, dot, fma, kernel};

kernel! {
    fn forward_rows(x: &'a [f32], w: &'a [f32], eps: f32, out: &'a mut [f32], scale: &'a mut [f32]) -> () {
        let d = w.len();
        for ((x, y), scale) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)).zip(scale) {
            let s = 1.0 / (dot::<S>(x, x) / d as f32 + eps).sqrt();
            *scale = s;
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = *x * s * *w;
            }
        }
    }
}

kernel! {
    fn apply_rows(x: &'a [f32], w: &'a [f32], scale: &'a [f32], out: &'a mut [f32]) -> () {
        let d = w.len();
        for ((x, y), &s) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)).zip(scale) {
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = *x * s * *w;
            }
        }
    }
}

kernel! {
    fn backward_rows(x: &'a [f32], w: &'a [f32], scale: &'a [f32], gy: &'a [f32], gx: &'a mut [f32], add: bool,
                     gw: &'a mut [f32]) -> () {
        let d = w.len();
        let rows = x.chunks_exact(d).zip(gy.chunks_exact(d)).zip(gx.chunks_exact_mut(d)).zip(scale);
        for (((x, gy), gx), &s) in rows {
            let mut lanes = [0.0; LANES];
            let whole = d - d % LANES;
            for at in (0..whole).step_by(LANES) {
                let (x, w, gy) = (&x[at..at + LANES], &w[at..at + LANES], &gy[at..at + LANES]);
                for i in 0..LANES {
                    lanes[i] = fma::<S>(gy[i] * w[i], x[i], lanes[i]);
                }
            }
            let mut tail = 0.0;
            for i in whole..d {
                tail = fma::<S>(gy[i] * w[i], x[i], tail);
            }
            let c = add_lanes(lanes, tail) / d as f32 * s * s;
            for ((((gx, gw), gy), x), w) in gx.iter_mut().zip(gw.iter_mut()).zip(gy).zip(x).zip(w) {
                *gw = fma::<S>(*gy * *x, s, *gw);
                let more = *gy * *w - *x * c;
                *gx = if add { fma::<S>(s, more, *gx) } else { s * more };
            }
        }
    }
}

/// Normalises every row: `x` and `out` `[n, d]`, `w` `[d]`, `scale` `[n]` receives `s` for the backward pass.
///
/// # Panics
/// If a length does not fit.
pub fn rmsnorm_forward(x: &[f32], w: &[f32], eps: f32, out: &mut [f32], scale: &mut [f32]) {
    let d = w.len();
    assert!(x.len() == out.len() && x.len() == scale.len() * d, "x, out [n, d]; scale [n]; w [d]");
    let rows = rows_per_task(d);
    if scale.len() <= rows {
        return forward_rows(x, w, eps, out, scale);
    }
    let tasks = x.par_chunks(rows * d).zip(out.par_chunks_mut(rows * d)).zip(scale.par_chunks_mut(rows));
    tasks.for_each(|((x, out), scale)| forward_rows(x, w, eps, out, scale));
}

/// As [`rmsnorm_forward`] with the scales of a forward pass.
///
/// # Panics
/// If a length does not fit.
pub fn rmsnorm_apply(x: &[f32], w: &[f32], scale: &[f32], out: &mut [f32]) {
    let d = w.len();
    assert!(x.len() == out.len() && x.len() == scale.len() * d, "x, out [n, d]; scale [n]; w [d]");
    let rows = rows_per_task(d);
    if scale.len() <= rows {
        return apply_rows(x, w, scale, out);
    }
    let tasks = x.par_chunks(rows * d).zip(out.par_chunks_mut(rows * d)).zip(scale.par_chunks(rows));
    tasks.for_each(|((x, out), scale)| apply_rows(x, w, scale, out));
}

/// The gradient with respect to `x`, written to `gx` `[n, d]` (or added, with `add`); the one with respect to `w` is added
/// to `gw` `[d]`.
///
/// # Panics
/// If a length does not fit.
pub fn rmsnorm_backward(
    x: &[f32],
    w: &[f32],
    scale: &[f32],
    gy: &[f32],
    gx: &mut [f32],
    add: bool,
    gw: &mut [f32],
) {
    let d = w.len();
    assert!(
        x.len() == gy.len() && x.len() == gx.len() && x.len() == scale.len() * d,
        "x, gy, gx [n, d]; scale [n]"
    );
    assert_eq!(gw.len(), d, "gw [d]");
    let rows = rows_per_task(d);
    if scale.len() <= rows {
        return backward_rows(x, w, scale, gy, gx, add, gw);
    }
    let inputs = x.par_chunks(rows * d).zip(gy.par_chunks(rows * d)).zip(scale.par_chunks(rows));
    let partial: Vec<Vec<f32>> = inputs
        .zip(gx.par_chunks_mut(rows * d))
        .map(|(((x, gy), scale), gx)| {
            let mut gw = vec![0.0; d];
            backward_rows(x, w, scale, gy, gx, add, &mut gw);
            gw
        })
        .collect();
    for part in partial {
        for (sum, g) in gw.iter_mut().zip(part) {
            *sum += g;
        }
    }
}

/// Tape op: `x` `[n, d]`, `w` `[d]`; `x` must have no other consumer.
pub(crate) fn rmsnorm<T: Tape<f32, Cpu>>(
    tape: &mut T,
    x: Act,
    w: &Flat,
    eps: f32,
) -> Result<Act, ModelError> {
    let (n, home) = (x.values().len() / values(w).len(), x.workspace());
    let (mut out, mut scale) = (home.buffer(x.values().len()), home.buffer(n));
    timed(Op::Norm, Pass::Forward, Work::elements(2 * out.len(), 3), || {
        rmsnorm_forward(x.values(), values(w), eps, &mut out, &mut scale);
    });
    let out = x.beside(out)?;
    let (name, w) = (out.name(), w.clone());
    record(tape, move |grads| {
        let (gy, mut gx) = (name.take(grads)?, x.name().take_to_write(grads)?);
        add_to(grads, &w, |_, gw| {
            timed(Op::Norm, Pass::Backward, Work::elements(4 * gy.len(), 6), || {
                rmsnorm_backward(x.values(), values(&w), &scale, &gy, &mut gx.values, gx.add, gw);
            });
        })?;
        x.name().put(grads, gx.values)
    });
    Ok(out)
}
