//! What has to hold for any weights: fixed points, ends, agreement between methods, and the same bits for any number of threads.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use ama_merge::{Method, ModelSettings, Recipe, Rescale, Setting, WeightDtype, merge, merge_with};
use proptest::prelude::*;
use support::{Lab, Weights, fine_tune, random_model, read};

fn recipe(method: Method, base: &Path, models: &[&PathBuf]) -> Recipe {
    Recipe::new(method, Some(base.to_path_buf()), models.iter().map(|path| (*path).clone()).collect())
}

fn settings(weight: f64, density: f64) -> ModelSettings {
    ModelSettings {
        weight: Setting::constant(weight),
        density: Setting::constant(density),
        epsilon: Setting::constant(0.1),
    }
}

fn merged(lab: &Lab, name: &str, recipe: &Recipe) -> Weights {
    merge(recipe, &lab.path(name)).unwrap();
    read(&lab.path(name))
}

/// Sum of absolute differences, and number of entries that differ.
fn distance(a: &[f32], b: &[f32]) -> (f64, usize) {
    let differences = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    (differences.clone().sum(), differences.filter(|d| *d > 0.0).count())
}

#[test]
fn a_model_merged_with_itself_is_itself_in_every_method_and_type() {
    let lab = Lab::new();
    for dtype in [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16] {
        let dir = lab.model(&format!("model-{}", dtype.name()), &random_model(1, 400), dtype);
        let want = read(&dir);
        for method in Method::ALL {
            // Three times, with weights whose sum no float holds exactly.
            let mut recipe = recipe(method, &dir, &[&dir, &dir, &dir]);
            recipe.slices[0].models = vec![settings(0.1, 0.5), settings(0.7, 0.3), settings(0.4, 0.5)];
            let got = merged(&lab, &format!("{}-{}", method.name(), dtype.name()), &recipe);
            assert!(got == want, "{} in {}", method.name(), dtype.name());
        }
    }
}

#[test]
fn slerp_ends_at_its_models_and_keeps_length() {
    let lab = Lab::new();
    let (a, b) = (random_model(1, 400), random_model(2, 400));
    let (dir_a, dir_b) = (lab.model("a", &a, WeightDtype::F32), lab.model("b", &b, WeightDtype::F32));
    let mut recipe = recipe(Method::Slerp, &dir_a, &[&dir_a, &dir_b]);
    for (t, want) in [(0.0, &a), (1.0, &b)] {
        recipe.slices[0].shared.t = Setting::constant(t);
        assert!(merged(&lab, &format!("t{t}"), &recipe) == *want, "t = {t}");
    }
    // On the arc the angle is shared by t: cos(t angle) from the first, for vectors of equal length.
    let name = "model.embed_tokens.weight";
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let length = |x: &[f32]| dot(x, x).sqrt();
    let mut scaled = b.clone();
    let factor = (length(&a[name].1) / length(&b[name].1)) as f32;
    scaled.get_mut(name).unwrap().1.iter_mut().for_each(|v| *v *= factor);
    recipe.models[1] = lab.model("scaled", &scaled, WeightDtype::F32);
    recipe.slices[0].shared.t = Setting::constant(0.3);
    let at = merged(&lab, "t0.3", &recipe);
    let (x, y, z) = (&a[name].1, &scaled[name].1, &at[name].1);
    let angle = (dot(x, y) / length(x) / length(y)).acos();
    assert!((length(z) / length(x) - 1.0).abs() < 1e-6);
    assert!((dot(x, z) / length(x) / length(z) - (0.3 * angle).cos()).abs() < 1e-6);
}

/// Chaining three models is two merges, one after the other.
#[test]
fn slerp_of_three_is_slerp_of_two_twice() {
    let lab = Lab::new();
    let dirs: Vec<PathBuf> =
        (1..4).map(|i| lab.model(&format!("m{i}"), &random_model(i, 400), WeightDtype::F32)).collect();
    let mut three = Recipe::new(Method::Slerp, None, dirs.clone());
    three.slices[0].models = vec![settings(1.0, 1.0), settings(0.5, 1.0), settings(2.0, 1.0)];
    let got = merged(&lab, "three", &three);
    let mut two = Recipe::new(Method::Slerp, None, dirs[..2].to_vec());
    two.slices[0].shared.t = Setting::constant(0.5 / 1.5);
    merge(&two, &lab.path("first")).unwrap();
    two.models = vec![lab.path("first"), dirs[2].clone()];
    two.slices[0].shared.t = Setting::constant(2.0 / 3.5);
    let want = merged(&lab, "second", &two);
    for (name, (_, want)) in want {
        let worst = want.iter().zip(&got[&name].1).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst < 5e-7, "{name}: {worst}");
    }
}

