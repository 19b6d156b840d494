//! Lists the tensors of a model folder, or of a small one made on the spot: `list_tensors [FOLDER]`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::{Path, PathBuf};

use ama_safetensors::{check_model, open_weights};
use safetensors::tensor::{Dtype, TensorView};

fn main() -> Result<(), Box<dyn Error>> {
    let lab = tempfile::tempdir()?;
    let folder = match std::env::args_os().nth(1) {
        Some(folder) => PathBuf::from(folder),
        None => small(lab.path())?,
    };
    check_model(&folder)?;
    let mut tensors = 0;
    for file in open_weights(&folder)? {
        for (name, tensor) in file.entries() {
            println!("{name} {:?} {:?} in {}", tensor.dtype, tensor.shape, file.path().display());
            tensors += 1;
        }
    }
    if folder == lab.path() {
        assert_eq!(tensors, 1, "the rotary table is left out");
    }
    Ok(())
}

/// A folder with one weight and one table that nobody needs.
fn small(dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let bytes = [0u8; 12];
    let tensors = [
        ("model.norm.weight", TensorView::new(Dtype::F32, vec![3], &bytes)?),
        ("model.rotary_emb.inv_freq", TensorView::new(Dtype::F32, vec![3], &bytes)?),
    ];
    std::fs::write(dir.join(ama_safetensors::SINGLE), safetensors::serialize(tensors, None)?)?;
    Ok(dir.to_path_buf())
}
