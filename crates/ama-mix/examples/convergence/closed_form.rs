//! The closed-form game: `E_i(theta) = s_i (1 - <u_i, theta>) / 2` over the unit ball, so that every excess lies in
//! `[0, max s]`.
//!
//! `min_theta sum_i alpha_i E_i = sum_i alpha_i s_i / 2 - |sum_i alpha_i s_i u_i| / 2` exactly.

use crate::play::{Game, direction, dot, norm};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// An instance.
pub(crate) struct ClosedForm {
    /// Unit vectors, one a task.
    u: Vec<Vec<f64>>,
    s: Vec<f64>,
}

impl ClosedForm {
    /// The instance of the reference script (numpy `default_rng(7).normal(size=(4, 5))`, rows normalised).
    pub(crate) fn reference() -> Self {
        let u = [
            [
                0.0011400667813162518,
                0.27686780782915477,
                -0.2540621951716055,
                -0.8253720277253406,
                -0.42137433959456677,
            ],
            [
                -0.5369741683926385,
                0.03256761275090808,
                0.7257232562577184,
                -0.26652861812995343,
                -0.33598563082842225,
            ],
            [
                0.438997742127722,
                0.3198430814948415,
                0.09447252901352754,
                -0.8338879248820382,
                -0.026215560729510597,
            ],
            [
                0.24932110685251543,
                -0.4820070746798146,
                -0.16409139058334646,
                -0.6817385014743452,
                -0.462401121084694,
            ],
        ];
        Self { u: u.map(|row| row.to_vec()).to_vec(), s: vec![1.0, 0.8, 0.6, 0.4] }
    }

    /// Random directions, given sizes.
    #[allow(dead_code, reason = "only the tests play more than the reference instance")]
    pub(crate) fn random(seed: u64, dims: usize, s: &[f64]) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        Self { u: s.iter().map(|_| direction(dims, &mut random)).collect(), s: s.to_vec() }
    }

    fn slope(&self, task: usize) -> Vec<f64> {
        self.u[task].iter().map(|u| -self.s[task] * u / 2.0).collect()
    }
}

impl Game for ClosedForm {
    fn tasks(&self) -> usize {
        self.s.len()
    }

    fn dims(&self) -> usize {
        self.u[0].len()
    }

    fn radius(&self) -> f64 {
        1.0
    }

    fn max_excess(&self) -> f64 {
        self.s.iter().copied().fold(0.0, f64::max)
    }

    fn lipschitz(&self) -> f64 {
        self.max_excess() / 2.0
    }

    fn whole(&self, task: usize, theta: &[f64]) -> (f64, Vec<f64>) {
        (self.s[task] * (1.0 - dot(&self.u[task], theta)) / 2.0, self.slope(task))
    }

    /// As noisy as its mean allows: `M` with probability `E_i / M`, else 0.
    fn one_pair(&self, task: usize, theta: &[f64], random: &mut ChaCha8Rng) -> (f64, Vec<f64>) {
        let bound = self.max_excess();
        let hit = random.random::<f64>() < self.whole(task, theta).0 / bound;
        (if hit { bound } else { 0.0 }, self.slope(task))
    }

    fn least(&self, alpha: &[f64]) -> f64 {
        let mut sum = vec![0.0; self.dims()];
        for (task, u) in self.u.iter().enumerate() {
            sum.iter_mut().zip(u).for_each(|(sum, u)| *sum += alpha[task] * self.s[task] * u);
        }
        dot(alpha, &self.s) / 2.0 - norm(&sum) / 2.0
    }
}
