//! Linear layers without bias: `y = x W^T`, `W` `[out, in]` as in Hugging Face files.
//!
//! Backward: `gx = gy W`, `gW += gy^T x`. Projections of one input (q, k, v; gate, up) are one op, so that the
//! input's gradient is written once; an output projection adds the residual in the same product.

use dfdx::prelude::*;

use super::gemm::Factor::{Plain, Transposed};
use super::gemm::gemm;
use super::tape::{Flat, put, record, take, tensor};
use crate::ModelError;
use crate::access::values;

/// `out (+)= x W^T`: `x` `[n, d]`, `w` `[outputs, d]`, `out` `[n, outputs]`; with `add` on top of what is there.
///
/// # Panics
/// If the lengths do not fit.
pub fn linear_forward(x: &[f32], w: &[f32], d: usize, out: &mut [f32], add: bool) {
    let (n, outputs) = (x.len() / d, w.len() / d);
    gemm(out, (n, outputs, d), Plain(x), Transposed(w), add);
}

/// `gx (+)= gy W` (adding if `add`) and `gw += gy^T x`.
///
/// # Panics
/// If the lengths do not fit.
pub fn linear_backward(
    x: &[f32],
    w: &[f32],
    d: usize,
    gy: &[f32],
    gx: &mut [f32],
    add: bool,
    gw: &mut [f32],
) {
    let (n, outputs) = (x.len() / d, w.len() / d);
    gemm(gx, (n, d, outputs), Plain(gy), Plain(w), add);
    gemm(gw, (outputs, d, n), Transposed(gy), Plain(x), true);
}

/// Tape op: several projections of one input `x` `[n, d]`, which must have no other consumer.
pub(crate) fn project<T: Tape<f32, Cpu>, const N: usize>(
    tape: &mut T,
    x: Flat,
    d: usize,
    weights: [&Flat; N],
) -> Result<[Flat; N], ModelError> {
    let n = values(&x).len() / d;
    let mut outs = Vec::with_capacity(N);
    for w in weights {
        let ws = values(w);
        let mut out = vec![0.0; n * (ws.len() / d)];
        linear_forward(values(&x), ws, d, &mut out, false);
        outs.push(tensor(&x, out)?);
    }
    let outs: [Flat; N] = outs.try_into().expect("one output was pushed per weight");
    let ghosts = outs.each_ref().map(Tensor::ghost);
    let weights = weights.map(Clone::clone);
    record(tape, move |grads| {
        let mut gx = take!(grads, &x);
        for (i, (ghost, w)) in ghosts.iter().zip(&weights).enumerate() {
            let gy = take!(grads, ghost);
            let mut gw = take!(grads, w);
            linear_backward(values(&x), values(w), d, &gy, &mut gx, i > 0, &mut gw);
            put!(grads, w, gw);
        }
        put!(grads, &x, gx);
        Ok(())
    });
    Ok(outs)
}

/// Tape op: `residual + x W^T`; `x` must have no other consumer. The residual's gradient is the output's, moved.
///
/// The residual's other consumers must be *earlier* on the tape than this op (so that their backward comes later and
/// adds to what is moved in here).
pub(crate) fn project_onto<T: Tape<f32, Cpu>>(
    tape: &mut T,
    x: Flat,
    d: usize,
    w: &Flat,
    residual: &Flat,
) -> Result<Flat, ModelError> {
    let mut out = values(residual).to_vec();
    linear_forward(values(&x), values(w), d, &mut out, true);
    let out = tensor(&x, out)?;
    let (ghost, w, residual) = (out.ghost(), w.clone(), residual.ghost());
    record(tape, move |grads| {
        let gy = take!(grads, &ghost);
        let (mut gx, mut gw) = (take!(grads, &x), take!(grads, &w));
        linear_backward(values(&x), values(&w), d, &gy, &mut gx, false, &mut gw);
        put!(grads, &x, gx);
        put!(grads, &w, gw);
        put!(grads, &residual, gy);
        Ok(())
    });
    Ok(out)
}
