//! Hostile files, folders that do not belong together and parameters out of range: an error that names where, and nothing written.

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ama_merge::{
    MergeError, Method, Notice, Recipe, Setting, Slice, Vocabulary, WeightDtype, merge, merge_with,
};
use support::{CONFIG, Lab, Weights, file, fine_tune, random_model, read};

struct Case {
    lab: Lab,
    base: PathBuf,
    weights: Weights,
}

impl Case {
    fn new() -> Self {
        let lab = Lab::new();
        let weights = random_model(1, 40);
        let base = lab.model("base", &weights, WeightDtype::F32);
        lab.model("other", &fine_tune(&weights, 2, 0.1), WeightDtype::F32);
        Self { lab, base, weights }
    }

    fn recipe(&self, method: Method) -> Recipe {
        Recipe::new(method, Some(self.base.clone()), vec![self.lab.path("other"), self.base.clone()])
    }

    /// The merge fails, says all of `wants`, and leaves nothing.
    #[track_caller]
    fn refused(&self, recipe: &Recipe, wants: &[&str]) -> MergeError {
        let before = self.lab.names();
        let error = merge(recipe, &self.lab.path("out")).expect_err("a merge that has to be refused");
        let text = error.to_string();
        for want in wants {
            assert!(text.contains(want), "{want:?} is not in {text:?}");
        }
        assert_eq!(self.lab.names(), before, "something was left behind");
        error
    }

    /// Writes the other model's weights file and tries.
    #[track_caller]
    fn refused_file(&self, bytes: &[u8], wants: &[&str]) {
        fs::write(self.lab.path("other").join("model.safetensors"), bytes).unwrap();
        self.refused(&self.recipe(Method::Linear), wants);
    }
}

