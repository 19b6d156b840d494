//! Loading and saving model folders, against folders that `transformers` wrote (`golden/hf_folder.py`).

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use ama_model::folder::{SaveDtype, SaveOptions, fingerprint, load, params_fingerprint, save, save_with};
use ama_model::{LlamaConfig, ModelError, Params, expected_parameters};
use support::{FOLDERS, copy_of, edit, floats, golden};

/// All values in canonical order, as bits.
fn bits(params: &Params) -> Vec<u32> {
    params.iter().flat_map(|p| p.tensor.as_vec()).map(f32::to_bits).collect()
}

#[test]
fn loads_what_transformers_loads() {
    for name in FOLDERS {
        let folder = load(&golden(name)).expect(name);
        let want: Vec<u32> = floats(&golden(&format!("{name}.f32"))).into_iter().map(f32::to_bits).collect();
        assert_eq!(bits(&folder.params), want, "{name}");
        assert_eq!(folder.params.total(), want.len(), "{name}");
        let dtype = match name {
            "tied_f32" => SaveDtype::F32,
            "untied_f16" => SaveDtype::F16,
            _ => SaveDtype::Bf16,
        };
        assert_eq!(folder.dtype, dtype, "{name}");
        assert_eq!(folder.params.get("lm_head.weight").is_some(), name.starts_with("untied"), "{name}");
        assert_eq!(
            (folder.config.bos_token_id, folder.config.eos_token_ids.as_slice()),
            (Some(0), &[39][..])
        );
    }
    // head_dim given: 4 heads of 6 in a residual stream of 16.
    let odd = load(&golden("untied_bf16")).expect("loads");
    let q = odd.params.get("model.layers.0.self_attn.q_proj.weight").expect("there");
    assert_eq!((odd.config.head_dim, q.shape.as_slice()), (6, &[24, 16][..]));
    assert_eq!(odd.params.index_of(&q.name), Some(2));
}

#[test]
fn saved_folders_load_bit_identical_in_every_type_and_sharding() {
    let out = tempfile::tempdir().expect("a temporary folder");
    for name in FOLDERS {
        let folder = load(&golden(name)).expect(name);
        let mut dtypes = vec![folder.dtype, SaveDtype::F32];
        dtypes.dedup();
        for dtype in dtypes {
            for max_shard_bytes in [u64::MAX, 3000, 1] {
                let dir = out.path().join(format!("a/b/{name}-{}-{max_shard_bytes}", dtype.name()));
                let options = SaveOptions { dtype, max_shard_bytes, extras_from: Some(&golden(name)) };
                save_with(&folder.config, &folder.params, &options, &dir).expect("saved");
                let again = load(&dir).expect("loads again");
                assert_eq!(bits(&again.params), bits(&folder.params), "{}", dir.display());
                assert_eq!(again.config, folder.config);
                assert_eq!(again.dtype, dtype);
                assert_eq!(
                    fs::read(dir.join("generation_config.json")).expect("copied"),
                    fs::read(golden(name).join("generation_config.json")).expect("there")
                );
                let single = max_shard_bytes == u64::MAX;
                assert_eq!(dir.join("model.safetensors").exists(), single);
                assert_eq!(dir.join("model.safetensors.index.json").exists(), !single);
                // Nothing hidden is left behind.
                for entry in fs::read_dir(dir.parent().expect("a parent")).expect("readable") {
                    let name = entry.expect("an entry").file_name();
                    assert!(!name.to_string_lossy().starts_with('.'), "{name:?}");
                }
            }
        }
    }
}

#[test]
fn the_saved_config_keeps_every_key_and_names_the_new_type() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let dir = copy_of("tied_f32");
    edit(
        &dir.path().join("config.json"),
        "\"use_cache\"",
        "\"a_key_of_the_future\": [1, {\"x\": 1e-05}], \"use_cache\"",
    );
    let folder = load(dir.path()).expect("loads");
    save(&folder.config, &folder.params, SaveDtype::Bf16, &out.path().join("m"), None).expect("saved");
    let read = |dir: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.join("config.json")).expect("there")).expect("JSON")
    };
    let mut want = read(dir.path());
    want["dtype"] = "bfloat16".into();
    assert_eq!(read(&out.path().join("m")), want);
}

