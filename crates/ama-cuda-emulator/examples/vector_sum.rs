//! A sum over a block, right and wrong: what the emulation says about a missing barrier.
//!
//! `cargo run -p ama-cuda-emulator --example vector_sum`; says so and ends where there is no C++ compiler.
#![allow(unsafe_code, reason = "launching a kernel is a promise about what it touches")]

use ama_cuda_emulator::{Argument, Buffer, Compiler, EmulatorError, Grid, Module, Source};

const SUM: &str = r#"
extern "C" __global__ void __launch_bounds__(64) sum(const float* x, float* out) {
  SHARED_ARRAY(float, part, 64);
  part[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) *out = part[0];
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    let Some(compiler) = Compiler::find() else {
        writeln!(stdout, "no C++ compiler here, nothing to show")?;
        return Ok(());
    };
    let folder = std::env::temp_dir().join("ama-cuda-emulator");
    let x: Vec<f32> = (0..64u8).map(f32::from).collect();
    let run = |text: &str| -> Result<f32, EmulatorError> {
        let module = Module::compile(&compiler, None, &[Source::new("sum.cu", text)], &folder)?;
        let (x, out) = (Buffer::new(&x), Buffer::unwritten(1));
        let arguments: [Argument<'_>; 2] = [(&x).into(), (&out).into()];
        // SAFETY: a block of 64 reads 64 elements and writes one.
        unsafe { module.launch("sum", Grid { blocks: 1, threads: 64 }, 1, &arguments)? };
        Ok(out.values()[0])
    };

    let right = run(SUM)?;
    writeln!(stdout, "with barriers:             {right}")?;
    assert_eq!(right, 2016.0);

    let without_first = run(&SUM.replacen("__syncthreads();", "", 1))?;
    writeln!(stdout, "without the first barrier: {without_first}")?;
    assert!(without_first.is_nan(), "it reads shared memory that nobody has written");

    let inside_the_branch = SUM.replace(
        "part[threadIdx.x + half];\n    __syncthreads();",
        "part[threadIdx.x + half], __syncthreads();",
    );
    let divergent = run(&inside_the_branch).expect_err("not every thread reaches the barrier");
    writeln!(stdout, "barrier in the branch:     {divergent}")?;
    assert!(divergent.to_string().contains("barrier divergence"));
    Ok(())
}
