//! The order of one epoch: a permutation of `0..len` that depends on seed, stream and epoch alone.
//!
//! A small data set is shuffled in memory: every permutation is possible and equally likely. A large one is permuted
//! index by index, in no memory at all, by a block cipher on `0..len` (Black & Rogaway 2002, "Ciphers with arbitrary
//! finite domains"): with `side = ceil(sqrt(len))` an index is a pair `(l, r)`, `index = l side + r`, which goes through
//! [`ROUNDS`] Feistel rounds `(l, r) -> (r, (l + f(key, r)) mod side)`. Every round can be undone, so all of them are a
//! permutation of `0..side^2`; one that leads beyond `len` goes through again until it comes back (*cycle walking*),
//! which from 65,536 on happens to less than one index in a hundred. The round function is Stafford's 13th mixer, as in
//! SplitMix64: good statistics, no secrecy.
//!
//! The generators are written out here, so that no update of a dependency changes a run.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Data sets of up to so many examples are shuffled in memory: at most 512 KiB for all tasks and their union.
pub(crate) const HELD_EXAMPLES: usize = 1 << 16;

const ROUNDS: usize = 8;

/// The order of one epoch.
#[derive(Debug, Clone)]
pub(crate) enum EpochOrder {
    /// `0, 1, 2, ...`
    File,
    /// A permutation in memory.
    Held(Vec<u32>),
    /// A permutation that is computed.
    Keyed(Keyed),
}

/// The cipher of the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    len: u32,
    /// The smallest number whose square is at least `len`.
    side: u64,
    keys: [u64; ROUNDS],
}

impl EpochOrder {
    /// Fisher-Yates (Durstenfeld's form) from a generator keyed by `[seed, stream, epoch]`. `self`'s memory is used
    /// again.
    pub(crate) fn shuffle(&mut self, len: u32, key: [u64; 3]) {
        let mut rng = generator("ama-data 2025 epoch order v1", &key);
        let mut order = match std::mem::replace(self, Self::File) {
            Self::Held(order) => order,
            _ => Vec::new(),
        };
        order.clear();
        order.extend(0..len);
        for i in (1..len).rev() {
            order.swap(i as usize, below(&mut rng, i + 1) as usize);
        }
        *self = Self::Held(order);
    }

    /// The computed permutation of `0..len` with the key `[seed, stream, epoch]`.
    pub(crate) fn keyed(len: u32, key: [u64; 3]) -> Self {
        let mut rng = generator("ama-data 2026 keyed epoch order v1", &key);
        let side = u64::from((len - 1).isqrt()) + 1;
        Self::Keyed(Keyed { len, side, keys: std::array::from_fn(|_| rng.next_u64()) })
    }

    /// The index at a place of the epoch.
    pub(crate) fn at(&self, place: u32) -> u32 {
        match self {
            Self::File => place,
            Self::Held(order) => order[place as usize],
            Self::Keyed(keyed) => keyed.at(place),
        }
    }
}

impl Keyed {
    fn at(&self, place: u32) -> u32 {
        let side = self.side;
        let mut index = u64::from(place);
        loop {
            let (mut l, mut r) = (index / side, index % side);
            for key in self.keys {
                // The upper half of the mixed bits, scaled to `0..side`.
                let f = ((mix(r ^ key) >> 32) * side) >> 32;
                let sum = l + f;
                (l, r) = (r, if sum < side { sum } else { sum - side });
            }
            index = l * side + r;
            match u32::try_from(index) {
                Ok(index) if index < self.len => return index,
                _ => {}
            }
        }
    }
}

/// Stafford's 13th variant of MurmurHash3's 64-bit finaliser (Steele et al. 2014, SplitMix64).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A generator that depends on a purpose and some numbers only.
pub(crate) fn generator(purpose: &str, numbers: &[u64]) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A uniform integer in `0..bound`, without bias (Lemire 2019, arXiv:1805.10941).
fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        if product as u32 >= threshold {
            return (product >> 32) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(len: u32, epoch: u64) -> Vec<u32> {
        let order = EpochOrder::keyed(len, [7, 3, epoch]);
        (0..len).map(|place| order.at(place)).collect()
    }

    #[test]
    fn a_keyed_order_is_a_permutation() {
        for len in [1, 2, 3, 4, 5, 31, 1024, 1025, 65_536, 65_537, 100_003] {
            let mut order = keyed(len, 0);
            assert!(len < 31 || order != keyed(len, 1));
            order.sort_unstable();
            assert!(order.into_iter().eq(0..len), "{len}");
        }
        let huge = EpochOrder::keyed(u32::MAX, [1, 2, 3]);
        assert!((0..1000).chain(u32::MAX - 1000..u32::MAX).all(|place| huge.at(place) < u32::MAX));
    }

    /// Sum of (observed - expected)^2 / expected over equal classes.
    fn chi_squared(counts: &[u32]) -> f64 {
        let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
        counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum()
    }

    /// What a batch sees: its first places, over many epochs, fall evenly, alone and in pairs.
    #[test]
    fn keyed_orders_look_uniform() {
        let (len, epochs, classes) = (70_001, 4000, 64);
        let class = |index: u32| (u64::from(index) * classes / u64::from(len)) as usize;
        let mut alone = vec![0; classes as usize];
        let mut pairs = vec![0; (classes * classes) as usize];
        for epoch in 0..epochs {
            let order = EpochOrder::keyed(len, [1, 2, epoch]);
            for place in (0..64).step_by(2) {
                let (a, b) = (class(order.at(place)), class(order.at(place + 1)));
                alone[a] += 1;
                pairs[a * classes as usize + b] += 1;
            }
        }
        // 63 and 4095 degrees of freedom: the 99.9% quantiles are 103.4 and 4380.
        let (alone, pairs) = (chi_squared(&alone), chi_squared(&pairs));
        assert!(alone < 103.4 && pairs < 4380.0, "{alone} {pairs}");
    }

    /// Every index is as likely at every place of a small task that is part of a large data set.
    #[test]
    fn small_keyed_orders_look_uniform() {
        // The 99.9% quantiles of (len - 1)^2 degrees of freedom.
        for (len, quantile) in [(2, 10.83), (5, 39.25), (12, 173.6)] {
            let mut counts = vec![0_u32; (len * len) as usize];
            for epoch in 0..6000 {
                let order = keyed(len, epoch);
                (0..).zip(order).for_each(|(place, index)| counts[(place * len + index) as usize] += 1);
            }
            let chi = chi_squared(&counts);
            assert!(chi < quantile, "{len}: {chi}");
        }
    }

    /// Neighbours within one epoch are as far apart as in a shuffle: mean `len / 3`, and rarely next to each other.
    #[test]
    fn a_keyed_order_has_no_runs() {
        let len = 100_003_u32;
        let order = keyed(len, 5);
        let gaps: Vec<u32> = order.windows(2).map(|pair| pair[0].abs_diff(pair[1])).collect();
        let mean = gaps.iter().map(|&gap| f64::from(gap)).sum::<f64>() / gaps.len() as f64;
        let third = f64::from(len) / 3.0;
        // The standard deviation of a gap is len / sqrt(18); four of the mean's, as if gaps were independent.
        let deviation = f64::from(len) / (18.0 * gaps.len() as f64).sqrt();
        assert!((mean - third).abs() < 4.0 * deviation, "{mean} vs {third}");
        // Expected: 2.
        assert!(gaps.iter().filter(|&&gap| gap == 1).count() < 12);
    }
}
