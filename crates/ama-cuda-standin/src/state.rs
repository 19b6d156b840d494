//! Everything the stand-in driver remembers between calls, and how a call enters and leaves.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::errors::{Code, Fault, code};
use crate::memory::Memory;
use crate::ptx::{Kernel, Module};
use crate::settings::Settings;

/// The one context of the one device.
pub(crate) const CONTEXT: u64 = 0x77;

thread_local! {
    /// Context that is current on this thread.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// A kernel handle.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) module: u64,
    /// Dynamic shared memory that the program asked to allow.
    pub(crate) max_dynamic: Option<u64>,
}

/// What the driver remembers.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) memory: Memory,
    pub(crate) modules: HashMap<u64, Module>,
    pub(crate) functions: HashMap<u64, Function>,
    pub(crate) streams: HashSet<u64>,
    /// When each event was recorded.
    pub(crate) events: HashMap<u64, Option<Instant>>,
    /// Layouts of page-locked host memory.
    pub(crate) pinned: HashMap<u64, std::alloc::Layout>,
    pub(crate) blas: crate::cublaslt::Handles,
    pub(crate) initialised: bool,
    /// How often the primary context is held.
    pub(crate) held: u64,
    pub(crate) launches: u64,
    pub(crate) instructions: u64,
    pub(crate) problems: u64,
    calls: BTreeMap<&'static str, u64>,
    /// Error of a kernel that went wrong: every later call returns it, as on a device.
    sticky: Option<Code>,
    next: u64,
    note: String,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The state, made from the environment at the first call.
pub(crate) fn lock() -> MutexGuard<'static, Option<State>> {
    let mut guard = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.is_none() {
        let settings = Settings::from_env().unwrap_or_else(|wrong| {
            say(&wrong);
            std::process::exit(2);
        });
        *guard = Some(State::new(settings));
    }
    guard
}

/// A line on standard error, where a test's output is.
pub(crate) fn say(text: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "[cuda stand-in] {text}");
}

fn append(path: &Path, line: &str) {
    if path.as_os_str() == "-" {
        say(line);
        return;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    if let Err(wrong) = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
        say(&format!("{}: {wrong}", path.display()));
    }
}

/// Calls that work whatever state the device is in.
const ALWAYS: &[&str] = &["cuGetErrorName", "cuGetErrorString", "cuDriverGetVersion", "cuCtxGetCurrent"];

/// Runs one driver call: counts and logs it, lets it fail if the run asks for that, and turns panics into an error.
pub(crate) fn enter(name: &'static str, body: impl FnOnce(&mut State) -> Result<(), Code>) -> Code {
    let run = AssertUnwindSafe(|| {
        let mut guard = lock();
        let state = guard.as_mut().expect("`lock` has made it");
        let count = state.calls.entry(name).or_insert(0);
        *count += 1;
        let count = *count;
        state.note.clear();
        let injected =
            state.settings.fail.iter().find(|f| f.call == name && f.nth.is_none_or(|n| n == count));
        let result = match (injected, state.sticky) {
            (Some(failure), _) => failure.code,
            (None, Some(_)) if name.starts_with("cublasLt") => crate::cublaslt::EXECUTION_FAILED,
            (None, Some(code)) if !ALWAYS.contains(&name) => code,
            _ => body(state).err().unwrap_or(code::SUCCESS),
        };
        if let Some(path) = &state.settings.log {
            append(path, &format!("{name}({}) = {result}", state.note));
        }
        result
    });
    catch_unwind(run).unwrap_or_else(|_| {
        say(&format!("{name}: the stand-in panicked; this is a fault of the stand-in"));
        if name.starts_with("cublasLt") { crate::cublaslt::INTERNAL_ERROR } else { code::UNKNOWN }
    })
}

