//! The same on an NVIDIA GPU, through [`cudarc`]: on the caller's stream and the caller's memory.
//!
//! What [`cpu`](crate::cpu) does, answering to the same [`reference`](mod@crate::reference): log-probabilities from
//! logits ([`Kernels::logp_forward`], `f32` or `bf16`, the entropy from the same read if wanted) and back, in place
//! ([`Kernels::logp_backward_in_place`]); log-probabilities from hidden states and the head's weight without all
//! logits ([`LinearLogp`]); sums over sequences ([`Kernels::segment_sum`]) and preference losses with their
//! gradients, excess and clipping ([`Kernels::preference`]). [`CudaHead`] takes the processor's slices and gives
//! slices back.
//!
//! ```no_run
//! use ama_loss::cuda::{self, CublasLt, IGNORED, KernelCache, Kernels, LinearLogp};
//! use ama_loss::{HeadShape, LossError};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let context = cuda::open(0)?; // no device, no driver: an error that says what to do
//! let stream = context.new_stream()?;
//! let kernels = Kernels::load(&context, &KernelCache::user())?;
//! let gemm = CublasLt::new(&stream, kernels.ledger())?;
//!
//! let hidden = stream.clone_htod(&[1.0f32, 0.0, 0.5, 0.5])?;
//! let weight = stream.clone_htod(&[0.3f32, -0.2, 0.1, 0.4, -0.5, 0.2])?;
//! let targets = stream.clone_htod(&[2u32, IGNORED])?;
//! let head = LinearLogp {
//!     hidden: hidden.as_view(),
//!     weight: weight.as_view(),
//!     targets: targets.as_view(),
//!     shape: HeadShape { rows: 2, hidden: 2, vocab: 3 },
//!     ignored: IGNORED,
//!     budget_bytes: 256 << 20,
//! };
//! let forward = head.forward(&kernels, &gemm)?;
//! let upstream = stream.clone_htod(&[1.0f32, 0.0])?;
//! let mut d_hidden = stream.alloc_zeros::<f32>(4)?;
//! head.backward(&kernels, &gemm, &forward.lse.as_view(), &upstream.as_view(), &mut d_hidden.as_view_mut(), None)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Streams
//! A call enqueues its work on the stream that it is given (for [`LinearLogp`], the stream of its [`Gemm`]) and
//! returns; results are there once the stream has got that far. cudarc's events order it with other streams that use
//! the same slices.
//!
//! # Memory of others
//! Everything takes cudarc's views ([`CudaSlice::as_view`](cudarc::driver::CudaSlice::as_view)); [`borrowed`] makes
//! one of a raw device pointer, so memory of candle, of another library or of C can be used in place.
//!
//! # Errors
//! No driver, no device, an old driver, full memory: a [`LossError`](crate::LossError), never a panic. Where cudarc
//! panics (a library or a symbol that is missing), the panic is caught (needs `panic = "unwind"`, the default).
//!
//! # Compilation
//! NVRTC compiles the kernels for the device when they are first loaded (about a second); [`KernelCache`] keeps the
//! result on disk. Fast-math is off. The PTX asks for no more than compute capability 8.0 and a driver for CUDA 11.0.

mod cache;
mod compile;
mod device;
mod gemm;
mod head;
mod kernels;
mod launch;
mod linear_logp;
mod logp;
mod memory;
mod preference;
mod segments;

pub use cache::KernelCache;
pub use compile::{SOURCES, Source, compile, nvrtc_version};
pub use device::{Borrowed, borrowed, open};
pub use gemm::{CublasLt, Gemm, Matrix, MatrixMut};
pub use head::{CudaHead, KeptOnDevice};
pub use kernels::Kernels;
pub use linear_logp::{DeviceLogp, HeadPlan, LinearLogp, Operand, RowInputs};
pub use logp::{GradientOf, IGNORED, Logit, LogpOut};
pub use memory::{Ledger, Tracked};
pub use preference::{Excess, PairArrays, PairLosses};
pub use segments::Segments;
