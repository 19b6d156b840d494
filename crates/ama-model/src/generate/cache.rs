//! The keys and values of one sequence in one layer, and attention of one new token against them.
//!
//! Positions are stored in blocks of [`BLOCK`]. Within a block, a head's keys lie dimension by dimension
//! (`[dim, BLOCK]`) and its values position by position (`[BLOCK, dim]`), so that both loops of the attention
//! run over consecutive floats: scores are sums of whole rows, without a horizontal reduction per key.

use pulp::Simd;

use crate::ops::attention::Heads;
use crate::simd::{LANES, add_lanes, exp, fma, kernel, max};

/// Positions per block.
pub(super) const BLOCK: usize = LANES;

/// One layer's keys and values of one sequence.
#[derive(Debug, Default)]
pub(super) struct LayerCache {
    /// `[blocks, kv heads, dim, BLOCK]`.
    keys: Vec<f32>,
    /// `[blocks, kv heads, BLOCK, dim]`.
    values: Vec<f32>,
    /// Positions stored.
    len: usize,
}

impl LayerCache {
    /// Adds positions: `k` and `v` `[n, kv heads * dim]`, keys rotated.
    pub(super) fn append(&mut self, heads: Heads, k: &[f32], v: &[f32]) {
        let (kv, dim) = (heads.kv, heads.dim);
        for (k, v) in k.chunks_exact(kv * dim).zip(v.chunks_exact(kv * dim)) {
            let (block, slot) = (self.len / BLOCK, self.len % BLOCK);
            if slot == 0 {
                let size = (block + 1) * kv * dim * BLOCK;
                self.keys.resize(size, 0.0);
                self.values.resize(size, 0.0);
            }
            for head in 0..kv {
                let at = (block * kv + head) * dim * BLOCK;
                let row = head * dim..(head + 1) * dim;
                for (to, from) in self.keys[at + slot..].iter_mut().step_by(BLOCK).zip(&k[row.clone()]) {
                    *to = *from;
                }
                self.values[at + slot * dim..at + (slot + 1) * dim].copy_from_slice(&v[row]);
            }
            self.len += 1;
        }
    }

    /// Attention of the newest token: `q` and `out` `[query heads * dim]`; its own key and value were
    /// appended.
    pub(super) fn attend(&self, heads: Heads, q: &[f32], out: &mut [f32], scores: &mut Vec<f32>) {
        assert!(
            q.len() == heads.query * heads.dim && out.len() == q.len() && self.len > 0,
            "one row, some keys"
        );
        scores.resize(self.len.next_multiple_of(BLOCK), 0.0);
        attend_row(q, &self.keys, &self.values, self.len, heads, scores, out);
    }
}

kernel! {
    /// `out = softmax(q K^T / sqrt(dim)) V`, head by head; `scores` holds whole blocks.
    fn attend_row(q: &'a [f32], keys: &'a [f32], values: &'a [f32], len: usize, heads: Heads,
                  scores: &'a mut [f32], out: &'a mut [f32]) -> () {
        let (kv, dim) = (heads.kv, heads.dim);
        let scale = 1.0 / (dim as f32).sqrt();
        for (head, (q, out)) in q.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
            let first = head / (heads.query / kv) * dim * BLOCK;
            let stride = kv * dim * BLOCK;
            for (scores, keys) in scores.chunks_exact_mut(BLOCK).zip(keys.chunks_exact(stride)) {
                let mut lanes = [0.0; BLOCK];
                for (q, row) in q.iter().zip(keys[first..].chunks_exact(BLOCK)) {
                    for j in 0..BLOCK {
                        lanes[j] = fma::<S>(*q, row[j], lanes[j]);
                    }
                }
                for (score, lane) in scores.iter_mut().zip(lanes) {
                    *score = lane * scale;
                }
            }
            let (seen, beyond) = scores.split_at_mut(len);
            beyond.fill(0.0);
            let most = max(seen);
            for p in seen.iter_mut() {
                *p = exp::<S>(*p - most);
            }
            let mut lanes = [0.0; LANES];
            for block in scores.chunks_exact(BLOCK) {
                for j in 0..BLOCK {
                    lanes[j] += block[j];
                }
            }
            let inverse = 1.0 / add_lanes(lanes, 0.0);
            for p in &mut scores[..len] {
                *p *= inverse;
            }
            let values = Values { blocks: values, first, stride, dim };
            // Beyond `len` the weights are 0, and so are the values of the last block.
            let pairs = &scores[..len.next_multiple_of(2)];
            let mut at = 0;
            while at + 16 <= dim {
                values.average::<S, 16>(pairs, at, out);
                at += 16;
            }
            while at + 8 <= dim {
                values.average::<S, 8>(pairs, at, out);
                at += 8;
            }
            while at < dim {
                values.average::<S, 1>(pairs, at, out);
                at += 1;
            }
        }
    }
}

