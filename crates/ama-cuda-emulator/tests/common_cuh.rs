//! The functions of `common.cuh` by themselves, behind kernels of this file: every rounding to bf16, 16-byte accesses, heads of
//! rows that are not aligned, sums over blocks of every size.

mod common;

use ama_cuda_emulator::{Argument, Buffer};
use common::{Kernels, Logit, emulated_text, launch, races};

const KERNELS: &str = r#"
extern "C" __global__ void __launch_bounds__(1024) store_each(const float* in, u16* out, u32 n) {
  for (u32 i = threadIdx.x; i < n; i += blockDim.x) store(out + i, in[i]);
}
extern "C" __global__ void __launch_bounds__(1024) store_wide_each(const float* in, u16* out, u32 n) {
  for (u32 i = threadIdx.x; i < n / 8u; i += blockDim.x) store_wide(out + 8u * i, in + 8u * i);
}
extern "C" __global__ void __launch_bounds__(1024) load_each(const u16* in, float* one, float* wide, u32 n) {
  for (u32 i = threadIdx.x; i < n; i += blockDim.x) one[i] = load(in + i);
  for (u32 i = threadIdx.x; i < n / 8u; i += blockDim.x) load_wide(in + 8u * i, wide + 8u * i);
}
extern "C" __global__ void __launch_bounds__(1024) copy_f32(const float* in, float* one, float* wide, u32 n) {
  for (u32 i = threadIdx.x; i < n; i += blockDim.x) store(one + i, load(in + i));
  float values[4];
  for (u32 i = threadIdx.x; i < n / 4u; i += blockDim.x) {
    load_wide(in + 4u * i, values);
    store_wide(wide + 4u * i, values);
  }
}
extern "C" __global__ void __launch_bounds__(1024) heads(const float* f, const u16* h, u32* out, u32 count) {
  const u32 i = threadIdx.x;
  out[4u * i] = unaligned_head(f + i, count);
  out[4u * i + 1u] = unaligned_head(h + i, count);
  out[4u * i + 2u] = is_aligned(f + i) ? 1u : 0u;
  out[4u * i + 3u] = is_aligned(h + i) ? 1u : 0u;
}
extern "C" __global__ void __launch_bounds__(1024) sum_of_block(const double* in, double* out) {
  const double sum = block_sum(in[blockIdx.x * blockDim.x + threadIdx.x]);
  if (threadIdx.x == 0u) out[blockIdx.x] = sum;
}
"#;

fn kernels() -> Kernels {
    emulated_text("common_cuh.cu", KERNELS)
}

/// bf16 of `x` by its definition: the nearer of the two neighbours, of equally near ones the even; infinity stands where 2^128
/// would.
fn nearest(x: f32) -> u16 {
    let value = |bits: u32| -> f64 {
        if bits & 0x7fff == 0x7f80 { 2f64.powi(128) } else { f64::from(f32::from_bits(bits << 16)).abs() }
    };
    let below = x.to_bits() >> 16;
    if x.is_infinite() {
        return below as u16;
    }
    let (down, up) = (f64::from(x).abs() - value(below), value(below + 1) - f64::from(x).abs());
    let upwards = if down == up { below & 1 == 1 } else { up < down };
    (below + u32::from(upwards)) as u16
}