/// A file with this header and so many bytes of data.
fn with_header(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

#[test]
fn hostile_files() {
    let case = Case::new();
    let whole = file(&case.weights, WeightDtype::F32);
    let name = "other/model.safetensors";
    for cut in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        case.refused_file(&whole[..cut], &[name]);
    }
    let mut longer = whole.clone();
    longer.push(0);
    case.refused_file(&longer, &[name]);
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    case.refused_file(&huge, &[name]);
    huge[..8].copy_from_slice(&99_999_999u64.to_le_bytes());
    case.refused_file(&huge, &[name]);
    let entry = |shape: &str, from: u64, to: u64| {
        format!(r#""{{}}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let one = |name: &str, entry: &str| format!("{{{}}}", entry.replace("{}", name));
    for header in [
        "{".to_owned(),
        "[]".to_owned(),
        one("w", &entry("[4]", 0, 8)),
        one("w", &entry("[4]", 16, 0)),
        one("w", &entry("[4]", 8, 24)),
        one("w", &entry("[4294967296,4294967296]", 0, 16)),
        one("w", &entry("[18446744073709551615,2]", 0, 16)),
        one("w", &entry("[4]", 0, 18_446_744_073_709_551_615)),
        one("w", &entry("[4]", 0, 16)).replace("F32", "F99"),
        format!("{{{},{}}}", entry("[2]", 0, 8).replace("{}", "a"), entry("[2]", 4, 12).replace("{}", "b")),
        format!("{{{},{}}}", entry("[2]", 0, 8).replace("{}", "a"), entry("[2]", 8, 16).replace("{}", "a")),
    ] {
        case.refused_file(&with_header(&header, 16), &[name]);
    }
    // A layer whose number is the largest there is.
    let mut odd = case.weights.clone();
    odd.insert(format!("model.layers.{}.w", usize::MAX), (vec![1], vec![0.0]));
    case.refused_file(&file(&odd, WeightDtype::F32), &[&usize::MAX.to_string(), "is not in"]);
    // The intact file is taken.
    fs::write(case.lab.path("other/model.safetensors"), &whole).unwrap();
    merge(&case.recipe(Method::Linear), &case.lab.path("out")).unwrap();
}

#[test]
fn hostile_indices() {
    let case = Case::new();
    let dir = case.lab.path("other");
    let tuned = read(&dir);
    fs::remove_dir_all(&dir).unwrap();
    case.lab.sharded("other", &tuned, WeightDtype::F32);
    let index = dir.join("model.safetensors.index.json");
    let good = fs::read_to_string(&index).unwrap();
    let name = "lm_head.weight";
    for (bad, wants) in [
        (good.replace("model-0.safetensors", "../model-0.safetensors"), ["want the name of a file", name]),
        (good.replace("model-0.safetensors", "model-2.safetensors"), ["model-2.safetensors", "missing"]),
        (good.replace(name, "lm_head.bias"), ["lm_head.bias", "is not in shard"]),
        (good.replacen("weight_map", "weight_mop", 1), ["index.json", "weight_map"]),
        (r#"{"weight_map": {}}"#.to_owned(), ["index.json", "empty"]),
        (good[..good.len() / 2].to_owned(), ["index.json", "line 1"]),
    ] {
        fs::write(&index, bad).unwrap();
        case.refused(&case.recipe(Method::Linear), &wants);
    }
    fs::write(&index, good).unwrap();
    // Half a folder: the other shard did not arrive.
    fs::remove_file(dir.join("model-1.safetensors")).unwrap();
    case.refused(&case.recipe(Method::Linear), &["model-1.safetensors", "missing"]);
    fs::remove_file(&index).unwrap();
    case.refused(&case.recipe(Method::Linear), &["no model.safetensors"]);
    fs::write(dir.join("pytorch_model.bin"), "").unwrap();
    case.refused(&case.recipe(Method::Linear), &["pytorch_model.bin", "convert"]);
}

#[test]
fn folders_that_do_not_belong_together() {
    let case = Case::new();
    let other = case.lab.path("other");
    let change = |change: &dyn Fn(&mut Weights)| {
        let mut weights = case.weights.clone();
        change(&mut weights);
        fs::write(other.join("model.safetensors"), file(&weights, WeightDtype::F32)).unwrap();
    };
    let recipe = case.recipe(Method::Ties);
    change(&|weights| drop(weights.remove("model.norm.weight")));
    case.refused(&recipe, &["other", "model.norm.weight", "[48]", "missing"]);
    change(&|weights| drop(weights.insert("lora_A".to_owned(), (vec![3], vec![0.0; 3]))));
    case.refused(&recipe, &["other", "lora_A", "[3]", "adapter"]);
    change(&|weights| weights.get_mut("model.norm.weight").unwrap().0 = vec![2, 24]);
    case.refused(&recipe, &["other", "model.norm.weight", "[2, 24]", "want [48]", "base"]);
    change(&|weights| *weights = random_model(1, 41));
    case.refused(&recipe, &["other", "[41, 48]", "want [40, 48]", "resize_token_embeddings"]);
    change(&|_| ());
    for (key, value) in [("model_type", "\"gpt2\""), ("num_attention_heads", "4")] {
        let mut config: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        fs::write(other.join("config.json"), config.to_string()).unwrap();
        case.refused(&recipe, &["other", key, value]);
    }
    fs::write(other.join("config.json"), "[1]").unwrap();
    case.refused(&recipe, &["other", "config.json", "object"]);
    let mut config: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
    config["rope_theta"] = 5.into();
    fs::write(case.base.join("config.json"), config.to_string()).unwrap();
    config["rope_theta"] = 6.into();
    fs::write(other.join("config.json"), config.to_string()).unwrap();
    let report = merge(&recipe, &case.lab.path("out")).unwrap();
    assert!(matches!(&report.notices[..], [Notice::ConfigDiffers { key, .. }] if key == "rope_theta"));
}

#[test]
fn tied_heads() {
    let case = Case::new();
    let (head, embeddings) = ("lm_head.weight", "model.embed_tokens.weight");
    let config = |dir: &Path, tied: bool| {
        let text =
            CONFIG.replace("\"tie_word_embeddings\": false", &format!("\"tie_word_embeddings\": {tied}"));
        fs::write(dir.join("config.json"), text).unwrap();
    };
    let other = case.lab.path("other");
    let mut tied = read(&other);
    tied.remove(head);
    fs::write(other.join("model.safetensors"), file(&tied, WeightDtype::F32)).unwrap();
    // A tied model into one that is not: its embeddings are its head.
    config(&other, true);
    let recipe = Recipe::new(Method::Linear, Some(case.base.clone()), vec![other.clone()]);
    merge(&recipe, &case.lab.path("untied")).unwrap();
    assert!(read(&case.lab.path("untied"))[head] == tied[embeddings]);
    // A model that is not tied into a tied one is refused, unless its head is a copy.
    let into = Recipe::new(Method::Linear, Some(other.clone()), vec![case.base.clone()]);
    case.refused(&into, &["base", "tie_word_embeddings", "false"]);
    let mut copy = case.weights.clone();
    copy.insert(head.to_owned(), copy[embeddings].clone());
    fs::write(case.base.join("model.safetensors"), file(&copy, WeightDtype::F32)).unwrap();
    merge(&into, &case.lab.path("tied")).unwrap();
    let merged = read(&case.lab.path("tied"));
    assert!(merged[embeddings] == copy[embeddings] && !merged.contains_key(head));
}

#[test]
fn vocabularies() {
    let case = Case::new();
    let write = |dir: &Path, vocab: &str, added: &str| {
        let text = format!(r#"{{"model": {{"vocab": {vocab}}}, "added_tokens": [{added}]}}"#);
        fs::write(dir.join("tokenizer.json"), text).unwrap();
    };
    let other = case.lab.path("other");
    let mut recipe = case.recipe(Method::Linear);
    write(&case.base, r#"{"a": 0, "b": 1, "c": 2}"#, "");
    write(&other, r#"{"a": 0, "b": 2, "c": 1}"#, "");
    case.refused(&recipe, &["other", r#"token "c" has id 1, not 2"#, "--trust-vocabulary"]);
    write(&other, r#"{"a": 0, "b": 1, "x": 2}"#, "");
    case.refused(&recipe, &[r#"id 2 is token "x", not "c""#]);
    write(&other, r#"[["a", 0.0], ["b", -1.0]]"#, r#"{"content": "d", "id": 2}"#);
    case.refused(&recipe, &[r#"id 2 is token "d", not "c""#]);
    fs::write(other.join("tokenizer.json"), "{").unwrap();
    case.refused(&recipe, &["other", "tokenizer.json", "line 1"]);
    // A token in a spare row is fine, and the base's tokenizer is the result's.
    write(&other, r#"{"a": 0, "b": 1, "c": 2}"#, r#"{"content": "<pad>", "id": 3}"#);
    let report = merge(&recipe, &case.lab.path("out")).unwrap();
    assert!(matches!(report.notices[..], [Notice::TokensDiffer { only_there: 1, only_template: 0, .. }]));
    let (kept, base) = (case.lab.path("out").join("tokenizer.json"), case.base.join("tokenizer.json"));
    assert_eq!(fs::read(kept).unwrap(), fs::read(base).unwrap());
    write(&other, r#"{"a": 0, "b": 2, "c": 1}"#, "");
    recipe.vocabulary = Vocabulary::Trust;
    merge(&recipe, &case.lab.path("trusted")).unwrap();
}

#[test]
fn values_that_are_not_finite() {
    let case = Case::new();
    let name = "model.layers.1.mlp.up_proj.weight";
    let mut broken = case.weights.clone();
    broken.get_mut(name).unwrap().1[77] = f32::NAN;
    let other = case.lab.path("other");
    fs::write(other.join("model.safetensors"), file(&broken, WeightDtype::F32)).unwrap();
    for method in Method::ALL {
        let error = case.refused(&case.recipe(method), &["other", name, "not finite"]);
        assert!(matches!(error, MergeError::NonFiniteInput { .. }));
    }
    // Finite, but not in f16.
    let mut large = case.weights.clone();
    large.get_mut(name).unwrap().1[77] = 1e6;
    fs::write(other.join("model.safetensors"), file(&large, WeightDtype::F32)).unwrap();
    let mut recipe = case.recipe(Method::Linear);
    recipe.dtype = Some(WeightDtype::F16);
    case.refused(&recipe, &[name, "index 77", "float16", "bfloat16"]);
    recipe.dtype = Some(WeightDtype::Bf16);
    merge(&recipe, &case.lab.path("large")).unwrap();
    // Opposite directions.
    let mut opposite = case.weights.clone();
    opposite.values_mut().for_each(|(_, values)| values.iter_mut().for_each(|v| *v = -*v));
    let third = case.lab.model("opposite", &opposite, WeightDtype::F32);
    let mut recipe = Recipe::new(Method::MultiSlerp, None, vec![case.base.clone(), third, case.base.clone()]);
    for (settings, weight) in recipe.slices[0].models.iter_mut().zip([1.0, 2.0, 1.0]) {
        settings.weight = Setting::constant(weight);
    }
    case.refused(&recipe, &["cancel", "linear"]);
}

#[test]
fn parameters_out_of_range() {
    let case = Case::new();
    let check = |method: Method, change: &dyn Fn(&mut Slice), wants: &[&str]| {
        let mut recipe = case.recipe(method);
        change(&mut recipe.slices[0]);
        case.refused(&recipe, wants);
    };
    let tensor = "for tensor";
    check(
        Method::Ties,
        &|s| s.models[0].density = Setting::constant(1.5),
        &["density", "1.5", "other", "[0, 1]", tensor],
    );
    check(Method::Ties, &|s| s.models[1].density = Setting::constant(f64::NAN), &["density", "NaN"]);
    check(Method::Ties, &|s| s.models[0].weight = Setting::constant(f64::INFINITY), &["weight", "inf"]);
    check(Method::Ties, &|s| s.models[0].weight = Setting::default(), &["weight", "not set", "other"]);
    check(Method::Ties, &|s| s.shared.lambda = Setting::constant(f64::NAN), &["lambda", "ties"]);
    check(
        Method::Ties,
        &|s| s.shared.rescale = Setting::constant(ama_merge::Rescale::Inverse),
        &["rescale", "l1"],
    );
    check(
        Method::Della,
        &|s| (s.models[0].density, s.models[0].epsilon) = (Setting::constant(0.1), Setting::constant(0.2)),
        &["epsilon", "0.2 at density 0.1", "(0, 1)"],
    );
    check(Method::Linear, &|s| s.models[0].weight = Setting::constant(-1.0), &["weight", "0 in sum"]);
    check(Method::Slerp, &|s| s.shared.t = Setting::constant(f64::NAN), &["t of slerp", "NaN"]);
    check(Method::Linear, &|s| drop(s.models.pop()), &["linear", "settings for each"]);
    check(Method::Linear, &|s| s.layers = Some(0..1), &["0..1", "0 to 2"]);
    let mut recipe = case.recipe(Method::Ties);
    recipe.base = None;
    case.refused(&recipe, &["ties", "base"]);
    recipe.models.clear();
    recipe.slices[0].models.clear();
    case.refused(&recipe, &["got 0 model"]);
    let single = Recipe::new(Method::Slerp, None, vec![case.base.clone()]);
    case.refused(&single, &["slerp", "at least two"]);
}

#[test]
fn what_is_in_the_way_stays() {
    let case = Case::new();
    let recipe = case.recipe(Method::Linear);
    let out = case.lab.path("taken");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("notes.txt"), "mine").unwrap();
    let error = merge(&recipe, &out).unwrap_err();
    assert!(matches!(error, MergeError::TargetExists { .. }));
    assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "mine");
    assert!(matches!(merge(&recipe, &case.base).unwrap_err(), MergeError::TargetExists { .. }));
    assert!(matches!(merge(&recipe, Path::new("/")).unwrap_err(), MergeError::BadTarget { .. }));
    // Stopped on the way: no folder, nothing hidden either.
    let before = case.lab.names();
    let stopped = merge_with(&recipe, &case.lab.path("out"), 1000, |_| ControlFlow::Break(()));
    assert!(matches!(stopped.unwrap_err(), MergeError::Stopped));
    assert_eq!(case.lab.names(), before);
    // An empty folder is used.
    fs::create_dir(case.lab.path("empty")).unwrap();
    merge(&recipe, &case.lab.path("empty")).unwrap();
    assert!(case.lab.path("empty").join("ama_merge.json").exists());
}
