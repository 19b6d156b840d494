//! The log-probability head against `f64`, over sizes, budgets and skipped rows.

mod common;

use ama_loss::{HeadShape, LinearLogp, Recompute, linear_logp_backward, linear_logp_forward, reference};
use common::{check, naive_backward, naive_d_logits, naive_linear, naive_softmax, targets, uniform, wide};

/// Lengths that leave tails everywhere, a vocabulary wider than a tile, and the sizes of the embedded suite's model.
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (1, 31, 1025),
    (31, 1, 31),
    (31, 31, 33),
    (2, 17, 3001),
    (1025, 5, 31),
    (77, 96, 263),
    (33, 48, 2049),
];

struct Case {
    shape: HeadShape,
    hidden: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<u32>,
    upstream: Vec<f32>,
}

impl Case {
    fn new((rows, hidden, vocab): (usize, usize, usize), scale: f32) -> Self {
        Self {
            shape: HeadShape { rows, hidden, vocab },
            hidden: uniform(1, rows * hidden, scale),
            weight: uniform(2, vocab * hidden, 1.0),
            targets: targets(rows, vocab),
            upstream: uniform(3, rows, 1.0),
        }
    }

    fn head(&self, budget_bytes: usize) -> LinearLogp<'_> {
        let Self { shape, hidden, weight, targets, .. } = self;
        LinearLogp { hidden, weight, targets, shape: *shape, budget_bytes }
    }

    /// `(logp, d_hidden, d_weight)`.
    fn run(&self, budget: usize, recompute: Recompute) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let head = self.head(budget);
        let (forward, kept) = head.forward(recompute).unwrap();
        let (mut d_h, mut d_w) = (vec![0.0; self.hidden.len()], vec![0.0; self.weight.len()]);
        head.backward(&forward.lse, kept, &self.upstream, &mut d_h, Some(&mut d_w)).unwrap();
        (forward.logp, d_h, d_w)
    }
}

/// Errors of naive `f32` are of this size anyway; the slack is for another order of the same additions.
fn atol(shape: HeadShape, scale: f32) -> f64 {
    4e-7 * f64::from(scale.max(1.0)) * (shape.hidden as f64).sqrt().max(4.0)
}

#[test]
fn head_errs_no_more_than_naive_f32() {
    for dims in SHAPES {
        for scale in [1.0, 8.0] {
            let case = Case::new(dims, scale);
            let (d, vocab) = (case.shape.hidden, case.shape.vocab);
            let (h, w) = (wide(&case.hidden), wide(&case.weight));
            let truth = reference::linear_logp_forward(&h, &w, &case.targets, d);
            let (true_h, true_w) =
                reference::linear_logp_backward(&h, &w, &case.targets, &wide(&case.upstream), d);
            let x = naive_linear(&case.hidden, &case.weight, d);
            let (naive, softmax) = naive_softmax(&x, &case.targets, vocab);
            let d_x = naive_d_logits(&softmax, &case.targets, &case.upstream, vocab);
            let (naive_h, naive_w) = naive_backward(&d_x, &case.hidden, &case.weight, d);
            let atol = atol(case.shape, scale);
            for (budget, recompute) in
                [(64 << 20, Recompute::OverBudget), (64 << 20, Recompute::Always), (400, Recompute::Always)]
            {
                let (logp, d_h, d_w) = case.run(budget, recompute);
                check(&logp, &naive, &truth, atol);
                check(&d_h, &naive_h, &true_h, atol);
                check(&d_w, &naive_w, &true_w, atol * (case.shape.rows as f64).sqrt());
            }
        }
    }
}

