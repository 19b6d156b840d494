//! The compiled kernels of one device.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream};
use cudarc::nvrtc::Ptx;

use super::cache::KernelCache;
use super::compile::{self, Source};
use super::device::driver;
use super::memory::Ledger;
use crate::LossError;

/// All kernels, loaded into a context. Methods are in the file of their concept.
#[derive(Debug, Clone)]
pub struct Kernels {
    context: Arc<CudaContext>,
    ledger: Ledger,
    pub(super) forward_f32: CudaFunction,
    pub(super) forward_bf16: CudaFunction,
    pub(super) entropy_forward_f32: CudaFunction,
    pub(super) entropy_forward_bf16: CudaFunction,
    pub(super) backward_f32: CudaFunction,
    pub(super) backward_bf16: CudaFunction,
    pub(super) backward_f32_bf16: CudaFunction,
    pub(super) segment_sum_piece: CudaFunction,
    pub(super) segment_sum_total: CudaFunction,
    pub(super) segment_spread: CudaFunction,
    pub(super) preference: CudaFunction,
}

impl Kernels {
    /// Compiles the kernels for the context's device, or takes them from `cache`, and loads them.
    ///
    /// # Errors
    /// [`LossError::CudaLibrary`] without NVRTC, [`LossError::Compile`], [`LossError::Driver`].
    pub fn load(context: &Arc<CudaContext>, cache: &KernelCache) -> Result<Self, LossError> {
        let capability = driver("asking for the compute capability", || context.compute_capability())?;
        let load = |source: Source| -> Result<Arc<CudaModule>, LossError> {
            let ptx = compile::ptx(source, capability, cache)?;
            driver("loading compiled kernels", || context.load_module(Ptx::from_src(ptx)))
        };
        let find = |module: &Arc<CudaModule>, name: &str| {
            driver("finding a compiled kernel", || module.load_function(name))
        };
        let logp = load(compile::LOGP)?;
        let segment_sum = load(compile::SEGMENT_SUM)?;
        let preference = load(compile::PREFERENCE)?;
        Ok(Self {
            context: context.clone(),
            ledger: Ledger::default(),
            forward_f32: find(&logp, "ama_logp_forward_f32")?,
            forward_bf16: find(&logp, "ama_logp_forward_bf16")?,
            entropy_forward_f32: find(&logp, "ama_logp_entropy_forward_f32")?,
            entropy_forward_bf16: find(&logp, "ama_logp_entropy_forward_bf16")?,
            backward_f32: find(&logp, "ama_logp_backward_f32")?,
            backward_bf16: find(&logp, "ama_logp_backward_bf16")?,
            backward_f32_bf16: find(&logp, "ama_logp_backward_f32_bf16")?,
            segment_sum_piece: find(&segment_sum, "ama_segment_sum_piece_f32")?,
            segment_sum_total: find(&segment_sum, "ama_segment_sum_total_f64")?,
            segment_spread: find(&segment_sum, "ama_segment_spread_f32")?,
            preference: find(&preference, "ama_preference_f64")?,
        })
    }

    /// The context that the kernels are loaded into.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// The books of all device memory that calls with these kernels allocate.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Refuses a stream of another device.
    pub(super) fn check_stream(&self, stream: &CudaStream) -> Result<(), LossError> {
        let other = stream.context();
        if *other == self.context {
            Ok(())
        } else {
            let (want, got) = (self.context.ordinal(), other.ordinal());
            Err(LossError::OtherDevice { what: "stream", want, got })
        }
    }
}
