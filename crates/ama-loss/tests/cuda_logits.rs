//! Log-probabilities and gradients from logits on the device against `f64`: types, strides, alignments, hostile rows.

#![cfg(feature = "cuda-tests")]
#![allow(unsafe_code, reason = "raw pointers and unset memory")]

mod common;

use ama_loss::cuda::{GradientOf, IGNORED, Logit, LogpOut};
use ama_loss::{LogitsShape, LossError, reference};
use common::device::{Device, Number, bits, device, down, narrow, up, widen};
use common::{check, naive_d_logits, naive_softmax, targets, uniform, wide};
use cudarc::driver::CudaSlice;
use half::bf16;

/// A forward and a backward pass, and where the logits lie.
struct Case<'a> {
    /// `[rows, vocab]`, dense.
    logits: &'a [f32],
    targets: &'a [u32],
    upstream: &'a [f32],
    vocab: usize,
    stride: usize,
    /// Elements before the first row, so that rows are not aligned.
    offset: usize,
}

struct Outcome {
    logp: Vec<f32>,
    lse: Vec<f32>,
    entropy: Vec<f32>,
    /// `[rows, vocab]`, dense.
    grad: Vec<f32>,
}

/// What lies around rows: a NaN that no kernel writes.
const POISON: f32 = f32::NAN;

