//! Log-probabilities from hidden states on the device: values, gradients, memory.

#![cfg(feature = "cuda-tests")]

mod common;

use ama_loss::cuda::{CublasLt, CudaHead, Gemm, HeadPlan, IGNORED, LinearLogp, Matrix, MatrixMut, Operand};
use ama_loss::{HeadShape, LossError, Recompute, cpu, reference};
use common::device::{Number, bits, device, down, narrow, up, widen};
use common::{check, naive_backward, naive_d_logits, naive_linear, naive_softmax, targets, uniform, wide};
use cudarc::driver::ValidAsZeroBits;
use half::bf16;

/// All passes for one size and budget, against `f64` on the operands as the device sees them.
fn run<T: Operand + Number + ValidAsZeroBits>(shape: HeadShape, budget_bytes: usize)
where
    CublasLt: Gemm<T>,
{
    let device = device();
    let (kernels, stream) = (&device.kernels, device.stream());
    let gemm = CublasLt::new(&stream, kernels.ledger()).unwrap();
    let HeadShape { rows, hidden: d, vocab } = shape;
    let hidden = narrow::<T>(&uniform(1, rows * d, 1.0));
    let weight = narrow::<T>(&uniform(2, vocab * d, 1.0));
    let mut targets = targets(rows, vocab);
    let mut upstream = uniform(3, rows, 1.0);
    if rows > 2 {
        targets[rows - 1] = IGNORED;
        upstream[1] = 0.0;
    }
    let (h, w, t, u) =
        (up(&stream, &hidden), up(&stream, &weight), up(&stream, &targets), up(&stream, &upstream));
    let head = LinearLogp {
        hidden: h.as_view(),
        weight: w.as_view(),
        targets: t.as_view(),
        shape,
        ignored: IGNORED,
        budget_bytes,
    };
    let forward = head.forward_with_entropy(kernels, &gemm).unwrap();
    let plain = head.forward(kernels, &gemm).unwrap();
    let logp = down(&stream, &*forward.logp);
    assert_eq!(bits(&logp), bits(&down(&stream, &*plain.logp)));

    // Accumulates: starts at 1.
    let mut d_h = up(&stream, &vec![1f32; rows * d]);
    let mut d_w = up(&stream, &vec![1f32; vocab * d]);
    let mut frozen = d_h.clone();
    let (lse, u) = (forward.lse.as_view(), u.as_view());
    let d_w_view = &mut d_w.as_view_mut();
    head.backward(kernels, &gemm, &lse, &u, &mut d_h.as_view_mut(), Some(d_w_view)).unwrap();
    head.backward(kernels, &gemm, &lse, &u, &mut frozen.as_view_mut(), None).unwrap();
    let (d_h, d_w) = (down(&stream, &d_h), down(&stream, &d_w));
    assert_eq!(bits(&d_h), bits(&down(&stream, &frozen)), "a frozen head changes nothing else");

    let (hidden, weight) = (widen(&hidden), widen(&weight));
    let valid: Vec<u32> = targets.iter().map(|t| if *t == IGNORED { 0 } else { *t }).collect();
    for (g, t) in upstream.iter_mut().zip(&targets) {
        *g = if *t == IGNORED { 0.0 } else { *g };
    }
    let mut truth = reference::linear_logp_forward(&wide(&hidden), &wide(&weight), &valid, d);
    let (true_h, true_w) =
        reference::linear_logp_backward(&wide(&hidden), &wide(&weight), &valid, &wide(&upstream), d);
    let (mut naive, softmax) = naive_softmax(&naive_linear(&hidden, &weight, d), &valid, vocab);
    if rows > 2 {
        (truth[rows - 1], naive[rows - 1]) = (0.0, 0.0);
    }
    check(&logp, &naive, &truth, 4e-6);
    let plus_one = |x: &[f64]| x.iter().map(|x| x + 1.0).collect::<Vec<_>>();
    if T::NAME == "f32" {
        let d_x = naive_d_logits(&softmax, &valid, &upstream, vocab);
        let (naive_h, naive_w) = naive_backward(&d_x, &hidden, &weight, d);
        let one = |x: &[f32]| x.iter().map(|x| x + 1.0).collect::<Vec<_>>();
        check(&d_h, &one(&naive_h), &plus_one(&true_h), 2e-6);
        check(&d_w, &one(&naive_w), &plus_one(&true_w), 2e-6);
    } else {
        // dX is rounded to bf16: each term errs by 2^-8 of itself, operands are below 1 and |dX| sums to 2 |g| per row.
        for (got, want) in d_h.iter().zip(plus_one(&true_h)).chain(d_w.iter().zip(plus_one(&true_w))) {
            assert!((f64::from(*got) - want).abs() <= 2.0 / 255.0 + 2e-6, "{got} vs {want}");
        }
    }
    let entropy = down(&stream, &**forward.entropy.as_ref().unwrap());
    let logits = reference::linear(&wide(&hidden), &wide(&weight), d);
    for (i, row) in logits.chunks(vocab).enumerate() {
        let lse = reference::log_sum_exp(row);
        let want =
            if targets[i] == IGNORED { 0.0 } else { row.iter().map(|x| (lse - x) * (x - lse).exp()).sum() };
        assert!((f64::from(entropy[i]) - want).abs() < 1e-5, "row {i}: {} vs {want}", entropy[i]);
    }
}

