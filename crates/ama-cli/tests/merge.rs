//! `ama merge`: what it prints, what it writes, and what it refuses. The arithmetic is tested in `ama-merge`.

mod common;

use std::fs;
use std::path::Path;

use common::{Lab, call, refused, succeed};

#[test]
fn a_merge_is_a_model_like_any_other() {
    let lab = Lab::with_model();
    let (model, out) = (lab.path("model"), lab.path("merged"));
    let flags = ["--method", "dare-ties", "--density", "0.5", "--weight", "0.7", "--weight", "-0.2"];
    let models = ["--base", &model, "--model", &model, "--model", &model, "--out", &out];
    let said = succeed(&[&["merge", "--json"], &flags[..], &models[..]].concat());
    let json: serde_json::Value = serde_json::from_str(said.out.trim()).unwrap();
    assert_eq!((&json["method"], &json["models"]), (&"dare_ties".into(), &2.into()));
    assert!(json["parameters"].as_u64().unwrap() > 1000 && json["notices"] == serde_json::json!([]));
    // No difference, however sparse and scaled: the model itself, which generates as before.
    let weights = |folder: &str| fs::read(Path::new(folder).join("model.safetensors")).unwrap();
    let data = |bytes: Vec<u8>| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(data(weights(&out)).len() == data(weights(&model)).len());
    let prompt = |model: &str| succeed(&["generate", "--model", model, "--prompt", "count"]).out;
    assert_eq!(prompt(&out), prompt(&model));
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(&out).join("ama_merge.json")).unwrap()).unwrap();
    assert_eq!(record["slices"][0]["models"][1], serde_json::json!({"weight": -0.2, "density": 0.5}));
    // A mergekit configuration, to another element type.
    let config = lab.write(
        "config.yml",
        format!(
            "merge_method: slerp\nbase_model: {model}\nmodels:\n- model: {model}\n- model: {out}\n\
                 parameters:\n  t: [0, 0.5]\n  int8_mask: true\ndtype: bfloat16\n"
        ),
    );
    let half = lab.path("half");
    let said = succeed(&["merge", "--config", &config, "--out", &half]);
    assert!(
        said.err.contains("int8_mask") && said.out.contains("slerp of 2 models"),
        "{}{}",
        said.out,
        said.err
    );
    assert!(2 * data(weights(&half)).len() == data(weights(&out)).len());
    succeed(&["generate", "--model", &half, "--prompt", "count"]);
}

#[test]
fn bad_usage_and_input_are_refused() {
    let lab = Lab::with_model();
    let (model, out) = (lab.path("model"), lab.path("out"));
    let merge = |extra: &[&str], wants: &[&str]| {
        refused(&[&["merge", "--model", &model, "--out", &out], extra].concat(), wants);
        assert!(!Path::new(&out).exists());
    };
    merge(&[], &["--method"]);
    merge(&["--method", "magic"], &["dare_ties"]);
    merge(&["--method", "ties"], &["ties", "base"]);
    merge(&["--method", "slerp"], &["at least two"]);
    merge(&["--method", "linear", "--weight", "1", "--weight", "2"], &["--weight", "2 times for 1 models"]);
    merge(&["--method", "ties", "--base", &model, "--density", "2"], &["density", "2", "[0, 1]"]);
    merge(&["--method", "linear", "--base", &lab.path("nowhere")], &["nowhere", "model.safetensors"]);
    merge(&["--method", "linear", "--config", "x.yml"], &["cannot be used"]);
    // Flags that make no difference, with the methods to which they do.
    for (flag, value) in [
        ("--density", "0.3"),
        ("--t", "0.1"),
        ("--epsilon", "0.1"),
        ("--lambda", "0.5"),
        ("--rescale", "l1"),
        ("--seed", "3"),
    ] {
        merge(&["--method", "linear", flag, value], &[&format!("{flag} makes no difference to linear")]);
    }
    merge(&["--method", "slerp", "--normalize", "true"], &["--normalize", "slerp"]);
    merge(
        &["--method", "task-arithmetic", "--base", &model, "--density", "0.5"],
        &["--density", "dare_ties"],
    );
    merge(&["--method", "slerp", "--model", &model, "--t", "0.5", "--weight", "1"], &["--t", "--weight"]);
    merge(&["--method", "della", "--base", &model, "--epsilon", "0.1"], &["--epsilon", "--density"]);
    let config = lab.write("bad.yml", "merge_method: ties\nmodells: []\n");
    refused(&["merge", "--config", &config, "--out", &out], &["bad.yml", "modells"]);
    refused(&["merge", "--method", "linear", "--model", &model, "--out", &model], &["exists"]);
    let help = call(&["merge", "--help"]);
    assert!(help.code == Some(0) && help.out.contains("Examples") && help.out.contains("--trust-vocabulary"));
}