#[test]
fn every_budget_gives_the_same_to_rounding_and_the_same_bits_again() {
    let case = Case::new((37, 24, 2500), 2.0);
    let all = case.run(usize::MAX, Recompute::Always);
    let row = 4 * case.shape.vocab;
    for budget in [4, 64, row - 1, row, 2 * row, 7 * row, 37 * row] {
        for recompute in [Recompute::Always, Recompute::OverBudget] {
            let once = case.run(budget, recompute);
            assert_eq!(once, case.run(budget, recompute), "budget {budget}");
            for (a, b) in [(&once.0, &all.0), (&once.1, &all.1), (&once.2, &all.2)] {
                for (a, b) in a.iter().zip(b) {
                    assert!((a - b).abs() <= 2e-5, "budget {budget}: {a} vs {b}");
                }
            }
        }
    }
}

#[test]
fn tile_never_exceeds_the_budget() {
    for (rows, hidden, vocab) in SHAPES {
        let shape = HeadShape { rows, hidden, vocab };
        for budget in [4, 5, 400, 4096, 1 << 16, 64 << 20, usize::MAX] {
            let tile = shape.tile(budget).unwrap();
            assert!(4 * tile.rows * tile.vocab <= budget, "{tile:?} over {budget}");
            assert!((1..=rows).contains(&tile.rows) && (1..=vocab).contains(&tile.vocab));
        }
    }
}

#[test]
fn logits_are_kept_only_under_the_budget() {
    let case = Case::new((10, 3, 100), 1.0);
    let bytes = 4 * 10 * 100;
    let kept = |budget, recompute| case.head(budget).forward(recompute).unwrap().1.map(|kept| kept.bytes());
    assert_eq!(kept(bytes, Recompute::OverBudget), Some(bytes));
    assert_eq!(kept(bytes - 1, Recompute::OverBudget), None);
    assert_eq!(kept(bytes, Recompute::Always), None);
}

/// Skipped rows must not be computed and thrown away: theirs hold NaN here.
#[test]
fn rows_without_upstream_are_never_read() {
    for recompute in [Recompute::Always, Recompute::OverBudget] {
        for budget in [2 * 4 * 200, 64 << 20] {
            let mut case = Case::new((40, 12, 200), 1.0);
            let skipped = |i: usize| i.is_multiple_of(3) || (10..20).contains(&i);
            for i in (0..40).filter(|i| skipped(*i)) {
                case.upstream[i] = if i % 2 == 0 { 0.0 } else { -0.0 };
                case.hidden[i * 12..(i + 1) * 12].fill(f32::NAN);
            }
            let (logp, d_h, d_w) = case.run(budget, recompute);
            // The same without these rows.
            let rows: Vec<usize> = (0..40).filter(|i| !skipped(*i)).collect();
            let mut dense = Case::new((rows.len(), 12, 200), 1.0);
            dense.hidden = rows.iter().flat_map(|i| case.hidden[i * 12..(i + 1) * 12].to_vec()).collect();
            dense.targets = rows.iter().map(|i| case.targets[*i]).collect();
            dense.upstream = rows.iter().map(|i| case.upstream[*i]).collect();
            let (dense_logp, dense_h, dense_w) = dense.run(64 << 20, Recompute::Always);
            let zip = |got: &[f32], want: &[f32]| {
                for (a, b) in got.iter().zip(want) {
                    assert!((a - b).abs() < 1e-5, "{a} vs {b}");
                }
            };
            zip(&d_w, &dense_w);
            for (k, i) in rows.iter().enumerate() {
                zip(&logp[*i..=*i], &dense_logp[k..=k]);
                zip(&d_h[i * 12..(i + 1) * 12], &dense_h[k * 12..(k + 1) * 12]);
            }
            for i in (0..40).filter(|i| skipped(*i)) {
                assert!(logp[i].is_nan());
                assert_eq!(d_h[i * 12..(i + 1) * 12], [0.0; 12]);
            }
        }
    }
}

