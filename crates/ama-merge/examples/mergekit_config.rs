//! Runs a mergekit configuration: `cargo run --release -p ama-merge --example mergekit_config -- CONFIG.yml OUT_DIR`.
//!
//! Without arguments it makes a base and two fine-tuned models of a few weights and merges them by TIES.

#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use ama_merge::{Recipe, merge};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => small(),
        [config, out] => run(Path::new(config), Path::new(out)),
        _ => Err("want CONFIG.yml OUT_DIR, or nothing".into()),
    }
}

fn run(config: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let (recipe, notices) = Recipe::from_mergekit(config)?;
    let report = merge(&recipe, out)?;
    for notice in notices.iter().chain(&report.notices) {
        println!("note: {notice}");
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{} tensors, {} parameters in {seconds:.2} s", report.tensors, report.parameters);
    Ok(())
}

/// TIES on four weights, worked out by hand.
fn small() -> Result<(), Box<dyn Error>> {
    let lab = tempfile::tempdir()?;
    let path = |name: &str| lab.path().join(name);
    model(&path("base"), [1.0, 1.0, 1.0, 1.0])?;
    model(&path("helpful"), [1.5, 1.5, 0.75, 1.125])?;
    model(&path("harmless"), [1.25, 0.0, 0.5, 1.125])?;
    let config = format!(
        "merge_method: ties\nbase_model: {base}\ndtype: float32\nparameters: {{weight: 1.0, density: 0.75}}\n\
         models:\n  - model: {helpful}\n  - model: {harmless}\n",
        base = path("base").display(),
        helpful = path("helpful").display(),
        harmless = path("harmless").display(),
    );
    fs::write(path("ties.yml"), config)?;
    run(&path("ties.yml"), &path("merged"))?;
    let bytes = fs::read(path("merged/model.safetensors"))?;
    let weights = SafeTensors::deserialize(&bytes)?;
    let merged: Vec<f32> =
        weights.tensor("w")?.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    println!("merged weights: {merged:?}");
    // Trimmed task vectors: [0.5, 0.5, -0.25, 0] and [0.25, -1, -0.5, 0]. Elected signs: +, -, -, none.
    assert_eq!(merged, [1.375, 0.0, 0.625, 1.0]);
    Ok(())
}

fn model(dir: &Path, weights: [f32; 4]) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    let tensors = HashMap::from([("w", TensorView::new(Dtype::F32, vec![4], &bytes)?)]);
    fs::write(dir.join("model.safetensors"), safetensors::serialize(tensors, None)?)?;
    Ok(())
}
