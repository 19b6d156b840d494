//! The decoder's kernels (`ama_model::ops`) at the shapes of three models, against the naive way: the formula as it
//! stands, the standard library's `exp`, one loop a row, threads over rows. `<op>_<pass>/cpu/f32`.
//!
//! Shapes are those of one step: a 135M-parameter model with 2 pairs, a `10m` one with 8 pairs (256 tokens a sequence,
//! half of them prompt), and the suite's model with 20 pairs of 40. Throughput of the element-wise kernels is in bytes
//! that they have to move once, so it compares with the machine's memory bandwidth; attention has its own bench.
//!
//! Every kernel is called in one place, in [`kernels`], so that a changed signature is one changed line.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

mod common;

use common::{brief, ids, uniform};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;

/// The workspace's kernels.
mod kernels {
    pub(crate) use ama_model::ops::embedding::{gather_rows, scatter_add_rows};
    pub(crate) use ama_model::ops::rmsnorm::{rmsnorm_apply, rmsnorm_backward, rmsnorm_forward};
    pub(crate) use ama_model::ops::rope::{RopeTable, rotate};
    pub(crate) use ama_model::ops::swiglu::{swiglu_backward, swiglu_forward};
}

/// Name, packed tokens, hidden and inner width, vocabulary.
const MODELS: [(&str, usize, usize, usize, usize); 3] =
    [("suite", 1140, 96, 256, 512), ("10m", 3056, 256, 688, 4096), ("135m", 764, 576, 1536, 49152)];
const HEAD_DIM: usize = 32;

/// A group for one op, and its throughput in f32 values read or written.
fn bench(c: &mut Criterion, name: &str, size: &str, values: usize, variants: [(&str, &mut dyn FnMut()); 2]) {
    let mut group = c.benchmark_group(format!("{name}/cpu/f32"));
    brief(&mut group, 500);
    group.throughput(Throughput::Bytes(4 * values as u64));
    for (variant, run) in variants {
        group.bench_function(BenchmarkId::new(variant, size), |b| b.iter(&mut *run));
    }
    group.finish();
}

fn rmsnorm(c: &mut Criterion) {
    for (model, n, d, _, _) in MODELS {
        let (x, w, gy) = (uniform(1, n * d, 1.0), uniform(2, d, 1.0), uniform(3, n * d, 1.0));
        let (mut out, mut scale) = (vec![0.0; n * d], vec![0.0; n]);
        let mut naive_out = out.clone();
        let eps = 1e-5;
        bench(
            c,
            "rmsnorm_forward",
            model,
            2 * n * d,
            [
                ("fused", &mut || kernels::rmsnorm_forward(&x, &w, eps, &mut out, &mut scale)),
                ("naive", &mut || {
                    naive_out.par_chunks_mut(d).zip(x.par_chunks(d)).for_each(|(y, x)| {
                        let s = 1.0 / (x.iter().map(|x| x * x).sum::<f32>() / d as f32 + eps).sqrt();
                        y.iter_mut().zip(x).zip(&w).for_each(|((y, x), w)| *y = x * s * w);
                    });
                }),
            ],
        );
        // The output once more from the saved scale, as the backward pass of a fused layer wants it.
        bench(
            c,
            "rmsnorm_apply",
            model,
            2 * n * d,
            [
                ("fused", &mut || kernels::rmsnorm_apply(&x, &w, &scale, &mut out)),
                ("naive", &mut || {
                    let rows = naive_out.par_chunks_mut(d).zip(x.par_chunks(d)).zip(&scale);
                    rows.for_each(|((y, x), s)| {
                        y.iter_mut().zip(x).zip(&w).for_each(|((y, x), w)| *y = x * s * w)
                    });
                }),
            ],
        );
        let (mut gx, mut gw) = (vec![0.0; n * d], vec![0.0; d]);
        let (mut naive_gx, mut naive_gw) = (gx.clone(), gw.clone());
        bench(
            c,
            "rmsnorm_backward",
            model,
            4 * n * d,
            [
                ("fused", &mut || kernels::rmsnorm_backward(&x, &w, &scale, &gy, &mut gx, true, &mut gw)),
                ("naive", &mut || {
                    let rows =
                        naive_gx.par_chunks_mut(d).zip(x.par_chunks(d)).zip(gy.par_chunks(d)).zip(&scale);
                    rows.for_each(|(((gx, x), gy), &s)| {
                        let c = gy.iter().zip(&w).zip(x).map(|((g, w), x)| g * w * x).sum::<f32>() / d as f32;
                        for (((gx, x), g), w) in gx.iter_mut().zip(x).zip(gy).zip(&w) {
                            *gx += s * (g * w - x * s * s * c);
                        }
                    });
                    for ((x, gy), s) in x.chunks(d).zip(gy.chunks(d)).zip(&scale) {
                        naive_gw.iter_mut().zip(x).zip(gy).for_each(|((gw, x), g)| *gw += g * x * s);
                    }
                }),
            ],
        );
    }
}

