//! Inner products of a tensor of several models, each taken as one vector.

use rayon::prelude::*;

use super::{CHUNK, Values, chunks, vectorised};

/// Inner products `G[i][j] = <x_i - o, x_j - o>` in f64; `o` is the origin, or zero.
#[derive(Debug, Clone)]
pub(crate) struct Gram {
    models: usize,
    products: Vec<f64>,
}

impl Gram {
    /// Reads every model once.
    pub(crate) fn of(models: &[Values<'_>], origin: Option<Values<'_>>) -> Self {
        let count = models.len();
        let total = models.first().map_or(0, Values::len);
        let parts: Vec<Vec<f64>> = chunks(total, CHUNK)
            .map_init(
                || (vec![0.0f32; CHUNK], vec![0.0f32; CHUNK * count]),
                |(zero, vectors), range| {
                    vectorised(
                        #[inline(always)]
                        || {
                            let len = range.len();
                            let zero = &mut zero[..len];
                            for (model, vector) in models.iter().zip(vectors.chunks_mut(CHUNK)) {
                                model.read(&range, &mut vector[..len]);
                            }
                            if let Some(origin) = origin {
                                origin.read(&range, zero);
                                for vector in vectors.chunks_mut(CHUNK) {
                                    for (x, o) in vector.iter_mut().zip(zero.iter()) {
                                        *x -= o;
                                    }
                                }
                            }
                            let mut products = vec![0.0; count * count];
                            for i in 0..count {
                                for j in i..count {
                                    let (a, b) = (&vectors[i * CHUNK..][..len], &vectors[j * CHUNK..][..len]);
                                    products[i * count + j] = dot(a, b);
                                }
                            }
                            products
                        },
                    )
                },
            )
            .collect();
        let mut products = vec![0.0; count * count];
        for part in parts {
            for (sum, x) in products.iter_mut().zip(part) {
                *sum += x;
            }
        }
        for i in 0..count {
            for j in 0..i {
                products[i * count + j] = products[j * count + i];
            }
        }
        Self { models: count, products }
    }

    /// Number of vectors.
    pub(crate) fn models(&self) -> usize {
        self.models
    }

    /// `<x_i, x_j>`.
    pub(crate) fn product(&self, i: usize, j: usize) -> f64 {
        self.products[i * self.models + j]
    }

    /// Length of `x_i`.
    pub(crate) fn norm(&self, i: usize) -> f64 {
        self.product(i, i).sqrt()
    }

    /// `<sum_i a_i x_i, sum_j b_j x_j>`.
    pub(crate) fn product_of(&self, a: &[f64], b: &[f64]) -> f64 {
        let mut sum = 0.0;
        for (i, a) in a.iter().enumerate() {
            for (j, b) in b.iter().enumerate() {
                sum += a * b * self.product(i, j);
            }
        }
        sum
    }

    /// The first vector with a value that is not finite.
    pub(crate) fn first_non_finite(&self) -> Option<usize> {
        (0..self.models).find(|&i| !self.product(i, i).is_finite())
    }
}

/// In f64 and eight lanes, which are added in a fixed order.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f64::from(*a) * f64::from(*b);
        }
    }
    let mut sum: f64 = lanes.iter().sum();
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum += f64::from(*a) * f64::from(*b);
    }
    sum
}
