//! The largest entries of a task vector by absolute value (TIES' trim): the exact k-th largest, without sorting.
//!
//! The bits of non-negative floats are ordered like the floats. A histogram of the upper 15 bits finds the bin of the
//! threshold, one of the lower 16 bits within that bin finds the threshold itself, and among entries that equal it
//! the first ones in the tensor stay, as with a stable sort.

use super::super::{CHUNK, Values, chunks, read_delta, vectorised};
use super::over_chunks;
use rayon::prelude::*;

/// Bins of the upper bits of an absolute value.
const UPPER: usize = 1 << 15;
/// Bins of the lower bits.
const LOWER: usize = 1 << 16;

/// Keeps entries above the threshold, and those equal to it up to an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Largest {
    /// Bits of the smallest absolute value that is kept.
    threshold: u32,
    /// Entries equal to the threshold are kept up to this index.
    last_equal: usize,
}

#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

impl Largest {
    /// The rule that keeps `max(1, floor(density * n))` entries of `model - base`; `density` is in (0, 1).
    pub(super) fn find(base: Values<'_>, model: Values<'_>, density: f64) -> Self {
        let total = base.len();
        let keep = ((density * total as f64) as usize).clamp(1, total.max(1)) as u64;
        let upper = histogram(
            base,
            model,
            UPPER,
            #[inline(always)]
            |bits| Some((bits >> 16) as usize),
        );
        let (bin, keep) = bin_of(&upper, keep);
        let bin = bin as u32;
        if keep >= upper[bin as usize] {
            return Self { threshold: bin << 16, last_equal: usize::MAX };
        }
        let lower = histogram(
            base,
            model,
            LOWER,
            #[inline(always)]
            |bits| (bits >> 16 == bin).then_some((bits & 0xffff) as usize),
        );
        let (low, keep) = bin_of(&lower, keep);
        let threshold = bin << 16 | low as u32;
        // Whether a zero is kept makes no difference.
        if keep >= lower[low] || threshold == 0 {
            return Self { threshold, last_equal: usize::MAX };
        }
        Self { threshold, last_equal: nth_equal(base, model, threshold, keep) }
    }

    #[inline(always)]
    pub(super) fn apply(&self, delta: &mut [f32], start: usize) {
        let end = start + delta.len();
        // Split where entries that equal the threshold stop being kept.
        let cut = self.last_equal.saturating_add(1).clamp(start, end) - start;
        let (with_equal, without) = delta.split_at_mut(cut);
        for d in with_equal {
            *d = if magnitude(*d) >= self.threshold { *d } else { 0.0 };
        }
        for d in without {
            *d = if magnitude(*d) > self.threshold { *d } else { 0.0 };
        }
    }
}

/// The bin in which the `keep`-th largest value lies, and how many of that bin are kept.
fn bin_of(histogram: &[u64], keep: u64) -> (usize, u64) {
    let mut left = keep;
    for (bin, &count) in histogram.iter().enumerate().rev() {
        if left <= count {
            return (bin, left);
        }
        left -= count;
    }
    (0, left)
}

/// Counts of the bins of the absolute values' bits; counting is exact, so threads do not matter.
fn histogram(
    base: Values<'_>,
    model: Values<'_>,
    bins: usize,
    bin: impl Fn(u32) -> Option<usize> + Sync,
) -> Vec<u64> {
    let total = base.len();
    // Few, long pieces: every piece has a histogram of its own.
    let piece = total.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(CHUNK).max(CHUNK);
    chunks(total, piece)
        .map(|piece| {
            let mut counts = vec![0u64; bins];
            let (mut scratch, mut delta) = (vec![0.0f32; CHUNK], vec![0.0f32; CHUNK]);
            vectorised(
                #[inline(always)]
                || {
                    let mut start = piece.start;
                    while start < piece.end {
                        let range = start..(start + CHUNK).min(piece.end);
                        let delta = &mut delta[..range.len()];
                        read_delta(&base, &model, &range, &mut scratch[..range.len()], delta);
                        for d in delta.iter() {
                            if let Some(bin) = bin(magnitude(*d)) {
                                counts[bin] += 1;
                            }
                        }
                        start = range.end;
                    }
                },
            );
            counts
        })
        .reduce(
            || vec![0; bins],
            |mut sum, counts| {
                for (sum, count) in sum.iter_mut().zip(counts) {
                    *sum += count;
                }
                sum
            },
        )
}

/// Index of the `n`-th entry (from 1) whose absolute value has exactly these bits.
fn nth_equal(base: Values<'_>, model: Values<'_>, bits: u32, n: u64) -> usize {
    let equal = over_chunks(
        base,
        model,
        CHUNK,
        #[inline(always)]
        |delta, _| delta.iter().map(|d| u64::from(magnitude(*d) == bits)).sum::<u64>(),
    );
    let mut left = n;
    for (chunk, equal) in equal.into_iter().enumerate() {
        if left > equal {
            left -= equal;
            continue;
        }
        let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(base.len());
        let (mut scratch, mut delta) = (vec![0.0; range.len()], vec![0.0; range.len()]);
        read_delta(&base, &model, &range, &mut scratch, &mut delta);
        let mut equal = delta.iter().enumerate().filter(|(_, d)| magnitude(**d) == bits);
        return equal.nth(left as usize - 1).map_or(range.end, |(i, _)| range.start + i);
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::WeightDtype;

    /// Against a stable sort, with many ties, over several chunks.
    #[test]
    fn keeps_what_a_stable_sort_keeps() {
        let total = 3 * CHUNK + 77;
        let mut state = 5u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let fine: Vec<f32> = (0..total).map(|_| random() as f32 / 1e6 - 8.0).collect();
        let coarse: Vec<f32> = (0..total).map(|_| (random() % 9) as f32 - 4.0).collect();
        let zeros: Vec<f32> = (0..total).map(|i| if i % 10 == 3 { 1.0 } else { 0.0 }).collect();
        for values in [fine, coarse, zeros] {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let none = vec![0u8; bytes.len()];
            let of = |bytes| Values { bytes, dtype: WeightDtype::F32 };
            let mut order: Vec<usize> = (0..total).collect();
            order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
            for density in [1e-9, 0.05, 0.2, 0.5, 0.77, 0.999_99] {
                let keep = ((density * total as f64) as usize).max(1);
                let mut want = vec![0.0; total];
                for &i in &order[..keep] {
                    want[i] = values[i];
                }
                let rule = Largest::find(of(&none), of(&bytes), density);
                let mut got = values.clone();
                for (i, chunk) in got.chunks_mut(1000).enumerate() {
                    rule.apply(chunk, i * 1000);
                }
                assert!(got == want, "density {density}: {rule:?}");
            }
        }
    }
}
