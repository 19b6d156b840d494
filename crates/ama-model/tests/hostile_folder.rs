//! Damaged and hostile model folders: each is refused with the file and the tensor named; nothing panics.

mod support;

use std::fs;
use std::path::Path;

use ama_model::ModelError;
use ama_model::folder::{fingerprint, load};
use ama_safetensors::{FolderError, IndexProblem, OtherWeights};
use proptest::prelude::*;
use safetensors::SafeTensorError as Format;
use support::{copy_of, edit, golden, parts, safetensors};

/// Damages `model.safetensors` of a copy through its header and data, and returns the refusal.
#[track_caller]
fn refusal(name: &str, damage: impl FnOnce(String, Vec<u8>) -> Vec<u8>) -> ModelError {
    let dir = copy_of(name);
    let file = dir.path().join("model.safetensors");
    let (header, data) = parts(&fs::read(&file).expect("there"));
    fs::write(&file, damage(header, data)).expect("written");
    let error = load(dir.path()).expect_err("must be refused");
    assert_eq!(fingerprint(dir.path()).expect_err("must be refused").to_string(), error.to_string());
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    error
}

/// The refusal after one textual change of the header.
#[track_caller]
fn header_refusal(from: &str, to: &str) -> ModelError {
    refusal("tied_f32", |header, data| {
        assert!(header.contains(from), "{from} is not in {header}");
        safetensors(&header.replacen(from, to, 1), &data)
    })
}

#[test]
fn the_header_must_lie_in_the_file() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, 100_000_001, 100_000_000, 1_000_000] {
        let error = refusal("tied_f32", |header, data| {
            let mut bytes = safetensors(&header, &data);
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            bytes
        });
        assert!(
            matches!(
                error,
                ModelError::Folder(FolderError::SafeTensors {
                    source: Format::HeaderTooLarge | Format::InvalidHeaderLength,
                    ..
                })
            ),
            "{length}: {error}"
        );
    }
}

#[test]
fn truncated_files_are_refused_at_every_length() {
    let whole = fs::read(golden("untied_bf16").join("model.safetensors")).expect("there");
    let (header, _) = parts(&whole);
    let lengths = (0..20).chain((20..whole.len()).step_by(97)).chain([8 + header.len(), whole.len() - 1]);
    for length in lengths {
        let error = refusal("untied_bf16", |_, _| whole[..length].to_vec());
        assert!(matches!(error, ModelError::Folder(FolderError::SafeTensors { .. })), "{length}: {error}");
    }
    let error = refusal("untied_bf16", |h, d| [safetensors(&h, &d), vec![0]].concat());
    assert!(
        matches!(
            error,
            ModelError::Folder(FolderError::SafeTensors { source: Format::MetadataIncompleteBuffer, .. })
        ),
        "{error}"
    );
}

#[test]
fn offsets_shapes_and_types_are_checked() {
    // The embedding comes first in the file: [40, 16] f32 = 2560 bytes.
    let offsets = "\"data_offsets\":[0,2560]";
    for bad in [
        "\"data_offsets\":[0,99999999]",
        "\"data_offsets\":[0,18446744073709551615]",
        "\"data_offsets\":[64,2624]",
        "\"data_offsets\":[0,2624]",
        "\"data_offsets\":[2560,0]",
        "\"data_offsets\":[0,2556]",
        "\"data_offsets\":[-1,2560]",
        "\"data_offsets\":[0]",
    ] {
        let error = header_refusal(offsets, bad);
        assert!(matches!(error, ModelError::Folder(FolderError::SafeTensors { .. })), "{bad}: {error}");
    }
    for bad in [
        "[4611686018427387904,16]",
        "[18446744073709551615,18446744073709551615]",
        "[41,16]",
        "[-40,16]",
        "[]",
    ] {
        let error = header_refusal("\"shape\":[40,16]", &format!("\"shape\":{bad}"));
        assert!(matches!(error, ModelError::Folder(FolderError::SafeTensors { .. })), "{bad}: {error}");
    }
    // Sound as a file, but not this model.
    let error = header_refusal("\"shape\":[40,16]", "\"shape\":[16,40]");
    assert!(
        matches!(&error, ModelError::TensorShape { tensor, .. } if tensor == "model.embed_tokens.weight"),
        "{error}"
    );
    for (dtype, shape) in
        [("I64", "[20,16]"), ("F8_E4M3", "[160,16]"), ("I32", "[40,16]"), ("F64", "[20,16]")]
    {
        let dir = copy_of("tied_f32");
        let file = dir.path().join("model.safetensors");
        let (header, data) = parts(&fs::read(&file).expect("there"));
        let (from, to) =
            ("\"dtype\":\"F32\",\"shape\":[40,16]", format!("\"dtype\":\"{dtype}\",\"shape\":{shape}"));
        assert!(header.contains(from), "{header}");
        fs::write(&file, safetensors(&header.replacen(from, &to, 1), &data)).expect("written");
        // The vocabulary is set to match, so that the type is what is left to blame.
        let rows = shape.trim_start_matches('[').split(',').next().expect("a number");
        edit(&dir.path().join("config.json"), "\"vocab_size\": 40", &format!("\"vocab_size\": {rows}"));
        let error = load(dir.path()).expect_err(dtype);
        assert!(matches!(&error, ModelError::TensorDtype { got, .. } if got == dtype), "{error}");
        assert!(error.to_string().contains("model.embed_tokens.weight"), "{error}");
    }
}