#[test]
fn dense_methods_of_one_model_are_task_arithmetic() {
    let lab = Lab::new();
    let base = random_model(1, 400);
    let base_dir = lab.model("base", &base, WeightDtype::F32);
    let tuned = lab.model("tuned", &fine_tune(&base, 2, 0.1), WeightDtype::F32);
    let mut recipe = recipe(Method::TaskArithmetic, &base_dir, &[&tuned]);
    recipe.slices[0].models = vec![settings(0.7, 1.0)];
    recipe.slices[0].shared.normalize = Setting::constant(false);
    let want = merged(&lab, "want", &recipe);
    for method in Method::ALL.into_iter().filter(|method| method.needs_base()) {
        recipe.method = method;
        assert!(merged(&lab, method.name(), &recipe) == want, "{}", method.name());
    }
}

/// DARE keeps `density` of the entries, independently between models and tensors, and scales by its inverse.
#[test]
fn dare_drops_at_random_and_rescales() {
    let lab = Lab::new();
    let base = random_model(1, 2000);
    let tuned = fine_tune(&base, 2, 0.1);
    let base_dir = lab.model("base", &base, WeightDtype::F32);
    let tuned_dir = lab.model("tuned", &tuned, WeightDtype::F32);
    let kept = |name: &str, recipe: &Recipe| -> Vec<bool> {
        let got = merged(&lab, name, recipe);
        let mut kept = Vec::new();
        for tensor in ["model.embed_tokens.weight", "lm_head.weight"] {
            let (b, t, g) = (&base[tensor].1, &tuned[tensor].1, &got[tensor].1);
            for ((b, t), g) in b.iter().zip(t).zip(g) {
                kept.push(g != b);
                let (want, got) = (if g == b { 0.0 } else { (t - b) / 0.3 }, g - b);
                assert!((want - got).abs() < 1e-6, "{want} {got}");
            }
        }
        kept
    };
    let mut recipe = recipe(Method::DareLinear, &base_dir, &[&tuned_dir]);
    recipe.slices[0].models = vec![settings(1.0, 0.3)];
    let first = kept("first", &recipe);
    let total = first.len() as f64;
    let share = |mask: &[bool]| mask.iter().filter(|kept| **kept).count() as f64 / mask.len() as f64;
    // Five standard deviations of the mean of independent draws.
    let slack = |p: f64, n: f64| 5.0 * (p * (1.0 - p) / n).sqrt();
    assert!((share(&first) - 0.3).abs() < slack(0.3, total), "{}", share(&first));
    // Neighbours, the two tensors, another seed and another place among the models: all independent.
    recipe.seed = 1;
    let seeded = kept("seeded", &recipe);
    let pairs = |a: &[bool], b: &[bool]| a.iter().zip(b).map(|(a, b)| *a && *b).collect::<Vec<_>>();
    let (upper, lower) = first.split_at(first.len() / 2);
    for both in [pairs(&first, &seeded), pairs(&first, &first[1..]), pairs(upper, lower)] {
        assert!((share(&both) - 0.09).abs() < slack(0.09, both.len() as f64), "{}", share(&both));
    }
    recipe.seed = 0;
    assert!(kept("again", &recipe) == first);
}

