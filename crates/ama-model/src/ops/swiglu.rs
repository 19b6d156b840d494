//! SwiGLU (Shazeer 2020, arXiv 2002.05202, eq. 6): `y = silu(g) u`, `silu(g) = g sigma(g)`.
//!
//! Backward: `gu = gy silu(g)`, `gg = gy u sigma(g) (1 + g (1 - sigma(g)))`.

use dfdx::prelude::*;
use rayon::prelude::*;

use super::GRAIN;
use super::gemm::Factor::{Plain, Transposed};
use super::gemm::gemm;
use super::linear::linear_forward;
use super::tape::{Act, Flat, add_to, record};
use crate::ModelError;
use crate::access::values;
use crate::profile::{Op, Pass, Work, timed};
use crate::simd::{exp, fma, kernel};

kernel! {
    fn forward_block(gate: &'a [f32], up: &'a [f32], out: &'a mut [f32]) -> () {
        for ((y, g), u) in out.iter_mut().zip(gate).zip(up) {
            *y = *g / (1.0 + exp::<S>(-*g)) * *u;
        }
    }
}

kernel! {
    fn backward_block(gate: &'a [f32], up: &'a [f32], gy: &'a mut [f32], ggate: &'a mut [f32],
                      y: &'a mut [f32]) -> () {
        for ((((g, u), gy), gg), y) in gate.iter().zip(up).zip(gy).zip(ggate).zip(y) {
            let sigma = 1.0 / (1.0 + exp::<S>(-*g));
            let silu = *g * sigma;
            *gg = *gy * *u * sigma * fma::<S>(*g, 1.0 - sigma, 1.0);
            *gy *= silu;
            *y = silu * *u;
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

/// Writes the gradient of `gate` to `ggate`, turns `gy`, the gradient of the output, into that of `up`, and writes the
/// output itself, `silu(gate) up`, to `y` once more.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu_backward(gate: &[f32], up: &[f32], gy: &mut [f32], ggate: &mut [f32], y: &mut [f32]) {
    let n = gate.len();
    assert!(up.len() == n && gy.len() == n && ggate.len() == n && y.len() == n, "all have one shape");
    if n <= GRAIN {
        return backward_block(gate, up, gy, ggate, y);
    }
    let inputs = gate.par_chunks(GRAIN).zip(up.par_chunks(GRAIN));
    let outputs = gy.par_chunks_mut(GRAIN).zip(ggate.par_chunks_mut(GRAIN)).zip(y.par_chunks_mut(GRAIN));
    inputs.zip(outputs).for_each(|((gate, up), ((gy, ggate), y))| backward_block(gate, up, gy, ggate, y));
}

/// Tape op: `residual + swiglu(gate, up) W^T`, `gate` and `up` `[n, inner]`, `w` `[d, inner]`, `residual` `[n, d]`.
///
/// `gate` and `up` must have no other consumer; the residual's other consumers as in
/// [`super::linear::project_onto`]. `silu(gate) up` is not kept: the backward pass computes it again.
pub(crate) fn swiglu_onto<T: Tape<f32, Cpu>>(
    tape: &mut T,
    [gate, up]: [Act; 2],
    inner: usize,
    w: &Flat,
    residual: &Act,
) -> Result<Act, ModelError> {
    let (elements, home) = (gate.values().len(), gate.workspace());
    let product = Work::product(elements / inner, values(w).len() / inner, inner);
    let (mut y, mut out) = (home.buffer(elements), home.buffer(residual.values().len()));
    timed(Op::Swiglu, Pass::Forward, Work::elements(3 * elements, 10), || {
        swiglu_forward(gate.values(), up.values(), &mut y);
    });
    timed(Op::Down, Pass::Forward, product, || {
        out.copy_from_slice(residual.values());
        linear_forward(&y, values(w), inner, &mut out, true);
    });
    drop(y);
    let out = residual.beside(out)?;
    let (name, w, residual) = (out.name(), w.clone(), residual.name());
    record(tape, move |grads| {
        let home = gate.workspace();
        let gy = name.take(grads)?;
        let (mut y, mut gup, mut ggate) =
            (home.buffer(elements), home.buffer(elements), home.buffer(elements));
        let n = elements / inner;
        let d = gy.len() / n.max(1);
        // gup holds the gradient of silu(gate) up until the kernel turns it into that of up.
        timed(Op::Down, Pass::Backward, product, || {
            gemm(&mut gup, (n, inner, d), Plain(&gy), Plain(values(&w)), false);
        });
        timed(Op::Swiglu, Pass::Backward, Work::elements(6 * elements, 15), || {
            swiglu_backward(gate.values(), up.values(), &mut gup, &mut ggate, &mut y);
        });
        add_to(grads, &w, |_, gw| {
            timed(Op::Down, Pass::Backward, product, || {
                gemm(gw, (d, inner, n), Transposed(&gy), Plain(&y), true);
            });
        })?;
        gate.name().put(grads, ggate)?;
        up.name().put(grads, gup)?;
        residual.put(grads, gy)
    });
    Ok(out)
}
