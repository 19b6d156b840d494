//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in the `transformers` layout.
//!
//! Element `i` of a head pairs with element `i + head_dim / 2`: `(a, b) -> (a cos t - b sin t, b cos t + a sin t)`
//! with `t = position * inv_freq_i`. The rotation is orthogonal, so its backward is the rotation by `-t`; both are
//! done in place.

use rayon::prelude::*;

use super::rows_per_task;
use crate::simd::kernel;

/// Cosines and sines of every position up to a length, `[positions, head_dim / 2]` each.
#[derive(Debug, Clone)]
pub struct RopeTable {
    inv_freq: Vec<f64>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// A table for positions `0..positions`; `inv_freq` `[head_dim / 2]` in radians per position.
    ///
    /// The angle is rounded to f32 before the cosine is taken, as `transformers` does, so that both rotate by the
    /// same angle at large positions.
    #[must_use]
    pub fn new(inv_freq: Vec<f64>, positions: usize) -> Self {
        let mut table = Self { inv_freq, cos: Vec::new(), sin: Vec::new() };
        table.extend(positions);
        table
    }

    /// Number of positions in the table.
    #[must_use]
    pub fn positions(&self) -> usize {
        if self.inv_freq.is_empty() { usize::MAX } else { self.cos.len() / self.inv_freq.len() }
    }

    /// Makes the table cover positions `0..positions` at least.
    pub fn extend(&mut self, positions: usize) {
        for position in self.positions()..positions {
            for freq in &self.inv_freq {
                let angle = f64::from(position as f32 * *freq as f32);
                self.cos.push(angle.cos() as f32);
                self.sin.push(angle.sin() as f32);
            }
        }
    }

    /// Width of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        2 * self.inv_freq.len()
    }
}

kernel! {
    fn rotate_rows(x: &'a mut [f32], width: usize, positions: &'a [u32], table: &'a RopeTable, sign: f32) -> () {
        let half = table.inv_freq.len();
        for (row, &position) in x.chunks_exact_mut(width).zip(positions) {
            let at = position as usize * half;
            let (cos, sin) = (&table.cos[at..at + half], &table.sin[at..at + half]);
            for head in row.chunks_exact_mut(2 * half) {
                let (a, b) = head.split_at_mut(half);
                for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                    let sin = *sin * sign;
                    (*a, *b) = (*a * *cos - *b * sin, *b * *cos + *a * sin);
                }
            }
        }
    }
}

/// Rotates every head of every row in place: `x` `[n, heads * head_dim]`, `positions` `[n]`. With `inverse` the
/// rotation is undone (which is also how gradients go back through it).
///
/// # Panics
/// If a length does not fit or the table is too short for a position.
pub fn rotate(x: &mut [f32], positions: &[u32], table: &RopeTable, inverse: bool) {
    if positions.is_empty() || table.inv_freq.is_empty() {
        return;
    }
    let width = x.len() / positions.len();
    assert!(
        x.len() == width * positions.len() && width.is_multiple_of(table.head_dim()),
        "x [n, heads * head_dim]"
    );
    let sign = if inverse { -1.0 } else { 1.0 };
    let rows = rows_per_task(width);
    if positions.len() <= rows {
        return rotate_rows(x, width, positions, table, sign);
    }
    x.par_chunks_mut(rows * width)
        .zip(positions.par_chunks(rows))
        .for_each(|(x, positions)| rotate_rows(x, width, positions, table, sign));
}
