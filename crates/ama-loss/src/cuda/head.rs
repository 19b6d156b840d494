//! The head on the device for a model on the processor: slices in, slices out.

use std::sync::Arc;

use cudarc::driver::CudaStream;

use super::cache::KernelCache;
use super::device::{driver, open};
use super::gemm::{CublasLt, Gemm};
use super::kernels::Kernels;
use super::linear_logp::{DeviceLogp, HeadPlan, LinearLogp};
use super::logp::IGNORED;
use super::memory::{Number, Tracked};
use crate::error::{check_len, check_targets};
use crate::{HeadShape, LogpForward, LossError, cpu};

/// [`cpu::LinearLogp`] computed on a GPU in `f32`.
///
/// Hidden states and weight go to the device in the forward pass and stay for the backward pass
/// ([`KeptOnDevice`]). Worth it where the product outweighs the copy: some hundred rows and more.
#[derive(Debug)]
pub struct CudaHead {
    kernels: Kernels,
    gemm: CublasLt,
    name: String,
}

/// Operands on the device between a forward pass and its backward pass, which consumes them.
#[derive(Debug)]
pub struct KeptOnDevice {
    operands: Operands,
    lse: Tracked<f32>,
}

#[derive(Debug)]
struct Operands {
    hidden: Tracked<f32>,
    weight: Tracked<f32>,
    targets: Tracked<u32>,
    shape: HeadShape,
    budget_bytes: usize,
}

impl Operands {
    fn view(&self) -> LinearLogp<'_, f32> {
        LinearLogp {
            hidden: self.hidden.as_view(),
            weight: self.weight.as_view(),
            targets: self.targets.as_view(),
            shape: self.shape,
            ignored: IGNORED,
            budget_bytes: self.budget_bytes,
        }
    }
}

impl CudaHead {
    /// Opens device `ordinal`, compiles the kernels (or takes them from the user's cache) and starts a stream.
    ///
    /// # Errors
    /// As [`open`], [`Kernels::load`] and [`CublasLt::new`].
    pub fn open(ordinal: usize) -> Result<Self, LossError> {
        let context = open(ordinal)?;
        let kernels = Kernels::load(&context, &KernelCache::user())?;
        let stream = driver("starting a stream", || context.new_stream())?;
        let gemm = CublasLt::new(&stream, kernels.ledger())?;
        let name = driver("asking for the device's name", || context.name())?;
        Ok(Self { kernels, gemm, name })
    }

    /// The device's name.
    pub fn device_name(&self) -> &str {
        &self.name
    }

    /// The kernels, with the books of the device memory held.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// [`cpu::LinearLogp::forward`] on the device; `operands.budget_bytes` is for the device's memory.
    ///
    /// # Errors
    /// As [`LinearLogp::forward`], and [`LossError::Target`].
    pub fn forward(&self, operands: &cpu::LinearLogp<'_>) -> Result<(LogpForward, KeptOnDevice), LossError> {
        let cpu::LinearLogp { hidden, weight, targets, shape, budget_bytes } = *operands;
        check_targets(targets, shape.vocab)?;
        check_len("targets", targets.len(), shape.rows)?;
        HeadPlan::new::<f32>(shape, budget_bytes)?;
        check_len("hidden", hidden.len(), shape.rows * shape.hidden)?;
        check_len("weight", weight.len(), shape.vocab * shape.hidden)?;
        let operands = Operands {
            hidden: self.copied("hidden states", hidden)?,
            weight: self.copied("weight of the head", weight)?,
            targets: self.copied("targets", targets)?,
            shape,
            budget_bytes,
        };
        let DeviceLogp { logp, lse, .. } = operands.view().forward(&self.kernels, &self.gemm)?;
        let (logp, parts) = (self.fetched(&logp)?, self.fetched(&lse)?);
        let sums = parts.chunks_exact(2).map(|pair| f64::from(pair[0]) + f64::from(pair[1])).collect();
        Ok((LogpForward { logp, lse: sums }, KeptOnDevice { operands, lse }))
    }

    /// [`cpu::LinearLogp::backward`] on the device: adds to `d_hidden` and `d_weight`.
    ///
    /// # Errors
    /// As [`LinearLogp::backward`].
    pub fn backward(
        &self,
        kept: KeptOnDevice,
        upstream: &[f32],
        d_hidden: &mut [f32],
        d_weight: Option<&mut [f32]>,
    ) -> Result<(), LossError> {
        let HeadShape { rows, hidden, vocab } = kept.operands.shape;
        check_len("upstream", upstream.len(), rows)?;
        check_len("d_hidden", d_hidden.len(), rows * hidden)?;
        if let Some(d_weight) = &d_weight {
            check_len("d_weight", d_weight.len(), vocab * hidden)?;
        }
        let upstream = self.copied("upstream gradients", upstream)?;
        let mut d_h = self.copied("gradient of hidden states", d_hidden)?;
        let mut d_w = match &d_weight {
            Some(d_weight) => Some(self.copied("gradient of the head", d_weight)?),
            None => None,
        };
        let mut d_w_view = d_w.as_mut().map(|d_w| d_w.as_view_mut());
        kept.operands.view().backward(
            &self.kernels,
            &self.gemm,
            &kept.lse.as_view(),
            &upstream.as_view(),
            &mut d_h.as_view_mut(),
            d_w_view.as_mut(),
        )?;
        self.fetch(&d_h, d_hidden)?;
        if let (Some(d_w), Some(d_weight)) = (&d_w, d_weight) {
            self.fetch(d_w, d_weight)?;
        }
        Ok(())
    }

    fn stream(&self) -> &Arc<CudaStream> {
        Gemm::<f32>::stream(&self.gemm)
    }

    fn copied<T: Number>(&self, what: &'static str, from: &[T]) -> Result<Tracked<T>, LossError> {
        let mut to = self.kernels.ledger().alloc(self.stream(), what, from.len())?;
        driver("copying to the device", || self.stream().memcpy_htod(from, &mut *to))?;
        Ok(to)
    }

    fn fetched(&self, from: &Tracked<f32>) -> Result<Vec<f32>, LossError> {
        let mut to = vec![0.0; from.len()];
        self.fetch(from, &mut to)?;
        Ok(to)
    }

    /// Waits for the stream and copies.
    fn fetch(&self, from: &Tracked<f32>, to: &mut [f32]) -> Result<(), LossError> {
        driver("copying from the device", || {
            self.stream().memcpy_dtoh(&**from, to)?;
            self.stream().synchronize()
        })
    }
}