impl State {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            memory: Memory::new(settings.memory, settings.fail_alloc, settings.dry_run),
            settings,
            modules: HashMap::new(),
            functions: HashMap::new(),
            streams: HashSet::new(),
            events: HashMap::new(),
            pinned: HashMap::new(),
            blas: crate::cublaslt::Handles::default(),
            initialised: false,
            held: 0,
            launches: 0,
            instructions: 0,
            problems: 0,
            calls: BTreeMap::new(),
            sticky: None,
            next: 0x1000,
            note: String::new(),
        }
    }

    /// A number for a new handle; none is used twice.
    pub(crate) fn handle(&mut self) -> u64 {
        self.next += 0x10;
        self.next
    }

    /// Adds what the call is about to its line in the log.
    pub(crate) fn note(&mut self, text: std::fmt::Arguments<'_>) {
        if self.settings.log.is_some() {
            // Writing to a string cannot fail.
            let _ = self.note.write_fmt(text);
        }
    }

    /// Reports something that a real driver would not notice or not explain.
    pub(crate) fn problem(&mut self, text: &str) {
        self.problems += 1;
        say(text);
    }

    /// Takes a fault as a device does: at once, or with the next call if the kernel was already running.
    pub(crate) fn fault(&mut self, fault: &Fault) -> Result<(), Code> {
        self.problem(&fault.to_string());
        if fault.is_deferred() {
            self.sticky = Some(fault.code());
            Ok(())
        } else {
            Err(fault.code())
        }
    }

    /// Refuses calls on a thread without a context.
    pub(crate) fn context(&self) -> Result<(), Code> {
        if !self.initialised {
            Err(code::NOT_INITIALIZED)
        } else if CURRENT.get() == CONTEXT && self.held > 0 {
            Ok(())
        } else {
            Err(code::INVALID_CONTEXT)
        }
    }

    /// Refuses streams that were never made or are gone. Three numbers stand for default streams.
    pub(crate) fn stream(&self, stream: u64) -> Result<(), Code> {
        self.context()?;
        if stream <= 2 || self.streams.contains(&stream) { Ok(()) } else { Err(code::INVALID_HANDLE) }
    }

    /// The last holder of the context has gone: whatever is left is leaked.
    pub(crate) fn release(&mut self) {
        let constants: usize = self.modules.values().map(Module::variables).sum();
        let handles: Vec<u64> = self.modules.keys().copied().collect();
        let (modules, streams, events) = (self.modules.len(), self.streams.len(), self.events.len());
        for handle in handles {
            if let Some(mut module) = self.modules.remove(&handle) {
                module.unload(&mut self.memory);
            }
        }
        let (leaks, bytes) = self.memory.clear();
        if leaks > 0 {
            self.problem(&format!("leak: {leaks} allocations, {bytes} bytes, were never freed"));
        }
        if streams + events > 0 {
            self.problem(&format!("leak: {streams} streams and {events} events were never destroyed"));
        }
        let blas = self.blas.alive();
        if blas > 0 {
            self.problem(&format!("leak: {blas} cublasLt handles or descriptors were never destroyed"));
        }
        self.blas.clear();
        self.functions.clear();
        self.streams.clear();
        self.events.clear();
        self.sticky = None;
        if let Some(path) = &self.settings.report {
            let calls: Vec<String> = self.calls.iter().map(|(name, n)| format!("\"{name}\":{n}")).collect();
            let line = format!(
                "{{\"launches\":{},\"instructions\":{},\"peak_bytes\":{},\"leaked_allocations\":{leaks},\
                 \"leaked_bytes\":{bytes},\"leaked_streams\":{streams},\"leaked_events\":{events},\
                 \"leaked_blas\":{blas},\"modules_left\":{modules},\"module_variables\":{constants},\
                 \"problems\":{},\"calls\":{{{}}}}}",
                self.launches,
                self.instructions,
                self.memory.peak(),
                self.problems,
                calls.join(",")
            );
            append(path, &line);
        }
    }
}

/// Reports a context that is still held when the process ends.
pub(crate) fn finish() {
    let mut guard = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(state) = guard.as_mut().filter(|state| state.held > 0) {
        // A context in a static is no leak in itself; what still lies in it is.
        say("the context is still held at the end of the process");
        state.release();
        state.held = 0;
    }
}

/// The context current on this thread.
pub(crate) fn current() -> u64 {
    CURRENT.get()
}

/// Makes `context` current on this thread.
pub(crate) fn set_current(context: u64) {
    CURRENT.set(context);
}