/// Keep probabilities of DELLA rise with the rank in the row, from `density - epsilon` to `density + epsilon`; what is kept is divided
/// by them, so that the mean is the task vector.
#[test]
fn della_keeps_large_entries_more_often() {
    let lab = Lab::new();
    let base = random_model(1, 4000);
    let tuned = fine_tune(&base, 2, 0.1);
    let base_dir = lab.model("base", &base, WeightDtype::F32);
    let tuned_dir = lab.model("tuned", &tuned, WeightDtype::F32);
    let mut recipe = recipe(Method::DellaLinear, &base_dir, &[&tuned_dir]);
    recipe.slices[0].models = vec![ModelSettings { epsilon: Setting::constant(0.3), ..settings(1.0, 0.5) }];
    let got = merged(&lab, "out", &recipe);
    let name = "model.embed_tokens.weight";
    let (b, t, g) = (&base[name].1, &tuned[name].1, &got[name].1);
    let mut kept = [0.0; 48];
    for row in 0..4000 {
        let at = row * 48;
        let delta = |i: usize| t[at + i] - b[at + i];
        let mut order: Vec<usize> = (0..48).collect();
        order.sort_by(|&i, &j| delta(i).abs().total_cmp(&delta(j).abs()));
        for (rank, &i) in order.iter().enumerate() {
            let probability = 0.2 + 0.6 * rank as f32 / 47.0;
            if g[at + i] != b[at + i] {
                kept[rank] += 1.0;
                let (want, got) = (delta(i) / probability, g[at + i] - b[at + i]);
                assert!((want - got).abs() < 1e-6, "{want} {got}");
            }
        }
    }
    for (rank, kept) in kept.iter().enumerate() {
        let p = 0.2 + 0.6 * rank as f64 / 47.0;
        let slack = 5.0 * (p * (1.0 - p) / 4000.0).sqrt();
        assert!((kept / 4000.0 - p).abs() < slack, "rank {rank}: {kept} of 4000");
    }
}

/// mergekit's rescaling restores the sum of absolute values of every task vector.
#[test]
fn l1_rescaling_keeps_the_sum() {
    let lab = Lab::new();
    let base = random_model(1, 700);
    let tuned = fine_tune(&base, 2, 0.1);
    let base_dir = lab.model("base", &base, WeightDtype::F32);
    let tuned_dir = lab.model("tuned", &tuned, WeightDtype::F32);
    for method in [Method::Ties, Method::DareTies, Method::DellaLinear] {
        let mut recipe = recipe(method, &base_dir, &[&tuned_dir]);
        recipe.slices[0].models = vec![settings(1.0, 0.4)];
        recipe.slices[0].shared.rescale = Setting::constant(Rescale::L1);
        for (name, (_, got)) in merged(&lab, method.name(), &recipe) {
            let (want, all) = distance(&base[&name].1, &tuned[&name].1);
            let (sum, left) = distance(&base[&name].1, &got);
            assert!((sum / want - 1.0).abs() < 1e-4, "{} {name}: {sum} {want}", method.name());
            assert!(left < all * 3 / 4, "{} {name}: {left} of {all}", method.name());
        }
    }
}

#[test]
fn threads_and_shards_change_no_bit() {
    let lab = Lab::new();
    let base = random_model(1, 900);
    let base_dir = lab.sharded("base", &base, WeightDtype::Bf16);
    let tuned: Vec<PathBuf> =
        (2..5).map(|i| lab.model(&format!("m{i}"), &fine_tune(&base, i, 0.2), WeightDtype::Bf16)).collect();
    for method in Method::ALL {
        for rescale in [None, Some(Rescale::L1)] {
            let mut recipe = recipe(method, &base_dir, &tuned.iter().collect::<Vec<_>>());
            recipe.slices[0].models = vec![settings(0.5, 0.3), settings(1.0, 0.5), settings(0.7, 0.2)];
            recipe.slices[0].shared.rescale = rescale.map(Setting::constant).unwrap_or_default();
            let mut bytes = Vec::new();
            for threads in [1, 2, 3, 7] {
                let out = lab.path(&format!("{}-{rescale:?}-{threads}", method.name()));
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| merge(&recipe, &out)).unwrap();
                bytes.push(fs::read(out.join("model.safetensors")).unwrap());
            }
            assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "{}", method.name());
            let out = lab.path(&format!("{}-{rescale:?}-sharded", method.name()));
            merge_with(&recipe, &out, 50_000, |_| std::ops::ControlFlow::Continue(())).unwrap();
            assert!(out.join("model.safetensors.index.json").exists());
            assert!(read(&out) == support::parse(&bytes[0]), "{}", method.name());
            // What was written sharded can be merged again.
            let again = Recipe::new(Method::Linear, None, vec![out.clone()]);
            assert!(merged(&lab, &format!("{}-{rescale:?}-again", method.name()), &again) == read(&out));
        }
    }
}

