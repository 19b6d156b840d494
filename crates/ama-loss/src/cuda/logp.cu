// Log-probability of every row's target from its logits, and the gradient back to the logits.
//
//   lse_i  = ln sum_j e^(x_ij)             logp_i = x_i[t_i] - lse_i
//   H_i    = lse_i - sum_j x_ij e^(x_ij - lse_i)                       (entropy of the row's distribution)
//   dx_ij  = g_i (1[j = t_i] - e^(x_ij - lse_i)),  g_i = d loss / d logp_i
//
// One block is one row. The forward pass reads the row once: maximum and sum run together (online softmax, Milakov &
// Gimelshein 2018, arXiv 1805.02867), and so does sum (x - max) e^(x - max) if the entropy is wanted. `lse` stays the
// pair (max, ln sum e^(x - max)): one f32 would cost |lse| 6e-8 of log-probability and gradient. The backward pass
// reads the row once and writes it once; `d_logits` may be `logits` itself. At the target the gradient is
// -g expm1(x - lse), without the cancellation of 1 - e^(x - lse).
//
// A row with NaN or +inf, or of -inf only, gets NaN (log-probability, entropy, gradient); other rows do not notice.
// Single logits of -inf are tokens of probability 0. A target outside of the vocabulary gets NaN and reads nothing. A
// row whose target is `ignored` gets 0 everywhere, and reads nothing; nor does the gradient of a row with g = 0.
//
// Parameters (sizes in elements):
//   logits    [rows] rows of `vocab`, `stride` apart (stride >= vocab); what lies between rows is never touched
//   targets   [rows], below `vocab`, or `ignored`
//   logp      [rows] out, nats (0 for ignored rows)
//   lse       [rows][2]: max and ln sum e^(x - max); out of the forward pass, in to the backward pass
//   entropy   [rows] out, nats
//   upstream  [rows]: g
//   d_logits  [rows] rows of `vocab`, `d_stride` apart, out; may be `logits` if types and strides are the same
// Grid: `rows` blocks (at most 2^31 - 1); vocab < 2^31.

// Maximum, sum e^(x - max), and sum (x - max) e^(x - max) if ENTROPY, of the logits seen so far.
template <bool ENTROPY>
struct Running {
  float max, sum, dot;
};

template <bool ENTROPY>
__device__ __forceinline__ Running<ENTROPY> nothing_yet() {
  Running<ENTROPY> r;
  r.max = -infinity();
  r.sum = 0.0f;
  r.dot = 0.0f;
  return r;
}

// The same sums about a maximum that is not below the present one.
template <bool ENTROPY>
__device__ __forceinline__ Running<ENTROPY> about(Running<ENTROPY> r, float max) {
  // Also -inf about -inf and +inf about +inf, whose difference is NaN.
  if (r.max == max) return r;
  const float shift = r.max - max, factor = expf(shift);
  // Infinitely far below (nothing but -inf so far, or the most negative numbers): 0 * -inf must not come in.
  if (ENTROPY) r.dot = factor > 0.0f ? (r.dot + r.sum * shift) * factor : 0.0f;
  r.sum *= factor;
  r.max = max;
  return r;
}

// Takes COUNT logits in. fmaxf passes NaN over; the sum does not.
template <u32 COUNT, bool ENTROPY>
__device__ __forceinline__ void push(Running<ENTROPY>& r, const float* x) {
  float most = x[0];
  for (u32 k = 1u; k < COUNT; ++k) most = fmaxf(most, x[k]);
  if (most > r.max) r = about(r, most);
  // A row of -inf so far: any finite shift gives the exact sum 0, and keeps NaN.
  const float shift = r.max == -infinity() ? 0.0f : r.max;
  float sum = 0.0f, dot = 0.0f;
  for (u32 k = 0u; k < COUNT; ++k) {
    const float d = x[k] - shift, e = expf(d);
    sum += e;
    if (ENTROPY) dot += e > 0.0f ? d * e : 0.0f;
  }
  r.sum += sum;
  if (ENTROPY) r.dot += dot;
}

template <bool ENTROPY>
__device__ __forceinline__ Running<ENTROPY> merge(Running<ENTROPY> a, Running<ENTROPY> b) {
  const float max = fmaxf(a.max, b.max);
  a = about(a, max);
  b = about(b, max);
  a.sum += b.sum;
  if (ENTROPY) a.dot += b.dot;
  return a;
}

template <bool ENTROPY>
__device__ __forceinline__ Running<ENTROPY> merge_warp(Running<ENTROPY> r) {
  for (u32 offset = WARP / 2u; offset > 0u; offset /= 2u) {
    Running<ENTROPY> other;
    other.max = __shfl_xor_sync(ALL_LANES, r.max, (int)offset);
    other.sum = __shfl_xor_sync(ALL_LANES, r.sum, (int)offset);
    other.dot = ENTROPY ? __shfl_xor_sync(ALL_LANES, r.dot, (int)offset) : 0.0f;
    r = merge(r, other);
  }
  return r;
}

