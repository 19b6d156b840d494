//! Criterion benchmarks (`benches/`), our side of the kernel rows of `cargo xtask bench` (`src/bin/kernels.rs`), and the
//! peers (`peers/`).
