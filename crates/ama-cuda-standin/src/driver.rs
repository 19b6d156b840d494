//! The functions of `libcuda.so.1` that cudarc calls, with the C interface of the CUDA 12 driver.
//!
//! Everything runs when it is called, in the order of the calls: streams and events exist, and their handles are
//! checked, but no two things are ever in flight.
#![allow(unsafe_code)] // reason: exported symbols; the accesses to host memory are in `ffi`

use std::ffi::{c_char, c_int, c_uint};
use std::time::Instant;

use crate::errors::{Code, code};
use crate::ffi::{Out, Sink, Source, Text, host_alloc, host_free};
use crate::memory::Blame;
use crate::ptx::{LoadError, Module};
use crate::state::{CONTEXT, Function, State, current, enter, set_current};

/// A handle: a context, stream, event, module or function.
type Handle = u64;
/// A device address.
type Address = u64;

/// Exports driver functions: each locks the state, may be made to fail, and never lets a panic out.
macro_rules! driver {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) |$state:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        // SAFETY: the name is the driver's; nothing else in a process that loads the stand-in defines it.
        #[unsafe(no_mangle)]
        extern "C" fn $name($($arg: $ty),*) -> Code {
            enter(stringify!($name), |$state| $body)
        }
    )*};
}
pub(crate) use driver;

