//! Turning rows of queries into columns and back.

use super::product::COLUMNS;

/// `columns[., q] = row`; `columns` `[dim, n]`, `n` one or two times [`COLUMNS`].
pub(super) fn to_column(row: &[f32], columns: &mut [f32], n: usize, q: usize) {
    match n {
        COLUMNS => write_column::<COLUMNS>(row, columns, q),
        _ => write_column::<{ 2 * COLUMNS }>(row, columns, q),
    }
}

/// `row = columns[., q] * factor`; as [`to_column`].
pub(super) fn to_row(columns: &[f32], n: usize, q: usize, factor: f32, row: &mut [f32]) {
    match n {
        COLUMNS => read_column::<COLUMNS>(columns, q, factor, row),
        _ => read_column::<{ 2 * COLUMNS }>(columns, q, factor, row),
    }
}

fn write_column<const N: usize>(row: &[f32], columns: &mut [f32], q: usize) {
    for (column, x) in columns.as_chunks_mut::<N>().0.iter_mut().zip(row) {
        column[q] = *x;
    }
}

fn read_column<const N: usize>(columns: &[f32], q: usize, factor: f32, row: &mut [f32]) {
    for (x, column) in row.iter_mut().zip(columns.as_chunks::<N>().0) {
        *x = column[q] * factor;
    }
}