// All threads' sums together, in thread 0. Every thread must call it, at most once in a kernel.
template <bool ENTROPY>
__device__ __forceinline__ Running<ENTROPY> merge_block(Running<ENTROPY> r) {
  SHARED_ARRAY(float, max_of_warp, MAX_WARPS);
  SHARED_ARRAY(float, sum_of_warp, MAX_WARPS);
  SHARED_ARRAY(float, dot_of_warp, ENTROPY ? MAX_WARPS : 1u);
  r = merge_warp(r);
  const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  if (lane == 0u) {
    max_of_warp[warp] = r.max;
    sum_of_warp[warp] = r.sum;
    if (ENTROPY) dot_of_warp[warp] = r.dot;
  }
  __syncthreads();
  if (warp != 0u) return r;
  r = nothing_yet<ENTROPY>();
  if (lane < blockDim.x / WARP) {
    r.max = max_of_warp[lane];
    r.sum = sum_of_warp[lane];
    if (ENTROPY) r.dot = dot_of_warp[lane];
  }
  return merge_warp(r);
}

// This thread's share of a row.
template <typename T, bool ENTROPY>
__device__ __forceinline__ Running<ENTROPY> read_row(const T* x, u32 vocab) {
  const u32 WIDTH = Wide<T>::COUNT, UNROLL = 4u;
  Running<ENTROPY> r = nothing_yet<ENTROPY>();
  float values[UNROLL * WIDTH];
  const u32 head = unaligned_head(x, vocab), wide = (vocab - head) / WIDTH, tail = head + wide * WIDTH;
  if (threadIdx.x < head) {
    values[0] = load(x + threadIdx.x);
    push<1u>(r, values);
  }
  u32 i = threadIdx.x;
  // Several loads are under way before the first is used.
  for (; i + (UNROLL - 1u) * blockDim.x < wide; i += UNROLL * blockDim.x) {
    for (u32 k = 0u; k < UNROLL; ++k) load_wide(x + head + (i + k * blockDim.x) * WIDTH, values + k * WIDTH);
    push<UNROLL * WIDTH>(r, values);
  }
  for (; i < wide; i += blockDim.x) {
    load_wide(x + head + i * WIDTH, values);
    push<WIDTH>(r, values);
  }
  if (threadIdx.x < vocab - tail) {
    values[0] = load(x + tail + threadIdx.x);
    push<1u>(r, values);
  }
  return r;
}

template <typename T, bool ENTROPY>
__device__ __forceinline__ void logp_forward(const T* logits, const u32* targets, float* logp, float* lse,
                                             float* entropy, u32 rows, u32 vocab, u64 stride, u32 ignored) {
  const u32 row = blockIdx.x;
  if (row >= rows) return;
  const u32 target = targets[row];
  if (target == ignored || target >= vocab) {
    if (threadIdx.x == 0u) {
      const float value = target == ignored ? 0.0f : quiet_nan();
      logp[row] = value;
      lse[2u * (u64)row] = value;
      lse[2u * (u64)row + 1u] = value;
      if (ENTROPY) entropy[row] = value;
    }
    return;
  }
  const T* x = logits + (u64)row * stride;
  const Running<ENTROPY> r = merge_block(read_row<T, ENTROPY>(x, vocab));
  if (threadIdx.x == 0u) {
    const float log_sum = logf(r.sum);
    logp[row] = (load(x + target) - r.max) - log_sum;
    lse[2u * (u64)row] = r.max;
    lse[2u * (u64)row + 1u] = log_sum;
    if (ENTROPY) entropy[row] = log_sum - r.dot / r.sum;
  }
}

template <typename T>
__device__ __forceinline__ void fill_zero(T* row, u32 vocab) {
  const u32 WIDTH = Wide<T>::COUNT;
  const u32 head = unaligned_head(row, vocab), wide = (vocab - head) / WIDTH, tail = head + wide * WIDTH;
  uint4 zero;
  zero.x = zero.y = zero.z = zero.w = 0u;
  if (threadIdx.x < head) row[threadIdx.x] = (T)0;
  for (u32 i = threadIdx.x; i < wide; i += blockDim.x) *(uint4*)(row + head + i * WIDTH) = zero;
  if (threadIdx.x < vocab - tail) row[tail + threadIdx.x] = (T)0;
}

// The part of a row's gradient that does not depend on the column.
struct RowGradient {
  float max, log_sum, upstream;
  u32 target;
};

__device__ __forceinline__ float log_softmax(const RowGradient& row, float x) { return (x - row.max) - row.log_sum; }

// Replaces COUNT logits, the first of which is that of token `first`, by their gradients; `x` is the row in memory.
template <u32 COUNT, typename T>
__device__ __forceinline__ void gradient(const RowGradient& row, const T* x, u32 first, float* values) {
  for (u32 k = 0u; k < COUNT; ++k) values[k] = -row.upstream * expf(log_softmax(row, values[k]));
  // Wraps around for targets before `first`.
  if (row.target - first < COUNT) {
    const float at_target = -row.upstream * expm1f(log_softmax(row, load(x + row.target)));
    for (u32 k = 0u; k < COUNT; ++k) values[k] = first + k == row.target ? at_target : values[k];
  }
}

