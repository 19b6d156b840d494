//! Folders as users have them: wrapped names, no head, broken weights, pointers, stop tokens in `generation_config.json`.

mod support;

use std::fs;
use std::path::Path;

use ama_model::config::generation_eos_token_ids;
use ama_model::folder::{SaveDtype, fingerprint, load, save};
use ama_model::{ModelError, Params};
use ama_safetensors::FolderError;
use support::{copy_of, edit, golden, parts, safetensors};
use tempfile::TempDir;

/// A copy of a folder whose tensors have other names.
fn renamed(folder: &str, rename: impl Fn(&str) -> String) -> TempDir {
    let dir = copy_of(folder);
    let file = dir.path().join("model.safetensors");
    let (header, data) = parts(&fs::read(&file).expect("there"));
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&header).expect("JSON");
    let header: serde_json::Map<_, _> = header
        .into_iter()
        .map(|(name, entry)| (if name == "__metadata__" { name } else { rename(&name) }, entry))
        .collect();
    let header = serde_json::Value::Object(header).to_string();
    fs::write(&file, safetensors(&header, &data)).expect("written");
    dir
}

/// The refusal, from loading and from hashing alike, in one line that names the weights file.
#[track_caller]
fn refusal(dir: &Path) -> ModelError {
    let error = load(dir).expect_err("must be refused");
    let text = error.to_string();
    assert_eq!(fingerprint(dir).expect_err("must be refused").to_string(), text);
    assert!(text.contains("model.safetensors") && text.lines().count() == 1, "{text}");
    error
}

#[test]
fn names_with_a_prefix_too_many_or_too_few_are_named() {
    for wrapper in ["_orig_mod.", "module.", "base_model.model."] {
        let dir = renamed("untied_bf16", |name| format!("{wrapper}{name}"));
        let error = refusal(dir.path());
        assert!(
            matches!(&error, ModelError::PrefixTooMany { prefix, found, .. }
                if prefix == wrapper && found.starts_with(wrapper)),
            "{error}"
        );
    }
    let bare = renamed("tied_f32", |name| name.trim_start_matches("model.").to_owned());
    let error = refusal(bare.path());
    assert!(
        matches!(&error, ModelError::PrefixTooFew { prefix, found, .. }
            if prefix == "model." && found == "embed_tokens.weight"),
        "{error}"
    );
}

#[test]
fn a_missing_head_is_told_from_a_missing_tensor() {
    let dir = copy_of("tied_f32");
    edit(&dir.path().join("config.json"), "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    let error = refusal(dir.path());
    assert!(matches!(error, ModelError::NoHead { .. }), "{error}");
    assert!(
        error.to_string().contains("lm_head.weight") && error.to_string().contains("tie_word_embeddings")
    );
}

#[test]
fn weights_that_are_not_finite_are_refused_with_their_place() {
    // The embedding comes first in the file: [40, 16].
    let at = 7 * 16 + 5;
    for (folder, size, bad) in [
        ("tied_f32", 4, f32::NAN.to_le_bytes().to_vec()),
        ("tied_f32", 4, f32::NEG_INFINITY.to_le_bytes().to_vec()),
        ("untied_bf16", 2, vec![0x80, 0x7f]),
        ("untied_f16", 2, vec![0x00, 0x7e]),
    ] {
        let dir = copy_of(folder);
        let file = dir.path().join("model.safetensors");
        let (header, mut data) = parts(&fs::read(&file).expect("there"));
        let json: serde_json::Value = serde_json::from_str(&header).expect("JSON");
        let start = json["model.embed_tokens.weight"]["data_offsets"][0].as_u64().expect("a number") as usize;
        data[start + at * size..start + (at + 1) * size].copy_from_slice(&bad);
        fs::write(&file, safetensors(&header, &data)).expect("written");
        let error = refusal(dir.path());
        let ModelError::NonFiniteWeight { tensor, index, value, .. } = &error else { panic!("{error}") };
        assert_eq!(
            (tensor.as_str(), index.as_slice()),
            ("model.embed_tokens.weight", &[7, 5][..]),
            "{folder}"
        );
        assert!(!value.is_finite(), "{folder}");
    }
}

#[test]
fn weights_that_are_not_finite_are_never_written() {
    let folder = load(&golden("tied_f32")).expect("loads");
    let out = tempfile::tempdir().expect("a temporary folder");
    let name = "model.layers.1.mlp.up_proj.weight";
    for dtype in [SaveDtype::F32, SaveDtype::F16, SaveDtype::Bf16] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut vecs: std::collections::HashMap<_, _> =
                folder.params.iter().map(|p| (p.name.clone(), p.tensor.as_vec())).collect();
            vecs.get_mut(name).expect("there")[16 + 3] = bad;
            let params = Params::from_vecs(&folder.config, vecs).expect("fits");
            assert_eq!(params.first_non_finite().map(|p| p.name.as_str()), Some(name));
            let error =
                save(&folder.config, &params, dtype, &out.path().join("m"), None).expect_err("broken");
            assert!(
                matches!(&error, ModelError::SaveNonFinite { tensor, index, .. } if tensor == name && index == &[1, 3]),
                "{error}"
            );
            assert_eq!(
                fs::read_dir(out.path()).expect("readable").count(),
                0,
                "a failed save leaves nothing"
            );
        }
    }
    assert!(folder.params.first_non_finite().is_none());
}

