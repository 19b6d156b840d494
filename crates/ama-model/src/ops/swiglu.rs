//! SwiGLU (Shazeer 2020, arXiv 2002.05202, eq. 6): `y = silu(g) u`, `silu(g) = g sigma(g)`.
//!
//! Backward: `gu = gy silu(g)`, `gg = gy u sigma(g) (1 + g (1 - sigma(g)))`.

use dfdx::prelude::*;
use rayon::prelude::*;

use super::GRAIN;
use super::tape::{Flat, put, record, take, tensor};
use crate::ModelError;
use crate::access::values;
use crate::simd::{exp, fma, kernel};

kernel! {
    fn forward_block(gate: &'a [f32], up: &'a [f32], out: &'a mut [f32]) -> () {
        for ((y, g), u) in out.iter_mut().zip(gate).zip(up) {
            *y = *g / (1.0 + exp::<S>(-*g)) * *u;
        }
    }
}

kernel! {
    fn backward_block(gate: &'a [f32], up: &'a [f32], gy: &'a mut [f32], ggate: &'a mut [f32]) -> () {
        for (((g, u), gy), gg) in gate.iter().zip(up).zip(gy).zip(ggate) {
            let sigma = 1.0 / (1.0 + exp::<S>(-*g));
            let silu = *g * sigma;
            *gg = *gy * *u * sigma * fma::<S>(*g, 1.0 - sigma, 1.0);
            *gy *= silu;
        }
    }
}

/// `out = silu(gate) * up`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu_forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gate, up and out have one shape");
    if gate.len() <= GRAIN {
        return forward_block(gate, up, out);
    }
    let tasks = out.par_chunks_mut(GRAIN).zip(gate.par_chunks(GRAIN)).zip(up.par_chunks(GRAIN));
    tasks.for_each(|((out, gate), up)| forward_block(gate, up, out));
}

/// Writes the gradient of `gate` to `ggate` and turns `gy`, the gradient of the output, into that of `up`.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu_backward(gate: &[f32], up: &[f32], gy: &mut [f32], ggate: &mut [f32]) {
    assert!(
        gate.len() == up.len() && gate.len() == gy.len() && gate.len() == ggate.len(),
        "all have one shape"
    );
    if gate.len() <= GRAIN {
        return backward_block(gate, up, gy, ggate);
    }
    let inputs = gate.par_chunks(GRAIN).zip(up.par_chunks(GRAIN));
    let tasks = inputs.zip(gy.par_chunks_mut(GRAIN)).zip(ggate.par_chunks_mut(GRAIN));
    tasks.for_each(|(((gate, up), gy), ggate)| backward_block(gate, up, gy, ggate));
}

/// Tape op. `gate` and `up` must have no other consumer: their gradients are written, not added to.
pub(crate) fn swiglu<T: Tape<f32, Cpu>>(tape: &mut T, gate: Flat, up: Flat) -> Result<Flat, ModelError> {
    let mut out = vec![0.0; values(&gate).len()];
    swiglu_forward(values(&gate), values(&up), &mut out);
    let out = tensor(&gate, out)?;
    let ghost = out.ghost();
    record(tape, move |grads| {
        let mut gy = take!(grads, &ghost);
        let mut ggate = take!(grads, &gate);
        swiglu_backward(values(&gate), values(&up), &mut gy, &mut ggate);
        put!(grads, &gate, ggate);
        put!(grads, &up, gy);
        Ok(())
    });
    Ok(out)
}