driver! {
    fn cuInit(flags: c_uint) |s| {
        if s.settings.devices == 0 {
            return Err(code::NO_DEVICE);
        }
        s.initialised = flags == 0;
        if flags == 0 { Ok(()) } else { Err(code::INVALID_VALUE) }
    };
    fn cuDriverGetVersion(version: Out<c_int>) |s| version.set(s.settings.accepts.driver as c_int);
    fn cuDeviceGetCount(count: Out<c_int>) |s| {
        initialised(s)?;
        count.set(s.settings.devices as c_int)
    };
    fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) |s| {
        initialised(s)?;
        the_device(ordinal)?;
        device.set(0)
    };
    fn cuDeviceGetName(name: Sink, bytes: c_int, device: c_int) |_| {
        the_device(device)?;
        let text = b"CPU stand-in\0";
        let fits = usize::try_from(bytes).unwrap_or(0).min(text.len());
        name.write(&text[..fits])
    };
    fn cuDeviceGetUuid_v2(uuid: Sink, device: c_int) |_| {
        the_device(device)?;
        uuid.write(b"CPU stand-in GPU")
    };
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: c_int) |s| {
        the_device(device)?;
        bytes.set(s.memory.limit() as usize)
    };
    fn cuDeviceGetAttribute(value: Out<c_int>, attribute: c_int, device: c_int) |s| {
        the_device(device)?;
        s.note(format_args!("{attribute}"));
        value.set(device_attribute(s, attribute)?)
    };
    fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: c_int) |s| {
        initialised(s)?;
        the_device(device)?;
        context.set(CONTEXT)?;
        s.held += 1;
        Ok(())
    };
    fn cuDevicePrimaryCtxRelease_v2(device: c_int) |s| {
        the_device(device)?;
        s.held = s.held.checked_sub(1).ok_or(code::INVALID_CONTEXT)?;
        if s.held == 0 {
            s.release();
        }
        Ok(())
    };
    fn cuCtxGetCurrent(context: Out<Handle>) |_| context.set(current());
    fn cuCtxSetCurrent(context: Handle) |_| {
        if context != 0 && context != CONTEXT {
            return Err(code::INVALID_CONTEXT);
        }
        set_current(context);
        Ok(())
    };
    fn cuCtxSynchronize() |s| s.context();
    fn cuCtxSetFlags(_flags: c_uint) |s| s.context();
    fn cuCtxGetDevice(device: Out<c_int>) |s| {
        s.context()?;
        device.set(0)
    };
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) |s| {
        s.context()?;
        free.set((s.memory.limit() - s.memory.used()) as usize)?;
        total.set(s.memory.limit() as usize)
    };
    fn cuMemAlloc_v2(address: Out<Address>, bytes: usize) |s| {
        s.context()?;
        alloc(s, address, bytes)
    };
    fn cuMemAllocAsync(address: Out<Address>, bytes: usize, stream: Handle) |s| {
        s.stream(stream)?;
        if !s.settings.memory_pools {
            return Err(code::NOT_SUPPORTED);
        }
        alloc(s, address, bytes)
    };
    fn cuMemFree_v2(address: Address) |s| {
        s.context()?;
        free(s, address)
    };
    fn cuMemFreeAsync(address: Address, stream: Handle) |s| {
        s.stream(stream)?;
        free(s, address)
    };
    fn cuMemHostAlloc(address: Out<u64>, bytes: usize, _flags: c_uint) |s| {
        s.context()?;
        let layout = std::alloc::Layout::from_size_align(bytes, 4096).map_err(|_| code::INVALID_VALUE)?;
        if bytes == 0 {
            return Err(code::INVALID_VALUE);
        }
        let at = host_alloc(layout);
        if at == 0 {
            return Err(code::OUT_OF_MEMORY);
        }
        s.pinned.insert(at, layout);
        address.set(at)
    };
    fn cuMemFreeHost(address: u64) |s| {
        let layout = s.pinned.remove(&address).ok_or(code::INVALID_VALUE)?;
        host_free(address, layout);
        Ok(())
    };
    fn cuMemHostGetFlags(flags: Out<c_uint>, address: u64) |s| {
        if !s.pinned.contains_key(&address) {
            return Err(code::INVALID_VALUE);
        }
        flags.set(0)
    };
    fn cuMemcpyHtoD_v2(to: Address, from: Source, bytes: usize) |s| {
        s.context()?;
        upload(s, to, from, bytes)
    };
    fn cuMemcpyHtoDAsync_v2(to: Address, from: Source, bytes: usize, stream: Handle) |s| {
        s.stream(stream)?;
        upload(s, to, from, bytes)
    };
    fn cuMemcpyDtoH_v2(to: Sink, from: Address, bytes: usize) |s| {
        s.context()?;
        download(s, to, from, bytes)
    };
    fn cuMemcpyDtoHAsync_v2(to: Sink, from: Address, bytes: usize, stream: Handle) |s| {
        s.stream(stream)?;
        download(s, to, from, bytes)
    };
    fn cuMemcpyDtoD_v2(to: Address, from: Address, bytes: usize) |s| {
        s.context()?;
        copy(s, to, from, bytes)
    };
    fn cuMemcpyDtoDAsync_v2(to: Address, from: Address, bytes: usize, stream: Handle) |s| {
        s.stream(stream)?;
        copy(s, to, from, bytes)
    };
    fn cuMemsetD8_v2(to: Address, value: u8, bytes: usize) |s| {
        s.context()?;
        set(s, to, value, bytes)
    };
    fn cuMemsetD8Async(to: Address, value: u8, bytes: usize, stream: Handle) |s| {
        s.stream(stream)?;
        set(s, to, value, bytes)
    };
    fn cuStreamCreate(stream: Out<Handle>, _flags: c_uint) |s| {
        s.context()?;
        new_stream(s, stream)
    };
    fn cuStreamCreateWithPriority(stream: Out<Handle>, _flags: c_uint, _priority: c_int) |s| {
        s.context()?;
        new_stream(s, stream)
    };
    fn cuStreamDestroy_v2(stream: Handle) |s| {
        s.context()?;
        if s.streams.remove(&stream) { Ok(()) } else { Err(code::INVALID_HANDLE) }
    };
    fn cuStreamSynchronize(stream: Handle) |s| s.stream(stream);
    fn cuStreamQuery(stream: Handle) |s| s.stream(stream);
    fn cuStreamIsCapturing(stream: Handle, status: Out<c_int>) |s| {
        s.stream(stream)?;
        status.set(0)
    };
    fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: c_uint) |s| {
        s.stream(stream)?;
        recorded(s, event).map(drop)
    };
    fn cuEventCreate(event: Out<Handle>, _flags: c_uint) |s| {
        s.context()?;
        let handle = s.handle();
        event.set(handle)?;
        s.events.insert(handle, None);
        Ok(())
    };
    fn cuEventRecord(event: Handle, stream: Handle) |s| {
        s.stream(stream)?;
        *s.events.get_mut(&event).ok_or(code::INVALID_HANDLE)? = Some(Instant::now());
        Ok(())
    };
    fn cuEventSynchronize(event: Handle) |s| recorded(s, event).map(drop);
    fn cuEventQuery(event: Handle) |s| recorded(s, event).map(drop);
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) |s| elapsed(s, milliseconds, start, end);
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) |s| {
        elapsed(s, milliseconds, start, end)
    };
    fn cuEventDestroy_v2(event: Handle) |s| s.events.remove(&event).map(drop).ok_or(code::INVALID_HANDLE);
    fn cuModuleLoadData(module: Out<Handle>, image: Source) |s| {
        s.context()?;
        load(s, module, &image.text()?)
    };
    fn cuModuleLoad(module: Out<Handle>, path: Text) |s| {
        s.context()?;
        let text = std::fs::read_to_string(path.read()?).map_err(|_| code::NOT_FOUND)?;
        load(s, module, &text)
    };
    fn cuModuleUnload(module: Handle) |s| {
        s.context()?;
        let mut gone = s.modules.remove(&module).ok_or(code::INVALID_HANDLE)?;
        gone.unload(&mut s.memory);
        s.functions.retain(|_, f| f.module != module);
        Ok(())
    };
    fn cuModuleGetFunction(function: Out<Handle>, module: Handle, name: Text) |s| {
        let name = name.read()?;
        s.note(format_args!("{name}"));
        let kernel = s.modules.get(&module).ok_or(code::INVALID_HANDLE)?.kernel(&name);
        let kernel = std::sync::Arc::new(kernel.ok_or(code::NOT_FOUND)?.clone());
        let handle = s.handle();
        function.set(handle)?;
        s.functions.insert(handle, Function { kernel, module, max_dynamic: None });
        Ok(())
    };
    fn cuModuleGetGlobal_v2(address: Out<Address>, bytes: Out<usize>, module: Handle, name: Text) |s| {
        let module = s.modules.get(&module).ok_or(code::INVALID_HANDLE)?;
        let (at, length) = module.variable(&name.read()?).ok_or(code::NOT_FOUND)?;
        address.set(at)?;
        bytes.set(length as usize)
    };
    /// Offset and size of a parameter in the signature, so that a caller can compare its own argument list.
    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, bytes: Out<usize>) |s| {
        let function = s.functions.get(&function).ok_or(code::INVALID_HANDLE)?;
        let param = function.kernel.params.get(index).ok_or(code::INVALID_VALUE)?;
        offset.set(param.offset)?;
        // The size may be left out.
        bytes.set(param.bytes).or(Ok(()))
    };
    fn cuFuncGetAttribute(value: Out<c_int>, attribute: c_int, function: Handle) |s| {
        let function = s.functions.get(&function).ok_or(code::INVALID_HANDLE)?;
        let kernel = &function.kernel;
        value.set(match attribute {
            0 => kernel.max_threads.unwrap_or(crate::ptx::MAX_THREADS) as c_int,
            1 => kernel.shared_bytes as c_int,
            2 => 0,
            3 => kernel.local_bytes as c_int,
            // The interpreter allocates no registers; the count of a middling kernel.
            4 => 32,
            5 | 6 => s.settings.accepts.device as c_int,
            8 => function.max_dynamic.unwrap_or(DEFAULT_SHARED - kernel.shared_bytes.min(DEFAULT_SHARED)) as c_int,
            _ => return Err(code::INVALID_VALUE),
        })
    };
    fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) |s| {
        let device = s.settings.accepts.device;
        let function = s.functions.get_mut(&function).ok_or(code::INVALID_HANDLE)?;
        let bytes = u64::try_from(value).map_err(|_| code::INVALID_VALUE)?;
        match attribute {
            8 if bytes + function.kernel.shared_bytes <= most_shared(device) => function.max_dynamic = Some(bytes),
            9 => {}
            _ => return Err(code::INVALID_VALUE),
        }
        Ok(())
    };
    fn cuFuncSetCacheConfig(function: Handle, _config: c_int) |s| {
        s.functions.get(&function).map(drop).ok_or(code::INVALID_HANDLE)
    };
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: Out<c_int>, function: Handle, threads: c_int, dynamic: usize
    ) |s| occupancy(s, blocks, function, threads, dynamic);
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<c_int>, function: Handle, threads: c_int, dynamic: usize, _flags: c_uint
    ) |s| occupancy(s, blocks, function, threads, dynamic);
    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: c_int) |s| {
        the_device(device)?;
        if s.settings.memory_pools { pool.set(POOL) } else { Err(code::NOT_SUPPORTED) }
    };
    fn cuDeviceGetMemPool(pool: Out<Handle>, device: c_int) |s| {
        the_device(device)?;
        if s.settings.memory_pools { pool.set(POOL) } else { Err(code::NOT_SUPPORTED) }
    };
    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) |_| {
        if pool == POOL { Ok(()) } else { Err(code::INVALID_HANDLE) }
    };
    fn cuMemPoolSetAttribute(pool: Handle, _attribute: c_int, _value: Source) |_| {
        if pool == POOL { Ok(()) } else { Err(code::INVALID_HANDLE) }
    };
    fn cuGetErrorName(error: Code, text: Out<*const c_char>) |_| text.set(error_name(error).as_ptr());
    fn cuGetErrorString(error: Code, text: Out<*const c_char>) |_| text.set(error_name(error).as_ptr());
    /// NVRTC asks for private tables and copes without; without the function it crashes.
    fn cuGetExportTable(_table: Out<u64>, _id: Source) |_| Err(code::NOT_FOUND);
    fn cuGetProcAddress_v2(
        _name: Text, address: Out<u64>, _version: c_int, _flags: u64, status: Out<c_int>
    ) |_| {
        address.set(0)?;
        // 1: the symbol was not found.
        status.set(1).or(Ok::<(), Code>(()))?;
        Err(code::NOT_FOUND)
    };
}