#[test]
fn saved_in_f16_rounds_as_torch_rounds() {
    // untied_f16 was rounded by torch; a second rounding must change nothing, and bf16 of it is torch's too.
    let folder = load(&golden("untied_f16")).expect("loads");
    let out = tempfile::tempdir().expect("a temporary folder");
    save(&folder.config, &folder.params, SaveDtype::F16, &out.path().join("m"), None).expect("saved");
    let ours = fs::read(out.path().join("m/model.safetensors")).expect("there");
    let theirs = fs::read(golden("untied_f16").join("model.safetensors")).expect("there");
    let (header, data) = support::parts(&theirs);
    let (our_header, our_data) = support::parts(&ours);
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(json(&our_header), json(&header));
    assert_eq!(our_data, data);
}

#[test]
fn refuses_to_overwrite_and_leaves_the_target_alone() {
    let folder = load(&golden("tied_f32")).expect("loads");
    let out = tempfile::tempdir().expect("a temporary folder");
    let dir = out.path().join("m");
    fs::create_dir(&dir).expect("made");
    save(&folder.config, &folder.params, SaveDtype::F32, &dir, None).expect("an empty folder is taken");
    let error = save(&folder.config, &folder.params, SaveDtype::F32, &dir, None).expect_err("exists");
    assert!(matches!(error, ModelError::TargetExists { .. }), "{error}");
    let error =
        save(&folder.config, &folder.params, SaveDtype::F32, &dir.join(".."), None).expect_err("no name");
    assert!(matches!(error, ModelError::BadTarget { .. }), "{error}");
    let no_extras = Some(Path::new("no/such/folder"));
    let error = save(&folder.config, &folder.params, SaveDtype::F32, &out.path().join("n"), no_extras);
    assert!(matches!(error, Err(ModelError::Io { .. })));
    assert_eq!(fs::read_dir(out.path()).expect("readable").count(), 1, "a failed save leaves nothing");
}

#[test]
fn refuses_to_save_what_would_not_be_the_model() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let target = out.path().join("m");
    let folder = load(&golden("tied_f32")).expect("loads");

    let mut config = folder.config.clone();
    config.rope_theta = 5.0;
    let error = save(&config, &folder.params, SaveDtype::F32, &target, None).expect_err("changed");
    assert!(error.to_string().contains("rope_theta"), "{error}");

    let mut vecs: std::collections::HashMap<_, _> =
        folder.params.iter().map(|p| (p.name.clone(), p.tensor.as_vec())).collect();
    vecs.get_mut("model.norm.weight").expect("there")[3] = 1e6;
    let params = Params::from_vecs(&folder.config, vecs.clone()).expect("fits");
    let error = save(&folder.config, &params, SaveDtype::F16, &target, None).expect_err("too large for f16");
    assert!(error.to_string().contains("model.norm.weight") && error.to_string().contains("1e6"), "{error}");
    save(&folder.config, &params, SaveDtype::Bf16, &target, None).expect("bf16 has the range");

    vecs.get_mut("model.norm.weight").expect("there").push(1.0);
    let error = Params::from_vecs(&folder.config, vecs.clone()).expect_err("too long");
    assert!(matches!(error, ModelError::ParameterLength { want: 16, got: 17, .. }), "{error}");
    let norm = vecs.remove("model.norm.weight");
    let error = Params::from_vecs(&folder.config, vecs.clone()).expect_err("missing");
    assert!(matches!(error, ModelError::ParameterMissing { .. }), "{error}");
    vecs.insert("model.norm.weight".into(), norm.expect("was there")[..16].to_vec());
    vecs.insert("lm_head.weight".into(), vec![0.0; 640]);
    let error = Params::from_vecs(&folder.config, vecs).expect_err("tied");
    assert!(matches!(error, ModelError::ParameterUnknown { .. }), "{error}");
}

