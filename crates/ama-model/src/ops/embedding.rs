//! Row gather: token embeddings, and the hidden rows that go to the head.
//!
//! `y_i = x[id_i]`; backward `gx[id_i] += gy_i`, in packed order, so repeated ids sum in one order.

use std::sync::Arc;

use dfdx::prelude::*;
use rayon::prelude::*;

use super::rows_per_task;
use super::tape::{Flat, put, record, take, tensor};
use crate::ModelError;
use crate::access::values;

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

/// Tape op of [`gather_rows`]; `table` `[rows, d]` may be a parameter or an activation.
pub(crate) fn gather<T: Tape<f32, Cpu>>(
    tape: &mut T,
    table: &Flat,
    d: usize,
    ids: Arc<[u32]>,
) -> Result<Flat, ModelError> {
    let mut out = vec![0.0; ids.len() * d];
    gather_rows(values(table), d, &ids, &mut out);
    let out = tensor(table, out)?;
    let (ghost, table) = (out.ghost(), table.ghost());
    record(tape, move |grads| {
        let grad = take!(grads, &ghost);
        let mut table_grad = take!(grads, &table);
        scatter_add_rows(&grad, d, &ids, &mut table_grad);
        put!(grads, &table, table_grad);
        Ok(())
    });
    Ok(out)
}