/// The default memory pool.
const POOL: Handle = 0x99;
/// Shared memory that a block may have unless the program asks for more.
const DEFAULT_SHARED: u64 = 48 << 10;

fn initialised(s: &State) -> Result<(), Code> {
    if s.initialised { Ok(()) } else { Err(code::NOT_INITIALIZED) }
}

fn the_device(ordinal: c_int) -> Result<(), Code> {
    if ordinal == 0 { Ok(()) } else { Err(code::INVALID_DEVICE) }
}

/// Most shared memory of a block that asked for it, by compute capability (CUDA C++ programming guide, table of
/// technical specifications).
pub(crate) fn most_shared(device: u32) -> u64 {
    match device {
        80 | 87 => 163 << 10,
        86 | 89 | 120.. => 99 << 10,
        90.. => 227 << 10,
        70..75 => 96 << 10,
        75..80 => 64 << 10,
        _ => DEFAULT_SHARED,
    }
}

/// Attributes of an H100, as far as cudarc and our wrappers ask for them.
fn device_attribute(s: &State, attribute: c_int) -> Result<c_int, Code> {
    let device = s.settings.accepts.device;
    Ok(match attribute {
        1..=3 => 1024,
        4 => 64,
        5 => 0x7fff_ffff,
        6 | 7 => 65535,
        8 => DEFAULT_SHARED as c_int,
        9 => 65536,
        10 => 32,
        12 | 82 => 65536,
        13 => 1_980_000,
        16 => 132,
        36 => 2_619_000,
        37 => 5120,
        38 => 50 << 20,
        39 => 2048,
        41 => 1,
        75 => (device / 10) as c_int,
        76 => (device % 10) as c_int,
        81 => most_shared(device) as c_int + 1024,
        97 => most_shared(device) as c_int,
        106 => 32,
        111 => 1024,
        115 => c_int::from(s.settings.memory_pools),
        _ => return Err(code::INVALID_VALUE),
    })
}

