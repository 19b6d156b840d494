//! `cuLaunchKernel`, and what tests can ask about past launches.
#![allow(unsafe_code)] // reason: exported symbols; the accesses to host memory are in `ffi`

use std::ffi::c_uint;

use crate::driver::{driver, most_shared};
use crate::errors::{Code, Fault, code};
use crate::ffi::{Arguments, vec_on_stack};
use crate::ptx::{Kernel, Launch};
use crate::state::{State, enter, lock};

driver! {
    fn cuLaunchKernel(
        function: u64, gx: c_uint, gy: c_uint, gz: c_uint, bx: c_uint, by: c_uint, bz: c_uint,
        dynamic: c_uint, stream: u64, arguments: Arguments, extra: u64,
    ) |s| {
        s.stream(stream)?;
        // The other way to pass arguments, as one buffer, is not what cudarc does.
        if extra != 0 {
            return Err(code::NOT_SUPPORTED);
        }
        launch(s, function, [gx, gy, gz], [bx, by, bz], dynamic, arguments)
    };
    /// Cooperative launches need all blocks in flight at once; here one runs after the other.
    fn cuLaunchCooperativeKernel(
        _function: u64, _gx: c_uint, _gy: c_uint, _gz: c_uint, _bx: c_uint, _by: c_uint, _bz: c_uint,
        _dynamic: c_uint, _stream: u64, _arguments: Arguments,
    ) |_| Err(code::NOT_SUPPORTED);
}

fn launch(
    s: &mut State,
    function: u64,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic: u32,
    arguments: Arguments,
) -> Result<(), Code> {
    let function = s.functions.get(&function).ok_or(code::INVALID_HANDLE)?;
    let kernel = function.kernel.clone();
    let mut rules = s.settings.rules;
    rules.max_shared = match function.max_dynamic {
        Some(bytes) => {
            (bytes + kernel.shared_bytes).max(rules.max_shared).min(most_shared(s.settings.accepts.device))
        }
        None => rules.max_shared,
    };
    s.note(format_args!("{} grid {grid:?} block {block:?} dynamic {dynamic}", kernel.name));
    let params = match gather(&kernel, arguments) {
        Ok(params) => params,
        Err(Gather::Null(code)) => return Err(code),
        Err(Gather::Count(fault)) => return s.fault(&fault),
    };
    s.launches += 1;
    let launch = Launch { kernel: &kernel, grid, block, dynamic: u64::from(dynamic), params: &params };
    let result = if s.settings.dry_run {
        launch.check(&s.memory, &rules).map(|()| 0)
    } else {
        launch.run(&mut s.memory, &rules)
    };
    match result {
        Ok(executed) => {
            s.instructions += executed;
            s.note(format_args!(" instructions {executed}"));
            Ok(())
        }
        Err(fault) => s.fault(&fault),
    }
}

enum Gather {
    Null(Code),
    Count(Fault),
}

/// The parameter buffer from the array of pointers to arguments.
fn gather(kernel: &Kernel, arguments: Arguments) -> Result<Vec<u8>, Gather> {
    if let Some(got) = vec_on_stack(arguments.address()).filter(|&got| got != kernel.params.len()) {
        return Err(Gather::Count(Fault::ArgumentCount {
            kernel: kernel.name.clone(),
            want: kernel.params.len(),
            got,
        }));
    }
    if arguments.is_null() && !kernel.params.is_empty() {
        return Err(Gather::Null(code::INVALID_VALUE));
    }
    let mut params = vec![0; kernel.param_bytes];
    for (index, param) in kernel.params.iter().enumerate() {
        let value =
            arguments.get(index).and_then(|argument| argument.read(param.bytes)).map_err(Gather::Null)?;
        params[param.offset..param.offset + param.bytes].copy_from_slice(&value);
    }
    Ok(params)
}

/// Exports questions about the state; they count as no call and never fail.
macro_rules! questions {
    ($($(#[$doc:meta])* fn $name:ident |$state:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        // SAFETY: nothing else defines a symbol of this prefix.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> u64 {
            let mut guard = lock();
            let $state = guard.as_mut().expect("`lock` has made it");
            $body
        }
    )*};
}

questions! {
    /// Bytes of device memory allocated now.
    fn standin_live_bytes |s| s.memory.used();
    /// Most bytes allocated at once.
    fn standin_peak_bytes |s| s.memory.peak();
    /// Returns the peak and starts a new one from what is allocated now.
    fn standin_reset_peak |s| s.memory.reset_peak();
    /// Kernel launches so far.
    fn standin_launches |s| s.launches;
    /// PTX instructions executed so far, each lane counted.
    fn standin_instructions |s| s.instructions;
    /// Faults, leaks and misuse so far.
    fn standin_problems |s| s.problems;
}

/// At the end of the process: whoever still holds the context has leaked it, and all that hangs on it.
extern "C" fn at_exit() {
    crate::state::finish();
}

// SAFETY: the loader calls what lies in this section without arguments when the process ends or the library is
// unloaded; `at_exit` takes none, and does nothing where no driver call was made.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;
