//! Softmax and its backward pass on a tile of scores: a key a row, a query a column.
//!
//! Queries side by side in a register need no sum or maximum across a register, and a row that some queries may not see
//! is masked lane by lane.

use pulp::Simd;

use super::product::COLUMNS;
use crate::simd::{exp, kernel};

kernel! {
    /// Turns scores `[keys, n]` into probabilities times `sum[q]` in place, `n` one or two times [`COLUMNS`]; column `q`
    /// sees the first `visible[q]` keys (at least one, not fewer than the column before), the rest becomes 0. `lse[q]`
    /// receives the log-sum-exp of the scaled scores.
    pub(super) fn softmax(scores: &'a mut [f32], n: usize, visible: &'a [u32], scale: f32,
                          lse: &'a mut [f32], sum: &'a mut [f32]) -> () {
        match n {
            COLUMNS => forward::<S, COLUMNS>(scores, visible, scale, lse, sum),
            _ => forward::<S, { 2 * COLUMNS }>(scores, visible, scale, lse, sum),
        }
    }
}

kernel! {
    /// Scores to probabilities (`scores`) and `dp` to `ds` (`dp`), both `[keys, n]`, in place; `lse` as [`softmax`] gave
    /// it, `go_o[q]` is `D`, the product of the output and its gradient.
    pub(super) fn softmax_backward(scores: &'a mut [f32], dp: &'a mut [f32], n: usize, visible: &'a [u32], scale: f32,
                                   lse: &'a [f32], go_o: &'a [f32]) -> () {
        match n {
            COLUMNS => backward::<S, COLUMNS>(scores, dp, visible, scale, lse, go_o),
            _ => backward::<S, { 2 * COLUMNS }>(scores, dp, visible, scale, lse, go_o),
        }
    }
}

/// The first `N` of a column-wise operand.
#[inline(always)]
fn columns<T: Copy, const N: usize>(of: &[T]) -> [T; N] {
    std::array::from_fn(|q| of[q])
}

#[inline(always)]
fn larger<const N: usize>(most: &mut [f32; N], row: &[f32; N]) {
    for q in 0..N {
        most[q] = if row[q] > most[q] { row[q] } else { most[q] };
    }
}

/// Replaces what `key` is hidden from.
#[inline(always)]
fn hide<const N: usize>(row: &mut [f32; N], key: u32, visible: &[u32; N], by: f32) {
    for q in 0..N {
        row[q] = if key < visible[q] { row[q] } else { by };
    }
}

#[inline(always)]
fn forward<S: Simd, const N: usize>(
    scores: &mut [f32],
    visible: &[u32],
    scale: f32,
    lse: &mut [f32],
    sum: &mut [f32],
) {
    let visible: [u32; N] = columns(visible);
    let (all_see, some_see) = scores.as_chunks_mut::<N>().0.split_at_mut(visible[0] as usize);
    let mut most = [f32::NEG_INFINITY; N];
    let mut other = most;
    let (pairs, last) = all_see.as_chunks::<2>();
    for [even, odd] in pairs {
        larger(&mut most, even);
        larger(&mut other, odd);
    }
    for row in last {
        larger(&mut most, row);
    }
    for (key, row) in (visible[0]..).zip(some_see.iter_mut()) {
        hide(row, key, &visible, f32::NEG_INFINITY);
        larger(&mut most, row);
    }
    larger(&mut most, &other);
    let most = most.map(|score| score * scale);
    let mut sums = [0.0; N];
    for row in all_see.iter_mut() {
        for q in 0..N {
            row[q] = exp::<S>(row[q] * scale - most[q]);
            sums[q] += row[q];
        }
    }
    for (key, row) in (visible[0]..).zip(some_see.iter_mut()) {
        for q in 0..N {
            row[q] = exp::<S>(row[q] * scale - most[q]);
        }
        hide(row, key, &visible, 0.0);
        for q in 0..N {
            sums[q] += row[q];
        }
    }
    for q in 0..N {
        sum[q] = sums[q];
        lse[q] = most[q] + sums[q].ln();
    }
}

#[inline(always)]
fn backward<S: Simd, const N: usize>(
    scores: &mut [f32],
    dp: &mut [f32],
    visible: &[u32],
    scale: f32,
    lse: &[f32],
    go_o: &[f32],
) {
    let (visible, lse, go_o): ([u32; N], [f32; N], [f32; N]) =
        (columns(visible), columns(lse), columns(go_o));
    let all_see = visible[0] as usize;
    let (p_all, p_some) = scores.as_chunks_mut::<N>().0.split_at_mut(all_see);
    let (ds_all, ds_some) = dp.as_chunks_mut::<N>().0.split_at_mut(all_see);
    for (p, ds) in p_all.iter_mut().zip(ds_all) {
        for q in 0..N {
            p[q] = exp::<S>(p[q] * scale - lse[q]);
            ds[q] = p[q] * (ds[q] - go_o[q]) * scale;
        }
    }
    for (key, (p, ds)) in (visible[0]..).zip(p_some.iter_mut().zip(ds_some)) {
        for q in 0..N {
            p[q] = exp::<S>(p[q] * scale - lse[q]);
        }
        hide(p, key, &visible, 0.0);
        for q in 0..N {
            ds[q] = p[q] * (ds[q] - go_o[q]) * scale;
        }
    }
}