#[test]
fn all_rows_skipped_is_no_work_and_no_change() {
    let mut case = Case::new((5, 3, 7), 1.0);
    case.upstream.fill(0.0);
    let (_, d_h, d_w) = case.run(64 << 20, Recompute::Always);
    assert!(d_h.iter().chain(&d_w).all(|g| *g == 0.0));
    let (_, d_h, d_w) = case.run(64 << 20, Recompute::OverBudget);
    assert!(d_h.iter().chain(&d_w).all(|g| *g == 0.0));
}

#[test]
fn gradients_are_added_to_what_is_there_and_a_frozen_head_is_left_alone() {
    let case = Case::new((9, 4, 50), 1.0);
    let (logp, d_h, d_w) = case.run(1000, Recompute::Always);
    let Case { shape, hidden, weight, targets, upstream } = &case;
    let forward = linear_logp_forward(hidden, weight, targets, *shape, 1000).unwrap();
    assert_eq!(forward.logp, logp);
    let (mut again_h, mut again_w) = (vec![1.0; d_h.len()], vec![-2.0; d_w.len()]);
    let lse = &forward.lse;
    let d_weight = Some(&mut again_w[..]);
    linear_logp_backward(hidden, weight, targets, lse, upstream, *shape, 1000, &mut again_h, d_weight)
        .unwrap();
    for (a, b) in again_h.iter().zip(&d_h).map(|(a, b)| (a - 1.0, b)) {
        assert!((a - b).abs() < 1e-5);
    }
    for (a, b) in again_w.iter().zip(&d_w).map(|(a, b)| (a + 2.0, b)) {
        assert!((a - b).abs() < 1e-5);
    }
    let mut frozen = vec![0.0; d_h.len()];
    linear_logp_backward(hidden, weight, targets, lse, upstream, *shape, 1000, &mut frozen, None).unwrap();
    assert_eq!(frozen, d_h);
}

/// Bits may not depend on which thread does what; four threads on any machine shuffle enough.
#[test]
fn bits_do_not_depend_on_scheduling() {
    let case = Case::new((301, 40, 1500), 1.0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let first = pool.install(|| case.run(1 << 20, Recompute::Always));
    for _ in 0..5 {
        assert_eq!(first, pool.install(|| case.run(1 << 20, Recompute::Always)));
    }
}

/// The reference is not its own oracle: its gradients against central differences of its values.
#[test]
fn reference_gradients_match_finite_differences() {
    let (n, d, vocab) = (3, 4, 5);
    let (hidden, weight) = (wide(&uniform(4, n * d, 1.0)), wide(&uniform(5, vocab * d, 1.0)));
    let (targets, upstream) = (targets(n, vocab), [0.7, -1.3, 0.2]);
    let value = |h: &[f64], w: &[f64]| -> f64 {
        reference::linear_logp_forward(h, w, &targets, d).iter().zip(upstream).map(|(l, g)| l * g).sum()
    };
    let (d_h, d_w) = reference::linear_logp_backward(&hidden, &weight, &targets, &upstream, d);
    let eps = 1e-5;
    for i in 0..hidden.len() {
        let (mut up, mut down) = (hidden.clone(), hidden.clone());
        (up[i], down[i]) = (up[i] + eps, down[i] - eps);
        let slope = (value(&up, &weight) - value(&down, &weight)) / (2.0 * eps);
        assert!((slope - d_h[i]).abs() < 1e-8, "hidden {i}: {slope} vs {}", d_h[i]);
    }
    for i in 0..weight.len() {
        let (mut up, mut down) = (weight.clone(), weight.clone());
        (up[i], down[i]) = (up[i] + eps, down[i] - eps);
        let slope = (value(&hidden, &up) - value(&hidden, &down)) / (2.0 * eps);
        assert!((slope - d_w[i]).abs() < 1e-8, "weight {i}: {slope} vs {}", d_w[i]);
    }
    // And its values against the closed form of equal logits.
    let logp = reference::log_softmax_gather(&[2.0; 5], &[3], 5);
    assert!((logp[0] + 5f64.ln()).abs() < 1e-15);
}
