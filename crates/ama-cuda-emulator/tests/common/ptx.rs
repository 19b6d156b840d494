//! The PTX that NVRTC made of the kernels, interpreted by `ama-cuda-standin`: the same cases on what a device is given.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use ama_cuda_emulator::Argument;
use ama_cuda_standin::memory::Memory;
use ama_cuda_standin::ptx::float::Approx;
use ama_cuda_standin::ptx::{Accepts, Launch, Module, Rules};

/// A module and the device's memory.
#[derive(Debug)]
pub struct Interpreted {
    memory: RefCell<Memory>,
    module: Module,
    /// How far approximate instructions may be off, in units in the last place: `AMA_CUDA_ULP`.
    ulp: u32,
}

/// What buffers are aligned to.
const ALIGNMENT: usize = 256;

impl Interpreted {
    /// `FILE.ptx` of the folder.
    pub fn load(folder: &Path, file: &str) -> Self {
        let path = folder.join(format!("{file}.ptx"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut memory = Memory::new(1 << 30, None, false);
        let module = Module::load(&text, &mut memory, Accepts { device: 80, driver: 12000 })
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let ulp =
            std::env::var("AMA_CUDA_ULP").map_or(0, |ulp| ulp.parse().expect("AMA_CUDA_ULP is a number"));
        Self { memory: RefCell::new(memory), module, ulp }
    }

    /// Copies the buffers to the device's memory, as aligned as they are, runs the kernel, and copies them back.
    #[track_caller]
    pub fn launch(&self, kernel: &str, blocks: u32, threads: u32, seed: u64, arguments: &[Argument<'_>]) {
        let memory = &mut *self.memory.borrow_mut();
        let kernel = self.module.kernel(kernel).unwrap_or_else(|| panic!("no kernel {kernel}"));
        // By address: a buffer that is given twice is one.
        let mut on_device = BTreeMap::new();
        for (at, bytes) in arguments.iter().filter_map(Argument::extent) {
            let shift = at.addr() % ALIGNMENT;
            let base = *on_device.entry(at.addr()).or_insert_with(|| {
                (memory.alloc((shift + bytes) as u64).expect("1 GiB is enough"), at, bytes)
            });
            // SAFETY: the extent of a buffer that lives as long as its argument; nobody else reads or writes it now.
            let values = unsafe { std::slice::from_raw_parts(at, bytes) };
            memory
                .get_mut(base.0 + shift as u64, bytes as u64)
                .expect("just allocated")
                .copy_from_slice(values);
        }
        let mut params = Vec::new();
        for argument in arguments {
            let bytes = match argument.extent() {
                Some((at, _)) => {
                    (on_device[&at.addr()].0 + (at.addr() % ALIGNMENT) as u64).to_le_bytes().to_vec()
                }
                None => argument.to_bytes(),
            };
            params.resize(params.len().next_multiple_of(bytes.len()), 0);
            params.extend(bytes);
        }
        // The same shifts in every order, or the order would not be all that differs.
        let approx = Approx { ulp: self.ulp, seed: 1 };
        let launch =
            Launch { kernel, grid: [blocks, 1, 1], block: [threads, 1, 1], dynamic: 0, params: &params };
        launch
            .run(memory, &Rules { seed, approx, ..Rules::default() })
            .unwrap_or_else(|fault| panic!("{fault}"));
        for (base, at, bytes) in on_device.into_values() {
            let shift = (at.addr() % ALIGNMENT) as u64;
            let values = memory.get(base + shift, bytes as u64).expect("not freed");
            // SAFETY: as above; buffers consist of cells, so writing through a shared reference is theirs to bear.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), at, bytes) };
            memory.free(base).expect("freed once");
        }
    }
}
