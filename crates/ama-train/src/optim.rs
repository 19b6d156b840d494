//! AdamW with decoupled weight decay; the moments are ours, so they can be checkpointed.

use ama_model::access::values_mut;
use ama_model::{ParamGrads, Params};
use rayon::prelude::*;

use crate::TrainError;

/// Settings of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on matrices only: norm weights are not decayed, as in `transformers`.
    pub weight_decay: f64,
}

impl Default for AdamWOptions {
    /// PyTorch's and TRL's defaults: betas (0.9, 0.999), eps 1e-8, no decay.
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamWOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`TrainError::Setting`] names the value that is out of range.
    pub fn validate(&self) -> Result<(), TrainError> {
        let unit = |x: f64| (0.0..1.0).contains(&x);
        if !unit(self.betas.0) || !unit(self.betas.1) {
            let value = format!("{:?}", self.betas);
            return Err(TrainError::Setting { name: "betas", value, want: "two values in [0, 1)" });
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return Err(TrainError::Setting {
                name: "eps",
                value: self.eps.to_string(),
                want: "a finite value > 0",
            });
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            let value = self.weight_decay.to_string();
            return Err(TrainError::Setting { name: "weight_decay", value, want: "a finite value >= 0" });
        }
        Ok(())
    }
}

/// AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2), in PyTorch's order of operations.
///
/// `p -= lr * wd * p`, `m = b1 m + (1-b1) g`, `v = b2 v + (1-b2) g^2`,
/// `p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps)`. Element-wise, so threads do not change the result.
#[derive(Debug, Clone)]
pub struct AdamW {
    options: AdamWOptions,
    steps: u64,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
}

/// Elements one task updates: 3 arrays of 64 KiB stay in a core's second-level cache.
const BLOCK: usize = 16 * 1024;

impl AdamW {
    /// Zero moments for every parameter.
    #[must_use]
    pub fn new(options: AdamWOptions, params: &Params) -> Self {
        let zeros = || params.iter().map(|p| vec![0.0; p.shape.iter().product()]).collect::<Vec<_>>();
        Self { options, steps: 0, first: zeros(), second: zeros() }
    }

    /// First and second moments in the registry's order.
    #[must_use]
    pub fn moments(&self) -> (&[Vec<f32>], &[Vec<f32>]) {
        (&self.first, &self.second)
    }

    /// Puts back the state of a checkpoint; lengths were checked by the caller against the registry.
    pub(crate) fn restore(&mut self, steps: u64, first: Vec<Vec<f32>>, second: Vec<Vec<f32>>) {
        (self.steps, self.first, self.second) = (steps, first, second);
    }

    /// One update with learning rate `lr`; gradients are multiplied by `grad_scale` (clipping) on the way.
    pub fn step(&mut self, params: &mut Params, grads: &ParamGrads, lr: f64, grad_scale: f64) {
        self.steps += 1;
        let (b1, b2) = self.options.betas;
        let t = self.steps.min(i32::MAX as u64) as i32;
        let rule = Rule {
            scale: grad_scale as f32,
            betas: [b1 as f32, b2 as f32],
            rests: [(1.0 - b1) as f32, (1.0 - b2) as f32],
            step_size: (lr / (1.0 - b1.powi(t))) as f32,
            root2: (1.0 - b2.powi(t)).sqrt() as f32,
            eps: self.options.eps as f32,
        };
        let moments = self.first.iter_mut().zip(&mut self.second);
        let mut blocks = Vec::new();
        for ((param, grad), (first, second)) in params.iter_mut().zip(grads.iter()).zip(moments) {
            let decays = param.shape.len() > 1;
            let keep = if decays { (1.0 - lr * self.options.weight_decay) as f32 } else { 1.0 };
            let values = values_mut(&mut param.tensor).chunks_mut(BLOCK).zip(grad.chunks(BLOCK));
            let moments = first.chunks_mut(BLOCK).zip(second.chunks_mut(BLOCK));
            blocks.extend(values.zip(moments).map(|((p, g), (m, v))| Block { rule, p, g, m, v, keep }));
        }
        let arch = pulp::Arch::new();
        blocks.into_par_iter().for_each(|block| arch.dispatch(block));
    }
}

/// What is the same for all parameters of a step.
#[derive(Clone, Copy)]
struct Rule {
    /// Factor on the gradients.
    scale: f32,
    betas: [f32; 2],
    /// 1 - beta.
    rests: [f32; 2],
    step_size: f32,
    root2: f32,
    eps: f32,
}

/// Up to [`BLOCK`] parameters with their gradients and moments.
struct Block<'a> {
    rule: Rule,
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    /// What weight decay leaves of a parameter.
    keep: f32,
}

impl pulp::WithSimd for Block<'_> {
    type Output = ();

    /// Compiled for every instruction set, with the same bits: each operation is rounded by itself.
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Self { rule, p, g, m, v, keep } = self;
        let Rule { scale, betas: [b1, b2], rests: [c1, c2], step_size, root2, eps } = rule;
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * scale;
            *m = b1 * *m + c1 * g;
            *v = b2 * *v + c2 * g * g;
            *p = *p * keep - step_size * *m / (v.sqrt() / root2 + eps);
        }
    }
}

/// Factor that brings a gradient of norm `norm` to at most `max_norm`, as PyTorch's
/// `clip_grad_norm_` computes it: `min(1, max_norm / (norm + 1e-6))`.
#[must_use]
pub fn clip_factor(norm: f64, max_norm: Option<f64>) -> f64 {
    max_norm.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0))
}
