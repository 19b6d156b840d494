//! The head: linear layer, log-softmax and gather of the target, never holding all logits.

use std::sync::Arc;

use dfdx::prelude::*;
use rayon::prelude::*;

use super::gemm::Factor::{Plain, Transposed};
use super::gemm::gemm;
use super::tape::{Flat, put, record, take, tensor};
use crate::ModelError;
use crate::access::values;
use crate::simd::{exp, kernel, max};

kernel! {
    fn log_sum_exp(row: &'a [f32]) -> f32 {
        let most = max(row);
        let mut sum = 0.0;
        for v in row {
            sum += exp::<S>(*v - most);
        }
        most + sum.ln()
    }
}

/// Tape op: `logp_i = log softmax(x_i W^T)[target_i]`; `x` `[rows, d]` must have no other consumer.
pub(crate) fn head<T: Tape<f32, Cpu>>(
    tape: &mut T,
    x: Flat,
    d: usize,
    w: &Flat,
    targets: Arc<[u32]>,
    bytes: usize,
) -> Result<Flat, ModelError> {
    let vocab = values(w).len() / d;
    let rows = (bytes / (4 * vocab)).max(1);
    let mut out = vec![0.0; targets.len()];
    let mut lse = vec![0.0; targets.len()];
    let mut logits = Vec::new();
    for (((x, t), out), lse) in values(&x)
        .chunks(rows * d)
        .zip(targets.chunks(rows))
        .zip(out.chunks_mut(rows))
        .zip(lse.chunks_mut(rows))
    {
        logits.resize(t.len() * vocab, 0.0);
        gemm(&mut logits, (t.len(), vocab, d), Plain(x), Transposed(values(w)), false);
        logits.par_chunks(vocab).zip(t).zip(out).zip(lse).for_each(|(((row, t), out), lse)| {
            *lse = log_sum_exp(row);
            *out = row[*t as usize] - *lse;
        });
    }
    let out = tensor(&x, out)?;
    let (ghost, w) = (out.ghost(), w.clone());
    record(tape, move |grads| {
        let gy = take!(grads, &ghost);
        let (mut gx, mut gw) = (take!(grads, &x), take!(grads, &w));
        let mut logits = Vec::new();
        for ((((x, t), gy), lse), gx) in values(&x)
            .chunks(rows * d)
            .zip(targets.chunks(rows))
            .zip(gy.chunks(rows))
            .zip(lse.chunks(rows))
            .zip(gx.chunks_mut(rows * d))
        {
            logits.resize(t.len() * vocab, 0.0);
            gemm(&mut logits, (t.len(), vocab, d), Plain(x), Transposed(values(&w)), false);
            logits.par_chunks_mut(vocab).zip(t).zip(gy).zip(lse).for_each(|(((row, t), gy), lse)| {
                for v in row.iter_mut() {
                    *v = -*gy * (*v - *lse).exp();
                }
                row[*t as usize] += *gy;
            });
            gemm(gx, (t.len(), d, vocab), Plain(&logits), Plain(values(&w)), false);
            gemm(&mut gw, (vocab, d, t.len()), Transposed(&logits), Plain(x), true);
        }
        put!(grads, &x, gx);
        put!(grads, &w, gw);
        Ok(())
    });
    Ok(out)
}

/// Tape op that starts the backward pass: the scalar `sum_i g_i logp_i`, whose gradient with respect to `logp` is `g`,
/// moved in. `parameters` are gradient buffers to be moved into dfdx before anything is added to them.
pub(crate) fn seed<T: Tape<f32, Cpu>>(
    tape: &mut T,
    logps: Flat,
    row_grads: Vec<f32>,
    parameters: Vec<(Flat, Vec<f32>)>,
) -> Result<Tensor<(), f32, Cpu>, ModelError> {
    let value = values(&logps).iter().zip(&row_grads).map(|(logp, g)| logp * g).sum();
    let loss = logps.device().try_tensor_from_vec(vec![value], ());
    let loss = loss.map_err(|source| ModelError::Tensor { doing: "seeding the backward pass", source })?;
    let ghost = loss.ghost();
    record(tape, move |grads| {
        let one = take!(grads, &ghost)[0];
        for (parameter, buffer) in parameters {
            put!(grads, &parameter, buffer);
        }
        let row_grads = row_grads.into_iter().map(|g| g * one).collect();
        put!(grads, &logps, row_grads);
        Ok(())
    });
    Ok(loss)
}
