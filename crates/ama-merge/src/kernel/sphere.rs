//! Spherical interpolation as coefficients: whatever it does to vectors, the result is a linear combination of them, and
//! their inner products say with which coefficients. So a tensor is read twice, however many models there are.

use super::gram::Gram;

/// Above this `|cos|` the vectors count as parallel, and interpolation is linear (the usual threshold; mergekit's).
const PARALLEL: f64 = 0.9995;
/// Lengths at or below this have no direction.
const NO_DIRECTION: f64 = 1e-8;

/// Coefficients of `(u, v)` in the point at `t` on the arc from `u` to `v`: `sin((1-t) a)/sin a` and `sin(t a)/sin a` with
/// the angle `a` between them (Shoemake 1985). Lengths are interpolated along with the directions. Linear if one
/// of the vectors is zero or if they are nearly parallel or opposite.
fn arc(t: f64, norm_u: f64, norm_v: f64, product: f64) -> (f64, f64) {
    if norm_u <= NO_DIRECTION || norm_v <= NO_DIRECTION {
        return (1.0 - t, t);
    }
    let cos = (product / norm_u / norm_v).clamp(-1.0, 1.0);
    if cos.abs() > PARALLEL {
        return (1.0 - t, t);
    }
    let angle = cos.acos();
    (((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin())
}

/// Coefficients of a chain of arcs: from `x_0` to `x_1` by `steps[0]`, from there to `x_2` by `steps[1]`, and so on.
pub(crate) fn chain(gram: &Gram, steps: &[f64]) -> Vec<f64> {
    let mut coefficients = vec![0.0; gram.models()];
    if let Some(first) = coefficients.first_mut() {
        *first = 1.0;
    }
    for (next, &t) in (1..gram.models()).zip(steps) {
        let mut unit = vec![0.0; gram.models()];
        unit[next] = 1.0;
        let norm = gram.product_of(&coefficients, &coefficients).max(0.0).sqrt();
        let product = gram.product_of(&coefficients, &unit);
        let (keep, take) = arc(t, norm, gram.norm(next), product);
        coefficients.iter_mut().for_each(|c| *c *= keep);
        coefficients[next] += take;
    }
    coefficients
}

/// Steps of [`chain`] in which model `j` takes part with `w_j / (w_0 + ... + w_j)`; `None` if a partial sum is zero.
pub(crate) fn steps(weights: &[f64]) -> Option<Vec<f64>> {
    let mut sum = *weights.first()?;
    let mut steps = Vec::with_capacity(weights.len() - 1);
    for weight in &weights[1..] {
        sum += weight;
        if sum == 0.0 {
            return None;
        }
        steps.push(weight / sum);
    }
    Some(steps)
}

/// Coefficients of the weighted mean direction at the weighted mean length:
/// `(sum w_i |x_i|) m / |m|` with `m = sum w_i x_i / |x_i|`. `None` if the directions cancel.
///
/// mergekit's `multislerp` projects onto the tangent space at `m / |m|`, averages there and projects back; the weighted
/// mean of the tangent vectors at that point is zero by construction, which leaves this.
pub(crate) fn mean_direction(gram: &Gram, weights: &[f64]) -> Option<Vec<f64>> {
    let norms: Vec<f64> = (0..gram.models()).map(|i| gram.norm(i)).collect();
    if norms.iter().all(|norm| *norm <= NO_DIRECTION) {
        return Some(weights.to_vec());
    }
    let scaled = |(w, norm): (&f64, &f64)| if *norm > NO_DIRECTION { w / norm } else { 0.0 };
    let directions: Vec<f64> = weights.iter().zip(&norms).map(scaled).collect();
    let length = gram.product_of(&directions, &directions).max(0.0).sqrt();
    if length < NO_DIRECTION {
        // Between two opposite vectors the straight line is the only choice left.
        return (gram.models() == 2).then(|| weights.to_vec());
    }
    let mean_norm: f64 = weights.iter().zip(&norms).map(|(w, norm)| w * norm).sum();
    Some(directions.iter().map(|d| d * mean_norm / length).collect())
}
