//! The sanitizers against kernels that are wrong on purpose. Each runs in a process of its own, which the sanitizer ends;
//! `cargo xtask cuda-check` sets `AMA_CUDA_SANITIZER`, and `LD_PRELOAD` for the processes.

mod common;

use std::process::Command;

use ama_cuda_emulator::{Buffer, Grid, Sanitizer, Source};
use common::{compile, sanitizer};

/// Which kernel a child process is to run.
const CHILD: &str = "AMA_CUDA_BAD_KERNEL";

/// Body of `bad(float* x, u32 n)`, run by two blocks of 64 threads on 128 elements; sanitizer; what it says.
const BAD: [(&str, &str, Sanitizer, &str); 8] = [
    ("read behind the end", "if (x[n] == 0.5f) x[0] = 1.0f;", Sanitizer::Address, "use-after-poison"),
    ("write before the start", "x[(int)threadIdx.x - 1] = 1.0f;", Sanitizer::Address, "use-after-poison"),
    (
        "shared memory out of bounds",
        "SHARED_ARRAY(float, s, 32); s[threadIdx.x] = 1.0f; x[threadIdx.x] = s[threadIdx.x];",
        Sanitizer::Address,
        "use-after-poison",
    ),
    (
        "a register array out of bounds",
        "volatile float v[4]; v[n / 32] = 1.0f; x[0] = v[0];",
        Sanitizer::Address,
        "index 4 out of bounds",
    ),
    ("16 bytes from an odd address", "*(uint4*)(x + 1) = uint4();", Sanitizer::Address, "misaligned address"),
    (
        "a shift too far",
        "x[0] = (float)(1 << (int)n);",
        Sanitizer::Address,
        "shift exponent 128 is too large",
    ),
    (
        "no barrier between write and read",
        "SHARED_ARRAY(float, s, 64); s[threadIdx.x] = 1.0f; x[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x];",
        Sanitizer::Thread,
        "data race",
    ),
    (
        "two blocks write one element",
        "if (threadIdx.x == 0) x[0] = (float)blockIdx.x;",
        Sanitizer::Thread,
        "data race",
    ),
];

/// Kernels in which the race detector must see nothing.
const GOOD: [&str; 3] = [
    "SHARED_ARRAY(float, s, 64); s[threadIdx.x] = 1.0f; __syncthreads(); const float v = s[63 - threadIdx.x]; __syncthreads();
     s[threadIdx.x] = v; __syncthreads(); x[blockIdx.x * 64 + threadIdx.x] = s[(threadIdx.x + 1) % 64];",
    "SHARED_ARRAY(float, s, 64); s[threadIdx.x] = 1.0f; __syncwarp(); x[blockIdx.x * 64 + threadIdx.x] = s[threadIdx.x ^ 1];
     if (threadIdx.x % 32 < 16) { __syncwarp(0xffffu); s[threadIdx.x] = 2.0f; __syncwarp(0xffffu); x[blockIdx.x * 64 + threadIdx.x] = s[threadIdx.x ^ 1]; }",
    "atomicAdd(x, 1.0f);",
];

fn run(body: &str) {
    let text = format!("extern \"C\" __global__ void bad(float* x, u32 n) {{ {body} }}");
    let module = compile(&[Source::new("bad.cu", text)]).unwrap_or_else(|error| panic!("{error}"));
    let x = Buffer::new(&[0.0f32; 128]);
    // SAFETY: none; the kernel is wrong, the process is there to be ended.
    #[allow(unsafe_code, reason = "launching a kernel is a promise about what it touches")]
    let result =
        unsafe { module.launch("bad", Grid { blocks: 2, threads: 64 }, 1, &[(&x).into(), 128u32.into()]) };
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn every_planted_error_is_found() {
    if let Ok(index) = std::env::var(CHILD) {
        let (_, body, ..) = BAD[index.parse::<usize>().expect("a number of this file's own")];
        return run(body);
    }
    let Some(present) = sanitizer() else { return };
    let this = std::env::current_exe().expect("a test has a file");
    for (index, (what, _, wanted, says)) in BAD.into_iter().enumerate().filter(|(_, bad)| bad.2 == present) {
        let output = Command::new(&this)
            .args([
                "--exact",
                "every_planted_error_is_found",
                "--include-ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, index.to_string())
            .output()
            .expect("a test can be started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(says), "{what}: {wanted:?} said {stderr}");
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn nothing_is_found_where_nothing_is_wrong() {
    GOOD.into_iter().for_each(run);
}
