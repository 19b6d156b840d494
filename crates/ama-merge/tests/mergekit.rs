//! mergekit configurations as people write them: what is taken, reported and refused. The arithmetic is in `golden.rs`.

mod support;

use std::fs;

use ama_merge::{MergeError, Method, Notice, Recipe, WeightDtype, merge};
use support::{Lab, fine_tune, random_model};

fn lab() -> Lab {
    let lab = Lab::new();
    let base = random_model(1, 20);
    lab.model("base", &base, WeightDtype::Bf16);
    for (i, name) in ["wizard", "coder"].into_iter().enumerate() {
        lab.model(name, &fine_tune(&base, i as u64, 0.1), WeightDtype::Bf16);
    }
    lab
}

/// Names in angle brackets become paths.
fn read(lab: &Lab, text: &str) -> Result<(Recipe, Vec<Notice>), MergeError> {
    let mut text = text.to_owned();
    for name in ["base", "wizard", "coder", "nowhere"] {
        text = text.replace(&format!("<{name}>"), &lab.path(name).display().to_string());
    }
    fs::write(lab.path("config.yml"), text).unwrap();
    Recipe::from_mergekit(&lab.path("config.yml"))
}

#[track_caller]
fn refused(lab: &Lab, text: &str, wants: &[&str]) {
    let error = read(lab, text).map(|(recipe, _)| recipe).expect_err(text).to_string();
    for want in ["config.yml"].iter().chain(wants) {
        assert!(error.contains(want) && error.lines().count() == 1, "{want:?} is not in {error:?}");
    }
}

/// The example of mergekit's documentation for TIES, with comments, and the base among the models.
const TIES: &str = "
models:
  - model: <base>
    #no parameters necessary for base model
  - model: <wizard>
    parameters:
      density: [1, 0.7, 0.1] # density gradient
      weight: 1.0
  - model: <coder>
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: <base>
parameters:
  normalize: true
  int8_mask: true
dtype: float16
";

#[test]
fn documented_examples_are_taken() {
    let lab = lab();
    let (recipe, notices) = read(&lab, TIES).unwrap();
    assert_eq!((recipe.method, recipe.dtype), (Method::Ties, Some(WeightDtype::F16)));
    assert_eq!(recipe.base, Some(lab.path("base")));
    assert_eq!(recipe.models, [lab.path("wizard"), lab.path("coder")]);
    let weight = &recipe.slices[0].models[1].weight;
    assert_eq!(weight.get("model.layers.0.mlp.up_proj.weight", 0.0), Some(0.5));
    assert_eq!(weight.get("model.norm.weight", 0.0), Some(0.0));
    let density = &recipe.slices[0].models[0].density;
    assert!((density.get("x", 0.25).unwrap() - 0.85).abs() < 1e-12);
    assert!(
        matches!(&notices[..], [Notice::KeyIgnored { key, .. }] if key.contains("int8_mask")),
        "{notices:?}"
    );
    merge(&recipe, &lab.path("out")).unwrap();
    let slices = "
slices:
  - sources:
      - {model: <wizard>, layer_range: [0, 2]}
      - {model: <coder>, layer_range: [0, 2]}
merge_method: slerp
base_model: <coder>
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - value: 0.5 # fallback for rest of tensors
dtype: bfloat16
tokenizer_source: base
";
    let (recipe, notices) = read(&lab, slices).unwrap();
    assert_eq!(recipe.models, [lab.path("coder"), lab.path("wizard")], "t = 0 is the base");
    assert!(notices.is_empty(), "{notices:?}");
    merge(&recipe, &lab.path("out2")).unwrap();
}

