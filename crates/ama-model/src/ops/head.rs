//! The head: linear layer, log-softmax and gather of the target in one ([`ama_loss::LinearLogp`]), and the op that
//! starts the backward pass.

use std::sync::Arc;

use ama_loss::{HeadShape, LinearLogp, Recompute};
use dfdx::prelude::*;
use dfdx::tensor::CpuError;

use super::tape::{Flat, put, record, take, tensor};
use crate::ModelError;
use crate::access::values;

/// Tape op: `logp_i = log softmax(x_i W^T)[target_i]`, `[rows]`; `x` `[rows, d]`, `w` `[vocab, d]`.
///
/// At most `bytes` of logits exist at a time. They are kept for the backward pass if all fit and the tape records.
pub(crate) fn head<T: Tape<f32, Cpu>>(
    tape: &mut T,
    x: Flat,
    d: usize,
    w: &Flat,
    targets: Arc<[u32]>,
    bytes: usize,
) -> Result<Flat, ModelError> {
    if targets.is_empty() {
        return tensor(&x, Vec::new());
    }
    let shape = HeadShape { rows: targets.len(), hidden: d, vocab: values(w).len() / d };
    // The kernel wants room for one logit at least.
    let budget_bytes = bytes.max(size_of::<f32>());
    let recompute = if T::OWNS_TAPE { Recompute::OverBudget } else { Recompute::Always };
    let operands =
        LinearLogp { hidden: values(&x), weight: values(w), targets: &targets, shape, budget_bytes };
    let (forward, kept) = operands.forward(recompute).map_err(|source| ModelError::Head { source })?;
    let out = tensor(&x, forward.logp)?;
    let (ghost, w, lse) = (out.ghost(), w.clone(), forward.lse);
    record(tape, move |grads| {
        let gy = take!(grads, &ghost);
        let (mut gx, mut gw) = (take!(grads, &x), take!(grads, &w));
        let operands =
            LinearLogp { hidden: values(&x), weight: values(&w), targets: &targets, shape, budget_bytes };
        // The forward pass has accepted these operands, so only a length could be wrong.
        let done = operands.backward(&lse, kept, &gy, &mut gx, Some(&mut gw));
        done.map_err(|_| CpuError::WrongNumElements)?;
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
