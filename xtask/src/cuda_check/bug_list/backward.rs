//! The gradient of the log-probability: rows, targets, alignment, bf16.

use super::{Bug, bug};

pub(super) const BUGS: &[Bug] = &[
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
    bug(
        "gradient at the target by subtraction",
        "logp.cu",
        "-row.upstream * expm1f(log_softmax(row, load(x + row.target)));",
        "row.upstream * (1.0f - expf(log_softmax(row, load(x + row.target))));",
    ),
    bug(
        "maximum and logarithm in one f32, backward",
        "logp.cu",
        "return (x - row.max) - row.log_sum;",
        "return x - (row.max + row.log_sum);",
    ),
    bug(
        "target in the last of the elements taken at once forgotten",
        "logp.cu",
        "row.target - first < COUNT)",
        "row.target - first + 1u < COUNT)",
    ),
    bug(
        "target read by who has no part in it (a race that changes no result)",
        "logp.cu",
        "row.target - first < COUNT)",
        "row.target - first <= COUNT)",
    ),
    bug(
        "gradient taken twice where the head ends",
        "logp.cu",
        "for (u32 j = threadIdx.x; j < head; j += blockDim.x)",
        "for (u32 j = threadIdx.x; j <= head; j += blockDim.x)",
    ),
    bug(
        "element behind an ignored row cleared",
        "logp.cu",
        "if (threadIdx.x < vocab - tail) row[tail",
        "if (threadIdx.x <= vocab - tail) row[tail",
    ),
    bug(
        "subnormal upstream gradient counts as 0",
        "logp.cu",
        "g.upstream == 0.0f)",
        "g.upstream * g.upstream == 0.0f)",
    ),
    bug(
        "32-bit index, backward",
        "logp.cu",
        "const In* x = logits + (u64)row * stride;",
        "const In* x = logits + row * (u32)stride;",
    ),
    bug(
        "blocks behind the last row go on, backward",
        "logp.cu",
        "  if (row >= rows) return;\n  const In* x",
        "  const In* x",
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
    bug(
        "NaN whose payload is cut off becomes infinity",
        "common.cuh",
        "return (bits >> 16) | 0x40u;",
        "return bits >> 16;",
    ),
    bug("head longer than the row", "common.cuh", "return head < count ? head : count;", "return head;"),
];