#[test]
fn element_type_can_be_chosen_and_is_rounded_once() {
    let lab = Lab::new();
    let base = random_model(1, 400);
    let a = lab.model("a", &base, WeightDtype::F32);
    let b = lab.model("b", &fine_tune(&base, 2, 0.1), WeightDtype::F16);
    let mut recipe = Recipe::new(Method::Linear, None, vec![a, b]);
    let wide = merged(&lab, "f32", &recipe);
    recipe.dtype = Some(WeightDtype::Bf16);
    let narrow = merged(&lab, "bf16", &recipe);
    for (name, (_, values)) in wide {
        let want: Vec<f32> = values.iter().map(|v| half::bf16::from_f32(*v).to_f32()).collect();
        assert!(narrow[&name].1 == want, "{name}");
    }
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.path("bf16").join("config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert_eq!(
        fs::read(lab.path("f32").join("config.json")).unwrap(),
        fs::read(lab.path("a").join("config.json")).unwrap()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..Default::default() })]

    /// Against the definition, entry by entry, in f64.
    #[test]
    fn ties_is_its_definition(
        seed in 0u64..1000,
        densities in prop::array::uniform3(0.0f64..=1.0),
        weights in prop::array::uniform3(-1.0f64..2.0),
        normalize in any::<bool>(),
        lambda in 0.1f64..2.0,
    ) {
        let lab = Lab::new();
        let base = random_model(seed, 20);
        let tuned: Vec<Weights> = (0..3).map(|i| fine_tune(&base, 1000 + 3 * seed + i, 0.3)).collect();
        let base_dir = lab.model("base", &base, WeightDtype::F32);
        let dirs: Vec<PathBuf> =
            (0..3).map(|i| lab.model(&format!("m{i}"), &tuned[i], WeightDtype::F32)).collect();
        let mut recipe = recipe(Method::Ties, &base_dir, &dirs.iter().collect::<Vec<_>>());
        recipe.slices[0].models = (0..3).map(|i| settings(weights[i], densities[i])).collect();
        recipe.slices[0].shared.normalize = Setting::constant(normalize);
        recipe.slices[0].shared.lambda = Setting::constant(lambda);
        let got = merged(&lab, "out", &recipe);
        for (name, (_, b)) in &base {
            let trimmed: Vec<Vec<f64>> = (0..3).map(|i| {
                let delta: Vec<f32> = tuned[i][name].1.iter().zip(b).map(|(t, b)| t - b).collect();
                let mut order: Vec<usize> = (0..b.len()).collect();
                order.sort_by(|&i, &j| delta[j].abs().total_cmp(&delta[i].abs()));
                let keep = if densities[i] == 0.0 { 0 } else { ((densities[i] * b.len() as f64) as usize).max(1) };
                let mut kept = vec![0.0; b.len()];
                for &j in &order[..keep] { kept[j] = f64::from(delta[j]); }
                kept
            }).collect();
            for (j, b) in b.iter().enumerate() {
                let scaled: Vec<f64> = (0..3).map(|i| weights[i] * trimmed[i][j]).collect();
                let sum: f64 = scaled.iter().sum();
                // Too near a tie for f32 to be held to one side.
                if sum.abs() < 1e-6 { continue; }
                let agree = |i: &usize| scaled[*i] * sum > 0.0;
                let total: f64 = (0..3).filter(agree).map(|i| scaled[i]).sum();
                let by: f64 = (0..3).filter(agree).map(|i| weights[i]).sum();
                // Weights that nearly cancel magnify rounding.
                if normalize && by.abs() < 0.05 { continue; }
                let want = f64::from(*b) + lambda * total / if normalize { by } else { 1.0 };
                let got = f64::from(got[name].1[j]);
                prop_assert!((got - want).abs() < 1e-5 * (1.0 + want.abs()), "{name}[{j}]: {got} {want}");
            }
        }
    }
}
