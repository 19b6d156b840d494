//! What can go wrong on the stand-in device, and the driver error number of each.

use crate::memory::Blame;

/// A fault of a program that runs on the stand-in device: a bad PTX text, a bad launch or a bad access.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// PTX that cannot be parsed or holds an instruction the interpreter does not know.
    #[error("PTX line {line}: {what}: `{text}`")]
    Ptx {
        /// Line in the PTX text, from 1.
        line: u32,
        /// What is wrong.
        what: String,
        /// The offending statement.
        text: String,
    },
    /// PTX for a newer device than this one.
    #[error("PTX is for {target}, the device is sm_{device}: compile for compute_{device} or lower")]
    Target {
        /// `.target` of the module.
        target: String,
        /// Compute capability of the device, e.g. 90.
        device: u32,
    },
    /// PTX of a newer language version than the driver knows.
    #[error("PTX .version {version} is newer than {newest}, the newest that a driver {driver} knows")]
    Version {
        /// `.version` of the module, times ten.
        version: u32,
        /// Newest version the driver knows, times ten.
        newest: u32,
        /// Driver version, e.g. 12090.
        driver: u32,
    },
    /// A launch outside the limits of the device or the kernel.
    #[error("launch of {kernel}: {what} is {got}; at most {limit}, at least 1")]
    Limit {
        /// Kernel name.
        kernel: String,
        /// Which limit.
        what: &'static str,
        /// What the launch asked for.
        got: u64,
        /// Largest legal value.
        limit: u64,
    },
    /// A wrong number of arguments.
    #[error("launch of {kernel}: {got} arguments; its PTX signature has {want}")]
    ArgumentCount {
        /// Kernel name.
        kernel: String,
        /// Parameters of the signature.
        want: usize,
        /// Arguments of the launch.
        got: usize,
    },
    /// An argument that is used as an address but lies in no live allocation.
    #[error("launch of {kernel}: argument {index} is {address:#x}, {blame}; want a device pointer or null")]
    ArgumentPointer {
        /// Kernel name.
        kernel: String,
        /// Position in the signature, from 0.
        index: usize,
        /// Value of the argument.
        address: u64,
        /// What lies at that address.
        blame: Blame,
    },
    /// An access to device memory outside every live allocation.
    #[error("{site}: {access} of {bytes} bytes at {address:#x}: {blame}")]
    Address {
        /// Where in the program.
        site: Site,
        /// Load, store or atomic, and the state space.
        access: &'static str,
        /// Bytes accessed.
        bytes: u64,
        /// First byte.
        address: u64,
        /// What lies there.
        blame: Blame,
    },
    /// An access to shared or local memory outside every variable.
    #[error(
        "{site}: {access} of {bytes} bytes at offset {offset} lies outside every variable ({have} bytes)"
    )]
    OffTheEnd {
        /// Where in the program.
        site: Site,
        /// Load, store or atomic, and the state space.
        access: &'static str,
        /// Bytes accessed.
        bytes: u64,
        /// Offset in the space.
        offset: u64,
        /// Bytes of the space.
        have: u64,
    },
    /// An access at an address that is no multiple of its size.
    #[error("{site}: {access} of {bytes} bytes at {address:#x} is not aligned to its size")]
    Misaligned {
        /// Where in the program.
        site: Site,
        /// Load, store or atomic, and the state space.
        access: &'static str,
        /// Bytes accessed.
        bytes: u64,
        /// First byte.
        address: u64,
    },
    /// Threads of a block that cannot all reach the same barrier.
    #[error("{site}: barrier divergence: {waiting} of {threads} threads wait here; {others}")]
    Barrier {
        /// The barrier.
        site: Site,
        /// Threads that wait at it.
        waiting: u32,
        /// Threads of the block.
        threads: u32,
        /// Where the others are.
        others: String,
    },
    /// A warp-wide instruction whose mask names lanes that never arrive, or that an unnamed lane executes.
    #[error("{site}: {op} with mask {mask:#010x}: {what}")]
    Mask {
        /// Where in the program.
        site: Site,
        /// The instruction.
        op: &'static str,
        /// Member mask.
        mask: u32,
        /// What is wrong with it.
        what: String,
    },
    /// A shuffle that reads from a lane that does not take part.
    #[error("{site}: shuffle reads lane {lane}, which is not in mask {mask:#010x}")]
    ShuffleSource {
        /// Where in the program.
        site: Site,
        /// Lane read from.
        lane: u32,
        /// Member mask.
        mask: u32,
    },
    /// Two warps touch the same word of shared memory without a barrier between, and one of them writes.
    #[error(
        "{site}: data race in shared memory at offset {offset}: {now} by warp {warp}, {before} by warp {other} since the last barrier"
    )]
    Race {
        /// The later access.
        site: Site,
        /// Byte offset of the word.
        offset: u64,
        /// Kind of the later access.
        now: &'static str,
        /// Warp of the later access.
        warp: u32,
        /// Kind of the earlier access.
        before: &'static str,
        /// Warp of the earlier access.
        other: u32,
    },
    /// The kernel executed `trap` or a failed assertion.
    #[error("{site}: trap")]
    Trap {
        /// Where in the program.
        site: Site,
    },
    /// The launch ran past the instruction limit.
    #[error("{kernel}: more than {limit} instructions in one launch; is there an endless loop?")]
    Endless {
        /// Kernel name.
        kernel: String,
        /// The limit.
        limit: u64,
    },
}

