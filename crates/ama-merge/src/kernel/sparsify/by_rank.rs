//! Entries kept at random, the larger ones of a row more often (DELLA's MagPrune).

use super::super::philox::Stream;
use super::random::bound;

/// Keeps the entry of rank `r` (0 the smallest) of a row of `n` with probability
/// `density - epsilon + 2 epsilon r / (n - 1)`.
#[derive(Debug)]
pub(super) struct ByRank {
    pub(super) stream: Stream,
    /// Elements of a row, at least 1 and below 2^32.
    pub(super) row: usize,
    pub(super) density: f64,
    pub(super) epsilon: f64,
    /// Whether what is kept is divided by its probability.
    pub(super) inverse: bool,
}

impl ByRank {
    /// `delta` is whole rows.
    #[inline(always)]
    pub(super) fn apply(&self, delta: &mut [f32], start: usize) {
        let mut numbers = vec![0u32; self.row];
        let mut ranked: Vec<u64> = Vec::with_capacity(self.row);
        for (i, row) in delta.chunks_mut(self.row).enumerate() {
            self.stream.fill(start + i * self.row, &mut numbers[..row.len()]);
            // Equal magnitudes are ranked by index, which has 32 bits.
            ranked.clear();
            ranked.extend(
                row.iter().enumerate().map(|(i, d)| u64::from(d.to_bits() & 0x7fff_ffff) << 32 | i as u64),
            );
            ranked.sort_unstable();
            let last = row.len().saturating_sub(1);
            for (rank, key) in ranked.iter().enumerate() {
                let place = (*key & 0xffff_ffff) as usize;
                let share = if last == 0 { 0.5 } else { rank as f64 / last as f64 };
                let probability = self.density - self.epsilon + 2.0 * self.epsilon * share;
                let kept = u64::from(numbers[place]) < bound(probability);
                row[place] = match (kept, self.inverse) {
                    (false, _) => 0.0,
                    (true, false) => row[place],
                    (true, true) => row[place] / probability as f32,
                };
            }
        }
    }
}
