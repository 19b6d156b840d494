//! Numbers to compute with.

/// `n` numbers in `-scale..scale`, the same for the same seed.
pub fn uniform(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut z = seed;
    (0..n)
        .map(|_| {
            z = z.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((z >> 40) as f32 / (1u32 << 23) as f32 - 1.0) * scale
        })
        .collect()
}
