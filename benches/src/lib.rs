//! Criterion benchmarks (`benches/`), our side of the kernel rows of `cargo xtask bench` (`src/bin/kernels.rs`), the
//! peers (`peers/`), and what is measured on an NVIDIA GPU (`device`, feature `cuda`).

#[cfg(feature = "cuda")]
pub mod device;
pub mod numbers;
