//! Criterion benchmarks live beside this file.
