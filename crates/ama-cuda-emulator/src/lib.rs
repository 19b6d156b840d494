//! CUDA C kernels compiled as host C++ and run on the processor, for tests on machines without a GPU.
//!
//! The source is the very text that NVRTC gets on a device; [`Module::compile`] puts a header in front of it and hands it to the
//! C++ compiler at hand. A CUDA thread is a fiber, blocks run one after the other, and a seed permutes the order of both.
//! What a device leaves undefined is an error here: barriers that not every thread reaches, shuffles whose mask lies,
//! arguments that do not fit the signature. Shared memory starts as NaN, and [`Buffer`] surrounds a kernel's memory with NaN
//! that must be neither used nor written. Under a [`Sanitizer`] single wrong reads and races between threads are errors too.
//!
//! ```
//! use ama_cuda_emulator::{Buffer, Compiler, Grid, Module, Source};
//!
//! let Some(compiler) = Compiler::find() else { return Ok(()) }; // no C++ compiler here
//! let double = Source::new("double.cu", r#"
//!     extern "C" __global__ void twice(float* x, u32 n) {
//!       const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
//!       if (i < n) x[i] *= 2.0f;
//!     }"#);
//! let module = Module::compile(&compiler, None, &[double], &std::env::temp_dir().join("ama-cuda-emulator"))?;
//! let x = Buffer::new(&[1.0f32, 2.0, 3.0]);
//! // SAFETY: `twice` touches `n` elements of `x`, and there are 3.
//! unsafe { module.launch("twice", Grid { blocks: 1, threads: 32 }, 7, &[(&x).into(), 3u32.into()])? };
//! assert_eq!(x.values(), [2.0, 4.0, 6.0]);
//! assert!(x.is_intact());
//! # Ok::<(), ama_cuda_emulator::EmulatorError>(())
//! ```

mod argument;
mod buffer;
mod compiler;
mod error;
mod module;
mod source;

pub use argument::Argument;
pub use buffer::{Buffer, Element};
pub use compiler::{Compiler, Sanitizer};
pub use error::EmulatorError;
pub use module::{Grid, Module};
pub use source::Source;
