//! The closed-form game of the convergence guarantee: theta in the unit ball of R^d,
//! `E_i(theta) = s_i (1 - <u_i, theta>) / 2`, so every excess lies in `[0, max s]`.
//!
//! The duality gap of the averaged players is exact: `max_i E_i(theta_bar)` less
//! `min_theta sum_i alpha_bar_i E_i = sum alpha_bar_i s_i / 2 - |sum alpha_bar_i s_i u_i| / 2`. Online gradient
//! descent with step `R / (G sqrt T)` regrets at most `G R / sqrt T` on average; Hedge adds
//! `M sqrt(ln k / (2 T))`, Exp3 `2 sqrt(e - 1) M sqrt(k ln k / T)` (Auer et al. 2002, corollary 3.2).
//! The adversary is driven through the public training loop, as a trainer would.

use ama_mix::{AmaR, AmaS, DrawRule, ExcessScale, Mixer, TaskExcess};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const HORIZONS: [u64; 5] = [100, 400, 1600, 6400, 25600];

struct Game {
    /// Unit vectors, one a task.
    u: Vec<Vec<f64>>,
    s: Vec<f64>,
}

impl Game {
    /// The instance of the reference script (numpy `default_rng(7).normal(size=(4, 5))`, rows normalised).
    fn reference() -> Self {
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

    /// Random directions (normals by Box and Muller), given sizes.
    fn random(seed: u64, dims: usize, s: &[f64]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut direction = || {
            let mut normal = || {
                let (a, b): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
                (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
            };
            let row: Vec<f64> = (0..dims).map(|_| normal()).collect();
            let norm = norm(&row);
            row.iter().map(|x| x / norm).collect()
        };
        Self { u: s.iter().map(|_| direction()).collect(), s: s.to_vec() }
    }

    /// Chosen once, before any of them was run.
    fn instances() -> [Self; 3] {
        [
            Self::reference(),
            Self::random(1, 8, &[0.5, 0.45, 0.35]),
            Self::random(2, 20, &[1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]),
        ]
    }

    /// M, the largest excess there can be; a loss is (M/2)-Lipschitz, so G = M/2. R = 1.
    fn max_excess(&self) -> f64 {
        self.s.iter().copied().fold(0.0, f64::max)
    }

    fn excess(&self, task: usize, theta: &[f64]) -> f64 {
        self.s[task] * (1.0 - dot(&self.u[task], theta)) / 2.0
    }

    fn gap(&self, theta: &[f64], alpha: &[f64]) -> f64 {
        let worst = (0..self.s.len()).map(|task| self.excess(task, theta)).fold(f64::MIN, f64::max);
        let mut sum = vec![0.0; theta.len()];
        for (task, u) in self.u.iter().enumerate() {
            sum.iter_mut().zip(u).for_each(|(sum, u)| *sum += alpha[task] * self.s[task] * u);
        }
        worst - (dot(alpha, &self.s) / 2.0 - norm(&sum) / 2.0)
    }

    /// Plays `steps` rounds and returns the duality gap of the averages.
    fn play(&self, mixer: &mut dyn Mixer, steps: u64, seed: u64) -> f64 {
        let (k, dims) = (self.s.len(), self.u[0].len());
        let bound = self.max_excess();
        let step = 1.0 / (bound / 2.0 * (steps as f64).sqrt());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut theta, mut theta_sum) = (vec![0.0; dims], vec![0.0; dims]);
        for _ in 0..steps {
            theta_sum.iter_mut().zip(&theta).for_each(|(sum, theta)| *sum += theta);
            let plan = mixer.plan();
            let (tasks, excess): (Vec<usize>, Vec<f64>) = match plan.draw {
                // One pair of every task, without noise.
                DrawRule::Stratified => (0..k).map(|task| (task, self.excess(task, &theta))).unzip(),
                // One pair of one task, as noisy as its mean allows.
                DrawRule::Sampled => {
                    let task = draw(plan.sampling, rng.random());
                    let hit = rng.random::<f64>() < self.excess(task, &theta) / bound;
                    (vec![task], vec![if hit { bound } else { 0.0 }])
                }
                DrawRule::Union => panic!("the game has no union of pairs"),
            };
            mixer.update(&TaskExcess::collect(k, &tasks, &excess).unwrap()).unwrap();
            let weights = mixer.plan().pair_weights(&tasks).unwrap();
            for (&task, weight) in tasks.iter().zip(weights) {
                // The gradient of E_i is -s_i u_i / 2.
                let along = step * weight * self.s[task] / 2.0;
                theta.iter_mut().zip(&self.u[task]).for_each(|(theta, u)| *theta += along * u);
            }
            let norm = norm(&theta);
            if norm > 1.0 {
                theta.iter_mut().for_each(|theta| *theta /= norm);
            }
        }
        let theta_bar: Vec<f64> = theta_sum.iter().map(|sum| sum / steps as f64).collect();
        self.gap(&theta_bar, &mixer.averaged_alpha())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
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

/// Least-squares slope of ln(gap) over ln(T).
fn slope(gaps: &[f64]) -> f64 {
    let x: Vec<f64> = HORIZONS.iter().map(|&steps| (steps as f64).ln()).collect();
    let y: Vec<f64> = gaps.iter().map(|gap| gap.ln()).collect();
    let (x_mean, y_mean) = (x.iter().sum::<f64>() / x.len() as f64, y.iter().sum::<f64>() / y.len() as f64);
    let covariance: f64 = x.iter().zip(&y).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    covariance / x.iter().map(|x| (x - x_mean).powi(2)).sum::<f64>()
}

/// The gap of two averages found by other means than our code: the reference script gives .04214 at T = 100 on
/// its instance with the new-alpha order.
#[test]
fn the_game_itself_matches_the_reference_script() {
    let game = Game::reference();
    let mut mixer = AmaR::new(4, AmaR::hedge_eta(4, 100), ExcessScale::Fixed(1.0)).unwrap();
    let gap = game.play(&mut mixer, 100, 0);
    assert!((gap - 0.04214).abs() < 1e-5, "{gap}");
}

#[test]
fn ama_r_stays_under_its_bound_and_falls_with_the_root_of_t() {
    for (instance, game) in Game::instances().iter().enumerate() {
        let (k, m) = (game.s.len(), game.max_excess());
        let mut gaps = Vec::new();
        for steps in HORIZONS {
            let t = steps as f64;
            let eta = AmaR::hedge_eta(k, steps);
            let gap = game.play(&mut AmaR::new(k, eta, ExcessScale::Fixed(m)).unwrap(), steps, 0);
            let bound = m / 2.0 / t.sqrt() + m * ((k as f64).ln() / (2.0 * t)).sqrt();
            assert!(0.0 < gap && gap <= bound, "instance {instance}, T {steps}: {gap} > {bound}");
            gaps.push(gap);
        }
        let slope = slope(&gaps);
        assert!((-0.55..=-0.45).contains(&slope), "instance {instance}: slope {slope}, gaps {gaps:?}");
    }
}

#[test]
fn ama_s_stays_under_its_bound_in_the_mean_over_seeds() {
    const SEEDS: u64 = 20;
    for (instance, game) in Game::instances().iter().enumerate() {
        let (k, m) = (game.s.len(), game.max_excess());
        let mut means = Vec::new();
        for steps in HORIZONS {
            let t = steps as f64;
            let c = AmaS::horizon_c(k, steps);
            let gap = |seed| {
                let mut mixer = AmaS::new(k, c, c / k as f64, ExcessScale::Fixed(m)).unwrap();
                game.play(&mut mixer, steps, seed)
            };
            let mean = (0..SEEDS).map(gap).sum::<f64>() / SEEDS as f64;
            let regret = 2.0 * (std::f64::consts::E - 1.0).sqrt() * (k as f64 * (k as f64).ln() / t).sqrt();
            let bound = m / 2.0 / t.sqrt() + m * regret;
            assert!(0.0 < mean && mean <= bound, "instance {instance}, T {steps}: {mean} > {bound}");
            means.push(mean);
        }
        let slope = slope(&means);
        assert!(slope <= -0.35, "instance {instance}: slope {slope}, means {means:?}");
    }
}
