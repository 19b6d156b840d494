//! Sums over sequences, and the preference losses that are made of them.

use super::{Bug, bug};

pub(super) const BUGS: &[Bug] = &[
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
    bug("rows behind the last are followed", "segment_sum.cu", "  end = end < rows ? end : rows;\n", ""),
    bug(
        "piece takes a row of the next",
        "segment_sum.cu",
        "? end : span.first + PIECE;",
        "? end : span.first + PIECE + 1u;",
    ),
    bug(
        "pieces behind a sequence's end wrap around",
        "segment_sum.cu",
        "(u64)offsets[sequence] + (u64)piece * PIECE;",
        "offsets[sequence] + piece * PIECE;",
    ),
    bug(
        "order of additions depends on the place in the batch",
        "segment_sum.cu",
        "sum += (double)values[span.first + i];",
        "sum += (double)values[span.first + (i + span.first) % (span.end - span.first)];",
    ),
    bug(
        "sum behind the last sequence",
        "segment_sum.cu",
        "blockDim.x + threadIdx.x;\n  if (sequence >= sequences) return;",
        "blockDim.x + threadIdx.x;\n  if (sequence > sequences) return;",
    ),
    bug(
        "all threads but the first write a piece's sum (a race that changes no result)",
        "segment_sum.cu",
        "if (threadIdx.x == 0u) partial",
        "if (threadIdx.x != 0u) partial",
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
    bug(
        "a pair exactly at its specialist keeps its gradient",
        "preference.cu",
        "mode == CLIPPED && over <= 0.0",
        "mode == CLIPPED && over < 0.0",
    ),
    bug(
        "a NaN excess counts as clipped",
        "preference.cu",
        "mode == CLIPPED && over <= 0.0",
        "mode == CLIPPED && !(over > 0.0)",
    ),
    bug(
        "clipping of the gradient cannot be switched off",
        "preference.cu",
        "      if (clip_gradient) factor = 0.0;\n",
        "      factor = 0.0;\n",
    ),
    bug(
        "slope of the hinge at a margin of exactly 1",
        "preference.cu",
        "(gap > 0.0 ? -beta : 0.0)",
        "(gap >= 0.0 ? -beta : 0.0)",
    ),
    bug(
        "NaN loses its way through the hinge",
        "preference.cu",
        "gap != gap ? gap : (gap",
        "false ? gap : (gap",
    ),
    bug(
        "weight 0 times an infinite term",
        "preference.cu",
        "return weight == 0.0 ? 0.0 : weight * value;",
        "return weight * value;",
    ),
    bug(
        "negative weights count as 0",
        "preference.cu",
        "return weight == 0.0 ? 0.0 : weight * value;",
        "return weight <= 0.0 ? 0.0 : weight * value;",
    ),
    bug(
        "SFT term that is off brings in infinity",
        "preference.cu",
        "if (sft_weight > 0.0) {",
        "if (sft_weight >= 0.0) {",
    ),
    bug(
        "losses of specialists are read where there are none",
        "preference.cu",
        "  double over = value;\n",
        "  double over = mode == RAW ? value + 0.0 * cached[i] : value;\n",
    ),
    bug("a pair behind the last", "preference.cu", "if (i >= pairs) return;", "if (i > pairs) return;"),
    bug(
        "a rejected completion of no tokens divides by 0",
        "preference.cu",
        "rejected_tokens[i] > 0u ? (double)rejected_tokens[i] : 1.0;",
        "(double)rejected_tokens[i];",
    ),
];
