//! DPO on a log-linear policy: `log pi(y|x) = <theta, phi(x, y)> - log Z(x)`, the reference at `theta = 0`.
//!
//! `Z` cancels in the margin `m = beta <theta, phi(x, y+) - phi(x, y-)>`, so `L = -log sigmoid(m)` is convex in theta,
//! and so is the excess over a specialist, clipped for each pair: `E_i = mean over task i of max(L - L(theta_i), 0)`. What
//! the paper trains, as small as it gets: two features, so that minima are found by search to ten digits.

use crate::play::{Game, direction, dot, norm, normal};
use ama_mix::{ExcessMode, GradientClip, pair_excess};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const BETA: f64 = 2.0;
const RADIUS: f64 = 1.0;

/// A pair: the difference of its features, and its specialist's loss in nats.
struct Pair {
    features: [f64; 2],
    specialist_nats: f64,
}

impl Pair {
    fn loss(&self, theta: &[f64]) -> f64 {
        let margin = BETA * dot(&self.features, theta);
        (-margin).max(0.0) + (-margin.abs()).exp().ln_1p()
    }

    /// Clipped excess, and its subgradient.
    fn excess(&self, theta: &[f64]) -> (f64, [f64; 2]) {
        let excess =
            pair_excess(ExcessMode::Clipped, GradientClip::Pair, self.loss(theta), self.specialist_nats);
        // dL/dm = -sigmoid(-m) = -(1 - exp(-L)).
        let slope = if excess.active { -BETA * (1.0 - (-self.loss(theta)).exp()) } else { 0.0 };
        (excess.value_nats, self.features.map(|x| slope * x))
    }
}

/// An instance.
pub(crate) struct LinearDpo {
    tasks: Vec<Vec<Pair>>,
}

impl LinearDpo {
    /// Tasks of `pairs` pairs. The features of task `i` scatter around a random direction times `sizes[i]`; its
    /// specialist is the best theta of the ball for that task alone.
    pub(crate) fn random(seed: u64, pairs: usize, sizes: &[f64]) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let task = |size: &f64| {
            let centre = direction(2, &mut random);
            let mut pair = || {
                let features = [0, 1].map(|at| size * (centre[at] + 0.5 * normal(&mut random)));
                Pair { features, specialist_nats: 0.0 }
            };
            let mut task: Vec<Pair> = (0..pairs).map(|_| pair()).collect();
            let mean = |theta: &[f64]| task.iter().map(|pair| pair.loss(theta)).sum::<f64>();
            let (specialist, _) = minimise(&mean);
            task.iter_mut().for_each(|pair| pair.specialist_nats = pair.loss(&specialist));
            task
        };
        Self { tasks: sizes.iter().map(task).collect() }
    }

    fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.tasks.iter().flatten()
    }
}

impl Game for LinearDpo {
    fn tasks(&self) -> usize {
        self.tasks.len()
    }

    fn dims(&self) -> usize {
        2
    }

    fn radius(&self) -> f64 {
        RADIUS
    }

    /// The loss at the worst theta of the ball for a pair, less the specialist's.
    fn max_excess(&self) -> f64 {
        let most = |pair: &Pair| {
            let away = pair.features.map(|x| -RADIUS * x / norm(&pair.features));
            pair.excess(&away).0
        };
        self.pairs().map(most).fold(0.0, f64::max)
    }

    fn lipschitz(&self) -> f64 {
        self.pairs().map(|pair| BETA * norm(&pair.features)).fold(0.0, f64::max)
    }

    fn whole(&self, task: usize, theta: &[f64]) -> (f64, Vec<f64>) {
        let pairs = &self.tasks[task];
        let (mut mean, mut slope) = (0.0, vec![0.0; 2]);
        for pair in pairs {
            let (excess, along) = pair.excess(theta);
            mean += excess / pairs.len() as f64;
            slope.iter_mut().zip(along).for_each(|(sum, along)| *sum += along / pairs.len() as f64);
        }
        (mean, slope)
    }

    fn one_pair(&self, task: usize, theta: &[f64], random: &mut ChaCha8Rng) -> (f64, Vec<f64>) {
        let pair = &self.tasks[task][random.random_range(0..self.tasks[task].len())];
        let (excess, slope) = pair.excess(theta);
        (excess, slope.to_vec())
    }

    fn least(&self, alpha: &[f64]) -> f64 {
        let mixed = |theta: &[f64]| -> f64 {
            alpha.iter().enumerate().map(|(task, alpha)| alpha * self.whole(task, theta).0).sum()
        };
        minimise(&mixed).1
    }
}

/// The least value of a convex function over the disc, and where: golden-section search along the first coordinate of
/// the least value along the second.
fn minimise(f: &dyn Fn(&[f64]) -> f64) -> ([f64; 2], f64) {
    let along_second = |x: f64| {
        let edge = (RADIUS * RADIUS - x * x).max(0.0).sqrt();
        golden_section(&|y| f(&[x, y]), -edge, edge)
    };
    let (x, value) = golden_section(&|x| along_second(x).1, -RADIUS, RADIUS);
    ([x, along_second(x).0], value)
}

/// Where a convex function on `[from, to]` is least, and its value there.
fn golden_section(f: &dyn Fn(f64) -> f64, mut from: f64, mut to: f64) -> (f64, f64) {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (to - ratio * (to - from), from + ratio * (to - from));
    let (mut f_a, mut f_b) = (f(a), f(b));
    // 0.618^52 of the interval: 1e-11.
    for _ in 0..52 {
        if f_a < f_b {
            (to, b, f_b) = (b, a, f_a);
            a = to - ratio * (to - from);
            f_a = f(a);
        } else {
            (from, a, f_a) = (a, b, f_b);
            b = from + ratio * (to - from);
            f_b = f(b);
        }
    }
    if f_a < f_b { (a, f_a) } else { (b, f_b) }
}