fn alloc(s: &mut State, address: Out<Address>, bytes: usize) -> Result<(), Code> {
    s.note(format_args!("{bytes}"));
    let at = s.memory.alloc(bytes as u64)?;
    s.note(format_args!(" at {at:#x}"));
    address.set(at)
}

fn free(s: &mut State, address: Address) -> Result<(), Code> {
    s.note(format_args!("{address:#x}"));
    if address == 0 {
        return Ok(());
    }
    s.memory.free(address).map_err(|blame| {
        let what = if matches!(blame, Blame::Freed { base, .. } if base == address) {
            "double free"
        } else {
            "free"
        };
        s.problem(&format!("{what} of {address:#x}: {blame}"));
        code::INVALID_VALUE
    })
}

fn refuse(s: &mut State, what: &str, address: Address, bytes: usize, blame: Blame) -> Code {
    s.problem(&format!("{what} of {bytes} bytes at {address:#x}: {blame}"));
    code::INVALID_VALUE
}

fn upload(s: &mut State, to: Address, from: Source, bytes: usize) -> Result<(), Code> {
    s.note(format_args!("{to:#x}, {bytes}"));
    if bytes == 0 {
        return Ok(());
    }
    match s.memory.get_mut(to, bytes as u64) {
        Ok(data) => from.copy_to(data),
        Err(blame) => Err(refuse(s, "copy to the device", to, bytes, blame)),
    }
}

fn download(s: &mut State, to: Sink, from: Address, bytes: usize) -> Result<(), Code> {
    s.note(format_args!("{from:#x}, {bytes}"));
    if bytes == 0 {
        return Ok(());
    }
    match s.memory.get(from, bytes as u64) {
        Ok(data) => to.write(data),
        Err(blame) => Err(refuse(s, "copy to the host", from, bytes, blame)),
    }
}

