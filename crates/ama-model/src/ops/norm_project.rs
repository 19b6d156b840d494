//! RMSNorm, then projections of its result: `h = rmsnorm(x)`, `y_i = h W_i^T`, with rotary embedding on some of the `y_i`.
//!
//! `h` costs one pass over `x` and is not kept: the backward pass makes it again from `x` and the saved scale of each row.

use std::sync::Arc;

use dfdx::prelude::*;

use super::gemm::Factor::{Plain, Transposed};
use super::gemm::gemm;
use super::linear::linear_forward;
use super::rmsnorm::{rmsnorm_apply, rmsnorm_backward, rmsnorm_forward};
use super::rope::{RopeTable, rotate};
use super::tape::{Act, Flat, add_to, record};
use crate::ModelError;
use crate::access::values;
use crate::profile::{Op, Pass, Work, timed};

/// Positions and angles for [`norm_project`]'s rotated outputs.
#[derive(Clone)]
pub(crate) struct Rotary {
    /// Position of every row.
    pub(crate) positions: Arc<[u32]>,
    /// Cosines and sines.
    pub(crate) table: Arc<RopeTable>,
}

/// Tape op: `x` `[n, d]`, `norm` `[d]`, each weight `[out, d]`; the first `rotated` outputs are rotated by `rotary`.
///
/// `x` may have a later consumer that writes its gradient first ([`super::linear::project_onto`] does).
pub(crate) fn norm_project<T: Tape<f32, Cpu>, const N: usize>(
    tape: &mut T,
    op: Op,
    x: &Act,
    (norm, eps): (&Flat, f32),
    weights: [&Flat; N],
    rotary: Option<(Rotary, usize)>,
) -> Result<[Act; N], ModelError> {
    let (d, home) = (values(norm).len(), x.workspace());
    let n = x.values().len() / d;
    let mut scale = home.buffer(n);
    let mut h = home.buffer(n * d);
    let norm_work = Work::elements(2 * n * d, 3);
    timed(Op::Norm, Pass::Forward, norm_work, || {
        rmsnorm_forward(x.values(), values(norm), eps, &mut h, &mut scale);
    });
    let mut outs = Vec::with_capacity(N);
    for (i, w) in weights.iter().enumerate() {
        let w = values(w);
        let outputs = w.len() / d;
        let mut out = home.buffer(n * outputs);
        timed(op, Pass::Forward, Work::product(n, outputs, d), || {
            linear_forward(&h, w, d, &mut out, false);
        });
        if let Some((rotary, _)) = rotary.as_ref().filter(|(_, rotated)| i < *rotated) {
            timed(Op::Rope, Pass::Forward, Work::elements(2 * out.len(), 3), || {
                rotate(&mut out, &rotary.positions, &rotary.table, false);
            });
        }
        outs.push(x.beside(out)?);
    }
    let outs: [Act; N] = outs.try_into().unwrap_or_else(|_| unreachable!("one output was pushed per weight"));
    let names = outs.each_ref().map(Act::name);
    let (x, norm, weights) = (x.clone(), norm.clone(), weights.map(Clone::clone));
    drop(h);
    record(tape, move |grads| {
        let home = x.workspace();
        let (mut h, mut gh) = (home.buffer(n * d), home.buffer(n * d));
        timed(Op::Norm, Pass::Backward, norm_work, || {
            rmsnorm_apply(x.values(), values(&norm), &scale, &mut h);
        });
        for (i, (name, w)) in names.iter().zip(&weights).enumerate() {
            let mut gy = name.take(grads)?;
            if let Some((rotary, _)) = rotary.as_ref().filter(|(_, rotated)| i < *rotated) {
                timed(Op::Rope, Pass::Backward, Work::elements(2 * gy.len(), 3), || {
                    rotate(&mut gy, &rotary.positions, &rotary.table, true);
                });
            }
            let outputs = gy.len() / n.max(1);
            let work = Work::product(n, outputs, d);
            timed(op, Pass::Backward, work, || {
                gemm(&mut gh, (n, d, outputs), Plain(&gy), Plain(values(w)), i > 0)
            });
            add_to(grads, w, |_, gw| {
                timed(op, Pass::Backward, work, || {
                    gemm(gw, (outputs, d, n), Transposed(&gy), Plain(&h), true)
                });
            })?;
        }
        let mut gx = x.name().take_to_write(grads)?;
        add_to(grads, &norm, |_, gw| {
            timed(Op::Norm, Pass::Backward, Work::elements(4 * n * d, 6), || {
                rmsnorm_backward(x.values(), values(&norm), &scale, &gh, &mut gx.values, gx.add, gw);
            });
        })?;
        x.name().put(grads, gx.values)
    });
    Ok(outs)
}
