//! Preference losses against TRL's own values, central differences, the textbook formulas and closed forms.

use ama_loss::reference::preference_loss;
use ama_loss::{PairLogps, PreferenceKind, PreferenceLoss};

const KINDS: [PreferenceKind; 6] = [
    PreferenceKind::Sigmoid { label_smoothing: 0.0 },
    PreferenceKind::Sigmoid { label_smoothing: 0.1 },
    PreferenceKind::Ipo,
    PreferenceKind::Hinge,
    PreferenceKind::Robust { label_smoothing: 0.0 },
    PreferenceKind::Robust { label_smoothing: 0.2 },
];

fn pair(chosen: f64, rejected: f64) -> PairLogps {
    PairLogps {
        chosen,
        rejected,
        ref_chosen: -21.0,
        ref_rejected: -33.0,
        chosen_tokens: 7,
        rejected_tokens: 31,
    }
}

#[test]
fn values_gradients_and_rewards_are_trls() {
    let table = include_str!("golden/preference.csv");
    let mut seen = 0;
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let at = |i: usize| cells[i].parse::<f64>().unwrap();
        let label_smoothing = at(1);
        let kind = match cells[0] {
            "sigmoid" => PreferenceKind::Sigmoid { label_smoothing },
            "ipo" => PreferenceKind::Ipo,
            "hinge" => PreferenceKind::Hinge,
            "robust" => PreferenceKind::Robust { label_smoothing },
            other => panic!("{other}"),
        };
        let loss = PreferenceLoss::new(kind, at(2), at(3)).unwrap();
        let got = loss.evaluate(&PairLogps {
            chosen: at(4),
            rejected: at(5),
            ref_chosen: at(6),
            ref_rejected: at(7),
            chosen_tokens: at(8) as u32,
            rejected_tokens: at(9) as u32,
        });
        let got =
            [got.loss_nats, got.d_chosen, got.d_rejected, got.chosen_reward, got.rejected_reward, got.margin];
        for (i, got) in got.into_iter().enumerate() {
            let want = at(10 + i);
            assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{line}: column {i}, {got} vs {want}");
        }
        seen += 1;
    }
    assert_eq!(seen, KINDS.len() * 3 * 6);
}

#[test]
fn gradients_match_central_differences() {
    for kind in KINDS {
        for (beta, gamma) in [(0.1, 0.0), (0.7, 0.3)] {
            let loss = PreferenceLoss::new(kind, beta, gamma).unwrap();
            for (c, r) in [(-20.0, -30.0), (-25.5, -29.0), (-12.0, -40.0), (-60.0, -3.0)] {
                let eps = 1e-4;
                let value = |c, r| loss.evaluate(&pair(c, r)).loss_nats;
                let got = loss.evaluate(&pair(c, r));
                let d_c = (value(c + eps, r) - value(c - eps, r)) / (2.0 * eps);
                let d_r = (value(c, r + eps) - value(c, r - eps)) / (2.0 * eps);
                assert!((got.d_chosen - d_c).abs() < 1e-8, "{kind:?}: {} vs {d_c}", got.d_chosen);
                assert!((got.d_rejected - d_r).abs() < 1e-8, "{kind:?}: {} vs {d_r}", got.d_rejected);
            }
        }
    }
}

#[test]
fn values_match_the_textbook_formulas() {
    for kind in KINDS {
        for (beta, gamma) in [(0.1, 0.0), (0.05, 2.0)] {
            let loss = PreferenceLoss::new(kind, beta, gamma).unwrap();
            for (c, r) in [(-20.0, -30.0), (-100.0, -3.0), (-3.0, -200.0)] {
                let (got, want) =
                    (loss.evaluate(&pair(c, r)).loss_nats, preference_loss(kind, beta, gamma, &pair(c, r)));
                assert!((got - want).abs() < 1e-12 * want.abs().max(1.0), "{kind:?}: {got} vs {want}");
            }
        }
    }
}

#[test]
fn margins_of_2000_are_finite_and_at_their_asymptotes() {
    for kind in KINDS {
        for (c, r) in [(-20021.0, -33.0), (-21.0, -20033.0), (-1e300, -1.0), (-1.0, -1e300)] {
            let got = PreferenceLoss::new(kind, 0.1, 0.0).unwrap().evaluate(&pair(c, r));
            let finite = got.loss_nats.is_finite() || (kind == PreferenceKind::Ipo && c.min(r) < -1e200);
            assert!(
                finite && got.d_chosen.is_finite() && got.d_rejected.is_finite(),
                "{kind:?} at {c}: {got:?}"
            );
        }
    }
    let dpo = PreferenceLoss::new(KINDS[0], 0.1, 0.0).unwrap();
    let wrong = dpo.evaluate(&pair(-20021.0, -33.0));
    assert_eq!(
        (wrong.margin, wrong.loss_nats, wrong.d_chosen, wrong.d_rejected),
        (-2000.0, 2000.0, -0.1, 0.1)
    );
    let right = dpo.evaluate(&pair(-21.0, -20033.0));
    assert_eq!((right.loss_nats, right.d_chosen), (0.0, 0.0));
    // The loss of a good pair must not be rounded to 0 by computing a sigmoid first: e^-50 is representable.
    let good = dpo.evaluate(&pair(-21.0, -533.0));
    assert!((good.loss_nats / (-50f64).exp() - 1.0).abs() < 1e-12);
}

#[test]
fn nan_is_never_hidden() {
    for kind in KINDS {
        let loss = PreferenceLoss::new(kind, 0.1, 0.0).unwrap();
        for bad in [pair(f64::NAN, -3.0), pair(-3.0, f64::NAN)] {
            let got = loss.evaluate(&bad);
            assert!(got.loss_nats.is_nan() && got.d_chosen.is_nan() && got.d_rejected.is_nan(), "{kind:?}");
        }
    }
}

#[test]
fn no_tokens_count_as_one() {
    let loss = PreferenceLoss::new(PreferenceKind::Ipo, 0.1, 1.0).unwrap();
    let empty = PairLogps { chosen_tokens: 0, rejected_tokens: 0, ..pair(-3.0, -4.0) };
    let one = PairLogps { chosen_tokens: 1, rejected_tokens: 1, ..empty };
    assert_eq!(loss.evaluate(&empty), loss.evaluate(&one));
}
