//! Everything that can go wrong between a kernel's text and its result.

use std::path::PathBuf;

/// What was wanted, what came, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// A file or folder of the build cannot be used.
    #[error("cannot write {path}: {source}; choose another folder for builds")]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The compiler could not be started.
    #[error("cannot start the C++ compiler {program}: {source}; set CXX to another")]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The source is not C++ that compiles behind the emulation header.
    #[error("{name} does not compile as host C++:\n{log}")]
    Compile {
        /// Name of the source.
        name: String,
        /// What the compiler said.
        log: String,
    },
    /// The compiled library cannot be loaded.
    #[error("cannot load {path}: {source}; a sanitized build needs the sanitizer's runtime in LD_PRELOAD")]
    Load {
        /// The library.
        path: PathBuf,
        /// The loader's reason.
        source: libloading::Error,
    },
    /// There is no such kernel in the module.
    #[error("no kernel `{kernel}`; there are {known}")]
    Kernel {
        /// The name that came.
        kernel: String,
        /// The names that there are.
        known: String,
    },
    /// Arguments that do not fit the kernel's signature.
    #[error(
        "`{kernel}`: argument {index} is {got}, want {want}; compare the call with the kernel's signature"
    )]
    Argument {
        /// The kernel.
        kernel: String,
        /// Which argument, from 0.
        index: usize,
        /// Kind and size that the signature has.
        want: String,
        /// Kind and size that came.
        got: String,
    },
    /// More threads a block than the kernel is compiled for.
    #[error("`{kernel}`: a block of {got} threads, want at most {most} (its `__launch_bounds__`)")]
    LaunchBounds {
        /// The kernel.
        kernel: String,
        /// Most threads.
        most: u32,
        /// Threads that came.
        got: u32,
    },
    /// The kernel did what a device leaves undefined.
    #[error("{0}")]
    Fault(String),
}
