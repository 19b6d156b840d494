//! A device with our kernels loaded, and numbers on it.
//!
//! # Safety of this file
//! The only foreign call sets a number of the device's memory pool.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::Arc;

use ama_loss::cuda::{self, CublasLt, KernelCache, Kernels};
use cudarc::driver::sys::CUmemPool_attribute;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DeviceRepr, DriverError, ValidAsZeroBits, result};

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
    /// Device 0. Its memory pool keeps what is freed, as PyTorch's does: a call that allocates would else be timed with the
    /// driver mapping the same memory anew.
    ///
    /// # Errors
    /// No driver, no device, no NVRTC, no cuBLASLt.
    pub fn open() -> Result<Self, Error> {
        let context = cuda::open(0)?;
        keep_freed_memory(&context)?;
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

fn keep_freed_memory(context: &Arc<CudaContext>) -> Result<(), Error> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    context.bind_to_thread()?;
    let (attribute, mut most) = (CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX);
    // SAFETY: the device is the context's and the pool is the device's; the attribute is a `u64` (CUDA driver API), which is
    // read before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut most).cast::<c_void>())?;
    }
    Ok(())
}
