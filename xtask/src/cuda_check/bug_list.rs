//! The seeded bugs: textual replacements in `crates/ama-loss/src/cuda`, each a mistake that somebody could make.
//!
//! A replacement that no longer applies fails the check, so a kernel cannot be rewritten without its bugs.

/// One mistake.
#[derive(Debug)]
pub(super) struct Bug {
    pub(super) name: &'static str,
    /// File in `crates/ama-loss/src/cuda`; a `.rs` file is only tried on the stand-in driver.
    pub(super) file: &'static str,
    /// Text that occurs exactly once.
    pub(super) find: &'static str,
    pub(super) replace: &'static str,
}

const fn bug(name: &'static str, file: &'static str, find: &'static str, replace: &'static str) -> Bug {
    Bug { name, file, find, replace }
}

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
    // ---- log-probability, backward ----
    bug(
        "missing mask",
        "logp.cu",
        "if (g.target == ignored || g.upstream == 0.0f) {",
        "if (g.upstream == 0.0f) {",
    ),
    bug(
        "wrong sign of the softmax",
        "logp.cu",
        "values[k] = -row.upstream * expf(",
        "values[k] = row.upstream * expf(",
    ),
    bug(
        "no gradient at the target",
        "logp.cu",
        "first + k == row.target ? at_target : values[k];",
        "values[k];",
    ),
    bug(
        "upstream gradient forgotten at the target",
        "logp.cu",
        "const float at_target = -row.upstream * expm1f(",
        "const float at_target = -expm1f(",
    ),
    bug(
        "strides of input and output confused",
        "logp.cu",
        "Out* d = d_logits + (u64)row * d_stride;",
        "Out* d = d_logits + (u64)row * stride;",
    ),
    bug(
        "16-byte access to rows that are not aligned",
        "logp.cu",
        "  if (!is_aligned(x + head)) head = vocab;\n",
        "",
    ),
    bug(
        "the last elements of a row forgotten",
        "logp.cu",
        "  for (u32 j = tail + threadIdx.x; j < vocab; j += blockDim.x) gradient_of_one(g, x, d, j);\n",
        "",
    ),
    bug(
        "ignored rows keep their logits as gradient",
        "logp.cu",
        "  if (threadIdx.x < head) row[threadIdx.x] = (T)0;\n",
        "",
    ),
    // ---- bf16 ----
    bug(
        "bf16 cut off instead of rounded",
        "common.cuh",
        "return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;",
        "return bits >> 16;",
    ),
    bug(
        "bf16 ties away from even",
        "common.cuh",
        "return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;",
        "return (bits + 0x8000u) >> 16;",
    ),
    bug(
        "the device's own NaN becomes a bf16 number",
        "common.cuh",
        "  if (value != value) return (bits >> 16) | 0x40u;\n",
        "",
    ),
    bug(
        "halves of a bf16 pair swapped",
        "common.cuh",
        "narrow(value[0]) | (narrow(value[1]) << 16)",
        "narrow(value[1]) | (narrow(value[0]) << 16)",
    ),
    // ---- sums over sequences ----
    bug(
        "pieces overlap",
        "segment_sum.cu",
        "(u64)offsets[sequence] + (u64)piece * PIECE;",
        "(u64)offsets[sequence] + (u64)piece * (PIECE - 1u);",
    ),
    bug(
        "sequence takes the first row of the next",
        "segment_sum.cu",
        "i < span.end - span.first; i += blockDim.x) sum +=",
        "i <= span.end - span.first; i += blockDim.x) sum +=",
    ),
    bug(
        "sums in f32",
        "segment_sum.cu",
        "  double sum = 0.0;\n  for (u32 i = threadIdx.x;",
        "  float sum = 0.0f;\n  for (u32 i = threadIdx.x;",
    ),
    bug(
        "gradient of another sequence",
        "segment_sum.cu",
        "(float)d_sums[sequence];",
        "(float)d_sums[piece];",
    ),
    // ---- preference losses ----
    bug(
        "margin of the wrong sign",
        "preference.cu",
        "beta * (c_ratio - r_ratio), e",
        "beta * (r_ratio - c_ratio), e",
    ),
    bug("wrong beta in IPO", "preference.cu", "- 1.0 / (2.0 * beta);", "- 1.0 / beta;"),
    bug(
        "IPO on sums instead of means",
        "preference.cu",
        "c_ratio / c_tokens - r_ratio / r_tokens",
        "c_ratio - r_ratio",
    ),
    bug("missing clip", "preference.cu", "      over = 0.0;\n", ""),
    bug("clipped pairs keep their gradient", "preference.cu", "      if (clip_gradient) factor = 0.0;\n", ""),
    bug("robust smoothing added", "preference.cu", "kind == ROBUST ? -e : e,", "e,"),
    bug(
        "sigmoid loss that overflows",
        "preference.cu",
        "return (x > 0.0 ? 0.0 : x) - log1p(exp(-fabs(x)));",
        "return -log(1.0 + exp(-x));",
    ),
    bug("no guard behind the last pair", "preference.cu", "  if (i >= pairs) return;\n", ""),
    bug(
        "a completion of no tokens divides by 0",
        "preference.cu",
        "chosen_tokens[i] > 0u ? (double)chosen_tokens[i] : 1.0;",
        "(double)chosen_tokens[i];",
    ),
    // ---- what only the device's compiler sees ----
    bug(
        "launch bounds that make registers spill",
        "logp.cu",
        "extern \"C\" __global__ void __launch_bounds__(512)\n    ama_logp_forward_bf16(",
        "extern \"C\" __global__ void __launch_bounds__(512, 4)\n    ama_logp_forward_bf16(",
    ),
    // ---- launches ----
    bug(
        "grid rounded down",
        "launch.rs",
        "config(n.div_ceil(threads), threads)",
        "config(n / threads, threads)",
    ),
    bug(
        "one block too few",
        "launch.rs",
        "    config(rows, threads as u32)",
        "    config(rows - 1, threads as u32)",
    ),
    bug(
        "block larger than the launch bounds",
        "launch.rs",
        "const ROW_THREADS: usize = 512;",
        "const ROW_THREADS: usize = 1024;",
    ),
    bug(
        "arguments swapped",
        "logp.rs",
        "launch.arg(logits).arg(targets).arg(&mut out.logp).arg(&mut out.lse);",
        "launch.arg(logits).arg(targets).arg(&mut out.lse).arg(&mut out.logp);",
    ),
    bug(
        "an argument too few",
        "logp.rs",
        "        launch.arg(&rows).arg(&vocab).arg(&stride).arg(&ignored);",
        "        launch.arg(&rows).arg(&vocab).arg(&ignored);",
    ),
    bug(
        "sizes swapped",
        "logp.rs",
        "        launch.arg(&rows).arg(&vocab).arg(&stride).arg(&ignored);",
        "        launch.arg(&vocab).arg(&rows).arg(&stride).arg(&ignored);",
    ),
    bug("last piece of a long sequence lost", "segments.rs", "longest.div_ceil(PIECE)", "(longest / PIECE)"),
    bug(
        "rows of no sequence keep what was there",
        "segments.rs",
        "        if !covering {",
        "        if false {",
    ),
    bug(
        "clipping on the device left out",
        "preference.rs",
        "Self::Clipped { clip_gradient, .. } => (2,",
        "Self::Clipped { clip_gradient, .. } => (1,",
    ),
    bug(
        "gradient of the head's weight overwritten by every chunk",
        "linear_logp.rs",
        "gemm.multiply(&mut d_w, true,",
        "gemm.multiply(&mut d_w, false,",
    ),
    bug(
        "chunk reads the first rows' statistics",
        "linear_logp.rs",
        "lse: lse.slice(2 * chunk.start..2 * chunk.end),",
        "lse: lse.slice(0..2 * chunk.len()),",
    ),
];

#[cfg(test)]
mod unit {
    use super::*;
    use crate::shell;

    #[test]
    fn every_bug_applies_to_the_sources() {
        let mut broken = Vec::new();
        for bug in BUGS {
            let path = shell::root().join("crates/ama-loss/src/cuda").join(bug.file);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let count = text.matches(bug.find).count();
            if count != 1 || bug.find == bug.replace {
                broken.push(format!("{}: its text occurs {count} times in {}", bug.name, bug.file));
            }
        }
        assert!(broken.is_empty(), "\n{}", broken.join("\n"));
        let names: std::collections::BTreeSet<_> = BUGS.iter().map(|bug| bug.name).collect();
        assert_eq!(names.len(), BUGS.len(), "two bugs of one name");
    }
}
