//! Products of a strided matrix with a narrow one: what attention consists of.
//!
//! In attention one side of every product is a tile of a few dozen queries, and the other lies in the packed rows of the
//! batch. General products pack both sides first, which costs here as much as the product. This one reads the large side
//! where it lies, a number at a time, and keeps a block of the result in registers.

use pulp::{Simd, WithSimd};

/// Columns of the narrow matrices come in multiples of this: one AVX-512 register, two of AVX2.
pub(super) const COLUMNS: usize = 16;

/// Registers side by side in a block of the result.
const WIDE: usize = 2;

/// A matrix in somebody else's rows.
#[derive(Clone, Copy)]
pub(super) enum Lying<'a> {
    /// Element `[i, p]` is `data[i * stride + p]`.
    ByRow { data: &'a [f32], stride: usize },
    /// Element `[i, p]` is `data[p * stride + i]`.
    ByColumn { data: &'a [f32], stride: usize },
}

/// `c (+)= a b`: `a` `[m, k]`, `b` `[k, n]` and `c` `[m, n]` contiguous, `n` a multiple of [`COLUMNS`].
///
/// Every element is summed in the order of `k`, in `f32`.
///
/// # Panics
/// If a length does not fit.
pub(super) fn product(c: &mut [f32], a: Lying<'_>, b: &[f32], (m, n, k): (usize, usize, usize), add: bool) {
    assert!(n.is_multiple_of(COLUMNS) && c.len() == m * n && b.len() == k * n, "{m} x {k} times {k} x {n}");
    pulp::Arch::new().dispatch(Product { c, a, b, n, k, add });
}

struct Product<'a> {
    c: &'a mut [f32],
    a: Lying<'a>,
    b: &'a [f32],
    n: usize,
    k: usize,
    add: bool,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.k == 0 {
            if !self.add {
                self.c.fill(0.0);
            }
            return;
        }
        // A block of the result, a row of b and one number of a must fit the registers.
        if S::REGISTER_COUNT >= 32 { self.blocks::<S, 12>(simd) } else { self.blocks::<S, 6>(simd) }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const HIGH: usize>(self, simd: S) {
        let Self { c, a, b, n, k, add } = self;
        let mut first = 0;
        let rows = c.len() / n;
        while first < rows {
            let left = rows - first;
            let a = a.below(first);
            let c = &mut c[first * n..];
            // Heights for which the loops below have constant bounds.
            first += match left {
                left if left >= HIGH => strip::<S, HIGH>(simd, c, a, b, n, k, add),
                8.. => strip::<S, 8>(simd, c, a, b, n, k, add),
                4.. => strip::<S, 4>(simd, c, a, b, n, k, add),
                2.. => strip::<S, 2>(simd, c, a, b, n, k, add),
                _ => strip::<S, 1>(simd, c, a, b, n, k, add),
            };
        }
    }
}

impl Lying<'_> {
    /// Without the rows above `first`.
    #[inline(always)]
    fn below(self, first: usize) -> Self {
        match self {
            Self::ByRow { data, stride } => Self::ByRow { data: &data[first * stride..], stride },
            Self::ByColumn { data, stride } => Self::ByColumn { data: &data[first..], stride },
        }
    }
}

/// `M` rows of the result, in blocks of [`WIDE`] registers; returns `M`.
#[inline(always)]
fn strip<S: Simd, const M: usize>(
    simd: S,
    c: &mut [f32],
    a: Lying<'_>,
    b: &[f32],
    n: usize,
    k: usize,
    add: bool,
) -> usize {
    let width = WIDE * S::F32_LANES;
    let whole = n - n % width;
    for column in (0..whole).step_by(width) {
        simd.vectorize(Block::<M, WIDE> { c, a, b, n, k, column, add });
    }
    for column in (whole..n).step_by(S::F32_LANES) {
        simd.vectorize(Block::<M, 1> { c, a, b, n, k, column, add });
    }
    M
}

