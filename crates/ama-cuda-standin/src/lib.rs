//! wip
pub mod errors;
pub mod memory;
pub mod ptx;
pub mod settings;

mod cublaslt;
mod driver;
mod ffi;
mod launch;
mod state;
