//! One layer of the decoder, and what all layers of a pass share.

use std::sync::Arc;

use dfdx::prelude::*;
use dfdx::tensor::CpuError;

use crate::access::values;
use crate::ops::attention::{AttentionPlan, Heads, attention};
use crate::ops::embedding::gather;
use crate::ops::head::seed;
use crate::ops::linear::project_onto;
use crate::ops::norm_project::{Rotary, norm_project};
use crate::ops::swiglu::swiglu_onto;
use crate::ops::tape::{Act, Flat, record};
use crate::profile::Op;
use crate::{ModelError, Parameter};

/// Number of parameters of a layer, which lie side by side in canonical order.
pub(super) const PER_LAYER: usize = 9;

/// Shape of the batch and of the model: the same for every layer but the last.
#[derive(Clone)]
pub(super) struct Geometry {
    pub(super) plan: Arc<AttentionPlan>,
    pub(super) rotary: Rotary,
    /// If set, only these rows go on after the layer; the others give their keys and values.
    pub(super) asked: Option<Asked>,
    pub(super) heads: Heads,
    /// Width of the SwiGLU.
    pub(super) inner: usize,
    pub(super) eps: f32,
}

/// The packed rows that leave the last layer.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) rows: Arc<[u32]>,
    pub(super) rotary: Rotary,
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

    /// The residual stream `x` `[n, d]` after this layer, of all rows or of those asked for.
    pub(super) fn forward<T: Tape<f32, Cpu>>(
        &self,
        tape: &mut T,
        x: &Act,
        g: &Geometry,
    ) -> Result<Act, ModelError> {
        let norm = (&self.input_norm, g.eps);
        let rotary = Some((g.rotary.clone(), 2));
        let (x, qkv) = match &g.asked {
            None => {
                let weights = [&self.q, &self.k, &self.v];
                (x.clone(), norm_project(tape, Op::Qkv, x, norm, weights, rotary)?)
            }
            Some(asked) => {
                let [k, v] =
                    norm_project(tape, Op::Qkv, x, norm, [&self.k, &self.v], rotary.map(|(r, _)| (r, 1)))?;
                let x = gather(tape, x.clone(), values(&self.input_norm).len(), Arc::clone(&asked.rows))?;
                let rotary = Some((asked.rotary.clone(), 1));
                let [q] = norm_project(tape, Op::Qkv, &x, norm, [&self.q], rotary)?;
                (x, [q, k, v])
            }
        };
        let mixed = attention(tape, qkv, g.heads, &g.plan)?;
        let x = &project_onto(tape, mixed, g.heads.query * g.heads.dim, &self.o, &x)?;
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
