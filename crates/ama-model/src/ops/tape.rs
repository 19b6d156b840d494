//! What all tape ops share: activations, and moving gradient buffers in and out of dfdx.
//!
//! dfdx keeps the tape and the gradients, keyed by tensor. A *parameter* is a dfdx tensor that holds its values
//! ([`Flat`]). An *activation* ([`Act`]) is a dfdx tensor without elements, which is its name on the tape, beside a buffer
//! of the [`Workspace`]: dfdx frees what a tensor holds, we want to use it again.
//!
//! Three rules make the custom ops correct:
//! 1. a tensor is an operand of an op at most once (its gradient buffer is moved out while the op runs);
//! 2. an op puts back every gradient buffer that it took, except its output's, which nobody needs again;
//! 3. buffers of parameters are *added to*; the first op to write an activation's gradient writes, the others add.

use std::sync::Arc;

use dfdx::prelude::*;
use dfdx::tensor::CpuError;

use crate::ModelError;
pub(crate) use crate::access::Flat;
use crate::workspace::{Buffer, Workspace};

/// dfdx's gradients for the only element type and device used here.
pub(crate) type Grads = Gradients<f32, Cpu>;

/// An activation: its name on the tape and its values. A clone is the same activation.
#[derive(Clone)]
pub(crate) struct Act {
    node: Flat,
    data: Arc<Buffer>,
}

impl Act {
    /// A new activation on the device of `like`.
    pub(crate) fn new(device: &Cpu, data: Buffer) -> Result<Self, ModelError> {
        let node = device.try_tensor_from_vec(Vec::new(), (0,));
        let node = node.map_err(|source| ModelError::Tensor { doing: "naming an activation", source })?;
        Ok(Self { node, data: Arc::new(data) })
    }

    /// A new activation beside this one.
    pub(crate) fn beside(&self, data: Buffer) -> Result<Self, ModelError> {
        Self::new(self.node.device(), data)
    }

    /// The values.
    pub(crate) fn values(&self) -> &[f32] {
        &self.data
    }

    /// The device of the tape.
    pub(crate) fn device(&self) -> &Cpu {
        self.node.device()
    }

    /// Where its memory comes from.
    pub(crate) fn workspace(&self) -> &Arc<Workspace> {
        self.data.home()
    }

    /// Its name without its values: what an op keeps of its output.
    pub(crate) fn name(&self) -> Name {
        Name { node: self.node.clone(), len: self.data.len(), home: Arc::clone(self.workspace()) }
    }
}

/// The name of an activation on the tape, with the shape of its gradient.
pub(crate) struct Name {
    node: Flat,
    len: usize,
    home: Arc<Workspace>,
}

/// A gradient on its way to be written.
pub(crate) struct Written {
    /// The buffer.
    pub(crate) values: Buffer,
    /// Whether another op has written to it, so that more must be added; else the contents are arbitrary.
    pub(crate) add: bool,
}

impl Name {
    /// Moves the activation's gradient out, to be read (and used up) by the op that made the activation.
    pub(crate) fn take(&self, grads: &mut Grads) -> Result<Buffer, CpuError> {
        let Written { mut values, add } = self.take_to_write(grads)?;
        if !add {
            // Nothing depends on it.
            values.fill(0.0);
        }
        Ok(values)
    }

    /// Moves the gradient out, to be written or added to and [`put`](Self::put) back.
    pub(crate) fn take_to_write(&self, grads: &mut Grads) -> Result<Written, CpuError> {
        let values = std::mem::take(&mut **grads.get_or_alloc_mut(&self.node)?);
        Ok(if values.is_empty() {
            Written { values: self.home.buffer(self.len), add: false }
        } else {
            Written { values: Buffer::adopt(&self.home, values), add: true }
        })
    }

    /// Moves a gradient (back) in.
    pub(crate) fn put(&self, grads: &mut Grads, values: Buffer) -> Result<(), CpuError> {
        **grads.get_or_alloc_mut(&self.node)? = values.into_vec();
        Ok(())
    }
}

/// Lends a parameter's gradient buffer to `add`, which adds to it.
pub(crate) fn add_to<R>(
    grads: &mut Grads,
    parameter: &Flat,
    add: impl FnOnce(&mut Grads, &mut [f32]) -> R,
) -> Result<R, CpuError> {
    let mut values = std::mem::take(&mut **grads.get_or_alloc_mut(parameter)?);
    let result = add(grads, &mut values);
    **grads.get_or_alloc_mut(parameter)? = values;
    Ok(result)
}

/// Records `backward` on a tape; nothing is captured when the tape does not record.
pub(crate) fn record<T: Tape<f32, Cpu>>(
    tape: &mut T,
    backward: impl 'static + FnOnce(&mut Grads) -> Result<(), CpuError>,
) {
    if T::OWNS_TAPE {
        tape.add_backward_op(backward);
    }
}
