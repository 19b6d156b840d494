//! The emulation against tiny kernels that are wrong on purpose: each must be refused, with the reason.

mod common;

use ama_cuda_emulator::{Argument, Buffer, EmulatorError, Grid, Module, Source};
use common::compile;

/// A kernel `bad(float* out, u32 n)` with that body.
fn kernel(body: &str) -> Module {
    let text =
        format!("extern \"C\" __global__ void __launch_bounds__(128) bad(float* out, u32 n) {{ {body} }}");
    compile(&[Source::new("bad.cu", text)]).unwrap_or_else(|error| panic!("{error}"))
}

/// `out`, with room for 128, after one block of `threads`.
fn run(module: &Module, threads: u32, seed: u64) -> Result<Vec<f32>, EmulatorError> {
    let out = Buffer::new(&[0.0f32; 128]);
    // SAFETY: the kernels of this file write at most 128 elements.
    #[allow(unsafe_code, reason = "launching a kernel is a promise about what it touches")]
    unsafe { module.launch("bad", Grid { blocks: 1, threads }, seed, &[(&out).into(), 128u32.into()]) }?;
    Ok(out.values())
}

/// That every order of threads gives the error.
#[track_caller]
fn refused(body: &str, threads: u32, reason: &str) {
    let module = kernel(body);
    for seed in 0..4 {
        let error = run(&module, threads, seed).expect_err("a wrong kernel").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn barriers_that_not_all_threads_reach() {
    refused("if (threadIdx.x < 40) __syncthreads();", 64, "barrier divergence: of 64 threads 40 wait");
    refused(
        "if (threadIdx.x == 3) return; __syncthreads();",
        64,
        "63 wait at __syncthreads, 0 at a warp's barrier, 1",
    );
    // The same number of barriers, but at different places.
    refused("if (threadIdx.x < 32)\n __syncthreads();\n else\n __syncthreads();", 64, "barrier divergence");
    // A warp at the block's barrier, another at its own that waits for a lane which is at the block's.
    refused("if (threadIdx.x != 7) __syncwarp(); __syncthreads();", 32, "barrier divergence");
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn shuffles_whose_mask_lies() {
    let shuffle = |mask: &str| format!("out[threadIdx.x] = __shfl_xor_sync({mask}, 1.0f, 1);");
    refused(&shuffle("0xffffffffu"), 16, "which does not exist");
    refused(&format!("if (threadIdx.x >= 16) return; {}", shuffle("0xffffffffu")), 32, "has returned");
    refused(&shuffle("0x0000ffffu"), 32, "is not in its own mask");
    refused(
        &format!("if (threadIdx.x == 0) {}", shuffle("1u")),
        32,
        "lane 0 reads lane 1, which takes no part",
    );
    refused(&shuffle("threadIdx.x < 2 ? 3u : 0xffffffffu"), 32, "the mask names lane");
    refused(&shuffle("threadIdx.x == 31 ? 0xfffffffeu : 0xffffffffu"), 32, "lanes of one mask disagree");
    refused(
        "float v = threadIdx.x < 16 ? __shfl_xor_sync(0xffffffffu, 1.0f, 1)\n : __shfl_down_sync(0xffffffffu, 1.0f, 1); out[threadIdx.x] = v;",
        32,
        "lanes of one mask disagree",
    );
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn shuffles_that_are_right() {
    let module = kernel(
        "float lane = (float)threadIdx.x; u32 odd = __ballot_sync(0xffffffffu, threadIdx.x % 2);
         float x = __shfl_xor_sync(0xffffffffu, lane, 5), d = __shfl_down_sync(0xffffffffu, lane, 3);
         float u = __shfl_up_sync(0xffffffffu, lane, 3), i = __shfl_sync(0xffffffffu, lane, 9), w = __shfl_xor_sync(0xffffffffu, lane, 1, 8);
         out[threadIdx.x] = odd == 0xaaaaaaaau ? x + 100 * d + 10000 * u : -1; out[32 + threadIdx.x] = i + 100 * w;
         if (threadIdx.x < 16) out[64 + threadIdx.x] = __shfl_xor_sync(0xffffu, lane, 8);",
    );
    for seed in 0..4 {
        let got = run(&module, 32, seed).unwrap_or_else(|e| panic!("{e}"));
        for lane in 0..32usize {
            let down = if lane + 3 < 32 { lane + 3 } else { lane };
            let up = if lane >= 3 { lane - 3 } else { lane };
            assert_eq!(got[lane], ((lane ^ 5) + 100 * down + 10000 * up) as f32, "lane {lane}");
            assert_eq!(got[32 + lane], (9 + 100 * (lane ^ 1)) as f32, "lane {lane}");
        }
        assert!((0..16).all(|lane| got[64 + lane] == (lane ^ 8) as f32));
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn shared_memory_starts_as_nan_and_is_limited() {
    let module = kernel(
        "SHARED_ARRAY(float, s, 128); if (threadIdx.x) s[threadIdx.x] = 1.0f; out[threadIdx.x] = s[threadIdx.x];",
    );
    for _ in 0..2 {
        let got = run(&module, 64, 0).unwrap_or_else(|e| panic!("{e}"));
        assert!(got[0].is_nan() && got[1] == 1.0, "of every launch anew");
    }
    refused("SHARED_ARRAY(float, s, 16384); s[0] = 1.0f;", 32, "more than 48 KiB");
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn an_order_of_threads_shows_in_the_bits() {
    let module = kernel("atomicAdd(out, 1.0f / (float)(threadIdx.x * threadIdx.x + 1));");
    let bits: Vec<u32> =
        (0..6).map(|seed| run(&module, 128, seed).unwrap_or_else(|e| panic!("{e}"))[0].to_bits()).collect();
    assert!(bits.iter().any(|b| *b != bits[0]), "{bits:?}");
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn launches_that_no_device_takes() {
    let module = kernel("out[threadIdx.x] = 1.0f;");
    assert!(matches!(run(&module, 160, 0), Err(EmulatorError::LaunchBounds { most: 128, got: 160, .. })));
    assert!(matches!(run(&module, 0, 0), Err(EmulatorError::Fault(_))));
    let out = Buffer::new(&[0.0f32; 128]);
    let launch = |arguments: &[Argument<'_>]| {
        // SAFETY: refused before it runs.
        #[allow(unsafe_code, reason = "launching a kernel is a promise about what it touches")]
        unsafe {
            module.launch("bad", Grid { blocks: 1, threads: 32 }, 0, arguments)
        }
    };
    for (arguments, at) in [
        (vec![Argument::from(&out)], 1),
        (vec![Argument::from(&out), 128u64.into()], 1),
        (vec![128u32.into(), Argument::from(&out)], 0),
        (vec![Argument::from(&out), 1.0f32.into()], 1),
        (vec![Argument::from(&out), 128u32.into(), 128u32.into()], 2),
    ] {
        match launch(&arguments) {
            Err(EmulatorError::Argument { index, .. }) => assert_eq!(index, at),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn writes_beside_a_buffer_are_noticed() {
    if common::sanitizer().is_some() {
        return; // AddressSanitizer ends the process: tests/sanitizers.rs.
    }
    let module = kernel("out[n] = 1.0f;");
    let out = Buffer::new(&[0.0f32; 128]);
    // SAFETY: writes into the guard behind `out`, which belongs to it.
    #[allow(unsafe_code, reason = "launching a kernel is a promise about what it touches")]
    unsafe { module.launch("bad", Grid { blocks: 1, threads: 1 }, 0, &[(&out).into(), 128u32.into()]) }
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(!out.is_intact());
}