/// `M` rows and `V` registers of the result, from `column` on.
struct Block<'a, const M: usize, const V: usize> {
    c: &'a mut [f32],
    a: Lying<'a>,
    b: &'a [f32],
    n: usize,
    k: usize,
    column: usize,
    add: bool,
}

impl<const M: usize, const V: usize> WithSimd for Block<'_, M, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { c, a, b, n, k, column, add } = self;
        let width = V * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        // Loops with constant bounds and plain indices: anything cleverer and the compiler keeps `sums` in memory.
        match a {
            Lying::ByRow { data, stride } => {
                let rows: [&[f32]; M] = std::array::from_fn(|i| &data[i * stride..i * stride + k]);
                for (p, b) in b.chunks_exact(n).take(k).enumerate() {
                    let b = load::<S, V>(&b[column..column + width]);
                    for i in 0..M {
                        let a = simd.splat_f32s(rows[i][p]);
                        for v in 0..V {
                            sums[i][v] = simd.mul_add_e_f32s(a, b[v], sums[i][v]);
                        }
                    }
                }
            }
            Lying::ByColumn { data, stride } => {
                for (b, a) in b.chunks_exact(n).zip(data.chunks(stride)).take(k) {
                    let b = load::<S, V>(&b[column..column + width]);
                    let a = &a[..M];
                    for i in 0..M {
                        let a = simd.splat_f32s(a[i]);
                        for v in 0..V {
                            sums[i][v] = simd.mul_add_e_f32s(a, b[v], sums[i][v]);
                        }
                    }
                }
            }
        }
        for i in 0..M {
            let c = S::as_mut_simd_f32s(&mut c[i * n + column..i * n + column + width]).0;
            for v in 0..V {
                c[v] = if add { simd.add_f32s(c[v], sums[i][v]) } else { sums[i][v] };
            }
        }
    }
}

#[inline(always)]
fn load<S: Simd, const V: usize>(from: &[f32]) -> [S::f32s; V] {
    let registers = S::as_simd_f32s(from).0;
    std::array::from_fn(|v| registers[v])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integers, so that every order of summation is exact.
    fn number(i: usize) -> f32 {
        (i * 37 % 23) as f32 - 11.0
    }

    #[test]
    fn agrees_with_the_formula_on_every_instruction_set() {
        let check = |run: &dyn Fn(Product<'_>)| {
            for (m, n, k) in [(1, 16, 1), (3, 32, 5), (12, 48, 7), (29, 64, 24), (133, 32, 33), (6, 16, 0)] {
                let stride = m.max(k) + 3;
                let data: Vec<f32> = (0..stride * stride).map(number).collect();
                let b: Vec<f32> = (0..k * n).map(|i| number(i + 5)).collect();
                for (by_row, add) in [(true, false), (false, false), (true, true), (false, true)] {
                    let (a, at): (Lying<'_>, fn(usize, usize, usize) -> usize) = if by_row {
                        (Lying::ByRow { data: &data, stride }, |i, p, stride| i * stride + p)
                    } else {
                        (Lying::ByColumn { data: &data, stride }, |i, p, stride| p * stride + i)
                    };
                    let mut c = vec![if add { 3.0 } else { f32::NAN }; m * n];
                    run(Product { c: &mut c, a, b: &b, n, k, add });
                    for i in 0..m {
                        for j in 0..n {
                            let sum: f32 = (0..k).map(|p| data[at(i, p, stride)] * b[p * n + j]).sum();
                            let want = if add { 3.0 + sum } else { sum };
                            assert_eq!(c[i * n + j], want, "[{i}, {j}] of {m} x {k} x {n}, by row {by_row}");
                        }
                    }
                }
            }
        };
        check(&|op| pulp::Arch::new().dispatch(op));
        check(&|op| Simd::vectorize(pulp::Scalar::new(), op));
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            check(&|op| Simd::vectorize(avx2, op));
        }
    }
}
