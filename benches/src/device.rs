//! What is measured on an NVIDIA GPU: two ceilings of the machine, and every kernel of ours with the bytes or operations
//! that it cannot do without. One list for the criterion bench `cuda` and for the program `gpu` of the device kit
//! (`cargo xtask device`), whose script has the same work in PyTorch under the same names.

mod cases;
mod gpu;

pub use cases::{Case, Enqueue, Sizes, Work, each};
pub use gpu::{Error, Gpu};