#[test]
fn pydantics_ways_to_write_values_are_taken() {
    let lab = lab();
    let text = TIES.replace("weight: 1.0", "weight: \"1e-1\"").replace("normalize: true", "normalize: 'no'");
    let (recipe, _) = read(&lab, &text).unwrap();
    assert_eq!(recipe.slices[0].models[0].weight.get("x", 0.0), Some(0.1));
    assert_eq!(recipe.slices[0].shared.normalize.get("x", 0.0), Some(false));
    let (recipe, _) =
        read(&lab, &TIES.replace("model: <wizard>", "model: {model: {path: <wizard>}}")).unwrap();
    assert_eq!(recipe.models[0], lab.path("wizard"));
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let lab = lab();
    for (from, to, wants) in [
        ("dtype:", "dtyp:", ["dtyp", "unknown"]),
        ("normalize:", "normalise:", ["normalise", "unknown parameter"]),
        ("density: 0.33", "densty: 0.33", ["densty", "coder"]),
        ("filter: mlp", "filtre: mlp", ["filtre", "unknown"]),
        ("merge_method: ties", "merge_method: passthrough", ["passthrough", "dare_ties"]),
        ("merge_method: ties", "merge_method: [ties]", ["line 16", "string"]),
        ("dtype: float16", "dtype: float64", ["dtype", "float64"]),
        ("density: 0.33", "density: lots", ["density", "lots"]),
        ("density: 0.33", "density: {value: 0.3, other: 1}", ["other", ""]),
        ("density: 0.33", "density: [0.3, {value: 1}]", ["not of both", ""]),
        ("normalize: true", "normalize: 2", ["normalize", "2"]),
        ("dtype: float16", "chat_template: chatml", ["chat_template", "leave"]),
        ("dtype: float16", "tokenizer_source: union", ["tokenizer_source", "union"]),
        ("dtype: float16", "tokenizer: {source: base, pad_to_multiple_of: 64}", ["tokenizer", "padding"]),
        ("dtype: float16", "modules: {}", ["modules", ""]),
        ("model: <wizard>", "model: hub/name+hub/lora", ["adapter", "hub/name"]),
        ("model: <wizard>", "model: {path: <wizard>, revision: main}", ["revision", ""]),
        ("models:", "slices: []\nmodels:", ["either", ""]),
    ] {
        refused(&lab, &TIES.replacen(from, to, 1), &wants);
    }
    refused(&lab, "a: [", &[]);
    refused(&lab, "", &[]);
    // An alias bomb stops at the parser's budget.
    let bomb = (1..30).fold("a0: &a0 [1,1,1,1,1,1,1,1]\n".to_owned(), |text, i| {
        let before = i - 1;
        format!("{text}a{i}: &a{i} [*a{before},*a{before},*a{before},*a{before},*a{before},*a{before},*a{before}]\n")
    });
    refused(&lab, &bomb, &[]);
}

#[test]
fn layers_stay_in_their_place() {
    let lab = lab();
    let slices = |first: &str, second: &str, rest: &str| {
        format!(
            "slices:\n- sources:\n  - {{model: <base>, layer_range: {first}}}\n  - {{model: <coder>, layer_range: {second}}}\n\
             {rest}merge_method: linear\nparameters: {{weight: 1}}\n"
        )
    };
    refused(&lab, &slices("[0, 2]", "[1, 3]", ""), &["layer_range", "in its place"]);
    refused(&lab, &slices("[0, 2]", "[0, 2]", "  residual_weight: 0.5\n"), &["residual_weight"]);
    let other = "- sources:\n  - {model: <wizard>, layer_range: [1, 2]}\n";
    refused(&lab, &slices("[0, 1]", "[0, 1]", other), &["same models"]);
    for (range, found) in [("[0, 1]", "0..1"), ("[1, 2]", "1..2"), ("[0, 3]", "0..3"), ("[2, 0]", "2..0")] {
        let (recipe, _) = read(&lab, &slices(range, range, "")).unwrap();
        let error = merge(&recipe, &lab.path("out")).unwrap_err().to_string();
        assert!(error.contains(found) && error.contains("0 to 2"), "{error}");
    }
    let (recipe, _) = read(&lab, &slices("[0, 2]", "[0, 2]", "")).unwrap();
    merge(&recipe, &lab.path("out")).unwrap();
}

#[test]
fn a_missing_weight_names_model_and_tensor() {
    let lab = lab();
    let (recipe, _) = read(&lab, &TIES.replace("weight: 1.0", "")).unwrap();
    let error = merge(&recipe, &lab.path("out")).unwrap_err().to_string();
    assert!(error.contains("weight") && error.contains("wizard") && error.contains("for tensor"), "{error}");
    let (recipe, _) = read(&lab, &TIES.replace("<wizard>", "<nowhere>")).unwrap();
    let error = merge(&recipe, &lab.path("out")).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("downloaded"), "{error}");
}
