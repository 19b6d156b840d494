//! Opening a device, memory of others, and the one seam where cudarc's error codes and panics become errors of this
//! crate.
//!
//! cudarc finds a library, or a function in it, when it is first used, and panics if it is missing. [`unpanicked`]
//! catches that. (It could ask before, but not where another crate has cudarc link instead of load.)
//!
//! # Safety of this file
//! The only call into the driver writes one int. [`borrowed`] passes its contract on to the caller.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DriverError, sys};

use crate::LossError;

/// Least driver, as CUDA counts: the one that brought the PTX version which the kernels are pinned to.
const LEAST_DRIVER: i32 = 11_000;

/// The primary context of device `ordinal` (from 0, after `CUDA_VISIBLE_DEVICES`).
///
/// # Errors
/// [`LossError::NoDriver`], [`LossError::DriverTooOld`], [`LossError::NoDevice`], [`LossError::Driver`].
pub fn open(ordinal: usize) -> Result<Arc<CudaContext>, LossError> {
    let mut version = 0;
    let asked = driver("asking for the driver's version", || {
        // SAFETY: writes one int to a valid address; the driver allows this call before `cuInit`.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result()
    });
    if let Err(LossError::CudaLibrary { detail, .. }) = &asked
        && detail == NOT_FOUND
    {
        return Err(LossError::NoDriver);
    }
    asked?;
    if version < LEAST_DRIVER {
        return Err(LossError::DriverTooOld { got: version, want: LEAST_DRIVER });
    }
    let count = match unpanicked("the CUDA driver", CudaContext::device_count)? {
        Ok(count) => usize::try_from(count).unwrap_or(0),
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
        Err(error) => return Err(of_driver("counting devices", error)),
    };
    if ordinal >= count {
        return Err(LossError::NoDevice { ordinal, count });
    }
    driver("opening the device", || CudaContext::new(ordinal))
}

/// Runs a call into the driver, turning its error and its panic into an error that says what was being done.
pub(super) fn driver<T>(
    doing: &'static str,
    call: impl FnOnce() -> Result<T, DriverError>,
) -> Result<T, LossError> {
    unpanicked("the CUDA driver", call)?.map_err(|error| of_driver(doing, error))
}

/// What [`LossError::CudaLibrary`] says of a library that is not there at all.
const NOT_FOUND: &str = "its shared library is not found";

thread_local! {
    /// Whether a panic on this thread is about to be caught here, and nobody need hear of it.
    static CAUGHT_HERE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `call` into library `name`, turning a panic into an error without a word on stderr: the seam.
pub(super) fn unpanicked<T>(name: &'static str, call: impl FnOnce() -> T) -> Result<T, LossError> {
    static HOOK: Once = Once::new();
    if !std::thread::panicking() {
        // Stays: hooks cannot be exchanged for a moment without another thread noticing.
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if !CAUGHT_HERE.get() {
                    before(info);
                }
            }));
        });
    }
    let outer = CAUGHT_HERE.replace(true);
    // Nothing is observed after a panic but the error, so no broken invariant can be seen.
    let done = catch_unwind(AssertUnwindSafe(call));
    CAUGHT_HERE.set(outer);
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
        let text = text.lines().next().unwrap_or_default();
        let detail = if text.starts_with("Unable to dynamically load") { NOT_FOUND } else { text };
        LossError::CudaLibrary { name, detail: detail.to_owned() }
    })
}

/// What a driver's code means for the user.
fn of_driver(doing: &'static str, DriverError(code): DriverError) -> LossError {
    use CUresult::*;
    let remedy = match code {
        CUDA_ERROR_OUT_OF_MEMORY => "lower the logits budget or the batch size",
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION | CUDA_ERROR_INVALID_PTX | CUDA_ERROR_NO_BINARY_FOR_GPU => {
            "update the driver, or use the NVRTC that came with it"
        }
        CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "reboot after an update of the driver"
        }
        CUDA_ERROR_DEVICE_UNAVAILABLE | CUDA_ERROR_DEVICE_NOT_LICENSED => {
            "another process holds the device; see `nvidia-smi`"
        }
        CUDA_ERROR_ILLEGAL_ADDRESS | CUDA_ERROR_LAUNCH_FAILED | CUDA_ERROR_MISALIGNED_ADDRESS => {
            "the context is lost: start the process anew, and report this if no raw pointer was passed"
        }
        CUDA_ERROR_NO_DEVICE | CUDA_ERROR_INVALID_DEVICE => "see `nvidia-smi` and CUDA_VISIBLE_DEVICES",
        _ => "see this code in the CUDA driver API's manual",
    };
    LossError::Driver { doing, code: format!("{code:?}"), remedy }
}

/// Device memory that somebody else owns, usable as a [`CudaSlice`] while this lives; it is not freed.
#[derive(Debug)]
pub struct Borrowed<T>(ManuallyDrop<CudaSlice<T>>);

/// `len` elements at the device address `pointer`, as a slice that `stream` orders.
///
/// # Errors
/// [`LossError::Driver`].
///
/// # Safety
/// `pointer` must be aligned for `T` and point to `len` valid elements on the stream's device, which nobody frees,
/// and nobody else writes without ordering with the stream, as long as the result or work enqueued with it lives.
pub unsafe fn borrowed<T>(
    stream: &Arc<CudaStream>,
    pointer: sys::CUdeviceptr,
    len: usize,
) -> Result<Borrowed<T>, LossError> {
    driver("borrowing device memory", || {
        stream.context().bind_to_thread()?;
        // SAFETY: the caller vouches for the memory; the slice is never dropped, so it is not freed.
        Ok(Borrowed(ManuallyDrop::new(unsafe { stream.upgrade_device_ptr(pointer, len) })))
    })
}

impl<T> Drop for Borrowed<T> {
    fn drop(&mut self) {
        // SAFETY: taken once, here, and not touched again; `leak` frees the events but not the memory.
        let _ = unsafe { ManuallyDrop::take(&mut self.0) }.leak();
    }
}

impl<T> Deref for Borrowed<T> {
    type Target = CudaSlice<T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> DerefMut for Borrowed<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_text() {
        let got = driver::<()>("testing", || panic!("Missing symbol cuFoo: dlsym"));
        let text = got.unwrap_err().to_string();
        assert!(text.starts_with("the CUDA driver cannot be used: Missing symbol cuFoo: dlsym; "), "{text}");
        let got = unpanicked("NVRTC", || panic!("Unable to dynamically load the \"nvrtc\" shared library"));
        assert_eq!(got, Err::<(), _>(LossError::CudaLibrary { name: "NVRTC", detail: NOT_FOUND.to_owned() }));
    }

    #[test]
    fn a_code_comes_with_what_was_being_done_and_a_remedy() {
        let error = driver::<()>("launching", || Err(DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS)));
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("launching failed with CUDA_ERROR_ILLEGAL_ADDRESS; "), "{text}");
    }
}