/// Both stores, on every upper half of an `f32` with the lower halves around its ties; NaN of every payload stays NaN, of its
/// own sign.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn every_rounding_to_bf16() {
    let kernels = kernels();
    let lower: &[u32] = if races() { &[0x8000] } else { &[0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] };
    for low in lower {
        let upper = (0..=0xffffu32).step_by(if races() { 257 } else { 1 });
        let mut values: Vec<f32> = upper.map(|high| f32::from_bits(high << 16 | low)).collect();
        values.truncate(values.len() / 8 * 8);
        let input = Buffer::new(&values);
        for kernel in ["store_each", "store_wide_each"] {
            let output = Buffer::<u16>::unwritten(values.len());
            let arguments: [Argument<'_>; 3] =
                [(&input).into(), (&output).into(), (values.len() as u32).into()];
            launch(&kernels, kernel, 1, 32, 1, &arguments);
            assert!(output.is_intact());
            for (x, got) in values.iter().zip(output.values()) {
                if x.is_nan() {
                    let same_sign = u32::from(got) >> 15 == x.to_bits() >> 31;
                    assert!(got.widen().is_nan() && same_sign, "{kernel} of {:#x}: {got:#x}", x.to_bits());
                } else {
                    assert_eq!(got, nearest(*x), "{kernel} of {x:e} ({:#x})", x.to_bits());
                }
            }
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn loads_keep_every_bit_and_place() {
    let kernels = kernels();
    let halves: Vec<u16> = (0..=0xffff).step_by(if races() { 257 } else { 1 }).collect();
    let halves = &halves[..halves.len() / 8 * 8];
    let n = halves.len();
    let input = Buffer::new(halves);
    let (one, wide) = (Buffer::<f32>::unwritten(n), Buffer::<f32>::unwritten(n));
    let arguments: [Argument<'_>; 4] = [(&input).into(), (&one).into(), (&wide).into(), (n as u32).into()];
    launch(&kernels, "load_each", 1, 32, 1, &arguments);
    for (half, (one, wide)) in halves.iter().zip(one.values().into_iter().zip(wide.values())) {
        let want = u32::from(*half) << 16;
        assert_eq!((one.to_bits(), wide.to_bits()), (want, want), "{half:#x}");
    }

    // Signalling NaN, both infinities and zeros, subnormal numbers among them.
    let values: Vec<f32> = (0..256u32).map(|i| f32::from_bits(i.wrapping_mul(0x0101_1081))).collect();
    let input = Buffer::new(&values);
    let (one, wide) = (Buffer::<f32>::unwritten(256), Buffer::<f32>::unwritten(256));
    let arguments: [Argument<'_>; 4] = [(&input).into(), (&one).into(), (&wide).into(), 256u32.into()];
    launch(&kernels, "copy_f32", 1, 32, 1, &arguments);
    for (x, (one, wide)) in values.iter().zip(one.values().into_iter().zip(wide.values())) {
        assert_eq!((one.to_bits(), wide.to_bits()), (x.to_bits(), x.to_bits()));
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn heads_of_rows_that_are_not_aligned() {
    let kernels = kernels();
    let (single, half) = (Buffer::new(&[0f32; 32]), Buffer::new(&[0u16; 32]));
    for count in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100] {
        let output = Buffer::<u32>::unwritten(4 * 32);
        let arguments: [Argument<'_>; 4] = [(&single).into(), (&half).into(), (&output).into(), count.into()];
        launch(&kernels, "heads", 1, 32, 1, &arguments);
        for (i, got) in output.values().chunks(4).enumerate() {
            // Buffers begin at multiples of 256 bytes.
            let head = |width: usize| (((width - i % width) % width) as u32).min(count);
            let aligned = |width: usize| u32::from(i.is_multiple_of(width));
            assert_eq!(got, [head(4), head(8), aligned(4), aligned(8)], "element {i} of at most {count}");
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn sums_over_blocks_of_every_size() {
    let kernels = kernels();
    for warps in (1..=32u32).filter(|warps| !races() || [1, 2, 31, 32].contains(warps)) {
        let threads = 32 * warps;
        // Powers of two of their own would not fit: whole numbers, so that every order gives the same.
        let values: Vec<f64> = (0..2 * threads).map(|i| f64::from((i * i + 1) % 8191)).collect();
        let (input, output) = (Buffer::new(&values), Buffer::<f64>::unwritten(2));
        launch(&kernels, "sum_of_block", 2, threads, 1, &[(&input).into(), (&output).into()]);
        let want: Vec<f64> = values.chunks(threads as usize).map(|block| block.iter().sum()).collect();
        assert_eq!(output.values(), want, "{threads} threads");
    }
}
