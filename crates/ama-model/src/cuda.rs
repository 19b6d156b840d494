//! The head on an NVIDIA GPU: linear layer, log-softmax and their gradients go there, the rest stays on the
//! processor.
//!
//! Process-wide, as the number of threads is: [`use_device`] once, before the first pass.

use std::sync::OnceLock;

use ama_loss::LossError;
use ama_loss::cuda::CudaHead;

static HEAD: OnceLock<CudaHead> = OnceLock::new();

/// Runs the heads of all models on device `ordinal` (from 0) from now on; a second call changes nothing. Returns the
/// device's name.
///
/// Each pass copies the head's weight to the device, and its gradient back: worth it for batches of some thousand
/// rows or large vocabularies. Results differ from the processor's in the last bits. Generation stays on the
/// processor.
///
/// # Errors
/// What is missing (driver, device, NVRTC, cuBLASLt) and the remedy, see [`CudaHead::open`].
pub fn use_device(ordinal: usize) -> Result<&'static str, LossError> {
    let head = match HEAD.get() {
        Some(head) => head,
        None => {
            let opened = CudaHead::open(ordinal)?;
            HEAD.get_or_init(|| opened)
        }
    };
    Ok(head.device_name())
}

/// The device, if there is one to be used.
pub(crate) fn head() -> Option<&'static CudaHead> {
    HEAD.get()
}
