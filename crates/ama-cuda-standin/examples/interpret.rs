//! Runs a small kernel from its PTX, no GPU and no driver; then makes it run past its array, and shows the report.
//!
//! With file names as arguments, lists the kernels of those PTX texts instead: the quick way to see whether the
//! interpreter knows every instruction in them.
//!
//! `cargo run -p ama-cuda-standin --example interpret`
#![allow(clippy::print_stdout)] // reason: an example shows what it does

use ama_cuda_standin::memory::Memory;
use ama_cuda_standin::ptx::{Accepts, Launch, Module, Rules};

/// `y[i] = a * x[i] + y[i]` for `i < n`, as NVRTC writes it.
const SAXPY: &str = "
.version 7.0
.target sm_80
.address_size 64
.visible .entry saxpy(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .f32 %f<5>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.f32 %f1, [a];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra $done;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r5, 4;
    add.s64 %rd6, %rd3, %rd5;
    add.s64 %rd7, %rd4, %rd5;
    ld.global.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd7];
    fma.rn.f32 %f4, %f1, %f2, %f3;
    st.global.f32 [%rd7], %f4;
$done:
    ret;
}
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let accepts = Accepts { device: 90, driver: 12090 };
    let mut memory = Memory::new(1 << 20, None, false);
    let files: Vec<String> = std::env::args().skip(1).collect();
    if !files.is_empty() {
        for file in files {
            let module = Module::load(&std::fs::read_to_string(&file)?, &mut memory, accepts)?;
            println!("{file}");
            for kernel in module.kernels().filter_map(|name| module.kernel(name)) {
                let pointers = kernel.params.iter().filter(|p| p.is_pointer).count();
                println!(
                    "  {}: {} parameters ({pointers} pointers), {} bytes shared, {} bytes local",
                    kernel.name,
                    kernel.params.len(),
                    kernel.shared_bytes,
                    kernel.local_bytes
                );
            }
        }
        return Ok(());
    }

    let module = Module::load(SAXPY, &mut memory, accepts)?;
    let kernel = module.kernel("saxpy").ok_or("the text has this kernel")?;
    let n = 1000u32;
    let [x, y] = [1.5f32, 0.25].map(|value| {
        let address = memory.alloc(4 * u64::from(n)).expect("4 kB fit");
        let data = memory.get_mut(address, 4 * u64::from(n)).expect("it was just allocated");
        data.chunks_exact_mut(4).for_each(|float| float.copy_from_slice(&value.to_le_bytes()));
        address
    });
    let run = |memory: &mut Memory, n: u32| {
        let params = [&x.to_le_bytes()[..], &y.to_le_bytes(), &2f32.to_le_bytes(), &n.to_le_bytes()].concat();
        let launch = Launch { kernel, grid: [8, 1, 1], block: [128, 1, 1], dynamic: 0, params: &params };
        launch.run(memory, &Rules::default())
    };

    let executed = run(&mut memory, n)?;
    let result = memory.get(y, 4 * u64::from(n)).expect("still there");
    assert!(result.chunks_exact(4).all(|float| float == 3.25f32.to_le_bytes()));
    println!("saxpy of {n} elements: all are 3.25, {executed} instructions");

    let fault = run(&mut memory, n + 1).expect_err("one element too many");
    println!("with one element more: {fault}");
    assert!(fault.to_string().contains("4 bytes past the end"));
    Ok(())
}