#[test]
fn tensors_must_be_exactly_those_of_the_config() {
    let error = header_refusal("model.norm.weight", "model.norn.weight");
    assert!(
        matches!(&error, ModelError::MissingTensor { tensor, .. } if tensor == "model.norm.weight"),
        "{error}"
    );

    // The same name twice in one header: the format's own reader would keep the last one.
    let error = header_refusal("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.gate_proj.weight");
    assert!(
        matches!(&error, ModelError::Folder(FolderError::DuplicateTensor { tensor, .. }) if tensor.contains("gate_proj")),
        "{error}"
    );

    for (from, to, blamed) in [
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "model.layers.2.input_layernorm.weight"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "model.layers.1."),
        ("\"vocab_size\": 40", "\"vocab_size\": 41", "model.embed_tokens.weight"),
        ("\"vocab_size\": 40", "\"vocab_size\": 16777216", "model.embed_tokens.weight"),
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 1", "self_attn.k_proj.weight"),
        ("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", "lm_head.weight"),
    ] {
        let dir = copy_of("tied_f32");
        edit(&dir.path().join("config.json"), from, to);
        let error = load(dir.path()).expect_err(to);
        assert!(error.to_string().contains(blamed), "{to}: {error}");
    }
}

#[test]
fn a_head_in_a_tied_folder_must_equal_the_embedding() {
    let with_head = |change: u8, name: &str| {
        let dir = copy_of("tied_f32");
        let file = dir.path().join("model.safetensors");
        let (header, mut data) = parts(&fs::read(&file).expect("there"));
        let mut head = data[..2560].to_vec();
        head[5] ^= change;
        let (from, to) = (data.len(), data.len() + 2560);
        data.extend(head);
        let entry =
            format!("{{\"{name}\":{{\"dtype\":\"F32\",\"shape\":[40,16],\"data_offsets\":[{from},{to}]}},");
        fs::write(&file, safetensors(&header.replacen('{', &entry, 1), &data)).expect("written");
        load(dir.path()).map(|f| f.params.len())
    };
    assert_eq!(with_head(0, "lm_head.weight").expect("equal"), 20);
    let error = with_head(1, "lm_head.weight").expect_err("different");
    assert!(matches!(error, ModelError::TiedHeadDiffers { .. }), "{error}");
    // Tables that old exports carry pass; anything else does not.
    assert_eq!(with_head(1, "model.layers.0.self_attn.rotary_emb.inv_freq").expect("a buffer"), 20);
    let error = with_head(0, "model.layers.0.self_attn.q_proj.bias").expect_err("unknown");
    assert!(
        matches!(&error, ModelError::UnknownTensor { tensor, .. } if tensor.ends_with("bias")),
        "{error}"
    );
}