/// Place in a running kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Kernel name.
    pub kernel: String,
    /// Block index.
    pub block: [u32; 3],
    /// Thread index in the block.
    pub thread: [u32; 3],
    /// Line in the PTX text, from 1.
    pub line: u32,
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([bx, by, bz], [tx, ty, tz]) = (self.block, self.thread);
        write!(f, "{} block ({bx},{by},{bz}) thread ({tx},{ty},{tz}) PTX line {}", self.kernel, self.line)
    }
}

/// Error number of the driver interface (`CUresult`).
pub type Code = i32;

/// The numbers the stand-in uses, with the names of `cuda.h`.
pub mod code {
    use super::Code;

    /// `CUDA_SUCCESS`.
    pub const SUCCESS: Code = 0;
    /// `CUDA_ERROR_INVALID_VALUE`.
    pub const INVALID_VALUE: Code = 1;
    /// `CUDA_ERROR_OUT_OF_MEMORY`.
    pub const OUT_OF_MEMORY: Code = 2;
    /// `CUDA_ERROR_NOT_INITIALIZED`.
    pub const NOT_INITIALIZED: Code = 3;
    /// `CUDA_ERROR_NO_DEVICE`.
    pub const NO_DEVICE: Code = 100;
    /// `CUDA_ERROR_INVALID_DEVICE`.
    pub const INVALID_DEVICE: Code = 101;
    /// `CUDA_ERROR_INVALID_CONTEXT`.
    pub const INVALID_CONTEXT: Code = 201;
    /// `CUDA_ERROR_NO_BINARY_FOR_GPU`.
    pub const NO_BINARY_FOR_GPU: Code = 209;
    /// `CUDA_ERROR_INVALID_PTX`.
    pub const INVALID_PTX: Code = 218;
    /// `CUDA_ERROR_UNSUPPORTED_PTX_VERSION`.
    pub const UNSUPPORTED_PTX_VERSION: Code = 222;
    /// `CUDA_ERROR_INVALID_HANDLE`.
    pub const INVALID_HANDLE: Code = 400;
    /// `CUDA_ERROR_NOT_FOUND`.
    pub const NOT_FOUND: Code = 500;
    /// `CUDA_ERROR_ILLEGAL_ADDRESS`.
    pub const ILLEGAL_ADDRESS: Code = 700;
    /// `CUDA_ERROR_LAUNCH_TIMEOUT`.
    pub const LAUNCH_TIMEOUT: Code = 702;
    /// `CUDA_ERROR_MISALIGNED_ADDRESS`.
    pub const MISALIGNED_ADDRESS: Code = 716;
    /// `CUDA_ERROR_LAUNCH_FAILED`.
    pub const LAUNCH_FAILED: Code = 719;
    /// `CUDA_ERROR_NOT_SUPPORTED`.
    pub const NOT_SUPPORTED: Code = 801;
    /// `CUDA_ERROR_UNKNOWN`.
    pub const UNKNOWN: Code = 999;
}

impl Fault {
    /// The driver error number that a real driver gives for this fault.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Ptx { .. } => code::INVALID_PTX,
            Self::Target { .. } => code::NO_BINARY_FOR_GPU,
            Self::Version { .. } => code::UNSUPPORTED_PTX_VERSION,
            Self::Limit { .. } | Self::ArgumentCount { .. } => code::INVALID_VALUE,
            Self::ArgumentPointer { .. } | Self::Address { .. } | Self::OffTheEnd { .. } => {
                code::ILLEGAL_ADDRESS
            }
            Self::Misaligned { .. } => code::MISALIGNED_ADDRESS,
            Self::Barrier { .. }
            | Self::Mask { .. }
            | Self::ShuffleSource { .. }
            | Self::Race { .. }
            | Self::Trap { .. } => code::LAUNCH_FAILED,
            Self::Endless { .. } => code::LAUNCH_TIMEOUT,
        }
    }

    /// Whether a real device meets this fault while the kernel runs, that is after the launch has returned.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        matches!(
            self,
            Self::Address { .. }
                | Self::OffTheEnd { .. }
                | Self::Misaligned { .. }
                | Self::Barrier { .. }
                | Self::Mask { .. }
                | Self::ShuffleSource { .. }
                | Self::Race { .. }
                | Self::Trap { .. }
                | Self::Endless { .. }
        )
    }
}
