//! The convergence guarantee, on games whose duality gap is known: the closed-form game, and DPO on a log-linear policy.
//!
//! Online gradient descent with step `R / (G sqrt T)` regrets at most `G R / sqrt T` on average; Hedge adds
//! `M sqrt(ln k / (2 T))`, Exp3 `2 sqrt(e - 1) M sqrt(k ln k / T)` (Auer et al. 2002, corollary 3.2). The games and the
//! bounds are those of `examples/convergence`, which draws what is asserted here.

#[path = "../examples/convergence/closed_form.rs"]
mod closed_form;
#[path = "../examples/convergence/linear_dpo.rs"]
mod linear_dpo;
#[path = "../examples/convergence/play.rs"]
mod play;

use ama_mix::{AmaR, AmaS, AmaSIx, ExcessScale};
use closed_form::ClosedForm;
use linear_dpo::LinearDpo;
use play::{Game, bound_of_ama_r, bound_of_ama_s, norm, play, slope};

const HORIZONS: [u64; 5] = [100, 400, 1600, 6400, 25600];
const SEEDS: u64 = 20;

/// Chosen once, before any of them was run.
fn closed_forms() -> [ClosedForm; 3] {
    [
        ClosedForm::reference(),
        ClosedForm::random(1, 8, &[0.5, 0.45, 0.35]),
        ClosedForm::random(2, 20, &[1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]),
    ]
}

fn linear() -> LinearDpo {
    LinearDpo::random(1, 24, &[1.0, 0.8, 0.6])
}

fn gap_of_ama_r(game: &dyn Game, steps: u64) -> f64 {
    let k = game.tasks();
    let scale = ExcessScale::Fixed(game.max_excess());
    play(game, &mut AmaR::new(k, AmaR::hedge_eta(k, steps), scale).unwrap(), steps, 0)
}

fn gap_of_ama_s(game: &dyn Game, steps: u64, seed: u64) -> f64 {
    let k = game.tasks();
    let (c, scale) = (AmaS::horizon_c(k, steps), ExcessScale::Fixed(game.max_excess()));
    play(game, &mut AmaS::new(k, c, c / k as f64, scale).unwrap(), steps, seed)
}

fn mean_over_seeds(gap: impl Fn(u64) -> f64) -> f64 {
    (0..SEEDS).map(gap).sum::<f64>() / SEEDS as f64
}

/// The gap of two averages found by other means than our code: the reference script gives .04214 at T = 100 on
/// its instance with the new-alpha order.
#[test]
fn the_game_itself_matches_the_reference_script() {
    let game = ClosedForm::reference();
    let mut mixer = AmaR::new(4, AmaR::hedge_eta(4, 100), ExcessScale::Fixed(1.0)).unwrap();
    let gap = play(&game, &mut mixer, 100, 0);
    assert!((gap - 0.04214).abs() < 1e-5, "{gap}");
}

#[test]
fn ama_r_stays_under_its_bound_and_falls_with_the_root_of_t() {
    for (instance, game) in closed_forms().iter().enumerate() {
        let mut gaps = Vec::new();
        for steps in HORIZONS {
            let (gap, bound) = (gap_of_ama_r(game, steps), bound_of_ama_r(game, steps));
            assert!(0.0 < gap && gap <= bound, "instance {instance}, T {steps}: {gap} > {bound}");
            gaps.push(gap);
        }
        let slope = slope(&HORIZONS, &gaps);
        assert!((-0.55..=-0.45).contains(&slope), "instance {instance}: slope {slope}, gaps {gaps:?}");
    }
}

#[test]
fn ama_s_stays_under_its_bound_in_the_mean_over_seeds() {
    for (instance, game) in closed_forms().iter().enumerate() {
        let mut means = Vec::new();
        for steps in HORIZONS {
            let mean = mean_over_seeds(|seed| gap_of_ama_s(game, steps, seed));
            let bound = bound_of_ama_s(game, steps);
            assert!(0.0 < mean && mean <= bound, "instance {instance}, T {steps}: {mean} > {bound}");
            means.push(mean);
        }
        let slope = slope(&HORIZONS, &means);
        assert!(slope <= -0.35, "instance {instance}: slope {slope}, means {means:?}");
    }
}

