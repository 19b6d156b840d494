//! The decoder's operations, each with a kernel on plain slices and an op on dfdx's tape.
//!
//! - The **kernels** (`*_forward`, `*_backward`, public) take and fill slices; generation and anybody else who
//!   has no tape calls them directly.
//! - The **tape ops** (`tape::*`, for the decoder) take the output from a workspace, run the kernel and, on a tape
//!   that records, leave a closure that runs the backward kernel. Gradient buffers are moved out of dfdx's
//!   `Gradients` and back, never copied; an op's output gradient goes back to the workspace when its closure
//!   ends, and so do the activations that the closure held.
//!
//! Matrices are row-major. `n` is the number of packed tokens, `d` the width of the row in question.

pub mod attention;
pub mod embedding;
mod gemm;
pub(crate) mod head;
pub mod linear;
pub(crate) mod norm_project;
pub mod rmsnorm;
pub mod rope;
pub mod swiglu;
pub(crate) mod tape;

#[cfg(test)]
mod oracle;

/// Elements per parallel task of an element-wise loop; less than that is done on the calling thread.
const GRAIN: usize = 16 * 1024;

/// Rows of `width` elements in one task. It depends on the shape only, never on the number of threads, so
/// sums over tasks have one order.
fn rows_per_task(width: usize) -> usize {
    (GRAIN / width.max(1)).max(1)
}