#[test]
fn generation_config_says_where_answers_stop() {
    let dir = copy_of("tied_f32");
    let file = dir.path().join("generation_config.json");
    for (text, want) in [
        ("{\"eos_token_id\": 7}", &[7][..]),
        ("{\"eos_token_id\": [0, 2]}", &[0, 2]),
        ("{\"eos_token_id\": null}", &[]),
        ("{}", &[]),
    ] {
        fs::write(&file, text).expect("written");
        assert_eq!(generation_eos_token_ids(dir.path()).expect("sound"), want, "{text}");
    }
    for text in ["{\"eos_token_id\": -1}", "{\"eos_token_id\": [\"</s>\"]}", "{\"eos_token_id\": 1.5}", "["] {
        fs::write(&file, text).expect("written");
        let error = generation_eos_token_ids(dir.path()).expect_err(text).to_string();
        assert!(error.contains("generation_config.json"), "{error}");
    }
    fs::remove_file(&file).expect("removed");
    assert!(generation_eos_token_ids(dir.path()).expect("no file").is_empty());
}

#[test]
fn pointers_and_other_paths_are_refused_for_what_they_are() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n";
    for name in ["config.json", "model.safetensors"] {
        let dir = copy_of("tied_f32");
        fs::write(dir.path().join(name), pointer).expect("written");
        let error = load(dir.path()).expect_err("a pointer");
        assert!(
            matches!(&error, ModelError::Folder(FolderError::LfsPointer { path }) if path.ends_with(name)),
            "{error}"
        );
    }
    let dir = copy_of("tied_f32");
    let file = dir.path().join("model.safetensors");
    let error = load(&file).expect_err("a file");
    assert!(matches!(&error, ModelError::Folder(FolderError::NotAModel { .. })), "{error}");
    fs::rename(&file, dir.path().join("adapter_model.safetensors")).expect("renamed");
    let error = load(dir.path()).expect_err("an adapter");
    assert!(error.to_string().contains("an adapter"), "{error}");
}

/// Tables that older saves carry are passed over, wherever index and shards disagree about them.
#[test]
fn rotary_tables_of_older_saves_load() {
    let plain = load(&golden("tied_bf16_sharded")).expect("loads");
    let dir = copy_of("tied_bf16_sharded");
    edit(
        &dir.path().join("model.safetensors.index.json"),
        "\"weight_map\": {",
        "\"weight_map\": {\"model.layers.0.self_attn.rotary_emb.inv_freq\": \"model-00001-of-00004.safetensors\",",
    );
    let file = dir.path().join("model-00002-of-00004.safetensors");
    let (header, mut data) = parts(&fs::read(&file).expect("there"));
    let (from, to) = (data.len(), data.len() + 8);
    data.extend([0; 8]);
    let entry = format!(
        "{{\"model.layers.1.self_attn.rotary_emb.inv_freq\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[{from},{to}]}},"
    );
    fs::write(&file, safetensors(&header.replacen('{', &entry, 1), &data)).expect("written");
    let folder = load(dir.path()).expect("loads");
    for (a, b) in plain.params.iter().zip(&folder.params) {
        assert_eq!((&a.name, a.tensor.as_vec()), (&b.name, b.tensor.as_vec()));
    }
    assert_eq!(
        fingerprint(dir.path()).expect("loads"),
        fingerprint(&golden("tied_bf16_sharded")).expect("loads")
    );
}