#[test]
fn all_sizes_and_budgets() {
    for (rows, hidden, vocab) in [(1, 1, 1), (2, 3, 7), (5, 8, 31), (13, 16, 264), (3, 5, 1025)] {
        let shape = HeadShape { rows, hidden, vocab };
        // One row at a time, three, all.
        for budget in [0, 3 * 4 * vocab.next_multiple_of(8), 1 << 20] {
            run::<f32>(shape, budget);
            run::<bf16>(shape, budget);
        }
    }
}

/// Bits of log-probabilities, log-sum-exps, entropies and both gradients of one run, in chunks of three rows.
fn bits_of_a_run<T: Operand + Number + ValidAsZeroBits>() -> [Vec<u32>; 5]
where
    CublasLt: Gemm<T>,
{
    let device = device();
    let (kernels, stream) = (&device.kernels, device.stream());
    let gemm = CublasLt::new(&stream, kernels.ledger()).unwrap();
    let shape = HeadShape { rows: 8, hidden: 24, vocab: 264 };
    let HeadShape { rows, hidden, vocab } = shape;
    let h = up(&stream, &narrow::<T>(&uniform(1, rows * hidden, 1.0)));
    let w = up(&stream, &narrow::<T>(&uniform(2, vocab * hidden, 1.0)));
    let (t, u) = (up(&stream, &targets(rows, vocab)), up(&stream, &uniform(3, rows, 1.0)));
    let head = LinearLogp {
        hidden: h.as_view(),
        weight: w.as_view(),
        targets: t.as_view(),
        shape,
        ignored: IGNORED,
        budget_bytes: 3 * vocab * (size_of::<f32>() + T::GRADIENT_BYTES),
    };
    let forward = head.forward_with_entropy(kernels, &gemm).unwrap();
    let mut d_h = up(&stream, &vec![0.5f32; rows * hidden]);
    let mut d_w = up(&stream, &vec![0.25f32; vocab * hidden]);
    let (lse, u, d_w_view) = (forward.lse.as_view(), u.as_view(), &mut d_w.as_view_mut());
    head.backward(kernels, &gemm, &lse, &u, &mut d_h.as_view_mut(), Some(d_w_view)).unwrap();
    let entropy = forward.entropy.as_ref().unwrap();
    [
        bits(&down(&stream, &*forward.logp)),
        bits(&down(&stream, &*forward.lse)),
        bits(&down(&stream, &**entropy)),
        bits(&down(&stream, &d_h)),
        bits(&down(&stream, &d_w)),
    ]
}

#[test]
fn the_head_has_the_same_bits_in_every_run() {
    let (single, half) = (bits_of_a_run::<f32>(), bits_of_a_run::<bf16>());
    for _ in 0..2 {
        assert_eq!(bits_of_a_run::<f32>(), single);
        assert_eq!(bits_of_a_run::<bf16>(), half);
    }
}

