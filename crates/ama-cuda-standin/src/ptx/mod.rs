//! PTX: from text to kernels, and an interpreter that runs them.
//!
//! In reading order: `syntax` makes statements of the text, `lower` and `decode` make instructions of them with
//! every name resolved, `alu` and `convert` say what each instruction does to the registers of `lanes`,
//! `warp` runs 32 lanes, `memory_ops` and `spaces` check and make their accesses, `machine` runs a launch.

mod alu;
mod convert;
mod decode;
pub mod float;
mod lanes;
mod lower;
mod machine;
mod memory_ops;
mod program;
mod spaces;
mod syntax;
mod warp;

use std::collections::BTreeMap;
use std::collections::HashMap;

pub use machine::{Launch, MAX_THREADS, Rules};
pub use program::{Kernel, Param};

use crate::errors::{Code, Fault};
use crate::memory::Memory;
use syntax::Space;

/// A loaded PTX text: its kernels, and its variables in device memory.
#[derive(Debug)]
pub struct Module {
    kernels: BTreeMap<String, Kernel>,
    variables: BTreeMap<String, (u64, u64)>,
}

/// What keeps a module from being loaded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The text.
    #[error(transparent)]
    Text(#[from] Fault),
    /// No room for its variables.
    #[error("allocating a variable of the module gives driver error {0}")]
    Memory(Code),
}

/// What the device and its driver understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// Compute capability, e.g. 90.
    pub device: u32,
    /// Driver version, e.g. 12090.
    pub driver: u32,
}

impl Module {
    /// Parses `text` and places its variables in `memory`.
    ///
    /// # Errors
    /// [`Fault::Version`] and [`Fault::Target`] for a text that is too new, [`Fault::Ptx`] with line and statement for
    /// anything that the interpreter does not know, and a failed allocation of a variable.
    pub fn load(text: &str, memory: &mut Memory, accepts: Accepts) -> Result<Self, LoadError> {
        let parsed = syntax::parse(text)?;
        let newest = newest_ptx(accepts.driver);
        if parsed.version > newest {
            return Err(Fault::Version { version: parsed.version, newest, driver: accepts.driver }.into());
        }
        let number: String = parsed.target.chars().filter(char::is_ascii_digit).collect();
        // `sm_90a` runs on that very device only.
        let exact = parsed.target.ends_with('a') || parsed.target.ends_with('f');
        let target = number.parse::<u32>().unwrap_or(u32::MAX);
        if target > accepts.device || exact && target != accepts.device {
            return Err(Fault::Target { target: parsed.target, device: accepts.device }.into());
        }
        let mut variables = BTreeMap::new();
        let mut addresses = HashMap::new();
        for variable in &parsed.variables {
            if !matches!(variable.space, Space::Global | Space::Const) || variable.bytes == 0 {
                continue;
            }
            let address = memory.alloc(variable.bytes).map_err(LoadError::Memory)?;
            let data = memory.get_mut(address, variable.bytes).expect("it was just allocated");
            data.fill(0);
            let init = &variable.init[..variable.init.len().min(data.len())];
            data[..init.len()].copy_from_slice(init);
            variables.insert(variable.name.clone(), (address, variable.bytes));
            addresses.insert(variable.name.clone(), address);
        }
        let mut module = Self { kernels: BTreeMap::new(), variables };
        for function in parsed.functions.iter().filter(|f| f.is_kernel && f.body.is_some()) {
            match lower::lower(&parsed, text, function, &addresses) {
                Ok(kernel) => {
                    module.kernels.insert(kernel.name.clone(), kernel);
                }
                Err(fault) => {
                    module.unload(memory);
                    return Err(fault.into());
                }
            }
        }
        Ok(module)
    }

    /// Frees the variables.
    pub fn unload(&mut self, memory: &mut Memory) {
        for (address, _) in std::mem::take(&mut self.variables).into_values() {
            // After the context's end they are gone already.
            let _ = memory.free(address);
        }
    }

    /// The kernel called `name`.
    #[must_use]
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.get(name)
    }

    /// Names of all kernels, sorted.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.kernels.keys().map(String::as_str)
    }

    /// Address and bytes of the variable called `name`.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<(u64, u64)> {
        self.variables.get(name).copied()
    }

    /// How many allocations its variables take.
    #[must_use]
    pub fn variables(&self) -> usize {
        self.variables.len()
    }
}

/// Newest PTX version, times ten, that a driver knows ("PTX ISA", release notes).
fn newest_ptx(driver: u32) -> u32 {
    match driver {
        ..11000 => 65,
        11000..11010 => 70,
        11010..11020 => 71,
        11020..11030 => 72,
        11030..11040 => 73,
        11040..11050 => 74,
        11050..11060 => 75,
        11060..11070 => 76,
        11070..11080 => 77,
        11080..12000 => 78,
        12000..12010 => 80,
        12010..12020 => 81,
        12020..12030 => 82,
        12030..12040 => 83,
        12040..12050 => 84,
        12050..12070 => 85,
        12070..12080 => 86,
        12080..12090 => 87,
        12090..13000 => 88,
        13000..13010 => 90,
        _ => 91,
    }
}