impl Case<'_> {
    fn laid_out<T: Number>(&self) -> Vec<T> {
        let rows = self.targets.len();
        let mut out = vec![T::of(POISON); self.offset + rows * self.stride];
        for (i, row) in self.logits.chunks(self.vocab).enumerate() {
            out[self.offset + i * self.stride..][..self.vocab].copy_from_slice(&narrow::<T>(row));
        }
        out
    }

    /// The rows, after showing that everything around them is as it was.
    fn taken_out<T: Number>(&self, laid_out: &[T]) -> Vec<f32> {
        let mut out = Vec::new();
        let poison = T::of(POISON).bits();
        assert!(laid_out[..self.offset].iter().all(|x| x.bits() == poison));
        for row in laid_out[self.offset..].chunks(self.stride) {
            out.extend(widen(&row[..self.vocab]));
            assert!(row[self.vocab..].iter().all(|x| x.bits() == poison), "written between rows");
        }
        out
    }

    fn run<L, G>(&self, device: &Device) -> Outcome
    where
        L: Logit + Number + GradientOf<L>,
        G: GradientOf<L> + Number,
    {
        let (kernels, stream, rows) = (&device.kernels, device.stream(), self.targets.len());
        let shape = LogitsShape { rows, vocab: self.vocab, stride: self.stride };
        let mut logits = up(&stream, &self.laid_out::<L>());
        let (targets, upstream) = (up(&stream, self.targets), up(&stream, self.upstream));
        let mut logp = up(&stream, &vec![POISON; rows]);
        let (mut lse, mut entropy) = (up(&stream, &vec![POISON; 2 * rows]), logp.clone());
        let view = logits.slice(self.offset..);
        let mut before = None;
        for with_entropy in [true, false] {
            let mut out = LogpOut {
                logp: logp.as_view_mut(),
                lse: lse.as_view_mut(),
                entropy: with_entropy.then(|| entropy.as_view_mut()),
            };
            kernels.logp_forward(&stream, &view, &targets.as_view(), shape, IGNORED, &mut out).unwrap();
            let now = bits(&down(&stream, &logp));
            assert_eq!(*before.get_or_insert_with(|| now.clone()), now, "with and without entropy");
        }
        let mut d = up(&stream, &vec![G::of(POISON); self.offset + rows * self.stride]);
        let (t, l, u) = (targets.as_view(), lse.as_view(), upstream.as_view());
        let mut d_view = d.slice_mut(self.offset..);
        kernels.logp_backward(&stream, &view, &t, &l, &u, shape, IGNORED, &mut d_view).unwrap();
        let grad = self.taken_out(&down(&stream, &d));
        // In place is the same as beside, bit for bit, if the type is.
        let mut in_place = logits.slice_mut(self.offset..);
        kernels.logp_backward_in_place(&stream, &mut in_place, &t, &l, &u, shape, IGNORED).unwrap();
        let in_place = self.taken_out(&down(&stream, &logits));
        if L::NAME == G::NAME {
            assert_eq!(bits(&in_place), bits(&grad), "in place");
        }
        Outcome {
            logp: down(&stream, &logp),
            lse: down(&stream, &lse),
            entropy: down(&stream, &entropy),
            grad,
        }
    }

    fn check<L, G>(&self, device: &Device)
    where
        L: Logit + Number + GradientOf<L>,
        G: GradientOf<L> + Number,
    {
        let got = self.run::<L, G>(device);
        let vocab = self.vocab;
        // What the device sees: logits rounded to its type.
        let logits = widen(&narrow::<L>(self.logits));
        let valid: Vec<u32> = self.targets.iter().map(|t| if *t == IGNORED { 0 } else { *t }).collect();
        let upstream: Vec<f32> = self
            .upstream
            .iter()
            .zip(self.targets)
            .map(|(g, t)| if *t == IGNORED { 0.0 } else { *g })
            .collect();
        let mut truth = reference::log_softmax_gather(&wide(&logits), &valid, vocab);
        let (mut naive, softmax) = naive_softmax(&logits, &valid, vocab);
        let mut entropy: Vec<f64> = logits.chunks(vocab).map(entropy_of).collect();
        for (i, target) in self.targets.iter().enumerate() {
            if *target == IGNORED {
                (truth[i], naive[i], entropy[i]) = (0.0, 0.0, 0.0);
                assert_eq!((got.logp[i], got.entropy[i]), (0.0, 0.0));
            }
        }
        check(&got.logp, &naive, &truth, 2e-6);
        check(&got.entropy, &vec![f32::NAN; entropy.len()], &entropy, 4e-6);
        for (i, (pair, row)) in got.lse.chunks(2).zip(logits.chunks(vocab)).enumerate() {
            if self.targets[i] != IGNORED {
                let lse = f64::from(pair[0]) + f64::from(pair[1]);
                assert!((lse - reference::log_sum_exp(&wide(row))).abs() < 2e-6);
            }
        }
        let true_grad =
            reference::log_softmax_gather_backward(&wide(&logits), &valid, &wide(&upstream), vocab);
        if G::NAME == "bf16" {
            for (got, want) in got.grad.iter().zip(&true_grad) {
                // Half a unit in the last of 8 binary places.
                let allowed = want.abs() / 255.0 + 3e-7;
                assert!((f64::from(*got) - want).abs() <= allowed, "{got} vs {want}");
            }
        } else {
            let naive_grad = naive_d_logits(&softmax, &valid, &upstream, vocab);
            check(&got.grad, &naive_grad, &true_grad, 3e-7);
        }
    }
}

fn entropy_of(row: &[f32]) -> f64 {
    let lse = reference::log_sum_exp(&wide(row));
    wide(row).iter().map(|x| if *x == f64::NEG_INFINITY { 0.0 } else { (lse - x) * (x - lse).exp() }).sum()
}

#[test]
fn all_sizes_strides_and_types_err_no_more_than_naive_f32() {
    let device = device();
    for (rows, vocab) in [(1, 1), (3, 2), (5, 31), (4, 257), (3, 1025), (2, 4099), (1, 9000)] {
        for (padding, offset) in [(0, 0), (5, 0), (0, 1), (8 - vocab % 8, 0), (3, 3)] {
            for scale in [1.0, 30.0] {
                let logits = uniform(vocab as u64, rows * vocab, scale);
                let mut targets = targets(rows, vocab);
                let mut upstream = uniform(2, rows, 1.0);
                if rows > 2 {
                    targets[1] = IGNORED;
                    upstream[2] = 0.0;
                }
                let (targets, upstream, stride) = (&targets, &upstream, vocab + padding);
                let case = Case { logits: &logits, targets, upstream, vocab, stride, offset };
                case.check::<f32, f32>(device);
                case.check::<bf16, bf16>(device);
                case.check::<f32, bf16>(device);
            }
        }
    }
}

