//! Turning rows of queries into columns and back.

use super::product::COLUMNS;
use crate::simd::kernel;

kernel! {
    /// `columns[d, q] = rows[q][d]` for [`COLUMNS`] queries `q`; a row of `columns` is `n` wide and these are its `block`-th
    /// [`COLUMNS`]. All rows have as many numbers as `columns` has rows.
    pub(super) fn to_columns(rows: [&'a [f32]; COLUMNS], columns: &'a mut [f32], n: usize, block: usize) -> () {
        let dim = columns.len() / n;
        let rows = rows.map(|row| &row[..dim]);
        let blocks = columns.as_chunks_mut::<COLUMNS>().0.iter_mut().skip(block).step_by(n / COLUMNS);
        for (d, column) in (0..dim).zip(blocks) {
            for q in 0..COLUMNS {
                column[q] = rows[q][d];
            }
        }
    }
}

kernel! {
    /// `row[d] = columns[d, query] * factor`, `columns` `[dim, n]`.
    pub(super) fn to_row(columns: &'a [f32], n: usize, query: usize, factor: f32, row: &'a mut [f32]) -> () {
        let blocks = columns.as_chunks::<COLUMNS>().0.iter().skip(query / COLUMNS).step_by(n / COLUMNS);
        for (x, column) in row.iter_mut().zip(blocks) {
            *x = column[query % COLUMNS] * factor;
        }
    }
}