// The same for one element, from memory to memory.
template <typename In, typename Out>
__device__ __forceinline__ void gradient_of_one(const RowGradient& row, const In* x, Out* d, u32 j) {
  float value = load(x + j);
  gradient<1u>(row, x, j, &value);
  store(d + j, value);
}

template <typename In, typename Out>
__device__ __forceinline__ void logp_backward(const In* logits, const u32* targets, const float* lse,
                                              const float* upstream, Out* d_logits, u32 rows, u32 vocab, u64 stride,
                                              u64 d_stride, u32 ignored) {
  const u32 row = blockIdx.x;
  if (row >= rows) return;
  const In* x = logits + (u64)row * stride;
  Out* d = d_logits + (u64)row * d_stride;
  RowGradient g;
  g.target = targets[row];
  g.upstream = upstream[row];
  if (g.target == ignored || g.upstream == 0.0f) {
    fill_zero(d, vocab);
    return;
  }
  g.max = lse[2u * (u64)row];
  g.log_sum = lse[2u * (u64)row + 1u];
  // As many elements at a time as the narrower type has in 16 bytes.
  const u32 IN = Wide<In>::COUNT, OUT = Wide<Out>::COUNT, WIDTH = IN > OUT ? IN : OUT;
  u32 head = unaligned_head(d, vocab);
  // Rows that cannot both be aligned are done one by one.
  if (!is_aligned(x + head)) head = vocab;
  const u32 wide = (vocab - head) / WIDTH, tail = head + wide * WIDTH;
  for (u32 j = threadIdx.x; j < head; j += blockDim.x) gradient_of_one(g, x, d, j);
  for (u32 i = threadIdx.x; i < wide; i += blockDim.x) {
    const u32 first = head + i * WIDTH;
    float values[WIDTH];
    for (u32 k = 0u; k < WIDTH; k += IN) load_wide(x + first + k, values + k);
    gradient<WIDTH>(g, x, first, values);
    for (u32 k = 0u; k < WIDTH; k += OUT) store_wide(d + first + k, values + k);
  }
  for (u32 j = tail + threadIdx.x; j < vocab; j += blockDim.x) gradient_of_one(g, x, d, j);
}

extern "C" __global__ void __launch_bounds__(512)
    ama_logp_forward_f32(const float* logits, const u32* targets, float* logp, float* lse, u32 rows, u32 vocab,
                         u64 stride, u32 ignored) {
  logp_forward<float, false>(logits, targets, logp, lse, (float*)0, rows, vocab, stride, ignored);
}

extern "C" __global__ void __launch_bounds__(512)
    ama_logp_forward_bf16(const u16* logits, const u32* targets, float* logp, float* lse, u32 rows, u32 vocab,
                          u64 stride, u32 ignored) {
  logp_forward<u16, false>(logits, targets, logp, lse, (float*)0, rows, vocab, stride, ignored);
}

extern "C" __global__ void __launch_bounds__(512)
    ama_logp_entropy_forward_f32(const float* logits, const u32* targets, float* logp, float* lse, float* entropy,
                                 u32 rows, u32 vocab, u64 stride, u32 ignored) {
  logp_forward<float, true>(logits, targets, logp, lse, entropy, rows, vocab, stride, ignored);
}

extern "C" __global__ void __launch_bounds__(512)
    ama_logp_entropy_forward_bf16(const u16* logits, const u32* targets, float* logp, float* lse, float* entropy,
                                  u32 rows, u32 vocab, u64 stride, u32 ignored) {
  logp_forward<u16, true>(logits, targets, logp, lse, entropy, rows, vocab, stride, ignored);
}

extern "C" __global__ void __launch_bounds__(512)
    ama_logp_backward_f32(const float* logits, const u32* targets, const float* lse, const float* upstream,
                          float* d_logits, u32 rows, u32 vocab, u64 stride, u64 d_stride, u32 ignored) {
  logp_backward(logits, targets, lse, upstream, d_logits, rows, vocab, stride, d_stride, ignored);
}

extern "C" __global__ void __launch_bounds__(512)
    ama_logp_backward_bf16(const u16* logits, const u32* targets, const float* lse, const float* upstream,
                           u16* d_logits, u32 rows, u32 vocab, u64 stride, u64 d_stride, u32 ignored) {
  logp_backward(logits, targets, lse, upstream, d_logits, rows, vocab, stride, d_stride, ignored);
}

// f32 logits, bf16 gradient (never in place): what a bf16 product with a head's weight wants.
extern "C" __global__ void __launch_bounds__(512)
    ama_logp_backward_f32_bf16(const float* logits, const u32* targets, const float* lse, const float* upstream,
                               u16* d_logits, u32 rows, u32 vocab, u64 stride, u64 d_stride, u32 ignored) {
  logp_backward(logits, targets, lse, upstream, d_logits, rows, vocab, stride, d_stride, ignored);
}