/// The same through the processor's slices, with a handle to the device of every run's own.
#[test]
fn slices_have_the_same_bits_in_every_run() {
    let shape = HeadShape { rows: 7, hidden: 12, vocab: 133 };
    let (hidden, weight) = (uniform(1, 7 * 12, 1.0), uniform(2, 133 * 12, 1.0));
    let (targets, upstream) = (targets(7, 133), uniform(3, 7, 1.0));
    let operands =
        cpu::LinearLogp { hidden: &hidden, weight: &weight, targets: &targets, shape, budget_bytes: 2048 };
    let run = || {
        let head = CudaHead::open(0).unwrap();
        let (forward, kept) = head.forward(&operands).unwrap();
        let (mut d_h, mut d_w) = (vec![0.5; hidden.len()], vec![0.25; weight.len()]);
        head.backward(kept, &upstream, &mut d_h, Some(&mut d_w)).unwrap();
        let lse: Vec<u64> = forward.lse.iter().map(|x| x.to_bits()).collect();
        (bits(&forward.logp), lse, bits(&d_h), bits(&d_w))
    };
    let first = run();
    for _ in 0..2 {
        assert_eq!(run(), first);
    }
}

#[test]
fn products_of_all_layouts() {
    let device = device();
    let stream = device.stream();
    let gemm = CublasLt::new(&stream, device.kernels.ledger()).unwrap();
    let (m, k, n) = (5, 3, 7);
    let (a, b) = (uniform(1, m * k, 1.0), uniform(2, k * n, 1.0));
    let transpose = |x: &[f32], rows: usize, cols: usize| -> Vec<f32> {
        (0..rows * cols).map(|i| x[(i % rows) * cols + i / rows]).collect()
    };
    let padded = |x: &[f32], cols: usize, stride: usize| -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len() / cols * stride];
        for (to, from) in out.chunks_mut(stride).zip(x.chunks(cols)) {
            to[..cols].copy_from_slice(from);
        }
        out
    };
    for (a_t, b_t, accumulate) in
        [(false, false, false), (false, true, true), (true, false, true), (true, true, false)]
    {
        let (a_rows, a_cols) = if a_t { (k, m) } else { (m, k) };
        let (b_rows, b_cols) = if b_t { (n, k) } else { (k, n) };
        let a_host = if a_t { transpose(&a, m, k) } else { a.clone() };
        let b_host = if b_t { transpose(&b, k, n) } else { b.clone() };
        let a_device = up(&stream, &padded(&a_host, a_cols, a_cols + 2));
        let b_device = up(&stream, &padded(&b_host, b_cols, b_cols + 1));
        // Without accumulation nothing of the old comes through, not even NaN.
        let old = if accumulate { 10.0 } else { f32::NAN };
        let mut c_device = up(&stream, &vec![old; m * (n + 3)]);
        let lhs = Matrix {
            data: a_device.as_view(),
            rows: a_rows,
            cols: a_cols,
            stride: a_cols + 2,
            transposed: a_t,
        };
        let rhs = Matrix {
            data: b_device.as_view(),
            rows: b_rows,
            cols: b_cols,
            stride: b_cols + 1,
            transposed: b_t,
        };
        let mut dst = MatrixMut { data: c_device.as_view_mut(), rows: m, cols: n, stride: n + 3 };
        gemm.multiply(&mut dst, accumulate, &lhs, &rhs).unwrap();
        let got = down(&stream, &c_device);
        for i in 0..m {
            for j in 0..n {
                let want: f32 = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
                let want = if accumulate { want + 10.0 } else { want };
                assert!((got[i * (n + 3) + j] - want).abs() < 1e-5, "{a_t} {b_t}: {i}, {j}");
            }
            assert!(got[i * (n + 3) + n..(i + 1) * (n + 3)].iter().all(|x| x.to_bits() == old.to_bits()));
        }
        let refused = gemm.multiply(&mut dst_of(&mut c_device, m, n + 1, n + 3), false, &lhs, &rhs);
        assert!(matches!(refused, Err(LossError::Product { .. })), "{refused:?}");
        let refused = gemm.multiply(&mut dst_of(&mut c_device, m, n, n + 4), false, &lhs, &rhs);
        assert!(matches!(refused, Err(LossError::Length { what: "dst", .. })), "{refused:?}");
        let refused = gemm.multiply(&mut dst_of(&mut c_device, m, n, n - 1), false, &lhs, &rhs);
        assert!(matches!(refused, Err(LossError::Strides { what: "dst", .. })), "{refused:?}");
    }
}

fn dst_of(
    c: &mut cudarc::driver::CudaSlice<f32>,
    rows: usize,
    cols: usize,
    stride: usize,
) -> MatrixMut<'_, f32> {
    MatrixMut { data: c.as_view_mut(), rows, cols, stride }
}

