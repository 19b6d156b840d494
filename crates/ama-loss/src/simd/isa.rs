//! Which instruction set to use.

/// An instruction set that this machine has.
///
/// A value can only be had from [`Isa::detect`], [`Isa::available`] or [`Isa::PORTABLE`]: holding one proves that
/// the machine can run it, which is what makes the kernels safe to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

/// The compiled variants, best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// What every machine of the target has (SSE2 on x86-64, NEON on aarch64).
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The baseline of the target; always there.
    pub const PORTABLE: Self = Self(Level::Portable);

    /// The best that this machine has. The standard library asks the processor once and remembers.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self(Level::Avx512);
            }
            if has_avx2() {
                return Self(Level::Avx2);
            }
        }
        Self::PORTABLE
    }

    /// All that this machine has, best first; for tests and benchmarks.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                all.push(Self(Level::Avx512));
            }
            if has_avx2() {
                all.push(Self(Level::Avx2));
            }
        }
        all.push(Self::PORTABLE);
        all
    }

    /// `"avx512"`, `"avx2"` or `"portable"`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }

    /// The variant to run.
    pub(crate) fn level(self) -> Level {
        self.0
    }
}

impl Default for Isa {
    /// [`Isa::detect`].
    fn default() -> Self {
        Self::detect()
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}
