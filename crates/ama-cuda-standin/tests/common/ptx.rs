//! Small PTX programs run without any driver.
#![allow(dead_code, unreachable_pub)] // reason: every test binary includes it and uses its part

use ama_cuda_standin::errors::Fault;
use ama_cuda_standin::memory::Memory;
use ama_cuda_standin::ptx::{Accepts, Launch, LoadError, Module, Rules};

/// A PTX text around the body of one kernel `k(.param .u64 out, .param .u64 in, .param .u32 n)` that finds
/// `%rd1 = out`, `%rd2 = in`, `%r1 = n` and `%r2 = %tid.x` loaded.
pub fn text(body: &str) -> String {
    format!(
        ".version 7.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out, .param .u64 in, .param .u32 n)
{{
.reg .pred %p<32>; .reg .b16 %h<32>; .reg .b32 %r<64>; .reg .f32 %f<64>; .reg .b64 %rd<64>; .reg .f64 %d<64>;
ld.param.u64 %rd1, [out]; cvta.to.global.u64 %rd1, %rd1;
ld.param.u64 %rd2, [in]; cvta.to.global.u64 %rd2, %rd2;
ld.param.u32 %r1, [n];
mov.u32 %r2, %tid.x;
{body}
}}
"
    )
}

/// Loads a text.
pub fn load(text: &str, memory: &mut Memory) -> Result<Module, Fault> {
    Module::load(text, memory, Accepts { device: 90, driver: 12090 }).map_err(|wrong| match wrong {
        LoadError::Text(fault) => fault,
        other => panic!("{other}"),
    })
}

/// How a program is run.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub input: &'a [u8],
    pub output: u64,
    pub n: u32,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic: u64,
    pub rules: Rules,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        let rules = Rules::default();
        Self { input: &[0; 8], output: 4096, n: 0, grid: [1; 3], block: [32, 1, 1], dynamic: 0, rules }
    }
}

/// Runs the kernel `k` of `body` and returns its output.
pub fn run(body: &str, setup: Setup<'_>) -> Result<Vec<u8>, Fault> {
    let mut memory = Memory::new(1 << 30, None, false);
    let module = load(&text(body), &mut memory)?;
    let kernel = module.kernel("k").expect("the text has it");
    let output = memory.alloc(setup.output).expect("fits");
    let input = memory.alloc(setup.input.len() as u64).expect("fits");
    memory.get_mut(input, setup.input.len() as u64).expect("alive").copy_from_slice(setup.input);
    let params: Vec<u8> = [&output.to_le_bytes()[..], &input.to_le_bytes(), &setup.n.to_le_bytes()].concat();
    let launch =
        Launch { kernel, grid: setup.grid, block: setup.block, dynamic: setup.dynamic, params: &params };
    launch.run(&mut memory, &setup.rules)?;
    Ok(memory.get(output, setup.output).expect("alive").to_vec())
}

/// Little-endian numbers.
pub fn words(data: &[u8]) -> Vec<u32> {
    data.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().expect("four bytes"))).collect()
}

/// Stores `%r9` of every thread at `out[tid]`.
pub const STORE: &str =
    "mul.wide.u32 %rd9, %r2, 4; add.s64 %rd9, %rd1, %rd9; st.global.u32 [%rd9], %r9; ret;";
