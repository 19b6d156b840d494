//! A device with our kernels loaded, and numbers on it.

use std::sync::Arc;

use ama_loss::cuda::{self, CublasLt, KernelCache, Kernels};
use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr, DriverError, ValidAsZeroBits};

/// Whatever stops a measurement.
pub type Error = Box<dyn std::error::Error>;

/// A device, its kernels, and the stream that everything runs on.
#[derive(Debug)]
pub struct Gpu {
    /// The stream.
    pub stream: Arc<CudaStream>,
    /// Our kernels.
    pub kernels: Kernels,
    /// cuBLASLt on the stream.
    pub gemm: CublasLt,
    /// The device's name.
    pub name: String,
}

impl Gpu {
    /// Device 0.
    ///
    /// # Errors
    /// No driver, no device, no NVRTC, no cuBLASLt.
    pub fn open() -> Result<Self, Error> {
        let context = cuda::open(0)?;
        let stream = context.new_stream()?;
        let kernels = Kernels::load(&context, &KernelCache::user())?;
        let gemm = CublasLt::new(&stream, kernels.ledger())?;
        Ok(Self { stream, kernels, gemm, name: context.name()? })
    }

    /// A copy of `host` on the device.
    pub(super) fn up<T: DeviceRepr>(&self, host: &[T]) -> Result<CudaSlice<T>, DriverError> {
        self.stream.clone_htod(host)
    }

    /// `len` zeros on the device.
    pub(super) fn zeros<T: DeviceRepr + ValidAsZeroBits>(
        &self,
        len: usize,
    ) -> Result<CudaSlice<T>, DriverError> {
        self.stream.alloc_zeros(len)
    }
}