#[test]
fn shards_must_agree_with_their_index() {
    let first = "model-00001-of-00004.safetensors";
    let embedding = "\"model.embed_tokens.weight\": \"model-00001-of-00004.safetensors\"";
    type Expected = fn(&IndexProblem) -> bool;
    let cases: [(&str, &str, Expected); 5] = [
        (embedding, "\"model.embed_tokens.weight\": \"../model-00001-of-00004.safetensors\"", |p| {
            matches!(p, IndexProblem::NotAFileName { .. })
        }),
        (embedding, "\"model.embed_tokens.weight\": \"/etc/passwd\"", |p| {
            matches!(p, IndexProblem::NotAFileName { .. })
        }),
        (embedding, "\"model.embed_tokens.weight\": \"model-00002-of-00004.safetensors\"", |p| {
            matches!(p, IndexProblem::NotInIndex { .. } | IndexProblem::NotInShard { .. })
        }),
        (embedding, "\"model.embed_tokens.weight\": \"model-00009-of-00004.safetensors\"", |p| {
            matches!(p, IndexProblem::NotInIndex { .. } | IndexProblem::MissingShard { .. })
        }),
        ("\"model.norm.weight\"", "\"model.norm2.weight\"", |p| matches!(p, IndexProblem::NotInShard { .. })),
    ];
    for (from, to, expected) in cases {
        let dir = copy_of("tied_bf16_sharded");
        edit(&dir.path().join("model.safetensors.index.json"), from, to);
        let error = load(dir.path()).expect_err(to);
        assert!(
            matches!(&error, ModelError::Folder(FolderError::Index { problem, .. }) if expected(problem)),
            "{to}: {error}"
        );
        assert!(error.to_string().contains("model.safetensors.index.json"), "{error}");
    }

    let dir = copy_of("tied_bf16_sharded");
    fs::remove_file(dir.path().join(first)).expect("removed");
    let error = load(dir.path()).expect_err("a shard is missing");
    assert!(
        matches!(&error, ModelError::Folder(FolderError::Index { problem: IndexProblem::MissingShard { shard, .. }, .. }) if shard == first)
    );

    let dir = copy_of("tied_bf16_sharded");
    let index = dir.path().join("model.safetensors.index.json");
    edit(&index, "\"model.norm.weight\"", "\"model.embed_tokens.weight\"");
    let error = load(dir.path()).expect_err("listed twice");
    assert!(matches!(error, ModelError::Folder(FolderError::DuplicateTensor { .. })), "{error}");
    for text in ["{\"weight_map\": {}}", "{}", "{\"weight_map\": 3}", "[", ""] {
        fs::write(&index, text).expect("written");
        let error = load(dir.path()).expect_err(text);
        assert!(
            matches!(
                error,
                ModelError::Folder(
                    FolderError::Json { .. } | FolderError::Index { problem: IndexProblem::Empty, .. }
                )
            ),
            "{error}"
        );
    }

    // A truncated shard is named.
    let dir = copy_of("tied_bf16_sharded");
    let bytes = fs::read(dir.path().join(first)).expect("there");
    fs::write(dir.path().join(first), &bytes[..bytes.len() - 2]).expect("written");
    let error = load(dir.path()).expect_err("truncated");
    assert!(
        matches!(&error, ModelError::Folder(FolderError::SafeTensors { path, .. }) if path.ends_with(first)),
        "{error}"
    );
}

#[test]
fn pickles_and_empty_folders_say_what_to_do() {
    let dir = copy_of("tied_f32");
    fs::rename(dir.path().join("model.safetensors"), dir.path().join("pytorch_model.bin")).expect("renamed");
    let error = load(dir.path()).expect_err("a pickle");
    assert!(
        error.to_string().contains("pytorch_model.bin") && error.to_string().contains("save_pretrained"),
        "{error}"
    );
    fs::remove_file(dir.path().join("pytorch_model.bin")).expect("removed");
    assert!(matches!(
        load(dir.path()),
        Err(ModelError::Folder(FolderError::NoWeights { found: OtherWeights::None, .. }))
    ));
    fs::create_dir(dir.path().join("model.safetensors")).expect("a folder of that name");
    assert!(matches!(load(dir.path()), Err(ModelError::Folder(FolderError::Io { .. }))));
    let error = load(Path::new("no/such/model")).expect_err("no folder");
    assert!(error.to_string().contains("no/such/model: no such folder"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any damage to length and header, and any shortening, is survived. If the folder still loads, every
    /// value came from inside the file (reading outside would crash here).
    #[test]
    fn random_damage_never_panics(
        edits in prop::collection::vec((0usize..2600, any::<u8>()), 0..6),
        cut in prop::option::of(0usize..14_000),
    ) {
        let dir = copy_of("untied_bf16");
        let file = dir.path().join("model.safetensors");
        let mut bytes = fs::read(&file).expect("there");
        for (at, byte) in edits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        fs::write(&file, bytes).expect("written");
        if let Ok(folder) = load(dir.path()) {
            prop_assert_eq!(folder.params.total(), support::floats(&golden("untied_bf16.f32")).len());
        }
    }

    /// So is any damage to the index.
    #[test]
    fn random_index_damage_never_panics(edits in prop::collection::vec((0usize..3000, any::<u8>()), 1..4)) {
        let dir = copy_of("tied_bf16_sharded");
        let file = dir.path().join("model.safetensors.index.json");
        let mut bytes = fs::read(&file).expect("there");
        for (at, byte) in edits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        fs::write(&file, bytes).expect("written");
        let _ = load(dir.path());
    }
}
