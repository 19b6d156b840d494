//! Every method and setting that mergekit has, too, against mergekit's own output; see `golden/make.py`.

mod support;

use std::collections::BTreeMap;
use std::fs;

use ama_merge::{Recipe, WeightDtype, merge};
use support::{Lab, Weights, parse, read};

const CASES: &str = include_str!("golden/cases.json");
const INPUTS: &[u8] = include_bytes!("golden/inputs.safetensors");
const EXPECTED: &[u8] = include_bytes!("golden/expected.safetensors");

/// Largest difference, in units of the largest absolute value of the tensor's inputs and result. f32 has 6e-8; a handful of
/// operations in another order may differ by a few times that.
const TOLERANCE: f32 = 1e-6;

#[test]
fn as_mergekit() {
    let lab = Lab::new();
    let mut folders: BTreeMap<String, Weights> = BTreeMap::new();
    for (name, tensor) in parse(INPUTS) {
        let (folder, name) = name.split_once('/').unwrap();
        folders.entry(folder.to_owned()).or_default().insert(name.to_owned(), tensor);
    }
    for (folder, weights) in &folders {
        let dtype = if folder.ends_with("bf16") { WeightDtype::Bf16 } else { WeightDtype::F32 };
        // Half of them sharded.
        if folder.len() % 2 == 0 {
            lab.sharded(folder, weights, dtype);
        } else {
            lab.model(folder, weights, dtype);
        }
    }
    let expected = parse(EXPECTED);
    let cases: BTreeMap<String, String> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 37 && cases.len() == expected.len());
    let mut wrong = Vec::new();
    let mut worst = 0.0f32;
    for (case, mut text) in cases {
        for folder in folders.keys() {
            text = text.replace(&format!("'{{{folder}}}'"), &lab.path(folder).display().to_string());
        }
        let file = lab.path(&format!("{case}.yml"));
        fs::write(&file, &text).unwrap();
        let (recipe, _) =
            Recipe::from_mergekit(&file).unwrap_or_else(|error| panic!("{case}: {error}\n{text}"));
        let out = lab.path(&format!("out-{case}"));
        merge(&recipe, &out).unwrap_or_else(|error| panic!("{case}: {error}\n{text}"));
        let merged = read(&out);
        let mut want = expected[&case].1.as_slice();
        for (name, (shape, got)) in &merged {
            assert_eq!(*shape, folders["base"][name].0);
            let (this, rest) = want.split_at(got.len());
            want = rest;
            let scale = this.iter().fold(1.0f32, |max, v| max.max(v.abs()));
            for (i, (got, want)) in got.iter().zip(this).enumerate() {
                let error = (got - want).abs() / scale;
                // NaN is not within the tolerance either.
                if error <= TOLERANCE {
                    worst = worst.max(error);
                } else {
                    wrong.push(format!("{case}: {name}[{i}] is {got}, not {want}"));
                }
            }
        }
        assert!(want.is_empty(), "{case}");
    }
    assert!(wrong.is_empty(), "{} values differ\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    // Were nothing compared, there would be no rounding at all.
    assert!(worst > 0.0);
}
