//! Gradient buffers of all parameters, outside of dfdx so that they can be checkpointed, clipped and reduced.

use rayon::prelude::*;

use crate::simd::sum_of_squares;
use crate::{ModelError, Params};

/// One gradient buffer per parameter, in the order of [`Params`], row-major as the parameter.
///
/// The buffers are moved into dfdx's tape for a backward pass and back out; they are added to, never replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamGrads {
    buffers: Vec<Vec<f32>>,
}

/// Elements per partial sum of [`ParamGrads::global_norm`]; fixed, so that the sum has one order.
const NORM_CHUNK: usize = 32 * 1024;

impl ParamGrads {
    /// Zero gradients for these parameters.
    #[must_use]
    pub fn zeros(params: &Params) -> Self {
        Self { buffers: params.iter().map(|p| vec![0.0; p.shape.iter().product()]).collect() }
    }

    /// Sets every gradient to zero, keeping the memory.
    pub fn clear(&mut self) {
        self.buffers.par_iter_mut().for_each(|buffer| buffer.fill(0.0));
    }

    /// The gradients, one slice per parameter, in registry order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.buffers.iter().map(Vec::as_slice)
    }

    /// The gradients for changing, one slice per parameter, in registry order.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [f32]> {
        self.buffers.iter_mut().map(Vec::as_mut_slice)
    }

    /// Euclidean norm over all gradients together, summed in f64 in a fixed order. NaN if any gradient is NaN.
    #[must_use]
    pub fn global_norm(&self) -> f64 {
        let chunks = self.buffers.iter().flat_map(|b| b.chunks(NORM_CHUNK)).collect::<Vec<_>>();
        let partial: Vec<f64> = chunks.par_iter().map(|chunk| sum_of_squares(chunk)).collect();
        partial.into_iter().sum::<f64>().sqrt()
    }

    /// Multiplies every gradient by `factor` (clipping, averaging over accumulated batches).
    pub fn scale(&mut self, factor: f32) {
        let chunks = self.buffers.iter_mut().flat_map(|b| b.chunks_mut(NORM_CHUNK)).collect::<Vec<_>>();
        chunks.into_par_iter().for_each(|chunk| chunk.iter_mut().for_each(|g| *g *= factor));
    }

    /// Checks that these are gradients of these parameters.
    pub(crate) fn check(&self, params: &Params) -> Result<(), ModelError> {
        if self.buffers.len() != params.len() {
            return Err(ModelError::Shape {
                key: "number of gradient buffers".into(),
                got: self.buffers.len().to_string(),
                want: format!("{}, one per parameter", params.len()),
            });
        }
        for (buffer, parameter) in self.buffers.iter().zip(params) {
            let want: usize = parameter.shape.iter().product();
            if buffer.len() != want {
                return Err(ModelError::Shape {
                    key: format!("gradient of {}", parameter.name),
                    got: format!("{} values", buffer.len()),
                    want: format!("{want}, as the parameter has"),
                });
            }
        }
        Ok(())
    }

    /// Moves all buffers out, leaving empty ones.
    pub(crate) fn take(&mut self) -> Vec<Vec<f32>> {
        self.buffers.iter_mut().map(std::mem::take).collect()
    }

    /// Moves buffers in.
    pub(crate) fn restore(&mut self, buffers: Vec<Vec<f32>>) {
        self.buffers = buffers;
    }
}
