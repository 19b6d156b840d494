//! Random numbers by position: Philox 4x32 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
//! The numbers of an element depend on the key and its index only, never on which thread comes to it when.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Counters that are worked on together, in vector registers.
const LANES: usize = 16;

/// The stream of one tensor of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// Keyed by seed, place of the model among the models, and name of the tensor.
    pub(crate) fn new(seed: u64, model: usize, tensor: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"ama-merge mask 1\0");
        hasher.update(&seed.to_le_bytes());
        hasher.update(&(model as u64).to_le_bytes());
        hasher.update(tensor.as_bytes());
        let hash = hasher.finalize();
        let word = |i: usize| u32::from_le_bytes(hash.as_bytes().as_chunks::<4>().0[i]);
        Self { key: [word(0), word(1)] }
    }

    /// Uniform numbers of the elements from `start` on.
    #[inline(always)]
    pub(crate) fn fill(self, start: usize, out: &mut [u32]) {
        let (mut element, mut done) = (start as u64, 0);
        while done < out.len() {
            let numbers = self.block(element / 4);
            let skip = (element % 4) as usize;
            let take = (4 * LANES - skip).min(out.len() - done);
            out[done..done + take].copy_from_slice(&numbers[skip..skip + take]);
            element += take as u64;
            done += take;
        }
    }

    /// The numbers of `LANES` counters from `first` on, four of each.
    #[inline(always)]
    fn block(self, first: u64) -> [u32; 4 * LANES] {
        let counter = |lane: usize| first + lane as u64;
        let lower = std::array::from_fn(|lane| counter(lane) as u32);
        let upper = std::array::from_fn(|lane| (counter(lane) >> 32) as u32);
        let mut c = [lower, upper, [0; LANES], [0; LANES]];
        let mut key = self.key;
        for _ in 0..ROUNDS {
            let [c0, c1, c2, c3] = &mut c;
            for lane in 0..LANES {
                let a = u64::from(MULTIPLIERS[0]) * u64::from(c0[lane]);
                let b = u64::from(MULTIPLIERS[1]) * u64::from(c2[lane]);
                c0[lane] = (b >> 32) as u32 ^ c1[lane] ^ key[0];
                c1[lane] = b as u32;
                c2[lane] = (a >> 32) as u32 ^ c3[lane] ^ key[1];
                c3[lane] = a as u32;
            }
            key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
        }
        let mut out = [0; 4 * LANES];
        for (lane, numbers) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *numbers = [c[0][lane], c[1][lane], c[2][lane], c[3][lane]];
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' library (Random123, `kat_vectors`) whose counter has its upper half zero, and
    /// the general ones through a plain loop.
    #[test]
    fn known_answers() {
        let zero = Stream { key: [0, 0] };
        assert_eq!(zero.block(0)[..4], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let plain = |mut c: [u32; 4], mut key: [u32; 2]| {
            for _ in 0..ROUNDS {
                let a = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
                let b = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
                c = [(b >> 32) as u32 ^ c[1] ^ key[0], b as u32, (a >> 32) as u32 ^ c[3] ^ key[1], a as u32];
                key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
            }
            c
        };
        let ones = u32::MAX;
        assert_eq!(plain([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            plain([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
        let key = [0xa409_3822, 0x299f_31d0];
        let first = 0x0000_0001_ffff_fff8;
        let stream = Stream { key };
        for (lane, numbers) in stream.block(first).as_chunks::<4>().0.iter().enumerate() {
            let counter = first + lane as u64;
            assert_eq!(*numbers, plain([counter as u32, (counter >> 32) as u32, 0, 0], key), "{lane}");
        }
    }

    #[test]
    fn any_cut_gives_the_same_numbers() {
        let stream = Stream::new(7, 1, "model.norm.weight");
        let mut whole = vec![0; 1000];
        stream.fill(0, &mut whole);
        for cut in [1, 3, 63, 64, 65, 500] {
            let mut parts = vec![0; 1000];
            let (a, b) = parts.split_at_mut(cut);
            stream.fill(0, a);
            stream.fill(cut, b);
            assert_eq!(parts, whole, "{cut}");
        }
        for other in [
            Stream::new(8, 1, "model.norm.weight"),
            Stream::new(7, 2, "model.norm.weight"),
            Stream::new(7, 1, "x"),
        ] {
            let mut numbers = vec![0; 1000];
            other.fill(0, &mut numbers);
            assert!(numbers.iter().zip(&whole).filter(|(a, b)| a == b).count() < 3);
        }
    }
}
