//! Paths that are no model folder: each is named for what it is, in one line, with the remedy.

use std::fs;
use std::path::{Path, PathBuf};

use ama_safetensors::{FolderError, NotAModel, OtherWeights, check_folder, check_model, open_weights};
use safetensors::tensor::{Dtype, TensorView};

/// A folder with these files, empty unless their names say that they hold weights or a pointer is given.
fn folder(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir.to_path_buf()
}

/// A folder with a configuration and one tensor.
fn model(dir: &Path) -> PathBuf {
    folder(dir, &[("config.json", "{}")]);
    fs::write(dir.join("model.safetensors"), weights(&["w"])).unwrap();
    dir.to_path_buf()
}

/// A weights file whose tensors are two numbers each.
fn weights(names: &[&str]) -> Vec<u8> {
    let bytes = [0u8; 8];
    let view = |name: &&str| ((*name).to_owned(), TensorView::new(Dtype::F32, vec![2], &bytes).unwrap());
    safetensors::serialize(names.iter().map(view), None).unwrap()
}

/// The refusal of [`check_model`], which is one line and says all of `wants`.
#[track_caller]
fn refused(path: &Path, wants: &[&str]) -> NotAModel {
    let error = check_model(path).expect_err("must be refused");
    let text = error.to_string();
    assert!(text.lines().count() == 1 && text.starts_with(&path.display().to_string()), "{text}");
    for want in wants {
        assert!(text.contains(want), "{want:?} is not in {text:?}");
    }
    match error {
        FolderError::NotAModel { found, .. } => found,
        other => panic!("{other:?}"),
    }
}

