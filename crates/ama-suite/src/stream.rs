//! The source of chance: one ChaCha8 stream per split.
//!
//! The seed text, the stream numbers and the few draws below are spelled out here rather than taken from the `rand`
//! crate, whose distributions may change with its version: a seed must give the same suite for good.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The constant part of the key; with another text every seed gives another suite.
const LABEL: &[u8; 24] = b"ama-suite 1: 2506.00569\0";

/// One reproducible stream of random draws.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// Stream `number` of a seed. Streams of one seed never overlap.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..].copy_from_slice(LABEL);
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(number);
        Self(rng)
    }

    /// A whole number in `0..n`, uniform but for a bias below 2^-50; `n` must not be 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0, "a draw from nothing");
        // The high half of a 64 x 64 bit product is below n, so it fits.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// A whole number in `low..=high`.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below((high - low + 1) as usize) as u32
    }

    /// True with the given probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        let uniform = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        uniform < probability
    }

    /// One item of a list that is not empty.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// `n` different places of a list, in random order (the first `n` steps of a Fisher-Yates shuffle).
    pub(crate) fn sample<T: Copy>(&mut self, items: &[T], n: usize) -> Vec<T> {
        let mut pool = items.to_vec();
        for i in 0..n {
            let j = i + self.below(pool.len() - i);
            pool.swap(i, j);
        }
        pool.truncate(n);
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_in_range_and_roughly_uniform() {
        let mut stream = Stream::new(7, 3);
        let mut seen = [0u32; 6];
        for _ in 0..6000 {
            seen[stream.below(6)] += 1;
        }
        // 1000 expected each, standard deviation 29.
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
        assert_eq!((0..100).map(|_| stream.between(5, 6)).filter(|n| !(5..=6).contains(n)).count(), 0);
        let heads = (0..10_000).filter(|_| stream.chance(0.35)).count();
        assert!((3250..3750).contains(&heads), "{heads}");
        assert!(!stream.chance(0.0) && stream.chance(1.0));
        let mut all = stream.sample(&[1, 2, 3, 4], 4);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4]);
    }

    #[test]
    fn streams_and_seeds_differ() {
        let draw = |seed, number| Stream::new(seed, number).0.next_u64();
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_eq!(draw(1, 5), draw(1, 5));
    }
}
