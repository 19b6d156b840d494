//! The pointers of the C interface, as types that check for null.
//!
//! Safety argument of the whole file: a pointer that comes through the C interface is null or valid for the access
//! that the CUDA manual describes for that parameter. The callers (cudarc, NVRTC) promise that to any driver; the
//! stand-in can no more check host pointers than a real one. Each block below does one such access and nothing else.
#![allow(unsafe_code)] // reason: the accesses to host memory that a C interface consists of

use std::ffi::{CStr, c_char, c_void};

use crate::errors::{Code, code};

/// A place for one result.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Stores `value`, or refuses null.
    pub(crate) fn set(self, value: T) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: not null, so valid for one `T` by the contract above.
        unsafe { self.0.write(value) };
        Ok(())
    }
}

/// A C string to be read.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text(*const c_char);

impl Text {
    pub(crate) fn read(self) -> Result<String, Code> {
        if self.0.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: not null, so a string with its end by the contract above.
        let text = unsafe { CStr::from_ptr(self.0) };
        Ok(text.to_string_lossy().into_owned())
    }
}

/// Host memory to be read.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(*const c_void);

impl Source {
    /// Copies `bytes` bytes.
    pub(crate) fn read(self, bytes: usize) -> Result<Vec<u8>, Code> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        if self.0.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: not null, so valid for `bytes` bytes by the contract above; nobody else writes them meanwhile.
        Ok(unsafe { std::slice::from_raw_parts(self.0.cast::<u8>(), bytes) }.to_vec())
    }

    /// Copies `into.len()` bytes.
    pub(crate) fn copy_to(self, into: &mut [u8]) -> Result<(), Code> {
        if into.is_empty() {
            return Ok(());
        }
        if self.0.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: as in `read`; device memory is never handed out as host memory, so the two do not overlap.
        into.copy_from_slice(unsafe { std::slice::from_raw_parts(self.0.cast::<u8>(), into.len()) });
        Ok(())
    }

    /// The string that starts here, as a PTX image is passed.
    pub(crate) fn text(self) -> Result<String, Code> {
        Text(self.0.cast()).read()
    }

    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }
}

/// Host memory to be written.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sink(*mut c_void);

impl Sink {
    pub(crate) fn write(self, data: &[u8]) -> Result<(), Code> {
        if data.is_empty() {
            return Ok(());
        }
        if self.0.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: not null, so valid for `data.len()` bytes by the contract above, and apart from device memory.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.0.cast::<u8>(), data.len()) };
        Ok(())
    }
}

/// The argument array of a launch.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arguments(*const Source);

impl Arguments {
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    /// Pointer to argument `index`; the caller knows from the kernel's signature that there is one.
    pub(crate) fn get(self, index: usize) -> Result<Source, Code> {
        if self.0.is_null() {
            return Err(code::INVALID_VALUE);
        }
        // SAFETY: the array has one pointer per parameter of the kernel, by the contract above.
        Ok(unsafe { *self.0.add(index) })
    }
}

/// Allocates host memory.
pub(crate) fn host_alloc(layout: std::alloc::Layout) -> u64 {
    // SAFETY: callers make layouts of at least one byte.
    (unsafe { std::alloc::alloc_zeroed(layout) }) as u64
}

/// Frees host memory that [`host_alloc`] gave for the same layout.
pub(crate) fn host_free(address: u64, layout: std::alloc::Layout) {
    // SAFETY: the caller took address and layout out of its table of `host_alloc` results, so this happens once.
    unsafe { std::alloc::dealloc(address as *mut u8, layout) };
}

/// Length of the caller's `Vec` of argument pointers, if one that starts at `array` is found on this thread's stack.
///
/// `cuLaunchKernel` is not told how many arguments there are. cudarc keeps them in a `Vec` inside a builder on the
/// stack, that is as three words, capacity, pointer and length; the pointer is known, so the other two can be found.
pub(crate) fn vec_on_stack(array: u64) -> Option<usize> {
    let here = std::ptr::from_ref(&array) as usize;
    let end = stack_end(here)?.min(here + (64 << 10));
    let start = here.next_multiple_of(8);
    let mut found = None;
    for at in (start + 8..end - 16).step_by(8) {
        // SAFETY: `start + 8 - 8 .. end` lies in the mapping of this thread's own stack, above this frame; aligned
        // words of it are read, whatever they hold. `read_volatile` keeps the compiler from assuming anything.
        let [capacity, pointer, length] =
            [at - 8, at, at + 8].map(|word| unsafe { std::ptr::read_volatile(word as *const u64) });
        let grown = capacity >= 4 && capacity.is_power_of_two() && length <= capacity && capacity <= 4096;
        if pointer == array && grown && (length > capacity / 2 || capacity == 4) && length > 0 {
            match found {
                Some(other) if other != length => return None,
                _ => found = Some(length),
            }
        }
    }
    found.map(|n| n as usize)
}

/// End of the mapping that holds the address `here` of this thread's stack.
fn stack_end(here: usize) -> Option<usize> {
    thread_local! {
        static END: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
    }
    if let Some(end) = END.get() {
        return Some(end);
    }
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let end = maps.lines().find_map(|line| {
        let (start, rest) = line.split_once('-')?;
        let (end, _) = rest.split_once(' ')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        (start..end).contains(&here).then_some(end)
    })?;
    END.set(Some(end));
    Some(end)
}
