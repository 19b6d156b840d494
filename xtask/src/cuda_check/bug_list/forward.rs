//! The log-probability kernels forward, and the reductions over a block that they and the sums share.

use super::{Bug, bug};

pub(super) const BUGS: &[Bug] = &[
    // ---- reductions and barriers ----
    bug(
        "missing barrier before the warps' results are read",
        "logp.cu",
        "    if (ENTROPY) dot_of_warp[warp] = r.dot;\n  }\n  __syncthreads();",
        "    if (ENTROPY) dot_of_warp[warp] = r.dot;\n  }",
    ),
    bug(
        "barrier inside a branch",
        "common.cuh",
        "if (lane == 0u) of_warp[warp] = value;\n  __syncthreads();",
        "if (lane == 0u) { of_warp[warp] = value; __syncthreads(); }",
    ),
    bug(
        "shuffle mask of half a warp",
        "common.cuh",
        "#define ALL_LANES 0xffffffffu",
        "#define ALL_LANES 0x0000ffffu",
    ),
    bug(
        "reduction over half a warp",
        "logp.cu",
        "for (u32 offset = WARP / 2u; offset > 0u; offset /= 2u) {\n    Running<ENTROPY> other;",
        "for (u32 offset = WARP / 4u; offset > 0u; offset /= 2u) {\n    Running<ENTROPY> other;",
    ),
    bug(
        "every lane writes the warp's result (a race that changes no result)",
        "logp.cu",
        "  if (lane == 0u) {\n    max_of_warp[warp] = r.max;",
        "  {\n    max_of_warp[warp] = r.max;",
    ),
    bug(
        "warps that do not exist take part",
        "logp.cu",
        "  if (lane < blockDim.x / WARP) {\n    r.max = max_of_warp[lane];",
        "  if (lane <= blockDim.x / WARP) {\n    r.max = max_of_warp[lane];",
    ),
    bug(
        "sum by atomics, in whatever order threads come",
        "segment_sum.cu",
        "  sum = block_sum(sum);",
        "  SHARED_ARRAY(double, all, 1u);\n  if (threadIdx.x == 0u) all[0] = 0.0;\n  __syncthreads();\n  atomicAdd(all, sum);\n  __syncthreads();\n  sum = all[0];",
    ),
    // ---- log-probability, forward ----
    bug(
        "one element past the vocabulary",
        "logp.cu",
        "  if (threadIdx.x < vocab - tail) {\n    values[0]",
        "  if (threadIdx.x <= vocab - tail) {\n    values[0]",
    ),
    bug(
        "a read past the vocabulary whose value is not used",
        "logp.cu",
        "  if (threadIdx.x < vocab - tail) {\n    values[0] = load(x + tail + threadIdx.x);",
        "  values[0] = load(x + tail + threadIdx.x);\n  if (threadIdx.x < vocab - tail) {",
    ),
    bug(
        "vocabulary for stride",
        "logp.cu",
        "  const T* x = logits + (u64)row * stride;\n  const Running<ENTROPY> r",
        "  const T* x = logits + (u64)row * vocab;\n  const Running<ENTROPY> r",
    ),
    bug(
        "32-bit index",
        "logp.cu",
        "  const T* x = logits + (u64)row * stride;\n  const Running<ENTROPY> r",
        "  const T* x = logits + row * (u32)stride;\n  const Running<ENTROPY> r",
    ),
    bug(
        "maximum starts at 0",
        "logp.cu",
        "  r.max = -infinity();\n  r.sum = 0.0f;",
        "  r.max = 0.0f;\n  r.sum = 0.0f;",
    ),
    bug("sum not rescaled to the new maximum", "logp.cu", "  r.sum *= factor;\n", ""),
    bug(
        "label off by one",
        "logp.cu",
        "(load(x + target) - r.max) - log_sum;",
        "(load(x + target + 1u) - r.max) - log_sum;",
    ),
    bug(
        "normalised by the maximum alone",
        "logp.cu",
        "(load(x + target) - r.max) - log_sum;",
        "load(x + target) - r.max;",
    ),
    bug(
        "targets outside of the vocabulary are followed",
        "logp.cu",
        "if (target == ignored || target >= vocab) {",
        "if (target == ignored) {",
    ),
    bug(
        "targets outside of the vocabulary count as ignored",
        "logp.cu",
        "const float value = target == ignored ? 0.0f : quiet_nan();",
        "const float value = 0.0f;",
    ),
    bug("entropy term missing", "logp.cu", "log_sum - r.dot / r.sum;", "log_sum;"),
    bug(
        "entropy not moved to the new maximum",
        "logp.cu",
        "(r.dot + r.sum * shift) * factor",
        "r.dot * factor",
    ),
    bug(
        "outputs swapped",
        "logp.cu",
        "logp_forward<float, true>(logits, targets, logp, lse, entropy,",
        "logp_forward<float, true>(logits, targets, entropy, lse, logp,",
    ),
    bug(
        "four loads at once go one too far",
        "logp.cu",
        "i + (UNROLL - 1u) * blockDim.x < wide;",
        "i + (UNROLL - 1u) * blockDim.x <= wide;",
    ),
    bug(
        "elements between two rounds of four loads lost",
        "logp.cu",
        "i += UNROLL * blockDim.x)",
        "i += (UNROLL + 1u) * blockDim.x)",
    ),
    bug(
        "target just behind the vocabulary is followed",
        "logp.cu",
        "target == ignored || target >= vocab)",
        "target == ignored || target > vocab)",
    ),
    bug(
        "maximum and logarithm in one f32, forward",
        "logp.cu",
        "(load(x + target) - r.max) - log_sum;",
        "load(x + target) - (r.max + log_sum);",
    ),
    bug(
        "-inf minus -inf",
        "logp.cu",
        "const float shift = r.max == -infinity() ? 0.0f : r.max;",
        "const float shift = r.max;",
    ),
    bug(
        "0 times -inf in the entropy of one element",
        "logp.cu",
        "dot += e > 0.0f ? d * e : 0.0f;",
        "dot += d * e;",
    ),
    bug(
        "0 times -inf when the maximum moves",
        "logp.cu",
        "factor > 0.0f ? (r.dot + r.sum * shift) * factor : 0.0f;",
        "(r.dot + r.sum * shift) * factor;",
    ),
    bug("NaN passed over by the sum", "logp.cu", "    sum += e;\n", "    sum += e == e ? e : 0.0f;\n"),
    bug(
        "ignored rows leave half of their log-sum-exp",
        "logp.cu",
        "      lse[2u * (u64)row + 1u] = value;\n",
        "",
    ),
    bug(
        "blocks behind the last row go on, forward",
        "logp.cu",
        "  if (row >= rows) return;\n  const u32 target",
        "  const u32 target",
    ),
];