fn copy(s: &mut State, to: Address, from: Address, bytes: usize) -> Result<(), Code> {
    s.note(format_args!("{to:#x}, {from:#x}, {bytes}"));
    if bytes == 0 {
        return Ok(());
    }
    s.memory.copy(to, from, bytes as u64).map_err(|blame| refuse(s, "copy on the device", from, bytes, blame))
}

fn set(s: &mut State, to: Address, value: u8, bytes: usize) -> Result<(), Code> {
    s.note(format_args!("{to:#x}, {value}, {bytes}"));
    if bytes == 0 {
        return Ok(());
    }
    // Lazy memory is zero and stays untouched, or it would take room on the host.
    let skip = s.settings.dry_run && value == 0;
    match s.memory.get_mut(to, bytes as u64) {
        Ok(_) if skip => Ok(()),
        Ok(data) => {
            data.fill(value);
            Ok(())
        }
        Err(blame) => Err(refuse(s, "memset", to, bytes, blame)),
    }
}

fn new_stream(s: &mut State, stream: Out<Handle>) -> Result<(), Code> {
    let handle = s.handle();
    stream.set(handle)?;
    s.streams.insert(handle);
    Ok(())
}

fn recorded(s: &State, event: Handle) -> Result<Option<Instant>, Code> {
    s.events.get(&event).copied().ok_or(code::INVALID_HANDLE)
}

fn elapsed(s: &State, milliseconds: Out<f32>, start: Handle, end: Handle) -> Result<(), Code> {
    let (Some(start), Some(end)) = (recorded(s, start)?, recorded(s, end)?) else {
        return Err(code::INVALID_HANDLE);
    };
    milliseconds.set(end.saturating_duration_since(start).as_secs_f32() * 1e3)
}

fn load(s: &mut State, module: Out<Handle>, text: &str) -> Result<(), Code> {
    let replaced = s.settings.replace.as_ref().map(|(from, to)| text.replace(from, to));
    let text = replaced.as_deref().unwrap_or(text);
    let loaded = Module::load(text, &mut s.memory, s.settings.accepts).map_err(|wrong| {
        s.problem(&format!("module: {wrong}"));
        match wrong {
            LoadError::Text(fault) => fault.code(),
            LoadError::Memory(code) => code,
        }
    })?;
    let handle = s.handle();
    module.set(handle)?;
    s.modules.insert(handle, loaded);
    Ok(())
}

/// Blocks that a multiprocessor holds at once by threads and shared memory; registers are not known here.
fn occupancy(
    s: &State,
    blocks: Out<c_int>,
    function: Handle,
    threads: c_int,
    dynamic: usize,
) -> Result<(), Code> {
    let function = s.functions.get(&function).ok_or(code::INVALID_HANDLE)?;
    let threads =
        u64::try_from(threads).ok().filter(|t| (1..=1024).contains(t)).ok_or(code::INVALID_VALUE)?;
    let shared = function.kernel.shared_bytes + dynamic as u64 + 1024;
    let by_shared = (most_shared(s.settings.accepts.device) + 1024) / shared;
    blocks.set((2048 / threads.next_multiple_of(32)).min(32).min(by_shared) as c_int)
}

fn error_name(error: Code) -> &'static std::ffi::CStr {
    match error {
        0 => c"CUDA_SUCCESS",
        1 => c"CUDA_ERROR_INVALID_VALUE",
        2 => c"CUDA_ERROR_OUT_OF_MEMORY",
        3 => c"CUDA_ERROR_NOT_INITIALIZED",
        100 => c"CUDA_ERROR_NO_DEVICE",
        101 => c"CUDA_ERROR_INVALID_DEVICE",
        201 => c"CUDA_ERROR_INVALID_CONTEXT",
        209 => c"CUDA_ERROR_NO_BINARY_FOR_GPU",
        218 => c"CUDA_ERROR_INVALID_PTX",
        222 => c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        400 => c"CUDA_ERROR_INVALID_HANDLE",
        500 => c"CUDA_ERROR_NOT_FOUND",
        700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        701 => c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
        702 => c"CUDA_ERROR_LAUNCH_TIMEOUT",
        716 => c"CUDA_ERROR_MISALIGNED_ADDRESS",
        719 => c"CUDA_ERROR_LAUNCH_FAILED",
        801 => c"CUDA_ERROR_NOT_SUPPORTED",
        _ => c"CUDA_ERROR_UNKNOWN",
    }
}
