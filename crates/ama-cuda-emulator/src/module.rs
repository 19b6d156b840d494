//! Compiled kernels, and how they are launched.
//!
//! # Safety of this file
//! The library is one that [`Compiler::build`](crate::Compiler) has just linked from `emulator.cpp`, whose four functions have the types
//! written down here; it keeps no address beyond a call. What a kernel does with its arguments is for the caller of
//! [`Module::launch`] to know.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;

use libloading::{Library, Symbol};

use crate::argument::Kind;
use crate::source::Entry;
use crate::{Argument, Compiler, EmulatorError, Sanitizer, Source};

/// One-dimensional grid of one-dimensional blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks of the grid.
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
}

/// The kernels of one translation unit.
#[derive(Debug)]
pub struct Module {
    library: Library,
    entries: Vec<Entry>,
}

type Launch = unsafe extern "C" fn(
    *const c_char,
    *const u32,
    *const u32,
    *mut *mut c_void,
    u64,
    *mut c_char,
    usize,
) -> c_int;
type Signature = unsafe extern "C" fn(*const c_char, *mut c_int, *mut usize, usize) -> c_int;
type Poison = unsafe extern "C" fn(*const c_void, usize);

/// Most parameters of a kernel that are looked at.
const MOST_PARAMETERS: usize = 64;

impl Module {
    /// Compiles `sources`, joined in order, or takes what an earlier call has left in `folder`.
    ///
    /// # Errors
    /// [`EmulatorError::Folder`], [`EmulatorError::Start`], [`EmulatorError::Compile`], [`EmulatorError::Load`].
    pub fn compile(
        compiler: &Compiler,
        sanitizer: Option<Sanitizer>,
        sources: &[Source],
        folder: &Path,
    ) -> Result<Self, EmulatorError> {
        let path = compiler.build(sanitizer, sources, folder)?;
        // SAFETY: its initialisers register kernels in a list of the library's own.
        let library =
            unsafe { Library::new(&path) }.map_err(|source| EmulatorError::Load { path, source })?;
        Ok(Self { library, entries: sources.iter().flat_map(Source::entries).collect() })
    }

    /// Names of the kernels.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Runs a kernel to its end. `seed` permutes the order of blocks and of threads; 0 is the natural order.
    ///
    /// # Errors
    /// [`EmulatorError::Kernel`], [`EmulatorError::Argument`], [`EmulatorError::LaunchBounds`]; [`EmulatorError::Fault`] if the
    /// launch or the kernel is not legal CUDA.
    ///
    /// # Safety
    /// With these arguments the kernel reads and writes nothing but the memory of the buffers among them.
    pub unsafe fn launch(
        &self,
        kernel: &str,
        grid: Grid,
        seed: u64,
        arguments: &[Argument<'_>],
    ) -> Result<(), EmulatorError> {
        let Some(entry) = self.entries.iter().find(|entry| entry.name == kernel) else {
            let known = self.kernels().collect::<Vec<_>>().join(", ");
            return Err(EmulatorError::Kernel { kernel: kernel.to_owned(), known });
        };
        if let Some(most) = entry.most_threads.filter(|most| grid.threads > *most) {
            return Err(EmulatorError::LaunchBounds { kernel: kernel.to_owned(), most, got: grid.threads });
        }
        let name =
            CString::new(kernel).map_err(|_| EmulatorError::Fault("a name with a zero byte".to_owned()))?;
        self.check_arguments(kernel, &name, arguments)?;

        let mut values: Vec<u64> = arguments.iter().map(|argument| argument.bits).collect();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|v| std::ptr::from_mut(v).cast()).collect();
        let (blocks, threads) = ([grid.blocks, 1, 1], [grid.threads, 1, 1]);
        let mut message = [0; 1024];
        let forbidden = || arguments.iter().flat_map(|argument| argument.forbidden.iter().copied());
        self.for_each(b"emulator_poison\0", forbidden())?;
        let launch: Symbol<'_, Launch> = self.find(b"emulator_launch\0")?;
        // SAFETY: a pointer to a value of the right size for every parameter, as `check_arguments` has seen; numbers are in
        // the low bytes of a little-endian word. The rest is promised by the caller.
        let status = unsafe {
            launch(
                name.as_ptr(),
                blocks.as_ptr(),
                threads.as_ptr(),
                pointers.as_mut_ptr(),
                seed,
                message.as_mut_ptr(),
                message.len(),
            )
        };
        self.for_each(b"emulator_unpoison\0", forbidden())?;
        if status == 0 {
            return Ok(());
        }
        // SAFETY: `emulator_launch` ends what it writes with a zero byte.
        let message = unsafe { CStr::from_ptr(message.as_ptr()) };
        Err(EmulatorError::Fault(message.to_string_lossy().into_owned()))
    }

    /// Refuses arguments of another number, kind or size than the kernel's parameters.
    fn check_arguments(
        &self,
        kernel: &str,
        name: &CStr,
        arguments: &[Argument<'_>],
    ) -> Result<(), EmulatorError> {
        let (mut kinds, mut sizes) = ([0; MOST_PARAMETERS], [0; MOST_PARAMETERS]);
        let signature: Symbol<'_, Signature> = self.find(b"emulator_signature\0")?;
        // SAFETY: writes to at most `MOST_PARAMETERS` elements of either array.
        let count =
            unsafe { signature(name.as_ptr(), kinds.as_mut_ptr(), sizes.as_mut_ptr(), MOST_PARAMETERS) };
        let want = |i: usize| {
            (i < usize::try_from(count).unwrap_or(0)).then(|| Kind::of(kinds[i]).describe(sizes[i]))
        };
        for index in 0..arguments.len().max(usize::try_from(count).unwrap_or(0)) {
            let got = arguments.get(index).map(|argument| argument.kind.describe(argument.bytes));
            if want(index) != got {
                let or_missing =
                    |description: Option<String>| description.unwrap_or_else(|| "nothing".to_owned());
                return Err(EmulatorError::Argument {
                    kernel: kernel.to_owned(),
                    index,
                    want: or_missing(want(index)),
                    got: or_missing(got),
                });
            }
        }
        Ok(())
    }

    fn for_each(
        &self,
        function: &[u8],
        ranges: impl Iterator<Item = (*const u8, usize)>,
    ) -> Result<(), EmulatorError> {
        let function: Symbol<'_, Poison> = self.find(function)?;
        for (start, bytes) in ranges {
            // SAFETY: marks memory that belongs to a buffer, which outlives the launch.
            unsafe { function(start.cast(), bytes) };
        }
        Ok(())
    }

    fn find<T>(&self, name: &[u8]) -> Result<Symbol<'_, T>, EmulatorError> {
        // SAFETY: `T` is the type that `emulator.cpp` gives to the function of that name.
        unsafe { self.library.get(name) }
            .map_err(|source| EmulatorError::Load { path: "the emulator's library".into(), source })
    }
}
