//! The head: linear layer, log-softmax and gather of the target in one ([`ama_loss::LinearLogp`]), and the op that
//! starts the backward pass.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use ama_loss::cuda::{CudaHead, KeptOnDevice};
use ama_loss::{HeadShape, KeptLogits, LinearLogp, LossError, Recompute};
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
    let done = timed(Op::Head, Pass::Forward, product, || Forwarded::of(&operands, recompute));
    let (logp, forwarded) = done.map_err(|source| ModelError::Head { source })?;
    let out = x.beside(Buffer::adopt(home, logp))?;
    let (name, w) = (out.name(), w.clone());
    record(tape, move |grads| {
        let (gy, mut gx) = (name.take(grads)?, x.name().take_to_write(grads)?.values);
        gx.fill(0.0);
        let operands =
            LinearLogp { hidden: x.values(), weight: values(&w), targets: &targets, shape, budget_bytes };
        let work = product.times(forwarded.products_of_backward());
        let done = add_to(grads, &w, |_, gw| {
            timed(Op::Head, Pass::Backward, work, || forwarded.backward(&operands, &gy, &mut gx, gw))
        })?;
        // The forward pass has accepted these operands: a length is wrong, or a device has failed.
        done.map_err(|_| CpuError::WrongNumElements)?;
        x.name().put(grads, gx)
    });
    Ok(out)
}

/// A forward pass on the processor or a device, and what its backward pass takes up there.
enum Forwarded {
    Cpu {
        lse: Vec<f64>,
        kept: Option<KeptLogits>,
    },
    #[cfg(feature = "cuda")]
    Cuda {
        head: &'static CudaHead,
        kept: Box<KeptOnDevice>,
    },
}

impl Forwarded {
    fn of(operands: &LinearLogp<'_>, recompute: Recompute) -> Result<(Vec<f32>, Self), LossError> {
        #[cfg(feature = "cuda")]
        if let Some(head) = crate::cuda::head() {
            let (forward, kept) = head.forward(operands)?;
            return Ok((forward.logp, Self::Cuda { head, kept: Box::new(kept) }));
        }
        let (forward, kept) = operands.forward(recompute)?;
        Ok((forward.logp, Self::Cpu { lse: forward.lse, kept }))
    }

    /// Matrix products that [`backward`](Self::backward) takes.
    fn products_of_backward(&self) -> u64 {
        match self {
            Self::Cpu { kept: Some(_), .. } => 2,
            _ => 3,
        }
    }

    /// Adds to the gradients of hidden states and weight.
    fn backward(
        self,
        operands: &LinearLogp<'_>,
        upstream: &[f32],
        d_hidden: &mut [f32],
        d_weight: &mut [f32],
    ) -> Result<(), LossError> {
        match self {
            Self::Cpu { lse, kept } => operands.backward(&lse, kept, upstream, d_hidden, Some(d_weight)),
            #[cfg(feature = "cuda")]
            Self::Cuda { head, kept } => head.backward(*kept, upstream, d_hidden, Some(d_weight)),
        }
    }
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
