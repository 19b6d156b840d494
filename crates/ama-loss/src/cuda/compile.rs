//! From CUDA C to PTX: NVRTC when the kernels are first loaded, the disk cache after that.
//!
//! # Safety of this file
//! The only foreign call asks NVRTC for its version.
#![allow(unsafe_code)]

use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts, sys};

use super::cache::KernelCache;
use super::device::unpanicked;
use crate::LossError;

/// One CUDA source, joined with what all of them share.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// File name.
    pub name: &'static str,
    /// CUDA C++17 without headers.
    pub text: &'static str,
}

macro_rules! source {
    ($name:literal) => {
        Source { name: $name, text: concat!(include_str!("common.cuh"), include_str!($name)) }
    };
}

pub(super) const LOGP: Source = source!("logp.cu");
pub(super) const SEGMENT_SUM: Source = source!("segment_sum.cu");
pub(super) const PREFERENCE: Source = source!("preference.cu");

/// Every source, for those who compile kernels themselves.
pub const SOURCES: [Source; 3] = [LOGP, SEGMENT_SUM, PREFERENCE];

/// Compute capability that the PTX asks for at most: newer devices translate it, and the kernels would gain nothing.
const MOST_CAPABILITY: (i32, i32) = (8, 0);

/// PTX version that the text declares: the oldest with [`MOST_CAPABILITY`], so that drivers from CUDA 11.0 take it.
const PTX_VERSION: (u32, u32) = (7, 0);

/// Options apart from the architecture. Fast-math stays off: denormals count, divisions and roots are rounded.
const OPTIONS: [&str; 5] =
    ["--std=c++17", "--ftz=false", "--prec-div=true", "--prec-sqrt=true", "--fmad=true"];

/// PTX of `source` for a device of compute capability `capability`, from the cache if it is there.
///
/// # Errors
/// [`LossError::CudaLibrary`] without NVRTC, [`LossError::Compile`].
pub(super) fn ptx(source: Source, capability: (i32, i32), cache: &KernelCache) -> Result<String, LossError> {
    let capability = capability.min(MOST_CAPABILITY);
    let key = key(source, &architecture(capability), nvrtc_version()?);
    if let Some(ptx) = cache.load(&key) {
        return Ok(ptx);
    }
    let ptx = compile(source, capability)?;
    cache.store(&key, &ptx);
    Ok(ptx)
}

/// PTX of `source` that asks for compute capability `capability`, by NVRTC, with the options of our own launches. Up to
/// capability 8.0 (which [`Kernels`](super::Kernels) asks for at most) it declares PTX 7.0, above that NVRTC's own version.
///
/// # Errors
/// [`LossError::CudaLibrary`] without NVRTC, [`LossError::Compile`].
pub fn compile(source: Source, capability: (i32, i32)) -> Result<String, LossError> {
    // A missing library is an error of its own.
    nvrtc_version()?;
    let options =
        OPTIONS.iter().map(|option| (*option).to_owned()).chain([architecture(capability)]).collect();
    let options = CompileOptions { options, name: Some(source.name.to_owned()), ..Default::default() };
    let ptx = unpanicked("NVRTC", || compile_ptx_with_opts(source.text, options))?.map_err(|error| {
        let log = match error {
            CompileError::CompileError { log, .. } => log.to_string_lossy().trim().to_owned(),
            other => other.to_string(),
        };
        LossError::Compile { source_name: source.name, log }
    })?;
    let ptx = ptx.to_src();
    let ptx = ptx.trim_end_matches('\0');
    Ok(if capability <= MOST_CAPABILITY { pinned(ptx) } else { ptx.to_owned() })
}

fn architecture((major, minor): (i32, i32)) -> String {
    format!("--gpu-architecture=compute_{major}{minor}")
}

/// Name of a cache entry: everything that the PTX depends on.
fn key(source: Source, architecture: &str, (major, minor): (i32, i32)) -> String {
    let mut hash = blake3::Hasher::new();
    let version = format!("NVRTC {major}.{minor}, PTX {PTX_VERSION:?}");
    for part in OPTIONS.iter().copied().chain([source.name, source.text, architecture, &version]) {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hash.finalize().to_hex().to_string()
}

/// Version of NVRTC.
///
/// # Errors
/// [`LossError::CudaLibrary`] if there is none.
pub fn nvrtc_version() -> Result<(i32, i32), LossError> {
    unpanicked("NVRTC", || {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two ints to valid addresses.
        let status = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
        status.result().map(|()| (major, minor))
    })?
    .map_err(|error| LossError::CudaLibrary { name: "NVRTC", detail: error.to_string() })
}

/// The same PTX, declaring [`PTX_VERSION`]: NVRTC writes its own version, which drivers older than it refuse whatever
/// the text uses. What ours uses is assembled under the lower version by the tests.
fn pinned(ptx: &str) -> String {
    let lower = |line: &str| -> Option<String> {
        let (major, minor) = line.strip_prefix(".version ")?.trim().split_once('.')?;
        let version: (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        (version > PTX_VERSION).then(|| format!(".version {}.{}", PTX_VERSION.0, PTX_VERSION.1))
    };
    let mut out = String::with_capacity(ptx.len());
    for line in ptx.lines() {
        out.push_str(lower(line).as_deref().unwrap_or(line));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_lowered_and_never_raised() {
        assert_eq!(pinned("//\n.version 8.8\n.target sm_80\n"), "//\n.version 7.0\n.target sm_80\n");
        assert_eq!(pinned(".version 6.5\n"), ".version 6.5\n");
        assert_eq!(pinned(".version 10.1\n"), ".version 7.0\n");
    }

    #[test]
    fn the_key_depends_on_everything() {
        let base = key(LOGP, "compute_80", (12, 9));
        assert_eq!(base.len(), 64);
        let others = [
            key(PREFERENCE, "compute_80", (12, 9)),
            key(Source { text: "", ..LOGP }, "compute_80", (12, 9)),
            key(LOGP, "compute_75", (12, 9)),
            key(LOGP, "compute_80", (12, 8)),
        ];
        assert!(others.iter().all(|other| *other != base));
    }
}
