//! What only the device's compiler sees, and the Rust side of a launch.

use super::{Bug, bug};

pub(super) const BUGS: &[Bug] = &[
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
