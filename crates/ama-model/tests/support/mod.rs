//! Golden folders and broken copies of them, shared by the integration tests.
#![allow(dead_code, reason = "each test binary uses a part of this module")]

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The four folders that `golden/hf_folder.py` made with `transformers`.
pub(crate) const FOLDERS: [&str; 4] = ["tied_f32", "untied_bf16", "untied_f16", "tied_bf16_sharded"];

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hf_folder").join(name)
}

/// A scratch copy of a golden folder, to be damaged.
pub(crate) fn copy_of(name: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for entry in fs::read_dir(golden(name)).expect("the golden folder") {
        let entry = entry.expect("its entries");
        fs::copy(entry.path(), dir.path().join(entry.file_name())).expect("a copy");
    }
    dir
}

/// Replaces the first occurrence of `from` in a text file, which must be there.
pub(crate) fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("a text file");
    assert!(text.contains(from), "{from} is not in {}", path.display());
    fs::write(path, text.replacen(from, to, 1)).expect("a written file");
}

/// A safetensors file from its two parts.
pub(crate) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// Header and data of a safetensors file.
pub(crate) fn parts(bytes: &[u8]) -> (String, Vec<u8>) {
    let n = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    (String::from_utf8(bytes[8..8 + n].to_vec()).expect("UTF-8"), bytes[8 + n..].to_vec())
}

/// Little-endian f32 values of a file.
pub(crate) fn floats(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).expect("the golden values");
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
