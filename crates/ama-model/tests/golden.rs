//! The whole model against `transformers`: values from `golden/llama.py`, never from our code.

mod packing;

use ama_model::access::{values, values_mut};
use ama_model::{Llama, LlamaConfig, ModelError, ParamGrads, Params};
use packing::{Packed, Pair};
use safetensors::SafeTensors;

const BETA: f64 = 0.1;

/// The golden file, opened.
struct Golden<'a>(SafeTensors<'a>);

impl Golden<'_> {
    fn floats(&self, name: &str) -> Vec<f32> {
        let data = self.0.tensor(name).unwrap();
        data.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let data = self.0.tensor(name).unwrap();
        data.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn pairs(&self) -> Vec<Pair> {
        let part = |i: usize, name: &str| self.ids(&format!("pair/{i}/{name}"));
        (0..3).map(|i| Pair::new(&part(i, "prompt"), &part(i, "chosen"), &part(i, "rejected"))).collect()
    }

    fn model(&self, name: &str) -> Llama {
        let text = self.0.tensor(&format!("{name}/config")).unwrap().data().to_vec();
        let config =
            LlamaConfig::from_json_str(std::str::from_utf8(&text).unwrap(), "golden".as_ref()).unwrap();
        let expected = ama_model::expected_parameters(&config);
        let weights =
            expected.iter().map(|(p, _)| (p.clone(), self.floats(&format!("{name}/weight/{p}")))).collect();
        Llama::new(config.clone(), Params::from_vecs(&config, weights).unwrap()).unwrap()
    }
}

fn with_golden(check: impl Fn(&Golden<'_>, &str)) {
    let bytes = include_bytes!("golden/llama.safetensors");
    let golden = Golden(SafeTensors::deserialize(bytes).unwrap());
    for name in ["tied", "untied"] {
        check(&golden, name);
    }
}

/// Every value within `rtol` of the golden one plus `atol`; NaN fails.
#[track_caller]
fn close(what: &str, got: &[f32], want: &[f32], rtol: f32, atol: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= atol + rtol * want.abs(), "{what}[{i}]: {got}, golden {want}");
    }
}

/// Mean DPO loss over the pairs and its gradient with respect to the six log-probabilities (Rafailov et al., eq. 7).
fn dpo(logps: &[f64], reference: &[f32]) -> (f64, Vec<f64>) {
    let pairs = logps.len() / 2;
    let (mut loss, mut upstream) = (0.0, Vec::new());
    for i in 0..pairs {
        let ratio = |j: usize| logps[2 * i + j] - f64::from(reference[2 * i + j]);
        let margin = BETA * (ratio(0) - ratio(1));
        loss += (-margin).exp().ln_1p() / pairs as f64;
        let slope = -BETA / (1.0 + margin.exp()) / pairs as f64;
        upstream.extend([slope, -slope]);
    }
    (loss, upstream)
}

fn dpo_step(model: &Llama, batch: &Packed, reference: &[f32], grads: &mut ParamGrads) -> f64 {
    let mut loss = f64::NAN;
    model
        .accumulate_gradients::<ModelError>(&batch.view(), grads, |logps| {
            let sums: Vec<f64> = logps.iter().map(|l| l.sum_nats).collect();
            let (value, upstream) = dpo(&sums, reference);
            loss = value;
            Ok(upstream)
        })
        .unwrap();
    loss
}

#[test]
fn logits_and_log_probabilities() {
    with_golden(|golden, name| {
        let (model, pairs) = (golden.model(name), golden.pairs());
        let whole: Vec<u32> = [&pairs[0].prompt[..], &pairs[0].chosen[..]].concat();
        let batch = Packed::every_row(&whole);
        close(
            "logits",
            &model.logits(&batch.view()).unwrap(),
            &golden.floats(&format!("{name}/logits")),
            1e-4,
            1e-4,
        );
        let logps = model.logps(&Packed::pairs(&pairs).view()).unwrap();
        let sums: Vec<f32> = logps.iter().map(|l| l.sum_nats as f32).collect();
        close("logps", &sums, &golden.floats(&format!("{name}/logps")), 0.0, 1e-4);
        let tokens: Vec<usize> = logps.iter().map(|l| l.tokens as usize).collect();
        let want: Vec<usize> = pairs.iter().flat_map(|p| [p.chosen.len(), p.rejected.len()]).collect();
        assert_eq!(tokens, want);
    });
}

#[test]
fn every_gradient_of_the_dpo_loss() {
    with_golden(|golden, name| {
        let (model, batch) = (golden.model(name), Packed::pairs(&golden.pairs()));
        let mut grads = ParamGrads::zeros(model.params());
        dpo_step(&model, &batch, &golden.floats(&format!("{name}/reference")), &mut grads);
        for (parameter, grad) in model.params().iter().zip(grads.iter()) {
            let want = golden.floats(&format!("{name}/gradient/{}", parameter.name));
            let largest = want.iter().fold(0.0f32, |m, g| m.max(g.abs()));
            assert!(largest > 0.0, "{} gets a gradient", parameter.name);
            close(&parameter.name, grad, &want, 1e-4, 1e-4 * largest);
        }
        let norm = golden.floats(&format!("{name}/norms"))[0];
        assert!((grads.global_norm() - f64::from(norm)).abs() < 1e-4 * f64::from(norm));
    });
}

#[test]
fn ten_adamw_steps() {
    with_golden(|golden, name| {
        let (mut model, batch) = (golden.model(name), Packed::pairs(&golden.pairs()));
        let reference = golden.floats(&format!("{name}/reference"));
        let mut grads = ParamGrads::zeros(model.params());
        let mut moments: Vec<(Vec<f64>, Vec<f64>)> =
            grads.iter().map(|g| (vec![0.0; g.len()], vec![0.0; g.len()])).collect();
        let golden_losses = golden.floats(&format!("{name}/losses"));
        for step in 1..=10 {
            grads.clear();
            let loss = dpo_step(&model, &batch, &reference, &mut grads);
            let want = f64::from(golden_losses[step - 1]);
            assert!((loss - want).abs() < 1e-5, "{name}: loss of step {step} is {loss}, golden {want}");
            let norm = grads.global_norm();
            grads.scale((1.0 / (norm + 1e-6)).min(1.0) as f32);
            let (lr, b1, b2) = (1e-3, 0.9f64, 0.999f64);
            for ((parameter, grad), (m, v)) in
                model.params_mut().iter_mut().zip(grads.iter()).zip(&mut moments)
            {
                for (((w, g), m), v) in values_mut(&mut parameter.tensor).iter_mut().zip(grad).zip(m).zip(v) {
                    let g = f64::from(*g);
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    let (m, v) = (*m / (1.0 - b1.powi(step as i32)), *v / (1.0 - b2.powi(step as i32)));
                    *w = (f64::from(*w) * (1.0 - lr * 0.01) - lr * m / (v.sqrt() + 1e-8)) as f32;
                }
            }
        }
        for parameter in model.params() {
            let want = golden.floats(&format!("{name}/final/{}", parameter.name));
            // Adam divides by the gradient's own size: where that is near 0, noise moves a weight by up to lr a step.
            close(&parameter.name, values(&parameter.tensor), &want, 1e-4, 1e-4);
        }
    });
}
