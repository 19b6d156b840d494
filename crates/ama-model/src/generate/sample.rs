//! Choosing the next token from one row of logits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::GenerateOptions;

/// The random stream of prompt number `prompt`.
pub(super) fn stream(seed: u64, prompt: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(prompt as u64);
    rng
}

/// The next token, or `None` if a logit is not finite.
pub(super) fn next_token(logits: &[f32], options: &GenerateOptions, rng: &mut ChaCha8Rng) -> Option<u32> {
    if logits.iter().any(|l| !l.is_finite()) {
        return None;
    }
    let best = argmax(logits)?;
    if options.temperature == 0.0 {
        return Some(best as u32);
    }
    let most = f64::from(logits[best]);
    // Relative to the likeliest token, so the largest is exactly 1 at every temperature.
    let weight = |l: f32| ((f64::from(l) - most) / options.temperature).exp();
    let candidates = if options.top_p < 1.0 {
        nucleus(logits.iter().map(|l| weight(*l)).collect(), options.top_p)
    } else {
        logits.iter().map(|l| weight(*l)).enumerate().collect()
    };
    Some(draw(&candidates, rng) as u32)
}

/// Index of the largest value, the first among equals; `None` for an empty row.
fn argmax(logits: &[f32]) -> Option<usize> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|l| *l == most)
}

/// The likeliest tokens whose weights first reach `top_p` of the total, likeliest first.
fn nucleus(weights: Vec<f64>, top_p: f64) -> Vec<(usize, f64)> {
    let total: f64 = weights.iter().sum();
    // All tokens below this weight together hold less than 1 - top_p, so none of them can be in the nucleus;
    // without them there is little to sort. Half of it leaves room for rounding.
    let floor = 0.5 * (1.0 - top_p) * total / weights.len() as f64;
    let mut kept: Vec<(usize, f64)> = weights.into_iter().enumerate().filter(|(_, w)| *w >= floor).collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut sum = 0.0;
    let enough = kept.iter().position(|(_, w)| {
        sum += w;
        sum >= top_p * total
    });
    kept.truncate(enough.map_or(kept.len(), |last| last + 1));
    kept
}

/// Draws an index in proportion to its weight.
fn draw(candidates: &[(usize, f64)], rng: &mut ChaCha8Rng) -> usize {
    let total: f64 = candidates.iter().map(|c| c.1).sum();
    let mut left = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
    for (index, weight) in candidates {
        left -= weight;
        if left < 0.0 {
            return *index;
        }
    }
    // Rounding can leave a crumb after the last one; the last token that can be drawn gets it.
    candidates.iter().rev().find(|c| c.1 > 0.0).map_or(0, |c| c.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(temperature: f64, top_p: f64) -> GenerateOptions {
        GenerateOptions { temperature, top_p, ..GenerateOptions::default() }
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_refuses_nan() {
        let mut rng = stream(0, 0);
        assert_eq!(next_token(&[1.0, 3.0, 3.0, -2.0], &options(0.0, 1.0), &mut rng), Some(1));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for temperature in [0.0, 1.0] {
                assert_eq!(next_token(&[1.0, bad, 2.0], &options(temperature, 0.9), &mut rng), None);
            }
        }
        // So cold that every other weight underflows; so hot that all are equal.
        assert_eq!(next_token(&[1.0, 1.5], &options(1e-300, 1.0), &mut rng), Some(1));
        assert!(next_token(&[-1e30, 1e30], &options(1e300, 0.5), &mut rng).is_some());
    }

    /// Frequencies of 40,000 draws against the exact probabilities: each within 5 standard errors.
    #[test]
    fn draws_follow_the_tempered_softmax() {
        let logits = [0.0f32, 1.0, 2.0, -1.0, 0.5];
        for (temperature, top_p, nucleus) in
            [(1.0, 1.0, 5), (0.5, 1.0, 5), (2.0, 0.6, 2), (1.0, 0.8, 3), (1.0, 0.9, 4)]
        {
            let exp: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / temperature).exp()).collect();
            let mut order: Vec<usize> = (0..5).collect();
            order.sort_by(|a, b| exp[*b].total_cmp(&exp[*a]));
            let total: f64 = order[..nucleus].iter().map(|i| exp[*i]).sum();
            let n = 40_000;
            let mut counts = [0u32; 5];
            let mut rng = stream(1, 2);
            for _ in 0..n {
                let token = next_token(&logits, &options(temperature, top_p), &mut rng);
                counts[token.expect("finite") as usize] += 1;
            }
            for (rank, i) in order.into_iter().enumerate() {
                let p = if rank < nucleus { exp[i] / total } else { 0.0 };
                let error = (p * (1.0 - p) / f64::from(n)).sqrt();
                let got = f64::from(counts[i]) / f64::from(n);
                assert!((got - p).abs() <= 5.0 * error, "T {temperature} p {top_p} token {i}: {got} vs {p}");
            }
        }
    }
}
