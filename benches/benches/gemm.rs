//! The matrix products of a training step through `ama_loss::gemm`, against the `gemm` crate with all threads:
//! `gemm_<direction>/cpu/f32`.
//!
//! A linear layer is `y = x W^T`, and backward `gx = gy W` and `gw += gy^T x`; shapes are `rows x outputs x inputs` of
//! the forward product. Throughput is in multiply-adds, so Gelem/s times 2 is GFLOP/s.
//!
//! # Safety
//! The one `unsafe` block hands `gemm::gemm` row-major matrices or their transposes; [`plain`] asserts that each slice has
//! as many elements as its matrix.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]
#![allow(unsafe_code, reason = "the gemm crate takes raw pointers; see the safety argument above")]

mod common;

use std::hint::black_box;

use ama_loss::Threads;
use ama_loss::gemm::{MatMut, MatRef, matmul};
use common::{brief, uniform};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A factor as it lies in memory (`false`) or transposed.
type Factor<'a> = (&'a [f32], bool);

/// Rows and columns of the result and the length of the sums.
type Dims = (usize, usize, usize);

/// `c (+)= a b` through the workspace's product.
fn ours(c: &mut [f32], (m, n, k): Dims, a: Factor<'_>, b: Factor<'_>, add: bool) {
    fn matrix((data, transposed): Factor<'_>, rows: usize, cols: usize) -> MatRef<'_> {
        let (stored, flip) = if transposed { ((cols, rows), true) } else { ((rows, cols), false) };
        let matrix = MatRef::row_major(data, stored.0, stored.1).expect("lengths fit");
        if flip { matrix.t() } else { matrix }
    }
    let c = MatMut::row_major(c, m, n).expect("lengths fit");
    matmul(c, add, matrix(a, m, k), matrix(b, k, n), Threads::current()).expect("shapes fit");
}

/// The same through the `gemm` crate.
fn plain(c: &mut [f32], (m, n, k): Dims, a: Factor<'_>, b: Factor<'_>, add: bool) {
    assert_eq!((c.len(), a.0.len(), b.0.len()), (m * n, m * k, k * n));
    // Column and row strides of a factor of so many columns, which has so many rows if it is transposed.
    let strides = |(_, transposed): Factor<'_>, rows: usize, cols: usize| {
        if transposed { (rows as isize, 1) } else { (1, cols as isize) }
    };
    let ((a_cols, a_rows), (b_cols, b_rows)) = (strides(a, m, k), strides(b, k, n));
    let threads = gemm::Parallelism::Rayon(rayon::current_num_threads());
    // SAFETY: all elements of the three matrices lie in their slices, whose lengths were just checked; `c` is an
    // exclusive borrow and its elements are distinct.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.0.as_ptr(),
            a_cols,
            a_rows,
            b.0.as_ptr(),
            b_cols,
            b_rows,
            1.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

/// Shapes of a 135M-parameter model with 2 pairs of 256 tokens (query and output, gate or up, gate and up together,
/// down, head), of a `10m` one with 8 pairs (gate or up), and of the suite's model.
const SHAPES: [(usize, usize, usize); 7] = [
    (764, 576, 576),
    (764, 1536, 576),
    (764, 3072, 576),
    (764, 576, 1536),
    (512, 49152, 576),
    (3056, 688, 256),
    (600, 256, 96),
];

fn products(c: &mut Criterion) {
    type Product = fn(&mut [f32], Dims, Factor<'_>, Factor<'_>, bool);
    for (rows, outputs, inputs) in SHAPES {
        let x = uniform(1, rows * inputs, 1.0);
        let w = uniform(2, outputs * inputs, 0.05);
        let mut y = uniform(3, rows * outputs, 1.0);
        let mut gx = vec![0.0; x.len()];
        let mut gw = vec![0.0; w.len()];
        let size = format!("{rows}x{outputs}x{inputs}");
        for direction in ["forward", "grad_input", "grad_weight"] {
            let mut group = c.benchmark_group(format!("gemm_{direction}/cpu/f32"));
            brief(&mut group, 500);
            group.throughput(Throughput::Elements((rows * outputs * inputs) as u64));
            for (name, product) in [("ama_loss", ours as Product), ("gemm_crate", plain as Product)] {
                group.bench_function(BenchmarkId::new(name, &size), |b| {
                    b.iter(|| match direction {
                        "forward" => product(
                            &mut y,
                            (rows, outputs, inputs),
                            (black_box(&x), false),
                            (&w, true),
                            false,
                        ),
                        "grad_input" => product(
                            &mut gx,
                            (rows, inputs, outputs),
                            (black_box(&y), false),
                            (&w, false),
                            false,
                        ),
                        _ => product(
                            &mut gw,
                            (outputs, inputs, rows),
                            (black_box(&y), true),
                            (&x, false),
                            true,
                        ),
                    });
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