/// Exp3-IX with `eta = 2 gamma = sqrt(2 ln k / (k T))` on losses in `[0, 1]` regrets at most
/// `2 sqrt(2 k T ln k) + (sqrt(2 k T / ln k) + 1) ln(2 / d)` with probability `1 - d` (Neu 2015, theorem 1), so in the mean
/// that with `1 + ln 2` in place of the last logarithm. The bound is what is asserted, and that the gap falls. The slope of
/// -0.35 that AMA-S is held to is not reached on every instance here (-0.327 was seen), and no other was derived.
#[test]
fn ama_s_ix_stays_under_its_bound_in_the_mean_over_seeds() {
    for (instance, game) in closed_forms().iter().enumerate() {
        let (k, m) = (game.tasks(), game.max_excess());
        let mut means = Vec::new();
        for steps in HORIZONS {
            let eta = AmaSIx::horizon_eta(k, steps);
            let mean = mean_over_seeds(|seed| {
                let mut mixer = AmaSIx::new(k, eta / 2.0, eta, ExcessScale::Fixed(m)).unwrap();
                play(game, &mut mixer, steps, seed)
            });
            let (t, log) = (steps as f64, (k as f64).ln());
            let regret = 2.0 * (2.0 * k as f64 * t * log).sqrt()
                + ((2.0 * k as f64 * t / log).sqrt() + 1.0) * (1.0 + 2f64.ln());
            let bound = game.lipschitz() * game.radius() / t.sqrt() + m * regret / t;
            assert!(0.0 < mean && mean <= bound, "instance {instance}, T {steps}: {mean} > {bound}");
            means.push(mean);
        }
        assert!(means.last() < means.first(), "instance {instance}: {means:?}");
    }
}

/// The guarantee holds for what is really trained, as far as that is convex.
#[test]
fn dpo_on_a_log_linear_policy_converges_under_the_same_bounds() {
    let game = linear();
    let steps = [100, 400, 1600, 6400];
    let gaps = steps.map(|steps| gap_of_ama_r(&game, steps));
    for (&steps, gap) in steps.iter().zip(gaps) {
        let bound = bound_of_ama_r(&game, steps);
        assert!(-1e-9 < gap && gap <= bound, "AMA-R, T {steps}: {gap} > {bound}");
    }
    assert!(slope(&steps, &gaps) <= -0.45, "{gaps:?}");
    for (steps, seeds) in [(100, 8), (1600, 4)] {
        let mean = (0..seeds).map(|seed| gap_of_ama_s(&game, steps, seed)).sum::<f64>() / seeds as f64;
        let bound = bound_of_ama_s(&game, steps);
        assert!(-1e-9 < mean && mean <= bound, "AMA-S, T {steps}: {mean} > {bound}");
    }
}

/// What the gap of the log-linear game rests on: its subgradients, its constants, and its minima by a plain grid.
#[test]
fn the_log_linear_game_is_what_it_says() {
    let game = linear();
    let at = |angle: f64, radius: f64| vec![radius * angle.cos(), radius * angle.sin()];
    let grid: Vec<Vec<f64>> =
        (0..64).flat_map(|i| (0..=40).map(move |j| at(f64::from(i) / 10.2, f64::from(j) / 40.0))).collect();
    for theta in &grid {
        for task in 0..game.tasks() {
            let (excess, slope) = game.whole(task, theta);
            assert!((0.0..=game.max_excess()).contains(&excess) && norm(&slope) <= game.lipschitz());
            // A convex function lies above each of its tangents.
            for other in grid.iter().step_by(37) {
                let tangent = excess + slope[0] * (other[0] - theta[0]) + slope[1] * (other[1] - theta[1]);
                assert!(game.whole(task, other).0 >= tangent - 1e-12);
            }
        }
    }
    for alpha in [[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [1.0 / 3.0; 3]] {
        let value =
            |theta: &Vec<f64>| -> f64 { (0..3).map(|task| alpha[task] * game.whole(task, theta).0).sum() };
        let on_grid = grid.iter().map(value).fold(f64::MAX, f64::min);
        let least = game.least(&alpha);
        // Neighbours on the grid are 0.1 apart at most, so the minimum is within 0.05 G of it.
        assert!(least <= on_grid && on_grid - least < 0.05 * game.lipschitz(), "{least} vs {on_grid}");
    }
    assert!(game.least(&[1.0, 0.0, 0.0]).abs() < 1e-9, "a task alone reaches its specialist");
    assert!(game.least(&[1.0 / 3.0; 3]) > 0.01, "together they cannot");
}