#[test]
fn hostile_rows_do_as_documented() {
    const INF: f32 = f32::INFINITY;
    let device = device();
    for vocab in [4, 40, 1030] {
        // Whatever is odd stands at the end, in the tail of the wide loads; the rest of a row is `rest`.
        let row = |rest: f32, last: [f32; 3]| -> Vec<f32> {
            let mut row = vec![rest; vocab];
            row[vocab - 3..].copy_from_slice(&last);
            row
        };
        let last = vocab as u32 - 1;
        #[rustfmt::skip]
        let cases: [(Vec<f32>, u32, f32, f32); 13] = [
            // row, target, log-probability, entropy
            (row(f32::NAN, [f32::NAN; 3]), 0, f32::NAN, f32::NAN),
            (row(0.0, [0.0, f32::NAN, 0.0]), 0, f32::NAN, f32::NAN),
            (row(-INF, [-INF; 3]), 0, f32::NAN, f32::NAN),
            (row(0.0, [INF, 0.0, 0.0]), last, f32::NAN, f32::NAN),
            (row(INF, [0.0, 0.0, 0.0]), last, f32::NAN, f32::NAN),
            (row(-INF, [-INF, f32::NAN, -INF]), 0, f32::NAN, f32::NAN),
            (row(-INF, [-INF, 5.0, -INF]), last - 1, 0.0, 0.0), // certain, and right
            (row(-INF, [-INF, 5.0, 5.0]), 0, -INF, std::f32::consts::LN_2), // target impossible
            (row(-1e9, [1e9, 1e9, -1e9]), last - 2, -std::f32::consts::LN_2, std::f32::consts::LN_2),
            (row(-f32::MAX, [f32::MAX, f32::MAX, -f32::MAX]), last - 1, -std::f32::consts::LN_2, std::f32::consts::LN_2),
            (row(0.0, [0.0; 3]), IGNORED, 0.0, 0.0),
            (row(f32::NAN, [INF; 3]), IGNORED, 0.0, 0.0),
            (row(0.0, [0.0; 3]), vocab as u32, f32::NAN, f32::NAN), // no such token
        ];
        let logits: Vec<f32> = cases.iter().flat_map(|case| case.0.clone()).collect();
        let targets: Vec<u32> = cases.iter().map(|case| case.1).collect();
        let upstream = vec![2.0; cases.len()];
        let case =
            Case { logits: &logits, targets: &targets, upstream: &upstream, vocab, stride: vocab, offset: 0 };
        let single = case.run::<f32, f32>(device);
        let half = case.run::<bf16, bf16>(device);
        for (i, (row, target, logp, entropy)) in cases.iter().enumerate() {
            for (name, got) in [("f32", &single), ("bf16", &half)] {
                let grad = &got.grad[i * vocab..(i + 1) * vocab];
                let near = |got: f32, want: f32| {
                    (got.is_nan() && want.is_nan()) || got == want || (got - want).abs() < 1e-6
                };
                // f32::MAX is no bf16 but rounds to infinity.
                let (logp, entropy) = if name == "bf16" && row[vocab - 2] == f32::MAX {
                    (&f32::NAN, &f32::NAN)
                } else {
                    (logp, entropy)
                };
                assert!(near(got.logp[i], *logp), "{name} row {i}: {} vs {logp}", got.logp[i]);
                assert!(near(got.entropy[i], *entropy), "{name} row {i}: {} vs {entropy}", got.entropy[i]);
                if *target == IGNORED {
                    assert!(grad.iter().all(|g| *g == 0.0), "{name} row {i}");
                } else if logp.is_nan() {
                    assert!(grad.iter().all(|g| g.is_nan()), "{name} row {i}: {grad:?}");
                } else {
                    let at_target = 2.0 * (1.0 - logp.exp());
                    assert!(near(grad[*target as usize], at_target), "{name} row {i}: {grad:?}");
                    assert!(grad.iter().sum::<f32>().abs() < 1e-5, "{name} row {i}: {grad:?}");
                }
            }
        }
    }
}

