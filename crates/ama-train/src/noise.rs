//! The ablation "specialist noise": how good does a cached loss have to be?

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Adds independent Gaussian noise of standard deviation `sd_nats` to every loss, in nats: a table of specialist losses
/// ([`TrainTask::specialist_loss_nats`](crate::TrainTask)) as another, worse scorer might have made it. Losses may become
/// negative. The same seed and length give the same noise, whatever the losses and whatever the machine.
///
/// Normals by Box and Muller (1958) from ChaCha8.
pub fn add_gaussian_noise(losses_nats: &mut [f64], sd_nats: f64, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // 53 bits in (0, 1]: the logarithm is finite.
    let mut uniform = || ((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    for loss in losses_nats {
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
        *loss += sd_nats * radius * angle.cos();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, sd_nats: f64, seed: u64) -> Vec<f64> {
        let mut losses = vec![0.0; count];
        add_gaussian_noise(&mut losses, sd_nats, seed);
        losses
    }

    /// Moments and tails of 20,000 draws, each within five standard errors of the normal's.
    #[test]
    fn it_is_gaussian_of_the_given_size() {
        let (count, sd) = (20_000, 0.3);
        let draws = noise(count, sd, 11);
        let moment = |power: i32| draws.iter().map(|x| (x / sd).powi(power)).sum::<f64>() / count as f64;
        let error = 5.0 / (count as f64).sqrt();
        // Variances of x, x^2, x^3, x^4 for a standard normal: 1, 2, 15, 96.
        for (power, want, variance) in [(1, 0.0, 1.0f64), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            assert!((moment(power) - want).abs() < error * variance.sqrt(), "{power}: {}", moment(power));
        }
        let inside = draws.iter().filter(|x| x.abs() < 1.96 * sd).count() as f64 / count as f64;
        assert!((inside - 0.95).abs() < 0.01, "{inside}");
    }

    #[test]
    fn it_is_added_and_repeats_with_its_seed() {
        assert_eq!(noise(5, 0.5, 3), noise(5, 0.5, 3));
        assert_ne!(noise(5, 0.5, 3), noise(5, 0.5, 4));
        let mut losses = vec![1.0, 2.0, 3.0];
        add_gaussian_noise(&mut losses, 0.5, 3);
        for (loss, (was, noise)) in losses.iter().zip([1.0, 2.0, 3.0].iter().zip(noise(3, 0.5, 3))) {
            assert_eq!(*loss, was + noise);
        }
        let mut same = vec![1.0, 2.0];
        add_gaussian_noise(&mut same, 0.0, 3);
        assert_eq!(same, [1.0, 2.0]);
    }
}
