//! Shared by the tests: the kernels of `ama-loss` on the emulator, and what they are fed.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part")]
#![allow(unsafe_code, reason = "launching a kernel is a promise about what it touches")]

use std::path::{Path, PathBuf};

use ama_cuda_emulator::{Argument, Compiler, Element, EmulatorError, Grid, Module, Sanitizer, Source};

/// The error rule, naive `f32` and numbers to feed: those of the CPU kernels' tests.
#[allow(unexpected_cfgs, reason = "a feature of ama-loss, off here")]
#[path = "../../../ama-loss/tests/common/mod.rs"]
pub mod naive;

pub mod logp;
pub mod preference;
pub mod ptx;
pub mod segment_sum;

use ptx::Interpreted;

/// Schedules whose results must agree to the bit; 0 is the natural order. The race detector needs no luck with them.
pub fn seeds() -> impl Iterator<Item = u64> {
    0..if races() { 2 } else { 4 }
}

/// Whether this is the slow search for races: fewer threads, sizes and orders.
pub fn races() -> bool {
    sanitizer() == Some(Sanitizer::Thread)
}

/// Mark of rows without a target.
pub const IGNORED: u32 = u32::MAX;

/// What the kernels are instrumented with: `AMA_CUDA_SANITIZER` is `address`, `thread` or not set.
pub fn sanitizer() -> Option<Sanitizer> {
    match std::env::var("AMA_CUDA_SANITIZER").as_deref() {
        Ok("address") => Some(Sanitizer::Address),
        Ok("thread") => Some(Sanitizer::Thread),
        Ok(other) => panic!("AMA_CUDA_SANITIZER is `{other}`, want `address` or `thread`"),
        Err(_) => None,
    }
}

/// Where the emulated kernels are built.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda-emulator")
}

pub fn compile(sources: &[Source]) -> Result<Module, EmulatorError> {
    let compiler = Compiler::find().expect("a C++ compiler: set CXX, or install g++ or clang");
    Module::compile(&compiler, sanitizer(), sources, &folder())
}

/// Compiled kernels: emulated, or the PTX that NVRTC made of them, interpreted.
#[derive(Debug)]
pub enum Kernels {
    Emulated(Module),
    Interpreted(Interpreted),
}

/// Kernels of a file: emulated, unless `AMA_CUDA_PTX` names a folder of PTX.
pub fn module(file: &str) -> Kernels {
    match std::env::var_os("AMA_CUDA_PTX") {
        Some(folder) => Kernels::Interpreted(Interpreted::load(Path::new(&folder), file)),
        None => Kernels::Emulated(emulated(file)),
    }
}

/// A file of `ama-loss/src/cuda`, or of `AMA_CUDA_SOURCES` instead.
pub fn emulated(file: &str) -> Module {
    behind_common(source(file))
}

/// Kernels of a test's own, behind `common.cuh` of the same folder: what its functions do, without a kernel in between.
pub fn emulated_text(name: &str, text: &str) -> Kernels {
    Kernels::Emulated(behind_common(Source::new(name, text)))
}

fn behind_common(kernels: Source) -> Module {
    compile(&[source("common.cuh"), kernels]).unwrap_or_else(|error| panic!("{error}"))
}

fn source(name: &str) -> Source {
    let folder = std::env::var_os("AMA_CUDA_SOURCES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../ama-loss/src/cuda"), PathBuf::from);
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Source::new(name, text)
}

/// Launches a kernel whose buffers are as large as it wants.
#[track_caller]
pub fn launch(
    kernels: &Kernels,
    kernel: &str,
    blocks: u32,
    threads: u32,
    seed: u64,
    arguments: &[Argument<'_>],
) {
    let module = match kernels {
        Kernels::Emulated(module) => module,
        Kernels::Interpreted(ptx) => return ptx.launch(kernel, blocks, threads, seed, arguments),
    };
    // SAFETY: a test promises nothing about kernels that are wrong; it is there to find them. For kernels as documented,
    // every caller here passes buffers of the sizes that their comments ask for.
    unsafe { module.launch(kernel, Grid { blocks, threads }, seed, arguments) }
        .unwrap_or_else(|e| panic!("{e}"));
}

/// Types of logits.
pub trait Logit: Element + 'static {
    /// As in the kernels' names.
    const NAME: &'static str;
    /// Half a unit in the last place of `value`: what rounding a result to this type may cost.
    fn rounding(value: f64) -> f64;
    fn widen(self) -> f32;
    fn narrow(value: f32) -> Self;
}

impl Logit for f32 {
    const NAME: &'static str = "f32";
    fn rounding(_: f64) -> f64 {
        0.0
    }
    fn widen(self) -> f32 {
        self
    }
    fn narrow(value: f32) -> Self {
        value
    }
}

/// bf16, the upper half of an `f32`.
impl Logit for u16 {
    const NAME: &'static str = "bf16";
    fn rounding(value: f64) -> f64 {
        // Eight bits of significand.
        if value == 0.0 { 0.0 } else { (value.abs().log2().floor() - 8.0).exp2() }
    }
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
    fn narrow(value: f32) -> Self {
        if value.is_nan() {
            return 0x7fc0;
        }
        let bits = value.to_bits();
        ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
    }
}

/// Threads of a block for a row, as the launches in `ama-loss` choose them; few for the race detector.
pub fn threads_for<T>(vocab: usize) -> u32 {
    let most = if races() { 64 } else { 512 };
    (vocab * size_of::<T>()).div_ceil(16).next_multiple_of(32).clamp(32, most) as u32
}

/// The same bits, NaN included.
#[track_caller]
pub fn assert_same_bits(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{what}, element {i}: {a} and {b}");
    }
}

/// The error rule for results that were rounded to `T` at the end.
#[track_caller]
pub fn check_rounded<T: Logit>(got: &[T], naive: &[f32], truth: &[f64], atol: f64) {
    assert_eq!((got.len(), naive.len()), (truth.len(), truth.len()));
    for (i, &t) in truth.iter().enumerate() {
        let err = (f64::from(got[i].widen()) - t).abs();
        let slack = (f64::from(naive[i]) - t).abs();
        let allowed = atol + T::rounding(t) + if slack.is_finite() { slack } else { 0.0 };
        assert!(err <= allowed, "element {i}: {} vs {t}, {err:e} > {allowed:e}", got[i].widen());
    }
}
