//! Device memory that this crate allocates, and the ledger of it.
//!
//! # Safety of this file
//! Memory is handed out unset. It is numbers only ([`Number`]), for which every pattern of bits is a value, and lies
//! on the device, where the compiler assumes nothing about it.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr, DriverError};

use super::device::driver;
use crate::LossError;

/// How many bytes this crate holds on a device, and the most that it held. Clones share their counts.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    held: AtomicUsize,
    peak: AtomicUsize,
}

impl Ledger {
    /// Bytes allocated and not freed.
    pub fn held_bytes(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// The most that [`held_bytes`](Self::held_bytes) was since the ledger began or [`reset_peak`](Self::reset_peak).
    pub fn peak_bytes(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Forgets the peak: it is what is held now.
    pub fn reset_peak(&self) {
        self.0.peak.store(self.held_bytes(), Ordering::Relaxed);
    }

    /// `len` elements of unset memory.
    pub(super) fn alloc<T: Number>(
        &self,
        stream: &Arc<CudaStream>,
        what: &'static str,
        len: usize,
    ) -> Result<Tracked<T>, LossError> {
        let bytes =
            len.checked_mul(size_of::<T>()).ok_or(LossError::DeviceMemory { what, bytes: usize::MAX })?;
        let slice = driver("allocating device memory", || {
            // SAFETY: any bits are a number; see the top of the file.
            match unsafe { stream.alloc::<T>(len) } {
                Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
                other => other.map(Some),
            }
        })?;
        let slice = slice.ok_or(LossError::DeviceMemory { what, bytes })?;
        let held = self.0.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.0.peak.fetch_max(held, Ordering::Relaxed);
        Ok(Tracked { slice, ledger: self.clone() })
    }
}

/// A [`CudaSlice`] that is in a [`Ledger`]'s books until it is dropped.
#[derive(Debug)]
pub struct Tracked<T> {
    slice: CudaSlice<T>,
    ledger: Ledger,
}

impl<T> Drop for Tracked<T> {
    fn drop(&mut self) {
        self.ledger.0.held.fetch_sub(self.slice.num_bytes(), Ordering::Relaxed);
    }
}

impl<T> Deref for Tracked<T> {
    type Target = CudaSlice<T>;

    fn deref(&self) -> &Self::Target {
        &self.slice
    }
}

impl<T> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.slice
    }
}

/// Types whose every pattern of bits is a value.
pub(super) trait Number: DeviceRepr {}
impl Number for u8 {}
impl Number for u32 {}
impl Number for f32 {}
impl Number for f64 {}
impl Number for half::bf16 {}
