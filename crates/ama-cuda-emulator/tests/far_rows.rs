//! `logp.cu` and `segment_sum.cu` where an element is beyond 2^31 and 2^32 elements from the first: memory that is reserved and,
//! but for three rows, never touched, or not there at all.
#![allow(unsafe_code, reason = "launching a kernel is a promise about what it touches")]

mod common;

use std::alloc::{Layout, alloc_zeroed, dealloc};

use ama_cuda_emulator::{Argument, Buffer};
use ama_loss::reference;
use common::naive::{uniform, wide};
use common::{IGNORED, Logit, check_rounded, launch, module};

const ROWS: usize = 3;
const VOCAB: usize = 1025;
/// The third row lies at element 2^32: 0 to arithmetic of 32 bits, while the second is negative to `int`.
const STRIDE: usize = 1 << 31;

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn rows_beyond_two_to_the_thirty_two_elements() {
    if common::sanitizer().is_some() || std::env::var_os("AMA_CUDA_PTX").is_some() {
        return; // Shadow or device memory of 8 GiB would be real.
    }
    let module = module("logp.cu");
    let layout = Layout::array::<u16>((ROWS - 1) * STRIDE + VOCAB).expect("8 GiB fit the address space");
    // SAFETY: not of size 0.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<u16>();
    assert!(!memory.is_null(), "this machine does not reserve 8 GiB of address space");
    let values: Vec<u16> = uniform(1, ROWS * VOCAB, 4.0).into_iter().map(u16::narrow).collect();
    // SAFETY: of every row.
    let row = |i: usize| unsafe { std::slice::from_raw_parts_mut(memory.add(i * STRIDE), VOCAB) };
    (0..ROWS).for_each(|i| row(i).copy_from_slice(&values[i * VOCAB..(i + 1) * VOCAB]));

    let targets: [u32; ROWS] = [1, 500, 1024];
    let on_device = Buffer::new(&targets);
    let (logp, lse) = (Buffer::<f32>::unwritten(ROWS), Buffer::<f32>::unwritten(2 * ROWS));
    let sizes: [Argument<'_>; 4] =
        [(ROWS as u32).into(), (VOCAB as u32).into(), (STRIDE as u64).into(), IGNORED.into()];
    let [rows, vocab, stride, ignored] = sizes.clone();
    let arguments = [
        Argument::address(memory),
        (&on_device).into(),
        (&logp).into(),
        (&lse).into(),
        rows,
        vocab,
        stride,
        ignored,
    ];
    launch(&module, "ama_logp_forward_bf16", ROWS as u32, 160, 0, &arguments);

    let logits = wide(&values.iter().map(|x| x.widen()).collect::<Vec<_>>());
    let truth = reference::log_softmax_gather(&logits, &targets, VOCAB);
    for (got, want) in logp.values().iter().zip(&truth) {
        assert!((f64::from(*got) - want).abs() < 1e-5, "{got} vs {want}");
    }

    let upstream = [1.0f32, -2.0, 0.5];
    let g = Buffer::new(&upstream);
    let [rows, vocab, stride, ignored] = sizes;
    let arguments = [
        Argument::address(memory),
        (&on_device).into(),
        (&lse).into(),
        (&g).into(),
        Argument::address(memory),
        rows,
        vocab,
        stride.clone(),
        stride,
        ignored,
    ];
    launch(&module, "ama_logp_backward_bf16", ROWS as u32, 160, 0, &arguments);
    let truth = reference::log_softmax_gather_backward(&logits, &targets, &wide(&upstream), VOCAB);
    let naive: Vec<f32> = truth.iter().map(|x| *x as f32).collect();
    for i in 0..ROWS {
        let of = i * VOCAB..(i + 1) * VOCAB;
        check_rounded(row(i), &naive[of.clone()], &truth[of], 1e-5);
    }
    // SAFETY: from `alloc_zeroed` with this layout; no slice of it is used after this.
    unsafe { dealloc(memory.cast(), layout) };
}

/// A sequence of 5 rows that ends just below 2^32, with a piece more than it needs: the first row of that piece wraps around to
/// row 1013 in 32 bits, where there is no memory.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn pieces_beyond_two_to_the_thirty_two_rows() {
    if common::sanitizer().is_some() || std::env::var_os("AMA_CUDA_PTX").is_some() {
        return; // The kernel is told of an array of 16 GiB of which only the end is there.
    }
    let module = module("segment_sum.cu");
    let (end, pieces) = (u32::MAX - 5, 2u32);
    let mut values = [1.0f32, 2.0, 4.0, 8.0, 16.0];
    let first = (end - 5) as usize;
    let offsets = Buffer::new(&[first as u32, end]);
    let partial = Buffer::<f64>::unwritten(2);
    let sizes: [Argument<'_>; 3] = [1u32.into(), pieces.into(), end.into()];
    let [sequences, pieces, rows] = sizes;
    let array = values.as_mut_ptr().wrapping_sub(first);
    let arguments = [
        Argument::address(array),
        (&offsets).into(),
        (&partial).into(),
        sequences.clone(),
        pieces.clone(),
        rows.clone(),
    ];
    launch(&module, "ama_segment_sum_piece_f32", 2, 256, 0, &arguments);
    assert_eq!(partial.values(), [31.0, 0.0]);
    let d_sums = Buffer::new(&[0.5f64]);
    let arguments = [(&d_sums).into(), (&offsets).into(), Argument::address(array), sequences, pieces, rows];
    launch(&module, "ama_segment_spread_f32", 2, 256, 0, &arguments);
    assert_eq!(values, [0.5; 5]);
}
