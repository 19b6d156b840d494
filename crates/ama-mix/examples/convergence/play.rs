//! A convex game of tasks, and how a mixer and gradient descent play it.

use ama_mix::{DrawRule, Mixer, TaskExcess};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// `min_theta max_i E_i(theta)` over the ball `|theta| <= R`, every `E_i` convex.
pub(crate) trait Game {
    /// Number of tasks `k`.
    fn tasks(&self) -> usize;
    /// Dimensions of theta.
    fn dims(&self) -> usize;
    /// Radius `R` of the ball.
    fn radius(&self) -> f64;
    /// `M`, the largest excess that a step can see.
    fn max_excess(&self) -> f64;
    /// `G`, the largest norm of a gradient that a step can see.
    fn lipschitz(&self) -> f64;
    /// `E_i(theta)` and a subgradient of it.
    fn whole(&self, task: usize, theta: &[f64]) -> (f64, Vec<f64>);
    /// The excess of one random pair of the task, and the direction that it descends along.
    fn one_pair(&self, task: usize, theta: &[f64], random: &mut ChaCha8Rng) -> (f64, Vec<f64>);
    /// `min_theta sum_i alpha_i E_i(theta)`.
    fn least(&self, alpha: &[f64]) -> f64;

    /// The duality gap of two players, `max_i E_i(theta) - min_theta' sum_i alpha_i E_i(theta')`: 0 at the saddle point,
    /// positive elsewhere.
    fn gap(&self, theta: &[f64], alpha: &[f64]) -> f64 {
        let worst = (0..self.tasks()).map(|task| self.whole(task, theta).0).fold(f64::MIN, f64::max);
        worst - self.least(alpha)
    }
}

/// Plays `steps` rounds, gradient descent with step `R / (G sqrt T)` against the mixer, through the public training loop
/// as a trainer would; returns the duality gap of the averages over the rounds.
///
/// A stratified batch is one of all pairs, without noise; a sampled one is one random pair.
pub(crate) fn play(game: &dyn Game, mixer: &mut dyn Mixer, steps: u64, seed: u64) -> f64 {
    let (k, radius) = (game.tasks(), game.radius());
    let step = radius / (game.lipschitz() * (steps as f64).sqrt());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut theta, mut theta_sum) = (vec![0.0; game.dims()], vec![0.0; game.dims()]);
    for _ in 0..steps {
        theta_sum.iter_mut().zip(&theta).for_each(|(sum, theta)| *sum += theta);
        let plan = mixer.plan();
        let (tasks, seen): (Vec<usize>, Vec<(f64, Vec<f64>)>) = match plan.draw {
            DrawRule::Stratified => (0..k).map(|task| (task, game.whole(task, &theta))).unzip(),
            DrawRule::Sampled => {
                let task = draw(plan.sampling, random.random());
                (vec![task], vec![game.one_pair(task, &theta, &mut random)])
            }
            DrawRule::Union => panic!("the game has no union of pairs"),
        };
        let excess: Vec<f64> = seen.iter().map(|(excess, _)| *excess).collect();
        mixer.update(&TaskExcess::collect(k, &tasks, &excess).unwrap()).unwrap();
        let weights = mixer.plan().pair_weights(&tasks).unwrap();
        for ((_, gradient), weight) in seen.iter().zip(weights) {
            theta.iter_mut().zip(gradient).for_each(|(theta, slope)| *theta -= step * weight * slope);
        }
        let norm = norm(&theta);
        if norm > radius {
            theta.iter_mut().for_each(|theta| *theta *= radius / norm);
        }
    }
    let theta_bar: Vec<f64> = theta_sum.iter().map(|sum| sum / steps as f64).collect();
    game.gap(&theta_bar, &mixer.averaged_alpha())
}

/// `G R / sqrt T + M sqrt(ln k / (2 T))`: gradient descent, and Hedge with step `sqrt(8 ln k / T) / M`.
pub(crate) fn bound_of_ama_r(game: &dyn Game, steps: u64) -> f64 {
    let (k, t) = (game.tasks() as f64, steps as f64);
    game.lipschitz() * game.radius() / t.sqrt() + game.max_excess() * (k.ln() / (2.0 * t)).sqrt()
}

/// `G R / sqrt T + 2 sqrt(e - 1) M sqrt(k ln k / T)`: gradient descent, and Exp3 (Auer et al. 2002, corollary 3.2); for
/// the mean over seeds.
pub(crate) fn bound_of_ama_s(game: &dyn Game, steps: u64) -> f64 {
    let (k, t) = (game.tasks() as f64, steps as f64);
    let regret = 2.0 * (std::f64::consts::E - 1.0).sqrt() * (k * k.ln() / t).sqrt();
    game.lipschitz() * game.radius() / t.sqrt() + game.max_excess() * regret
}

/// Least-squares slope of ln(gap) over ln(T).
#[allow(dead_code, reason = "the tests assert it; `cargo xtask convergence` works it out from the CSV")]
pub(crate) fn slope(steps: &[u64], gaps: &[f64]) -> f64 {
    let x: Vec<f64> = steps.iter().map(|&steps| (steps as f64).ln()).collect();
    let y: Vec<f64> = gaps.iter().map(|gap| gap.ln()).collect();
    let (x_mean, y_mean) = (x.iter().sum::<f64>() / x.len() as f64, y.iter().sum::<f64>() / y.len() as f64);
    let covariance: f64 = x.iter().zip(&y).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    covariance / x.iter().map(|x| (x - x_mean).powi(2)).sum::<f64>()
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// A standard normal value (Box and Muller).
pub(crate) fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (a, b): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// A random unit vector.
pub(crate) fn direction(dims: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let row: Vec<f64> = (0..dims).map(|_| normal(random)).collect();
    let norm = norm(&row);
    row.iter().map(|x| x / norm).collect()
}

fn draw(sampling: &[f64], mut at: f64) -> usize {
    for (task, probability) in sampling.iter().enumerate() {
        at -= probability;
        if at < 0.0 {
            return task;
        }
    }
    sampling.len() - 1
}
