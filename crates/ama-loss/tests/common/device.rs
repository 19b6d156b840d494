//! Shared by the device tests: the device, opened once, and copies to and from it.

use std::sync::{Arc, OnceLock};

use ama_loss::cuda::{self, KernelCache, Kernels};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DeviceRepr};
use half::bf16;

/// The device and its kernels.
pub struct Device {
    pub context: Arc<CudaContext>,
    pub kernels: Kernels,
}

/// Device 0; a test that wants it fails without it.
pub fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let context = cuda::open(0).expect("a device, or a stand-in for its driver on the library path");
        let kernels = Kernels::load(&context, &KernelCache::none()).unwrap();
        Device { context, kernels }
    })
}

impl Device {
    pub fn stream(&self) -> Arc<CudaStream> {
        self.context.new_stream().unwrap()
    }
}

pub fn up<T: DeviceRepr>(stream: &Arc<CudaStream>, host: &[T]) -> CudaSlice<T> {
    stream.clone_htod(host).unwrap()
}

pub fn down<T: DeviceRepr + Default + Clone>(stream: &Arc<CudaStream>, device: &impl DevicePtr<T>) -> Vec<T> {
    let host = stream.clone_dtoh(device).unwrap();
    stream.synchronize().unwrap();
    host
}

/// Types of logits and operands.
pub trait Number: DeviceRepr + Copy + Default {
    const NAME: &'static str;
    fn of(x: f32) -> Self;
    fn widen(self) -> f32;
    fn bits(self) -> u32;
}

impl Number for f32 {
    const NAME: &'static str = "f32";
    fn of(x: f32) -> Self {
        x
    }
    fn widen(self) -> f32 {
        self
    }
    fn bits(self) -> u32 {
        self.to_bits()
    }
}

impl Number for bf16 {
    const NAME: &'static str = "bf16";
    fn of(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn widen(self) -> f32 {
        self.to_f32()
    }
    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}

pub fn narrow<T: Number>(x: &[f32]) -> Vec<T> {
    x.iter().map(|x| T::of(*x)).collect()
}

pub fn widen<T: Number>(x: &[T]) -> Vec<f32> {
    x.iter().map(|x| x.widen()).collect()
}

pub fn bits<T: Number>(x: &[T]) -> Vec<u32> {
    x.iter().map(|x| x.bits()).collect()
}