/// The refusal of [`open_weights`].
#[track_caller]
fn no_weights(dir: &Path, wants: &[&str]) -> OtherWeights {
    let error = open_weights(dir).expect_err("must be refused");
    let text = error.to_string();
    for want in [&["no weights here"], wants].concat() {
        assert!(text.contains(want) && text.lines().count() == 1, "{want:?} is not in {text:?}");
    }
    match error {
        FolderError::NoWeights { found, .. } => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn models_pass() {
    let lab = tempfile::tempdir().unwrap();
    check_model(&model(lab.path())).unwrap();
    let bare = folder(&lab.path().join("bare"), &[("model.safetensors", "")]);
    check_model(&bare).unwrap();
    // A folder that only has a tokenizer is a folder, but no model.
    let tokenizer = folder(&lab.path().join("tokenizer"), &[("tokenizer.json", "{}")]);
    check_folder(&tokenizer).unwrap();
    assert_eq!(refused(&tokenizer, &["no config.json"]), NotAModel::Nothing);
}

#[test]
fn names_and_addresses_that_are_no_folders() {
    let lab = tempfile::tempdir().unwrap();
    let name = "some-org-of-nobody/Model-7B.v1";
    assert_eq!(
        refused(Path::new(name), &["Hub", "hf download some-org-of-nobody/Model-7B.v1"]),
        NotAModel::HubName { name: name.to_owned() }
    );
    for url in ["https://huggingface.co/org/name", "hf://org/name"] {
        assert_eq!(refused(Path::new(url), &["address", "download"]), NotAModel::Url);
    }
    assert_eq!(refused(Path::new("~/models/tiny"), &["~", "shell"]), NotAModel::Tilde);
    assert_eq!(refused(&lab.path().join("nowhere"), &["no such folder"]), NotAModel::Missing);
    // `src/` is there, so this is a mistyped path and no name on the Hub.
    assert_eq!(refused(Path::new("src/nothing"), &["no such folder"]), NotAModel::Missing);
    assert_eq!(refused(&lab.path().join("a/b/c"), &["no such folder"]), NotAModel::Missing);
}

#[test]
fn files_in_place_of_folders() {
    let lab = tempfile::tempdir().unwrap();
    let dir = folder(
        lab.path(),
        &[("m.gguf", "GGUF...."), ("m.bin", "GGUF...."), ("m.txt", "x"), ("model.safetensors", "")],
    );
    for name in ["m.gguf", "m.bin"] {
        assert_eq!(refused(&dir.join(name), &["GGUF", "llama.cpp"]), NotAModel::Gguf { file: None });
    }
    assert_eq!(refused(&dir.join("model.safetensors"), &["the folder"]), NotAModel::WeightsFile);
    assert_eq!(refused(&dir.join("m.txt"), &["a file"]), NotAModel::File);
    assert_eq!(refused(&dir.join("m.txt/below"), &["no such folder"]), NotAModel::Missing);
}

#[test]
fn folders_that_hold_something_else() {
    let lab = tempfile::tempdir().unwrap();
    let at = |name: &str| lab.path().join(name);
    for step in [10, 20] {
        model(&at(&format!("parent/checkpoint-{step}")));
    }
    folder(&at("parent"), &[("tokenizer.json", "{}")]);
    let found = refused(&at("parent"), &["parent/checkpoint-10", "parent/checkpoint-20"]);
    assert_eq!(
        found,
        NotAModel::ModelsInside { folders: vec![at("parent/checkpoint-10"), at("parent/checkpoint-20")] }
    );
    for number in 0..9 {
        model(&at(&format!("many/{number}")));
    }
    refused(&at("many"), &["many/0", "and 5 more"]);
    let gguf = folder(&at("gguf"), &[("README.md", ""), ("m-Q4_K_M.gguf", "")]);
    refused(&gguf, &["m-Q4_K_M.gguf", "GGUF"]);
    let original = folder(&at("original"), &[("params.json", "{}"), ("consolidated.safetensors", "")]);
    refused(&original, &["original format", "consolidated.safetensors"]);
    assert_eq!(refused(&folder(&at("empty"), &[]), &["no config.json"]), NotAModel::Nothing);
}

#[test]
fn hub_cache_folders_name_their_snapshot() {
    let lab = tempfile::tempdir().unwrap();
    let cache = lab.path().join("hub/models--org--tiny");
    for commit in ["0123abc", "4567def"] {
        model(&cache.join("snapshots").join(commit));
    }
    let both = refused(&cache, &["Hub cache", "snapshots/0123abc", "snapshots/4567def"]);
    assert!(matches!(both, NotAModel::HubCache { snapshots } if snapshots.len() == 2));
    folder(&cache, &[("refs/main", "4567def\n")]);
    let main = NotAModel::HubCache { snapshots: vec![cache.join("snapshots/4567def")] };
    assert_eq!(refused(&cache, &["snapshots/4567def"]), main);
    refused(&lab.path().join("hub"), &["models--org--tiny/snapshots/0123abc"]);
    check_model(&cache.join("snapshots/0123abc")).unwrap();
}

#[test]
fn adapters_are_no_models() {
    let lab = tempfile::tempdir().unwrap();
    let config = r#"{"peft_type": "LORA", "base_model_name_or_path": "models/base"}"#;
    let files =
        [("adapter_config.json", config), ("adapter_model.safetensors", ""), ("tokenizer.json", "{}")];
    let lora = folder(lab.path(), &files);
    refused(&lora, &["an adapter of models/base", "adapter_config.json", "merge_and_unload"]);
    // A configuration of the base beside it does not make it a model.
    folder(&lora, &[("config.json", "{}")]);
    refused(&lora, &["an adapter of models/base"]);
    // With full weights there are two ways to read the folder.
    folder(&lora, &[("model.safetensors", "")]);
    refused(&lora, &["adapter_config.json", "full weights", "move one"]);
}

#[test]
fn folders_without_the_weights_that_are_read() {
    let lab = tempfile::tempdir().unwrap();
    let case = |name: &str, files: &[&str]| {
        let files: Vec<(&str, &str)> =
            files.iter().map(|file| (*file, "")).chain([("config.json", "{}")]).collect();
        folder(&lab.path().join(name), &files)
    };
    no_weights(&case("pickle", &["pytorch_model.bin"]), &["pytorch_model.bin", "pickle", "save_pretrained"]);
    no_weights(&case("pickles", &["pytorch_model-00001-of-00002.bin"]), &["-00001-of-00002.bin", "pickle"]);
    no_weights(&case("shards", &["model-00001-of-00002.safetensors"]), &["index", "complete the download"]);
    no_weights(&case("name", &["model.fp16.safetensors"]), &["model.fp16.safetensors", "rename"]);
    no_weights(&case("other", &["flax_model.msgpack"]), &["flax_model.msgpack", "not read"]);
    assert_eq!(no_weights(&case("none", &["training_args.bin", "scheduler.pt"]), &[]), OtherWeights::None);
    let parent = case("parent", &[]);
    model(&parent.join("checkpoint-500"));
    no_weights(&parent, &["parent/checkpoint-500"]);
}

#[cfg(unix)]
#[test]
fn links_to_nothing_are_named() {
    let lab = tempfile::tempdir().unwrap();
    let dir = folder(lab.path(), &[("config.json", "{}")]);
    std::os::unix::fs::symlink("../blobs/gone", dir.join("model.safetensors")).unwrap();
    no_weights(&dir, &["model.safetensors", "../blobs/gone"]);
    std::os::unix::fs::symlink("elsewhere", dir.join("link")).unwrap();
    refused(&dir.join("link"), &["a link to elsewhere"]);
}

#[test]
fn lfs_pointers_are_named() {
    let lab = tempfile::tempdir().unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n";
    for name in ["model.safetensors", "model.safetensors.index.json"] {
        let dir = folder(&lab.path().join(name), &[(name, pointer)]);
        let error = open_weights(&dir).expect_err("must be refused");
        assert!(matches!(&error, FolderError::LfsPointer { path } if path.ends_with(name)), "{error}");
        assert!(error.to_string().contains("git lfs pull"), "{error}");
    }
}

#[test]
fn rotary_tables_are_left_out_wherever_they_are() {
    let lab = tempfile::tempdir().unwrap();
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let table = |layer: usize| format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq");
    let sharded = |name: &str, listed: &[&str], held: &[&str]| {
        let dir = folder(&lab.path().join(name), &[]);
        fs::write(dir.join(first), weights(&["a"])).unwrap();
        fs::write(dir.join(second), weights(&[&["b"], held].concat())).unwrap();
        let mut map = serde_json::Map::new();
        map.insert("a".into(), first.into());
        map.extend(["b"].iter().chain(listed).map(|tensor| ((*tensor).to_owned(), second.into())));
        let index = serde_json::json!({ "weight_map": map }).to_string();
        fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
        dir
    };
    let names = |dir: &Path| -> Vec<String> {
        let files = open_weights(dir).unwrap();
        files.iter().flat_map(|file| file.entries().map(|(name, _)| name.to_owned())).collect()
    };
    for (name, listed, held) in [
        ("plain", vec![], vec![]),
        ("listed", vec![table(0), table(1)], vec![]),
        ("held", vec![], vec![table(1)]),
        ("both", vec![table(0)], vec![table(0), "model.rotary_emb.cos_cached".to_owned()]),
    ] {
        let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        assert_eq!(names(&sharded(name, &listed, &held)), ["a", "b"], "{name}");
    }
    // In a single file, too.
    let single = folder(&lab.path().join("single"), &[]);
    fs::write(single.join("model.safetensors"), weights(&["a", &table(0)])).unwrap();
    assert_eq!(names(&single), ["a"]);
    // Anything else that the two do not agree on is refused by name.
    for (listed, held, wants) in [
        (vec!["c.masked_bias"], vec![], ["c.masked_bias", "is not in shard"]),
        (vec![], vec!["c.rotary_emb.inv_freq.bias"], ["inv_freq.bias", "does not place there"]),
    ] {
        let error = open_weights(&sharded("refused", &listed, &held)).unwrap_err().to_string();
        assert!(wants.iter().all(|want| error.contains(want)), "{error}");
    }
}