/// A zero upstream gradient gives a zero gradient whatever the row holds, NaN flows.
#[test]
fn upstream_zero_reads_nothing_and_nan_is_not_hidden() {
    let device = device();
    let vocab = 37;
    let mut logits = uniform(9, 3 * vocab, 1.0);
    logits[..vocab].fill(f32::NAN);
    let case = Case {
        logits: &logits,
        targets: &[0, 1, 2],
        upstream: &[0.0, f32::NAN, 1.0],
        vocab,
        stride: vocab,
        offset: 0,
    };
    let got = case.run::<f32, f32>(device);
    assert!(got.grad[..vocab].iter().all(|g| *g == 0.0));
    assert!(got.grad[vocab..2 * vocab].iter().all(|g| g.is_nan()));
    assert!(got.grad[2 * vocab..].iter().all(|g| g.is_finite()));
}

#[test]
fn the_gradient_of_an_almost_certain_token() {
    let vocab = 64;
    let mut logits = vec![0.0; vocab];
    logits[7] = 12.0;
    let case = Case { logits: &logits, targets: &[7], upstream: &[1.0], vocab, stride: vocab, offset: 0 };
    let got = case.run::<f32, f32>(device());
    let others = 63.0 * (-12f64).exp();
    let want = others / (1.0 + others);
    // The sum of exponentials is an f32 near 1, so the target's gradient is exact to half a unit of that.
    assert!((f64::from(got.grad[7]) - want).abs() <= 6e-8, "{} vs {want}", got.grad[7]);
    let rest: f64 = got.grad.iter().enumerate().filter(|(j, _)| *j != 7).map(|(_, g)| f64::from(*g)).sum();
    assert!((rest + want).abs() < 1e-6 * want, "{rest} vs {want}");
}

/// Probabilities of `1 - p` at the target, from a log-sum-exp that says so: the gradient is `g p` to the last bits, where
/// `g (1 - e^(x - lse))` would be a multiple of 6e-8.
fn target_gradient_without_cancellation<L, G>()
where
    L: Logit + Number + GradientOf<L>,
    G: GradientOf<L> + Number,
{
    let device = device();
    let (kernels, stream, vocab) = (&device.kernels, device.stream(), 21);
    let shape = LogitsShape { rows: vocab, vocab, stride: vocab + 3 };
    // Every place of a row is the target once.
    let targets: Vec<u32> = (0..vocab as u32).collect();
    for log_sum in [1e-7f32, 1e-10, 0.0] {
        let mut logits = vec![L::of(-30.0); vocab * shape.stride];
        (0..vocab).for_each(|i| logits[i * shape.stride + i] = L::of(-16.0));
        let (x, t) = (up(&stream, &logits), up(&stream, &targets));
        let lse = up(&stream, &[-16.0, log_sum].repeat(vocab));
        let upstream = up(&stream, &vec![-0.75f32; vocab]);
        let mut d = up(&stream, &vec![G::of(POISON); logits.len()]);
        let (t, l, u) = (t.as_view(), lse.as_view(), upstream.as_view());
        kernels
            .logp_backward(&stream, &x.as_view(), &t, &l, &u, shape, IGNORED, &mut d.as_view_mut())
            .unwrap();
        for (row, d) in down(&stream, &d).chunks(shape.stride).enumerate() {
            let want = 0.75 * (-f64::from(log_sum)).exp_m1();
            let got = f64::from(d[row].widen());
            let relative = if G::NAME == "bf16" { 1.0 / 255.0 } else { 4e-6 };
            assert!((got - want).abs() <= relative * want.abs(), "{}, {row}: {got:e} vs {want:e}", G::NAME);
        }
    }
}

