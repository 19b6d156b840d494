//! The head: linear layer, log-softmax and gather of the target in one ([`ama_loss::LinearLogp`]), and the op that
//! starts the backward pass.

use std::sync::Arc;

use ama_loss::{HeadShape, LinearLogp, Recompute};
use dfdx::prelude::*;
use dfdx::tensor::CpuError;

use super::tape::{Act, Flat, add_to, record};
use crate::ModelError;
use crate::access::values;
use crate::profile::{Op, Pass, Work, timed};
use crate::workspace::Buffer;

/// Tape op: `logp_i = log softmax(x_i W^T)[target_i]`, `[rows]`; `x` `[rows, d]`, `w` `[vocab, d]`.
///
/// At most `bytes` of logits exist at a time. They are kept for the backward pass as far as they fit, if the tape records.
pub(crate) fn head<T: Tape<f32, Cpu>>(
    tape: &mut T,
    x: Act,
    d: usize,
    w: &Flat,
    targets: Arc<[u32]>,
    bytes: usize,
) -> Result<Act, ModelError> {
    let home = x.workspace();
    if targets.is_empty() {
        return x.beside(home.buffer(0));
    }
    let shape = HeadShape { rows: targets.len(), hidden: d, vocab: values(w).len() / d };
    let product = Work::product(shape.rows, shape.vocab, d);
    // The kernel wants room for one logit at least.
    let budget_bytes = bytes.max(size_of::<f32>());
    let recompute = if T::OWNS_TAPE { Recompute::OverBudget } else { Recompute::Always };
    let operands =
        LinearLogp { hidden: x.values(), weight: values(w), targets: &targets, shape, budget_bytes };
    let done = timed(Op::Head, Pass::Forward, product, || operands.forward(recompute));
    let (forward, kept) = done.map_err(|source| ModelError::Head { source })?;
    let out = x.beside(Buffer::adopt(home, forward.logp))?;
    let (name, w, lse) = (out.name(), w.clone(), forward.lse);
    record(tape, move |grads| {
        let (gy, mut gx) = (name.take(grads)?, x.name().take_to_write(grads)?.values);
        gx.fill(0.0);
        let operands =
            LinearLogp { hidden: x.values(), weight: values(&w), targets: &targets, shape, budget_bytes };
        let work = product.times(if kept.is_some() { 2 } else { 3 });
        let done = add_to(grads, &w, |_, gw| {
            timed(Op::Head, Pass::Backward, work, || operands.backward(&lse, kept, &gy, &mut gx, Some(gw)))
        })?;
        // The forward pass has accepted these operands, so only a length could be wrong.
        done.map_err(|_| CpuError::WrongNumElements)?;
        x.name().put(grads, gx)
    });
    Ok(out)
}

/// Tape op that starts the backward pass: a scalar whose gradient with respect to `of` is `upstream`, moved in.
/// `parameters` are gradient buffers to be moved into dfdx before anything is added to them.
pub(crate) fn seed<T: Tape<f32, Cpu>>(
    tape: &mut T,
    of: &Act,
    upstream: Buffer,
    parameters: Vec<(Flat, Vec<f32>)>,
) -> Result<Tensor<(), f32, Cpu>, ModelError> {
    let loss = of.device().try_tensor_from_vec(vec![0.0], ());
    let loss = loss.map_err(|source| ModelError::Tensor { doing: "seeding the backward pass", source })?;
    let name = of.name();
    record(tape, move |grads| {
        for (parameter, buffer) in parameters {
            **grads.get_or_alloc_mut(&parameter)? = buffer;
        }
        name.put(grads, upstream)
    });
    Ok(loss)
}