#[test]
fn the_books_hold_what_the_plan_says_and_nothing_stays() {
    // Own kernels, so that no other test is in the books.
    let device = device();
    let stream = device.stream();
    let kernels =
        ama_loss::cuda::Kernels::load(&device.context, &ama_loss::cuda::KernelCache::none()).unwrap();
    let gemm = CublasLt::new(&stream, kernels.ledger()).unwrap();
    let workspace = kernels.ledger().held_bytes();
    let shape = HeadShape { rows: 40, hidden: 4, vocab: 64 };
    let (rows, budget_bytes) = (shape.rows, 8 * 6 * 64);
    let plan = HeadPlan::new::<bf16>(shape, budget_bytes).unwrap();
    assert_eq!((plan.chunk_rows, plan.stride), (8, 64));
    let h = up(&stream, &vec![bf16::ONE; rows * 4]);
    let w = up(&stream, &vec![bf16::ONE; 64 * 4]);
    let (t, u) = (up(&stream, &vec![1u32; rows]), up(&stream, &vec![1f32; rows]));
    let head = LinearLogp {
        hidden: h.as_view(),
        weight: w.as_view(),
        targets: t.as_view(),
        shape,
        ignored: IGNORED,
        budget_bytes,
    };
    kernels.ledger().reset_peak();
    let forward = head.forward(&kernels, &gemm).unwrap();
    let outputs = 3 * 4 * rows;
    assert_eq!(kernels.ledger().peak_bytes() - workspace, outputs + plan.forward_bytes);
    assert_eq!(kernels.ledger().held_bytes() - workspace, outputs);
    kernels.ledger().reset_peak();
    let mut d_h = stream.alloc_zeros::<f32>(rows * 4).unwrap();
    let (lse, u) = (forward.lse.as_view(), u.as_view());
    head.backward(&kernels, &gemm, &lse, &u, &mut d_h.as_view_mut(), None).unwrap();
    assert_eq!(kernels.ledger().peak_bytes() - workspace, outputs + plan.backward_bytes);
    drop(forward);
    assert_eq!(kernels.ledger().held_bytes(), workspace);
    drop(gemm);
    assert_eq!(kernels.ledger().held_bytes(), 0);
}

/// 16 x 1024 rows, 128k tokens, `bf16`: what the allocations add up to, against logits and their gradient at once.
///
/// Gigaflops on a GPU are nothing, but an interpreter needs days: run it there with launches switched off.
#[test]
#[ignore = "needs a GPU, or a stand-in that only counts (STANDIN_DRY_RUN=1)"]
fn memory_at_full_size() {
    let device = device();
    let stream = device.stream();
    let kernels =
        ama_loss::cuda::Kernels::load(&device.context, &ama_loss::cuda::KernelCache::none()).unwrap();
    let gemm = CublasLt::new(&stream, kernels.ledger()).unwrap();
    let shape = HeadShape { rows: 16 * 1024, hidden: 64, vocab: 128 << 10 };
    let h = stream.alloc_zeros::<bf16>(shape.rows * 64).unwrap();
    let w = stream.alloc_zeros::<bf16>(shape.vocab * 64).unwrap();
    let (t, u) =
        (stream.alloc_zeros::<u32>(shape.rows).unwrap(), stream.alloc_zeros::<f32>(shape.rows).unwrap());
    let mut d_h = stream.alloc_zeros::<f32>(shape.rows * 64).unwrap();
    let mut d_w = stream.alloc_zeros::<f32>(shape.vocab * 64).unwrap();
    let head = LinearLogp {
        hidden: h.as_view(),
        weight: w.as_view(),
        targets: t.as_view(),
        shape,
        ignored: IGNORED,
        budget_bytes: 512 << 20,
    };
    let forward = head.forward(&kernels, &gemm).unwrap();
    let (lse, u) = (forward.lse.as_view(), u.as_view());
    let d_w = &mut d_w.as_view_mut();
    head.backward(&kernels, &gemm, &lse, &u, &mut d_h.as_view_mut(), Some(d_w)).unwrap();
    stream.synchronize().unwrap();
    let naive = shape.rows * shape.vocab * 2;
    let peak = kernels.ledger().peak_bytes();
    assert!(4 * peak <= naive, "{peak} bytes at the peak, bf16 logits alone take {naive}");
    assert!(peak >= 500 << 20, "the budget is used: {peak}");
}