#[test]
fn the_gradient_at_the_target_has_no_cancellation() {
    target_gradient_without_cancellation::<f32, f32>();
    target_gradient_without_cancellation::<bf16, bf16>();
    target_gradient_without_cancellation::<f32, bf16>();
}

fn same_bits<L, G>()
where
    L: Logit + Number + GradientOf<L>,
    G: GradientOf<L> + Number,
{
    let (rows, vocab) = (3, 2100);
    let (logits, upstream) = (uniform(4, rows * vocab, 9.0), uniform(5, rows, 1.0));
    let targets = targets(rows, vocab);
    let case =
        Case { logits: &logits, targets: &targets, upstream: &upstream, vocab, stride: vocab, offset: 0 };
    let (a, b) = (case.run::<L, G>(device()), case.run::<L, G>(device()));
    for (a, b) in [(a.logp, b.logp), (a.lse, b.lse), (a.entropy, b.entropy), (a.grad, b.grad)] {
        assert_eq!(bits(&a), bits(&b), "{} to {}", L::NAME, G::NAME);
    }
}

#[test]
fn the_same_bits_in_every_run() {
    same_bits::<f32, f32>();
    same_bits::<bf16, bf16>();
    same_bits::<f32, bf16>();
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let device = device();
    let (kernels, stream) = (&device.kernels, device.stream());
    let (logits, targets) = (up(&stream, &[0f32; 12]), up(&stream, &[0u32; 3]));
    let logp = &mut up(&stream, &[7f32; 3]);
    // Lengths of logits, targets, logp, lse; rows, vocab, stride.
    let run = |logp: &mut CudaSlice<f32>, lengths: [usize; 4], rows, vocab, stride| {
        let mut lse = up(&stream, &[7f32; 6]);
        let mut out =
            LogpOut { logp: logp.slice_mut(..lengths[2]), lse: lse.slice_mut(..lengths[3]), entropy: None };
        let (logits, targets) = (logits.slice(..lengths[0]), targets.slice(..lengths[1]));
        let shape = LogitsShape { rows, vocab, stride };
        kernels.logp_forward(&stream, &logits, &targets, shape, IGNORED, &mut out)
    };
    let length = |what, want, got| Err(LossError::Length { what, want, got });
    assert_eq!(run(logp, [11, 3, 3, 6], 3, 4, 4), length("logits", 12, 11));
    assert_eq!(run(logp, [12, 2, 3, 6], 3, 4, 4), length("targets", 3, 2));
    assert_eq!(run(logp, [12, 3, 2, 6], 3, 4, 4), length("logp", 3, 2));
    assert_eq!(run(logp, [12, 3, 3, 3], 3, 4, 4), length("lse", 6, 3));
    assert_eq!(run(logp, [12, 3, 3, 6], 0, 4, 4), Err(LossError::Empty { what: "rows" }));
    assert_eq!(run(logp, [12, 3, 3, 6], 3, 0, 4), Err(LossError::Empty { what: "vocab" }));
    let strides = LossError::Strides { what: "logits", rows: 3, cols: 4, row_stride: 3, col_stride: 1 };
    assert_eq!(run(logp, [12, 3, 3, 6], 3, 4, 3), Err(strides));
    let huge = LossError::Overflow { what: "logits", rows: 3, cols: usize::MAX };
    assert_eq!(run(logp, [12, 3, 3, 6], 3, 4, usize::MAX), Err(huge));
    assert_eq!(down(&stream, logp), [7.0; 3]);
    assert_eq!(run(logp, [12, 3, 3, 6], 3, 4, 4), Ok(()));
    assert_eq!(down(&stream, logp), [-4f32.ln(); 3]);
}

