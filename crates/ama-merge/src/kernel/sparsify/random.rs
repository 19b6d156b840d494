//! Entries kept at random, each with the same probability (DARE).

use super::super::philox::Stream;

/// Uniform numbers that are drawn at a time.
const TILE: usize = 256;

/// Keeps an entry if its random number is below a bound.
#[derive(Debug)]
pub(super) struct Random {
    stream: Stream,
    /// In `0..=2^32`.
    below: u64,
}

/// The bound below which a share of the 2^32 numbers lies.
#[inline(always)]
pub(super) fn bound(probability: f64) -> u64 {
    (probability * 4_294_967_296.0).round() as u64
}

impl Random {
    pub(super) fn new(stream: Stream, density: f64) -> Self {
        Self { stream, below: bound(density) }
    }

    #[inline(always)]
    pub(super) fn apply(&self, delta: &mut [f32], start: usize) {
        // Below 2^32, because the density is below 1; or everything is kept.
        let Ok(below) = u32::try_from(self.below) else { return };
        let mut numbers = [0u32; TILE];
        for (i, delta) in delta.chunks_mut(TILE).enumerate() {
            let numbers = &mut numbers[..delta.len()];
            self.stream.fill(start + i * TILE, numbers);
            for (d, number) in delta.iter_mut().zip(numbers.iter()) {
                *d = if *number < below { *d } else { 0.0 };
            }
        }
    }
}
