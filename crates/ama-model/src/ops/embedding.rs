//! Row gather: token embeddings, and the hidden rows that go to the head.
//!
//! `y_i = x[id_i]`; backward `gx[id_i] += gy_i`, in packed order, so repeated ids sum in one order.

use std::sync::Arc;

use dfdx::prelude::*;
use rayon::prelude::*;

use super::rows_per_task;
use super::tape::{Act, Flat, add_to, record};
use crate::ModelError;
use crate::access::values;
use crate::profile::{Op, Pass, Work, timed};
use crate::workspace::Workspace;

/// `out[i] = table[ids[i]]`: `table` `[rows, d]`, `out` `[ids, d]`.
///
/// # Panics
/// If an id is out of range or a length does not fit.
pub fn gather_rows(table: &[f32], d: usize, ids: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), ids.len() * d, "one output row per id");
    let copy = |ids: &[u32], out: &mut [f32]| {
        for (row, &id) in out.chunks_exact_mut(d).zip(ids) {
            let at = id as usize * d;
            row.copy_from_slice(&table[at..at + d]);
        }
    };
    let rows = rows_per_task(d);
    if ids.len() <= rows {
        copy(ids, out);
    } else {
        out.par_chunks_mut(rows * d).zip(ids.par_chunks(rows)).for_each(|(out, ids)| copy(ids, out));
    }
}

/// `table_grad[ids[i]] += grad[i]`, one row after the other.
///
/// # Panics
/// If an id is out of range or a length does not fit.
pub fn scatter_add_rows(grad: &[f32], d: usize, ids: &[u32], table_grad: &mut [f32]) {
    assert_eq!(grad.len(), ids.len() * d, "one gradient row per id");
    for (row, &id) in grad.chunks_exact(d).zip(ids) {
        let at = id as usize * d;
        for (sum, g) in table_grad[at..at + d].iter_mut().zip(row) {
            *sum += g;
        }
    }
}

/// Tape op: rows `ids` of a parameter `table` `[rows, d]`, in buffers of `home`.
pub(crate) fn embed<T: Tape<f32, Cpu>>(
    tape: &mut T,
    home: &Arc<Workspace>,
    table: &Flat,
    d: usize,
    ids: Arc<[u32]>,
) -> Result<Act, ModelError> {
    let work = Work::elements(2 * ids.len() * d, 0);
    let mut out = home.buffer(ids.len() * d);
    timed(Op::Gather, Pass::Forward, work, || gather_rows(values(table), d, &ids, &mut out));
    let out = Act::new(table.device(), out)?;
    let (name, table) = (out.name(), table.clone());
    record(tape, move |grads| {
        let grad = name.take(grads)?;
        add_to(grads, &table, |_, table_grad| {
            timed(Op::Gather, Pass::Backward, work, || scatter_add_rows(&grad, d, &ids, table_grad));
        })
    });
    Ok(out)
}

/// Tape op: rows `ids` of an activation `[rows, d]` that has no other consumer.
pub(crate) fn gather<T: Tape<f32, Cpu>>(
    tape: &mut T,
    x: Act,
    d: usize,
    ids: Arc<[u32]>,
) -> Result<Act, ModelError> {
    let work = Work::elements(2 * ids.len() * d, 0);
    let mut out = x.workspace().buffer(ids.len() * d);
    timed(Op::Gather, Pass::Forward, work, || gather_rows(x.values(), d, &ids, &mut out));
    let out = x.beside(out)?;
    let (name, x) = (out.name(), x.name());
    record(tape, move |grads| {
        let grad = name.take(grads)?;
        let mut gx = x.take_to_write(grads)?.values;
        timed(Op::Gather, Pass::Backward, work, || {
            gx.fill(0.0);
            scatter_add_rows(&grad, d, &ids, &mut gx);
        });
        x.put(grads, gx)
    });
    Ok(out)
}