/// Memory that the slice does not own, at the address of an element.
#[test]
fn a_raw_pointer_will_do() {
    let device = device();
    let stream = device.stream();
    let logits = up(&stream, &[9f32, 0.0, 3f32.ln(), 9.0]);
    let targets = up(&stream, &[1u32]);
    let (mut logp, mut lse) = (up(&stream, &[0f32]), up(&stream, &[0f32; 2]));
    stream.synchronize().unwrap();
    let address = {
        let (address, _read) = cudarc::driver::DevicePtr::device_ptr(&logits, &stream);
        address + 4
    };
    // SAFETY: two elements from the second on, of a slice that outlives the loan.
    let loan = unsafe { ama_loss::cuda::borrowed::<f32>(&stream, address, 2) }.unwrap();
    let mut out = LogpOut { logp: logp.as_view_mut(), lse: lse.as_view_mut(), entropy: None };
    let shape = LogitsShape::contiguous(1, 2);
    let (x, t) = (loan.as_view(), targets.as_view());
    device.kernels.logp_forward(&stream, &x, &t, shape, IGNORED, &mut out).unwrap();
    drop(loan);
    assert!((down(&stream, &logp)[0] - 0.75f32.ln()).abs() < 1e-6);
    assert_eq!(down(&stream, &logits).len(), 4, "not freed");
}

/// Rows further apart than 32 bits count: an index that wraps around reads the first row again, or nothing.
#[test]
#[ignore = "takes 4 GiB on the device"]
fn more_than_two_to_the_31_elements() {
    let device = device();
    let (kernels, stream) = (&device.kernels, device.stream());
    let (vocab, stride) = (9, (1usize << 31) + 1);
    let shape = LogitsShape { rows: 2, vocab, stride };
    let host = uniform(3, 2 * vocab, 4.0);
    let rows = narrow::<bf16>(&host);
    // SAFETY: only the two rows are looked at, and they are written first.
    let mut logits = unsafe { stream.alloc::<bf16>(stride + vocab) }.unwrap();
    stream.memcpy_htod(&rows[..vocab], &mut logits.slice_mut(..vocab)).unwrap();
    stream.memcpy_htod(&rows[vocab..], &mut logits.slice_mut(stride..)).unwrap();
    let (targets, upstream) = (up(&stream, &[2u32, 5]), up(&stream, &[1f32, -2.0]));
    let (mut logp, mut lse) = (up(&stream, &[0f32; 2]), up(&stream, &[0f32; 4]));
    let mut out = LogpOut { logp: logp.as_view_mut(), lse: lse.as_view_mut(), entropy: None };
    kernels.logp_forward(&stream, &logits.as_view(), &targets.as_view(), shape, IGNORED, &mut out).unwrap();
    let (t, l, u) = (targets.as_view(), lse.as_view(), upstream.as_view());
    let x = &mut logits.as_view_mut();
    kernels.logp_backward_in_place(&stream, x, &t, &l, &u, shape, IGNORED).unwrap();
    let seen = wide(&widen(&rows));
    for (got, want) in down(&stream, &logp).iter().zip(reference::log_softmax_gather(&seen, &[2, 5], vocab)) {
        assert!((f64::from(*got) - want).abs() < 2e-6, "{got} vs {want}");
    }
    let want = reference::log_softmax_gather_backward(&seen, &[2, 5], &[1.0, -2.0], vocab);
    let got = [down(&stream, &logits.slice(..vocab)), down(&stream, &logits.slice(stride..))].concat();
    for (got, want) in widen(&got).iter().zip(&want) {
        assert!((f64::from(*got) - want).abs() <= want.abs() / 255.0 + 3e-7, "{got} vs {want}");
    }
}
