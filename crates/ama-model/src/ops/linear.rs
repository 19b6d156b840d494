//! Linear layers without bias: `y = x W^T`, `W` `[out, in]` as in Hugging Face files.
//!
//! Backward: `gx = gy W`, `gW += gy^T x`. An output projection adds the residual in the same product; the projections
//! that follow a norm are one op with it (`norm_project.rs`).

use dfdx::prelude::*;

use super::gemm::Factor::{Plain, Transposed};
use super::gemm::gemm;
use super::tape::{Act, Flat, add_to, record};
use crate::ModelError;
use crate::access::values;
use crate::profile::{Op, Pass, Work, timed};

/// `out (+)= x W^T`: `x` `[n, d]`, `w` `[outputs, d]`, `out` `[n, outputs]`; with `add` on top of what is there.
///
/// # Panics
/// If the lengths do not fit.
pub fn linear_forward(x: &[f32], w: &[f32], d: usize, out: &mut [f32], add: bool) {
    let (n, outputs) = (x.len() / d, w.len() / d);
    gemm(out, (n, outputs, d), Plain(x), Transposed(w), add);
}

/// `gx (+)= gy W` (adding if `add`) and `gw += gy^T x`.
///
/// # Panics
/// If the lengths do not fit.
pub fn linear_backward(
    x: &[f32],
    w: &[f32],
    d: usize,
    gy: &[f32],
    gx: &mut [f32],
    add: bool,
    gw: &mut [f32],
) {
    let (n, outputs) = (x.len() / d, w.len() / d);
    gemm(gx, (n, d, outputs), Plain(gy), Plain(w), add);
    gemm(gw, (outputs, d, n), Transposed(gy), Plain(x), true);
}

/// Tape op: `residual + x W^T`; `x` must have no other consumer. The residual's gradient is the output's, moved.
///
/// The residual's other consumers must be *earlier* on the tape than this op (so that their backward comes later and
/// adds to what is moved in here).
pub(crate) fn project_onto<T: Tape<f32, Cpu>>(
    tape: &mut T,
    x: Act,
    d: usize,
    w: &Flat,
    residual: &Act,
) -> Result<Act, ModelError> {
    let n = x.values().len() / d;
    let work = Work::product(n, values(w).len() / d, d);
    let mut out = x.workspace().buffer(residual.values().len());
    timed(Op::Output, Pass::Forward, work, || {
        out.copy_from_slice(residual.values());
        linear_forward(x.values(), values(w), d, &mut out, true);
    });
    let out = x.beside(out)?;
    let (name, w, residual) = (out.name(), w.clone(), residual.name());
    record(tape, move |grads| {
        let (gy, mut gx) = (name.take(grads)?, x.name().take_to_write(grads)?);
        add_to(grads, &w, |_, gw| {
            timed(Op::Output, Pass::Backward, work.times(2), || {
                linear_backward(x.values(), values(&w), d, &gy, &mut gx.values, gx.add, gw);
            });
        })?;
        x.name().put(grads, gx.values)?;
        residual.put(grads, gy)
    });
    Ok(out)
}
