//! Small model folders for the tests.
#![allow(dead_code, reason = "every test uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ama_merge::WeightDtype;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Tensors by name: shape and values.
pub(crate) type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub(crate) const CONFIG: &str = r#"{
  "model_type": "llama", "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": false,
  "torch_dtype": "float32"
}"#;

/// A folder that goes away with the test.
pub(crate) struct Lab(pub(crate) tempfile::TempDir);

impl Lab {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Names in the folder, hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// A model folder with these weights in one file.
    pub(crate) fn model(&self, name: &str, weights: &Weights, dtype: WeightDtype) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), CONFIG).unwrap();
        fs::write(dir.join("model.safetensors"), file(weights, dtype)).unwrap();
        dir
    }

    /// The same in two files with an index.
    pub(crate) fn sharded(&self, name: &str, weights: &Weights, dtype: WeightDtype) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), CONFIG).unwrap();
        let mut shards = [Weights::new(), Weights::new()];
        let mut map = serde_json::Map::new();
        for (i, (name, tensor)) in weights.iter().enumerate() {
            shards[i % 2].insert(name.clone(), tensor.clone());
            map.insert(name.clone(), format!("model-{}.safetensors", i % 2).into());
        }
        for (i, shard) in shards.iter().enumerate() {
            fs::write(dir.join(format!("model-{i}.safetensors")), file(shard, dtype)).unwrap();
        }
        let index = serde_json::json!({"metadata": {}, "weight_map": map});
        fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
        dir
    }
}

/// A weights file.
pub(crate) fn file(weights: &Weights, dtype: WeightDtype) -> Vec<u8> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> =
        weights.iter().map(|(name, (shape, values))| (name, shape, narrow(values, dtype))).collect();
    let kind = match dtype {
        WeightDtype::F32 => Dtype::F32,
        WeightDtype::F16 => Dtype::F16,
        WeightDtype::Bf16 => Dtype::BF16,
    };
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(kind, (*shape).clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn narrow(values: &[f32], dtype: WeightDtype) -> Vec<u8> {
    match dtype {
        WeightDtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        WeightDtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        WeightDtype::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    }
}

/// Weights of every file of a folder, read by the format's own library.
pub(crate) fn read(dir: &Path) -> Weights {
    let mut weights = Weights::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            weights.extend(parse(&fs::read(&path).unwrap()));
        }
    }
    weights
}

/// Weights of a file's bytes.
pub(crate) fn parse(bytes: &[u8]) -> Weights {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::F16 => {
                    data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
                }
                Dtype::BF16 => {
                    data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
                }
                other => panic!("{name}: {other}"),
            };
            (name, (view.shape().to_vec(), values))
        })
        .collect()
}

/// The same for every run: uniform in (-1, 1).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// A model of two layers, large enough for several chunks in its largest tensors.
pub(crate) fn random_model(seed: u64, rows: usize) -> Weights {
    let mut random = Random::new(seed);
    let mut tensor = |shape: &[usize]| {
        (shape.to_vec(), (0..shape.iter().product::<usize>()).map(|_| random.next()).collect())
    };
    let mut weights = Weights::new();
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        weights.insert(name.to_owned(), tensor(&[rows, 48]));
    }
    for layer in 0..2 {
        for part in ["self_attn.q_proj", "mlp.up_proj"] {
            weights.insert(format!("model.layers.{layer}.{part}.weight"), tensor(&[48, 48]));
        }
        weights.insert(format!("model.layers.{layer}.input_layernorm.weight"), tensor(&[48]));
    }
    weights.insert("model.norm.weight".to_owned(), tensor(&[48]));
    weights
}

/// `base` plus `scale` times another random model.
pub(crate) fn fine_tune(base: &Weights, seed: u64, scale: f32) -> Weights {
    let mut random = Random::new(seed);
    let mut tuned = base.clone();
    for (_, values) in tuned.values_mut() {
        for v in values {
            *v += scale * random.next();
        }
    }
    tuned
}