#[test]
fn memory_that_is_not_there_is_an_error_and_leaves_nothing() {
    let device = device();
    let stream = device.stream();
    let kernels =
        ama_loss::cuda::Kernels::load(&device.context, &ama_loss::cuda::KernelCache::none()).unwrap();
    let gemm = CublasLt::new(&stream, kernels.ledger()).unwrap();
    let held = kernels.ledger().held_bytes();
    let shape = HeadShape { rows: 1 << 20, hidden: 1, vocab: 1 << 20 };
    let (h, w) = (stream.alloc_zeros::<f32>(1 << 20).unwrap(), stream.alloc_zeros::<f32>(1 << 20).unwrap());
    let t = stream.alloc_zeros::<u32>(1 << 20).unwrap();
    let head = LinearLogp {
        hidden: h.as_view(),
        weight: w.as_view(),
        targets: t.as_view(),
        shape,
        ignored: IGNORED,
        budget_bytes: usize::MAX / 8,
    };
    let got = head.forward(&kernels, &gemm).map(|_| ());
    assert_eq!(got, Err(LossError::DeviceMemory { what: "logits", bytes: 4 << 40 }));
    assert_eq!(kernels.ledger().held_bytes(), held);
    stream.synchronize().unwrap();
}

#[test]
fn wrong_lengths_are_refused() {
    let device = device();
    let (kernels, stream) = (&device.kernels, device.stream());
    let gemm = CublasLt::new(&stream, kernels.ledger()).unwrap();
    let (h, w, t) = (up(&stream, &[1f32; 6]), up(&stream, &[1f32; 8]), up(&stream, &[0u32; 3]));
    let run = |rows, hidden, vocab| {
        let head = LinearLogp {
            hidden: h.as_view(),
            weight: w.as_view(),
            targets: t.as_view(),
            shape: HeadShape { rows, hidden, vocab },
            ignored: IGNORED,
            budget_bytes: 1 << 20,
        };
        head.forward(kernels, &gemm).map(|_| ())
    };
    assert_eq!(run(3, 2, 4), Ok(()));
    assert_eq!(run(4, 2, 4), Err(LossError::Length { what: "hidden", want: 8, got: 6 }));
    assert_eq!(run(3, 2, 5), Err(LossError::Length { what: "weight", want: 10, got: 8 }));
    assert_eq!(run(6, 1, 8), Err(LossError::Length { what: "targets", want: 6, got: 3 }));
    assert_eq!(run(0, 2, 4), Err(LossError::Empty { what: "rows" }));
    assert_eq!(run(3, 0, 4), Err(LossError::Empty { what: "hidden" }));
    let most = i32::MAX as usize;
    assert_eq!(run(1 << 31, 1, 8), Err(LossError::TooMany { what: "rows", got: 1 << 31, most }));
}

/// The processor's slices through the device give what the processor gives.
#[test]
fn slices_in_slices_out() {
    let head = CudaHead::open(0).unwrap();
    assert!(!head.device_name().is_empty());
    let shape = HeadShape { rows: 9, hidden: 6, vocab: 133 };
    let (hidden, weight) = (uniform(1, 9 * 6, 1.0), uniform(2, 133 * 6, 1.0));
    let (targets, upstream) = (targets(9, 133), uniform(3, 9, 1.0));
    let operands =
        cpu::LinearLogp { hidden: &hidden, weight: &weight, targets: &targets, shape, budget_bytes: 4096 };
    let (want, kept) = operands.forward(Recompute::Always).unwrap();
    let (mut want_h, mut want_w) = (vec![0.5; hidden.len()], vec![0.25; weight.len()]);
    operands.backward(&want.lse, kept, &upstream, &mut want_h, Some(&mut want_w)).unwrap();
    let (got, kept) = head.forward(&operands).unwrap();
    let (mut got_h, mut got_w) = (vec![0.5; hidden.len()], vec![0.25; weight.len()]);
    head.backward(kept, &upstream, &mut got_h, Some(&mut got_w)).unwrap();
    for (got, want) in [(&got.logp, &want.logp), (&got_h, &want_h), (&got_w, &want_w)] {
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 3e-6, "{got} vs {want}");
        }
    }
    for (got, want) in got.lse.iter().zip(&want.lse) {
        assert!((got - want).abs() < 2e-6, "{got} vs {want}");
    }
    let bad = cpu::LinearLogp { targets: &[133; 9], ..operands };
    assert_eq!(head.forward(&bad).map(|_| ()), Err(LossError::Target { row: 0, target: 133, vocab: 133 }));
}
