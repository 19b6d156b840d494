//! One layer of the decoder, and what all layers of a pass share.

use std::sync::Arc;

use dfdx::prelude::*;
use dfdx::tensor::CpuError;

use crate::ops::attention::{AttentionPlan, Heads, attention};
use crate::ops::head::seed;
use crate::ops::linear::project_onto;
use crate::ops::norm_project::{Rotary, norm_project};
use crate::ops::swiglu::swiglu_onto;
use crate::ops::tape::{Act, Flat, record};
use crate::profile::Op;
use crate::{ModelError, Parameter};

/// Number of parameters of a layer, which lie side by side in canonical order.
pub(super) const PER_LAYER: usize = 9;

/// Shape of the batch and of the model: the same for every layer.
#[derive(Clone)]
pub(super) struct Geometry {
    pub(super) plan: Arc<AttentionPlan>,
    pub(super) rotary: Rotary,
    pub(super) heads: Heads,
    /// Width of the SwiGLU.
    pub(super) inner: usize,
    pub(super) eps: f32,
}

/// Handles of a layer's weights, which share the parameters' memory.
#[derive(Clone)]
pub(super) struct Layer {
    input_norm: Flat,
    q: Flat,
    k: Flat,
    v: Flat,
    o: Flat,
    post_norm: Flat,
    gate: Flat,
    up: Flat,
    down: Flat,
}

impl Layer {
    /// The layer whose parameters these are, in canonical order.
    pub(super) fn of(parameters: &[Parameter]) -> Self {
        let [input_norm, q, k, v, o, post_norm, gate, up, down] =
            std::array::from_fn(|i| parameters[i].tensor.clone());
        Self { input_norm, q, k, v, o, post_norm, gate, up, down }
    }

    fn all(&self) -> [&Flat; PER_LAYER] {
        let Self { input_norm, q, k, v, o, post_norm, gate, up, down } = self;
        [input_norm, q, k, v, o, post_norm, gate, up, down]
    }

    /// The residual stream `x` `[n, d]` after this layer.
    pub(super) fn forward<T: Tape<f32, Cpu>>(
        &self,
        tape: &mut T,
        x: &Act,
        g: &Geometry,
    ) -> Result<Act, ModelError> {
        let rotary = Some((g.rotary.clone(), 2));
        let norm = (&self.input_norm, g.eps);
        let qkv = norm_project(tape, Op::Qkv, x, norm, [&self.q, &self.k, &self.v], rotary)?;
        let mixed = attention(tape, qkv, g.heads, &g.plan)?;
        let x = &project_onto(tape, mixed, g.heads.query * g.heads.dim, &self.o, x)?;
        let norm = (&self.post_norm, g.eps);
        let gated = norm_project(tape, Op::GateUp, x, norm, [&self.gate, &self.up], None)?;
        swiglu_onto(tape, gated, g.inner, &self.down, x)
    }

    /// As [`Layer::forward`], keeping `x` alone: the backward pass runs the layer once more.
    pub(super) fn forward_again_in_backward<T: Tape<f32, Cpu>>(
        &self,
        tape: &mut T,
        x: &Act,
        g: &Geometry,
    ) -> Result<Act, ModelError> {
        let out = self.forward(&mut NoneTape, x, g)?;
        let (name, x, layer, geometry) = (out.name(), x.clone(), self.clone(), g.clone());
        record(tape, move |grads| {
            let upstream = name.take(grads)?;
            let mut inner = OwnedTape::<f32, Cpu>::default();
            // The operands were accepted by the forward pass; what is left to fail is memory.
            let again = layer.forward(&mut inner, &x, &geometry).map_err(|_| CpuError::OutOfMemory)?;
            let mut lent = Vec::with_capacity(PER_LAYER);
            for weight in layer.all() {
                lent.push((weight.clone(), std::mem::take(&mut **grads.get_or_alloc_mut(weight)?)));
            }
            let loss = seed(&mut inner, &again, upstream, lent).map_err(|_| CpuError::OutOfMemory)?;
            drop(again);
            let mut unwound = loss.put_tape(inner).try_backward()?;
            for weight in layer.all() {
                let back = std::mem::take(&mut **unwound.get_or_alloc_mut(weight)?);
                **grads.get_or_alloc_mut(weight)? = back;
            }
            let gx = x.name().take(&mut unwound)?;
            x.name().put(grads, gx)
        });
        Ok(out)
    }
}
