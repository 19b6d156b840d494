//! A stand-in for the CUDA driver, for tests of CUDA code on machines without a GPU.
//!
//! The shared library of this crate has the functions of `libcuda.so.1` and `libcublasLt.so.12` (or `.13`) that cudarc's
//! allocation, copy, launch and matrix-product paths call. A program that finds it under those names runs as on a
//! device: `cuModuleLoadData` takes the PTX that NVRTC wrote, and `cuLaunchKernel` interprets it on the CPU, so what
//! is launched is what runs. Every access is checked:
//!
//! - launches: limits, number of arguments, pointers that lie in a live allocation;
//! - memory: bounds and alignment of every load and store, use after free, double free, leaks; fresh memory is NaN;
//! - threads: barriers that not all threads reach, masks that name missing lanes, races in shared memory;
//! - and on order: calls that fail, memory that runs out, approximate instructions moved by some units in the last
//!   place, blocks and threads in another order ([`settings`]).
//!
//! An instruction that the interpreter does not know makes the text invalid, with its line: no result rather than a
//! wrong one. The README says how to load the library, and what it cannot show: speed, and what a weak memory model
//! does to unsynchronised global memory.
//!
//! # Example
//!
//! The interpreter also runs without any driver:
//!
//! ```
//! use ama_cuda_standin::memory::Memory;
//! use ama_cuda_standin::ptx::{Accepts, Launch, Module, Rules};
//!
//! let text = "
//!     .version 7.0
//!     .target sm_80
//!     .address_size 64
//!     .visible .entry ids(.param .u64 out) {
//!         .reg .b32 %r<2>; .reg .b64 %rd<4>;
//!         ld.param.u64 %rd1, [out];
//!         cvta.to.global.u64 %rd1, %rd1;
//!         mov.u32 %r1, %tid.x;
//!         mul.wide.u32 %rd2, %r1, 4;
//!         add.s64 %rd3, %rd1, %rd2;
//!         st.global.u32 [%rd3], %r1;
//!         ret;
//!     }";
//! let mut memory = Memory::new(1 << 20, None, false);
//! let module = Module::load(text, &mut memory, Accepts { device: 90, driver: 12090 })?;
//! let out = memory.alloc(128).expect("128 bytes fit");
//! let kernel = module.kernel("ids").expect("the text has it");
//! let mut launch = |threads| {
//!     let block = [threads, 1, 1];
//!     Launch { kernel, grid: [1, 1, 1], block, dynamic: 0, params: &out.to_le_bytes() }
//!         .run(&mut memory, &Rules::default())
//! };
//!
//! assert!(launch(32).is_ok());
//! let fault = launch(33).expect_err("one thread too many");
//! assert_eq!(fault.code(), 700); // CUDA_ERROR_ILLEGAL_ADDRESS
//! # Ok::<(), ama_cuda_standin::ptx::LoadError>(())
//! ```

pub mod errors;
pub mod memory;
pub mod ptx;
pub mod settings;

mod cublaslt;
mod driver;
mod ffi;
mod launch;
mod state;