#[test]
fn fingerprints_follow_the_values_and_the_computation() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let mut seen = std::collections::HashSet::new();
    for name in FOLDERS {
        let folder = load(&golden(name)).expect(name);
        let print = fingerprint(&golden(name)).expect(name);
        assert!(seen.insert(print), "{name}");
        assert_eq!(params_fingerprint(&folder.config, &folder.params), print, "{name}");
        let dir = out.path().join(name);
        let options = SaveOptions { dtype: SaveDtype::F32, max_shard_bytes: 2000, extras_from: None };
        save_with(&folder.config, &folder.params, &options, &dir).expect("saved");
        assert_eq!(fingerprint(&dir).expect("loads"), print, "type and sharding do not matter: {name}");
    }
    // Each of these computes something else.
    for (from, to) in [
        ("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1e-06"),
        ("\"rope_theta\": 10000.0", "\"rope_theta\": 10001.0"),
        ("\"rope_type\": \"default\"", "\"rope_type\": \"linear\", \"factor\": 2.0"),
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 2, \"unused\": 1"),
    ] {
        let dir = copy_of("tied_f32");
        edit(&dir.path().join("config.json"), from, to);
        let new = seen.insert(fingerprint(dir.path()).expect("loads"));
        assert_eq!(new, !to.contains("unused"), "{to}");
    }
    let dir = copy_of("tied_f32");
    let file = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&file).expect("there");
    *bytes.last_mut().expect("not empty") ^= 1;
    fs::write(&file, bytes).expect("written");
    assert!(seen.insert(fingerprint(dir.path()).expect("loads")), "one bit of one weight");
}

#[test]
fn initialised_models_are_normal_and_follow_the_seed() {
    let text = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 300, "tie_word_embeddings": true}"#;
    let config = LlamaConfig::from_json_str(text, Path::new("new model")).expect("fits");
    let params = Params::init(&config, 0.02, 7);
    assert_eq!(params.len(), expected_parameters(&config).len());
    assert_eq!(bits(&params), bits(&Params::init(&config, 0.02, 7)));
    assert_ne!(bits(&params), bits(&Params::init(&config, 0.02, 8)));
    let embedding = params.get("model.embed_tokens.weight").expect("there").tensor.as_vec();
    let n = embedding.len() as f64;
    let moment = |k: i32| embedding.iter().map(|v| (f64::from(*v) / 0.02).powi(k)).sum::<f64>() / n;
    // 19200 standard normal values: mean 0, variance 1, fourth moment 3, each within four standard errors.
    for (k, want, error) in [(1, 0.0, 1.0), (2, 1.0, 2f64.sqrt()), (4, 3.0, 96f64.sqrt())] {
        assert!((moment(k) - want).abs() < 4.0 * error / n.sqrt(), "moment {k}: {}", moment(k));
    }
    assert!(params.get("model.norm.weight").expect("there").tensor.as_vec().iter().all(|v| *v == 1.0));
    // A fresh model saves and loads too.
    let out = tempfile::tempdir().expect("a temporary folder");
    save(&config, &params, SaveDtype::F32, &out.path().join("m"), None).expect("saved");
    assert_eq!(bits(&load(&out.path().join("m")).expect("loads").params), bits(&params));
}

/// Opt-in: with `AMA_PEER_PYTHON` naming a Python that has `transformers`, it loads what we save.
#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn transformers_loads_what_we_save() {
    let Some(python) = std::env::var_os("AMA_PEER_PYTHON") else {
        eprintln!("skipped: set AMA_PEER_PYTHON to a Python with torch and transformers to run this test");
        return;
    };
    let out = tempfile::tempdir().expect("a temporary folder");
    for name in FOLDERS {
        let folder = load(&golden(name)).expect(name);
        for max_shard_bytes in [u64::MAX, 3000] {
            let dir = out.path().join(format!("{name}-{max_shard_bytes}"));
            let options =
                SaveOptions { dtype: folder.dtype, max_shard_bytes, extras_from: Some(&golden(name)) };
            save_with(&folder.config, &folder.params, &options, &dir).expect("saved");
            let script = golden("").join("../hf_folder.py");
            let run = Command::new(&python).arg(script).arg("check").arg(&dir).arg(golden(name)).output();
            let run = run.expect("AMA_PEER_PYTHON can be run");
            assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
            assert!(String::from_utf8_lossy(&run.stdout).contains("equal"), "{name}");
        }
    }
}