fn rope(c: &mut Criterion) {
    for (model, n, d, _, _) in MODELS {
        let half = HEAD_DIM / 2;
        let inv_freq = (0..half).map(|i| 1e4_f64.powf(-(i as f64) / half as f64)).collect();
        let table = kernels::RopeTable::new(inv_freq, 256);
        let positions: Vec<u32> = (0..n as u32).map(|i| i % 256).collect();
        let mut x = uniform(1, n * d, 1.0);
        let mut naive_x = x.clone();
        // Backward is the same rotation the other way round.
        for (pass, inverse) in [("rope_forward", false), ("rope_backward", true)] {
            bench(
                c,
                pass,
                model,
                2 * n * d,
                [
                    ("fused", &mut || kernels::rotate(&mut x, &positions, &table, inverse)),
                    // Angles computed where they are needed.
                    ("naive", &mut || {
                        naive_x.par_chunks_mut(d).zip(&positions).for_each(|(row, &position)| {
                            for head in row.chunks_exact_mut(HEAD_DIM) {
                                for i in 0..half {
                                    let angle = position as f32 * 1e4_f32.powf(-(i as f32) / half as f32);
                                    let (sin, cos) =
                                        if inverse { (-angle).sin_cos() } else { angle.sin_cos() };
                                    let (a, b) = (head[i], head[i + half]);
                                    (head[i], head[i + half]) = (a * cos - b * sin, b * cos + a * sin);
                                }
                            }
                        });
                    }),
                ],
            );
        }
    }
}

fn swiglu(c: &mut Criterion) {
    for (model, n, _, inner, _) in MODELS {
        let len = n * inner;
        let (gate, up) = (uniform(1, len, 3.0), uniform(2, len, 1.0));
        let mut out = vec![0.0; len];
        let mut naive_out = out.clone();
        bench(
            c,
            "swiglu_forward",
            model,
            3 * len,
            [
                ("fused", &mut || kernels::swiglu_forward(&gate, &up, &mut out)),
                ("naive", &mut || {
                    naive_out
                        .par_iter_mut()
                        .zip(&gate)
                        .zip(&up)
                        .for_each(|((y, g), u)| *y = g / (1.0 + (-g).exp()) * u);
                }),
            ],
        );
        // The kernel overwrites the gradient; filling it again is part of both times and of the bytes.
        let (mut gy, mut ggate) = (uniform(3, len, 1.0), vec![0.0; len]);
        let (mut naive_gy, mut naive_ggate) = (gy.clone(), ggate.clone());
        let upstream = gy.clone();
        bench(
            c,
            "swiglu_backward",
            model,
            8 * len,
            [
                ("fused", &mut || {
                    gy.copy_from_slice(&upstream);
                    kernels::swiglu_backward(&gate, &up, &mut gy, &mut ggate, &mut out);
                }),
                ("naive", &mut || {
                    naive_gy.copy_from_slice(&upstream);
                    let inputs = gate.par_iter().zip(&up);
                    let outputs = naive_gy.par_iter_mut().zip(&mut naive_ggate).zip(&mut naive_out);
                    inputs.zip(outputs).for_each(|((g, u), ((gy, gg), y))| {
                        let sigma = 1.0 / (1.0 + (-g).exp());
                        *gg = *gy * u * sigma * (1.0 + g * (1.0 - sigma));
                        *gy *= g * sigma;
                        *y = g * sigma * u;
                    });
                }),
            ],
        );
    }
}

fn embedding(c: &mut Criterion) {
    for (model, n, d, _, vocab) in MODELS {
        let (mut table, ids) = (uniform(1, vocab * d, 1.0), ids(n, vocab));
        let mut rows = vec![0.0; n * d];
        let mut naive_rows = rows.clone();
        bench(
            c,
            "embedding_gather",
            model,
            2 * n * d,
            [
                ("fused", &mut || kernels::gather_rows(&table, d, &ids, &mut rows)),
                ("naive", &mut || {
                    for (row, &id) in naive_rows.chunks_mut(d).zip(&ids) {
                        row.copy_from_slice(&table[id as usize * d..][..d]);
                    }
                }),
            ],
        );
        let grad = uniform(2, n * d, 1e-3);
        let mut naive_table = table.clone();
        bench(
            c,
            "embedding_scatter",
            model,
            3 * n * d,
            [
                ("fused", &mut || kernels::scatter_add_rows(&grad, d, &ids, &mut table)),
                ("naive", &mut || {
                    for (row, &id) in grad.chunks(d).zip(&ids) {
                        (0..d).for_each(|i| naive_table[id as usize * d + i] += row[i]);
                    }
                }),
            ],
        );
    }
}

criterion_group!(benches, rmsnorm, rope, swiglu, embedding);
criterion_main!(benches);
