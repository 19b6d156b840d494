// What every kernel of this folder stands on: types, bf16, 16-byte loads and stores, reductions over a block.
//
// Included by nothing: the Rust side joins this file and one `.cu` into the source of one module. It compiles with
// NVRTC (C++17, no headers), with clang, and as host C++ after a header that defines CUDA_HOST_EMU and everything up
// to #endif.
//
// Every kernel wants a one-dimensional grid of one-dimensional blocks whose size is a multiple of 32, at most 1024.

#ifndef CUDA_HOST_EMU
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
// A macro so that an emulation can put the array somewhere else.
#define SHARED_ARRAY(T, name, n) __shared__ T name[n]
#endif

#define WARP 32u
#define ALL_LANES 0xffffffffu
#define MAX_WARPS 32u

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }
__device__ __forceinline__ float quiet_nan() { return __uint_as_float(0x7fc00000u); }

// ---- bf16: the upper half of an f32, so no header is needed ----

__device__ __forceinline__ float widen(u32 bf16_bits) { return __uint_as_float(bf16_bits << 16); }

// Rounds to nearest, ties to even; NaN stays NaN whatever its payload.
__device__ __forceinline__ u32 narrow(float value) {
  const u32 bits = __float_as_uint(value);
  if (value != value) return (bits >> 16) | 0x40u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

__device__ __forceinline__ float load(const float* p) { return *p; }
__device__ __forceinline__ float load(const u16* p) { return widen(*p); }
__device__ __forceinline__ void store(float* p, float value) { *p = value; }
__device__ __forceinline__ void store(u16* p, float value) { *p = (u16)narrow(value); }

// ---- 16 bytes at a time ----

// Elements of T in 16 bytes.
template <typename T>
struct Wide {
  static const u32 COUNT = 16u / (u32)sizeof(T);
};

// Widens 16 bytes of T at `p`, which must be aligned to 16 bytes.
__device__ __forceinline__ void load_wide(const float* p, float* out) {
  const uint4 v = *(const uint4*)p;
  out[0] = __uint_as_float(v.x);
  out[1] = __uint_as_float(v.y);
  out[2] = __uint_as_float(v.z);
  out[3] = __uint_as_float(v.w);
}
__device__ __forceinline__ void unpack(u32 pair, float* out) {
  out[0] = widen(pair & 0xffffu);
  out[1] = __uint_as_float(pair & 0xffff0000u);
}
__device__ __forceinline__ void load_wide(const u16* p, float* out) {
  const uint4 v = *(const uint4*)p;
  unpack(v.x, out);
  unpack(v.y, out + 2);
  unpack(v.z, out + 4);
  unpack(v.w, out + 6);
}

// Rounds 16 bytes of T to `p`, which must be aligned to 16 bytes.
__device__ __forceinline__ void store_wide(float* p, const float* value) {
  uint4 v;
  v.x = __float_as_uint(value[0]);
  v.y = __float_as_uint(value[1]);
  v.z = __float_as_uint(value[2]);
  v.w = __float_as_uint(value[3]);
  *(uint4*)p = v;
}
__device__ __forceinline__ u32 pack(const float* value) { return narrow(value[0]) | (narrow(value[1]) << 16); }
__device__ __forceinline__ void store_wide(u16* p, const float* value) {
  uint4 v;
  v.x = pack(value);
  v.y = pack(value + 2);
  v.z = pack(value + 4);
  v.w = pack(value + 6);
  *(uint4*)p = v;
}

// Elements before the first one of `row` that is aligned to 16 bytes, at most `count`.
template <typename T>
__device__ __forceinline__ u32 unaligned_head(const T* row, u32 count) {
  const u32 past = (u32)((u64)row & 15u);
  const u32 head = past == 0u ? 0u : (16u - past) / (u32)sizeof(T);
  return head < count ? head : count;
}

__device__ __forceinline__ bool is_aligned(const void* p) { return ((u64)p & 15u) == 0u; }

// ---- sums over a block ----

// The sum of `value` over the block's threads, in thread 0; others get something else. Every thread must call it, at
// most once in a kernel. The order of additions depends on the block size only.
__device__ __forceinline__ double block_sum(double value) {
  SHARED_ARRAY(double, of_warp, MAX_WARPS);
  for (u32 offset = WARP / 2u; offset > 0u; offset /= 2u) value += __shfl_xor_sync(ALL_LANES, value, (int)offset);
  const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  if (lane == 0u) of_warp[warp] = value;
  __syncthreads();
  if (warp != 0u) return 0.0;
  value = lane < blockDim.x / WARP ? of_warp[lane] : 0.0;
  for (u32 offset = WARP / 2u; offset > 0u; offset /= 2u) value += __shfl_xor_sync(ALL_LANES, value, (int)offset);
  return value;
}
