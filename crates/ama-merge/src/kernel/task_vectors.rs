//! Merging task vectors onto their base: task arithmetic and TIES' election.

/// How the scaled, sparsified task vectors of a tensor become one.
#[derive(Debug, Clone)]
pub(crate) struct Consensus {
    /// Weights of the models.
    pub(crate) weights: Vec<f32>,
    /// Whether only the entries count that have the elected sign: that of the sum, positive if the sum is zero.
    pub(crate) elect: bool,
    /// Whether the sum is divided by the weights of the entries that count.
    pub(crate) normalize: bool,
    /// Factor on the merged task vector.
    pub(crate) lambda: f32,
}

/// Sums of weights below this do not divide (mergekit's bound).
const NO_WEIGHT: f32 = 1e-8;

impl Consensus {
    /// Adds the merged task vector to `out`, which holds the base. `deltas` holds one vector of `stride` per model and is
    /// overwritten; `scratch` has room for three vectors as long as `out`.
    #[inline(always)]
    pub(crate) fn add(&self, deltas: &mut [f32], stride: usize, scratch: &mut [f32], out: &mut [f32]) {
        let len = out.len();
        let (sum, rest) = scratch.split_at_mut(len);
        let (mixed, rest) = rest.split_at_mut(len);
        let divisor = &mut rest[..len];
        for (delta, w) in deltas.chunks_mut(stride).zip(&self.weights) {
            for d in &mut delta[..len] {
                *d *= w;
            }
        }
        sum.fill(0.0);
        for delta in deltas.chunks(stride) {
            for (sum, d) in sum.iter_mut().zip(delta) {
                *sum += d;
            }
        }
        if !self.elect {
            let total: f32 = self.weights.iter().sum();
            let total = if self.normalize && total.abs() >= NO_WEIGHT { total } else { 1.0 };
            for (out, sum) in out.iter_mut().zip(sum.iter()) {
                *out += self.lambda * (sum / total);
            }
            return;
        }
        mixed.fill(0.0);
        divisor.fill(0.0);
        for (delta, w) in deltas.chunks(stride).zip(&self.weights) {
            let entries = mixed.iter_mut().zip(divisor.iter_mut()).zip(sum.iter().zip(delta));
            for ((mixed, divisor), (sum, d)) in entries {
                let sign = if *sum >= 0.0 { 1.0 } else { -1.0 };
                // Entries that are zero agree with nothing.
                let agrees = d * sign > 0.0;
                *mixed += if agrees { *d } else { 0.0 };
                *divisor += if agrees { *w } else { 0.0 };
            }
        }
        for ((out, mixed), divisor) in out.iter_mut().zip(mixed.iter()).zip(divisor.iter()) {
            let by = if self.normalize && *divisor != 0.0 { *divisor } else { 1.0 };
            *out += self.lambda * (mixed / by);
        }
    }
}
