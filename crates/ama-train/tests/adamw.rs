//! AdamW and clipping against PyTorch (`golden/adamw.py`), and against a second formula in f64.

mod support;

use ama_model::ParamGrads;
use ama_model::access::{values, values_mut};
use ama_train::optim::clip_factor;
use ama_train::{AdamW, AdamWOptions};

#[derive(serde::Deserialize)]
struct Golden {
    steps: Vec<Step>,
}

#[derive(serde::Deserialize)]
struct Step {
    norm: f64,
    w: Vec<f32>,
    b: Vec<f32>,
}

/// The golden problem lives in the first values of the embedding (decayed) and of a norm (not decayed); all other
/// gradients are zero and all other weights are not looked at.
#[test]
fn matches_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("golden/adamw.json")).unwrap();
    let mut model = support::model(0);
    let matrix = model.params().index_of("model.embed_tokens.weight").unwrap();
    let vector = model.params().index_of("model.norm.weight").unwrap();
    for (index, param) in model.params_mut().iter_mut().enumerate() {
        let start: &[f32] = match index {
            i if i == matrix => &[0.5, -1.0, 2.0, 1.5, 0.25, -0.75],
            i if i == vector => &[1.0, -2.0],
            _ => &[],
        };
        values_mut(&mut param.tensor)[..start.len()].copy_from_slice(start);
    }
    let options = AdamWOptions { betas: (0.9, 0.98), eps: 1e-8, weight_decay: 0.1 };
    let mut optimiser = AdamW::new(options, model.params());
    let mut grads = ParamGrads::zeros(model.params());
    for (t, want) in golden.steps.iter().enumerate() {
        grads.clear();
        let t_i = t as i32;
        for (index, grad) in grads.iter_mut().enumerate() {
            if index == matrix {
                for i in 0..3_i32 {
                    grad[i as usize] = ((3 * i + 7 * t_i).rem_euclid(5) - 2) as f32 * 0.5;
                    grad[3 + i as usize] = ((5 * i + 3 * t_i).rem_euclid(7) - 3) as f32 * 0.25;
                }
            } else if index == vector {
                grad[0] = (0.1 * f64::from(t_i - 2)) as f32;
            }
        }
        let norm = grads.global_norm();
        assert!((norm - want.norm).abs() < 1e-6, "step {t}: norm {norm} vs {}", want.norm);
        let scale = clip_factor(norm, Some(1.0));
        optimiser.step(model.params_mut(), &grads, 1e-2 * (1.0 + t as f64), scale);
        for (index, expected) in [(matrix, &want.w), (vector, &want.b)] {
            let got = values(&model.params().as_slice()[index].tensor);
            for (i, (&g, &w)) in got.iter().zip(expected).enumerate() {
                assert!((g - w).abs() <= 2e-6, "step {t}, parameter {index}[{i}]: {g} vs PyTorch's {w}");
            }
        }
    }
}

#[test]
fn clipping_only_ever_shrinks() {
    assert_eq!(clip_factor(0.5, Some(1.0)), 1.0);
    assert_eq!(clip_factor(1e30, None), 1.0);
    assert!((clip_factor(4.0, Some(1.0)) - 0.25).abs() < 1e-6);
    assert_eq!(clip_factor(0.0, Some(1.0)), 1.0, "a zero gradient is not divided by");
}
