//! What all tape ops share: moving buffers in and out of dfdx.
//!
//! Three rules make the custom ops correct:
//! 1. a tensor is an operand of an op at most once (its gradient buffer is moved out while the op runs);
//! 2. an op puts back every gradient buffer that it took, except its output's, which nobody needs again;
//! 3. buffers of parameters and of activations with several consumers are *added to*.

use dfdx::prelude::*;
use dfdx::tensor::CpuError;

use crate::ModelError;
pub(crate) use crate::access::Flat;

/// dfdx's gradients for the only element type and device used here.
pub(crate) type Grads = Gradients<f32, Cpu>;

/// Wraps a vector in a fresh tensor on the device of `like`; the vector is moved.
pub(crate) fn tensor(like: &Flat, values: Vec<f32>) -> Result<Flat, ModelError> {
    let shape = (values.len(),);
    let made = like.device().try_tensor_from_vec(values, shape);
    made.map_err(|source| ModelError::Tensor { doing: "wrapping an activation", source })
}

/// Moves the gradient buffer of a tensor (or ghost) out, allocating zeros if nobody has written one yet.
macro_rules! take {
    ($grads:expr, $tensor:expr) => {
        std::mem::take(&mut **$grads.get_or_alloc_mut($tensor)?)
    };
}
/// Moves a gradient buffer back (or in).
macro_rules! put {
    ($grads:expr, $tensor:expr, $values:expr) => {
        **$grads.get_or_alloc_mut($tensor)? = $values
    };
}
pub(crate) use {put, take};

/// Records `backward` on a tape; nothing is captured when the tape does not record.
pub(crate) fn record<T: Tape<f32, Cpu>>(
    tape: &mut T,
    backward: impl 'static + FnOnce(&mut Grads) -> Result<(), CpuError>,
) {
    if T::OWNS_TAPE {
        tape.add_backward_op(backward);
    }
}