/// One head's values.
struct Values<'a> {
    blocks: &'a [f32],
    /// Where the head begins within a block.
    first: usize,
    /// Floats per block.
    stride: usize,
    dim: usize,
}

impl Values<'_> {
    /// `out[at..at + W] = sum_j p_j v_j[at..at + W]`, summed in registers, even and odd positions apart to
    /// hide the latency. `p` has an even length.
    #[inline(always)]
    fn average<S: Simd, const W: usize>(&self, p: &[f32], at: usize, out: &mut [f32]) {
        let (mut even, mut odd) = ([0.0; W], [0.0; W]);
        for (p, block) in p.chunks(BLOCK).zip(self.blocks.chunks_exact(self.stride)) {
            let rows = block[self.first..].chunks_exact(2 * self.dim);
            for (p, rows) in p.as_chunks::<2>().0.iter().zip(rows) {
                let (row, next) = (&rows[at..at + W], &rows[self.dim + at..self.dim + at + W]);
                for i in 0..W {
                    even[i] = fma::<S>(p[0], row[i], even[i]);
                    odd[i] = fma::<S>(p[1], next[i], odd[i]);
                }
            }
        }
        for ((out, a), b) in out[at..at + W].iter_mut().zip(even).zip(odd) {
            *out = a + b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition in f64, at every length across two block boundaries, for several head layouts.
    #[test]
    fn is_the_softmax_average() {
        for (query, kv, dim) in [(1, 1, 2), (6, 3, 8), (4, 1, 24), (4, 4, 6)] {
            let heads = Heads { query, kv, dim };
            let wave = |i: usize, f: f64| ((i as f64 * f).sin() * 2.0) as f32;
            let (n, row) = (2 * BLOCK + 3, kv * dim);
            let k: Vec<f32> = (0..n * row).map(|i| wave(i, 0.7)).collect();
            let v: Vec<f32> = (0..n * row).map(|i| wave(i, 1.3)).collect();
            let q: Vec<f32> = (0..query * dim).map(|i| wave(i, 2.1)).collect();
            let mut cache = LayerCache::default();
            let mut scores = Vec::new();
            for len in 1..=n {
                cache.append(heads, &k[(len - 1) * row..len * row], &v[(len - 1) * row..len * row]);
                let mut out = vec![f32::NAN; query * dim];
                cache.attend(heads, &q, &mut out, &mut scores);
                for head in 0..query {
                    let shared = head / (query / kv);
                    let dot = |j: usize| -> f64 {
                        (0..dim)
                            .map(|d| f64::from(q[head * dim + d]) * f64::from(k[j * row + shared * dim + d]))
                            .sum()
                    };
                    let weights: Vec<f64> = (0..len).map(|j| (dot(j) / (dim as f64).sqrt()).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for d in 0..dim {
                        let want: f64 = (0..len)
                            .map(|j| weights[j] / total * f64::from(v[j * row + shared * dim + d]))
                            .sum();
                        let got = f64::from(out[head * dim + d]);
                        assert!(
                            (got - want).abs() < 2e-6,
                            "{query}/{kv}/{dim} length {len}: {got} vs {want}"
                        );
                    }
                }
            }
            // All at once is the same as one by one.
            let mut whole = LayerCache::default();
            whole.append(heads, &k, &v);
            assert!(whole.keys == cache.keys && whole.values == cache.values);
        }
    }
}
