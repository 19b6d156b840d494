//! Sums over sequences and preference losses on the device, against the processor's `f64`.

#![cfg(feature = "cuda-tests")]

mod common;

use ama_loss::cuda::{Excess, PairArrays, Segments};
use ama_loss::{LossError, PairLogps, PreferenceKind, PreferenceLoss};
use common::device::{bits, device, down, up};
use common::uniform;

#[test]
fn sums_and_the_way_back() {
    let device = device();
    let (kernels, stream) = (&device.kernels, device.stream());
    // Empty, of one row, of a piece exactly, of a piece and one, of several pieces; rows before and after all of them.
    for offsets in [
        vec![0, 1],
        vec![0, 0, 5, 5, 37],
        vec![3, 4, 1028, 2053, 2053, 5000],
        vec![0, 1024, 2048],
        vec![0, 4099],
    ] {
        let last = *offsets.last().unwrap();
        for rows in [last as usize, last as usize + 700] {
            let values = uniform(rows as u64, rows, 20.0);
            let segments = Segments::new(kernels, &stream, &offsets, rows).unwrap();
            assert_eq!((segments.sequences(), segments.rows()), (offsets.len() - 1, rows));
            let on_device = up(&stream, &values);
            let mut sums = up(&stream, &vec![f64::NAN; offsets.len() - 1]);
            kernels.segment_sum(&stream, &on_device.as_view(), &segments, &mut sums.as_view_mut()).unwrap();
            let got = down(&stream, &sums);
            for (span, got) in offsets.windows(2).zip(&got) {
                let rows = &values[span[0] as usize..span[1] as usize];
                let want: f64 = rows.iter().map(|x| f64::from(*x)).sum();
                assert!((got - want).abs() <= 1e-12 * (1.0 + rows.len() as f64), "{span:?}: {got} vs {want}");
            }
            let d_sums: Vec<f64> = (0..offsets.len() - 1).map(|s| s as f64 + 0.1).collect();
            let d_sums = up(&stream, &d_sums);
            let mut d_values = up(&stream, &vec![f32::NAN; rows]);
            let out = &mut d_values.as_view_mut();
            kernels.segment_spread(&stream, &d_sums.as_view(), &segments, out).unwrap();
            for (i, got) in down(&stream, &d_values).into_iter().enumerate() {
                let inside = offsets.windows(2).position(|span| (span[0]..span[1]).contains(&(i as u32)));
                assert_eq!(got, inside.map_or(0.0, |s| (s as f64 + 0.1) as f32), "row {i} of {offsets:?}");
            }
        }
    }
}

/// The same rows give the same bits wherever in the batch they lie and whatever lies beside them.
#[test]
fn a_sum_does_not_depend_on_the_batch() {
    let device = device();
    let (kernels, stream) = (&device.kernels, device.stream());
    let sequence = uniform(1, 2500, 3.0);
    let sum = |before: usize, after: usize| -> u64 {
        let values = [uniform(2, before, 1.0), sequence.clone(), uniform(3, after, 1.0)].concat();
        let offsets = [0, before, before + 2500, values.len()].map(|x| x as u32);
        let segments = Segments::new(kernels, &stream, &offsets, values.len()).unwrap();
        let (values, mut sums) = (up(&stream, &values), up(&stream, &[0f64; 3]));
        kernels.segment_sum(&stream, &values.as_view(), &segments, &mut sums.as_view_mut()).unwrap();
        down(&stream, &sums)[1].to_bits()
    };
    let alone = sum(0, 0);
    for (before, after) in [(1, 0), (777, 5000), (3000, 1)] {
        assert_eq!(sum(before, after), alone);
    }
}

fn double_bits(x: &[f64]) -> Vec<u64> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn sums_and_the_way_back_have_the_same_bits_in_every_run() {
    let device = device();
    let (kernels, stream) = (&device.kernels, device.stream());
    // Of very different sizes: numbers alike would have an exact sum in f64, whatever the order.
    let scaled = |(i, x): (usize, f32)| x * 0.5f32.powi((i * 7 % 60) as i32);
    let values: Vec<f32> = uniform(6, 2600, 20.0).into_iter().enumerate().map(scaled).collect();
    let segments = Segments::new(kernels, &stream, &[2, 2, 40, 2500, 2503], values.len()).unwrap();
    let values = up(&stream, &values);
    let run = || {
        let mut sums = up(&stream, &[f64::NAN; 4]);
        kernels.segment_sum(&stream, &values.as_view(), &segments, &mut sums.as_view_mut()).unwrap();
        let mut d_values = up(&stream, &vec![f32::NAN; segments.rows()]);
        let out = &mut d_values.as_view_mut();
        kernels.segment_spread(&stream, &sums.as_view(), &segments, out).unwrap();
        (double_bits(&down(&stream, &sums)), bits(&down(&stream, &d_values)))
    };
    let first = run();
    for _ in 0..3 {
        assert_eq!(run(), first);
    }
}

#[test]
fn offsets_that_make_no_sense_are_refused() {
    let device = device();
    let stream = device.stream();
    let new = |offsets: &[u32], rows| Segments::new(&device.kernels, &stream, offsets, rows).map(|_| ());
    let offset = |index, got, least, most| Err(LossError::Offset { index, got, least, most });
    assert_eq!(new(&[0, 5, 4, 9], 9), offset(2, 4, 5, 9));
    assert_eq!(new(&[0, 10], 9), offset(1, 10, 0, 9));
    assert_eq!(new(&[0], 9), Err(LossError::Empty { what: "sequences" }));
    assert_eq!(new(&[], 9), Err(LossError::Empty { what: "sequences" }));
    assert_eq!(new(&[0, 0], 0), Err(LossError::Empty { what: "rows" }));
    assert_eq!(new(&[0, 9], 9), Ok(()));
}

/// One line of TRL's golden table, or a pair made up here.
struct Pair {
    logps: PairLogps,
    cached: f64,
    weight: f64,
}

/// Runs pairs of one loss on the device and compares everything with [`PreferenceLoss::evaluate`].
fn compare(loss: &PreferenceLoss, pairs: &[Pair]) {
    let device = device();
    let stream = device.stream();
    let numbers = |of: fn(&Pair) -> f64| up(&stream, &pairs.iter().map(of).collect::<Vec<_>>());
    let tokens = |of: fn(&Pair) -> u32| up(&stream, &pairs.iter().map(of).collect::<Vec<_>>());
    let (chosen, rejected) = (numbers(|p| p.logps.chosen), numbers(|p| p.logps.rejected));
    let (ref_chosen, ref_rejected) = (numbers(|p| p.logps.ref_chosen), numbers(|p| p.logps.ref_rejected));
    let (chosen_tokens, rejected_tokens) =
        (tokens(|p| p.logps.chosen_tokens), tokens(|p| p.logps.rejected_tokens));
    let (cached, weight) = (numbers(|p| p.cached), numbers(|p| p.weight));
    let n = pairs.len();
    for weighted in [false, true] {
        let arrays = PairArrays {
            chosen: chosen.as_view(),
            rejected: rejected.as_view(),
            ref_chosen: ref_chosen.as_view(),
            ref_rejected: ref_rejected.as_view(),
            chosen_tokens: chosen_tokens.as_view(),
            rejected_tokens: rejected_tokens.as_view(),
            weight: weighted.then(|| weight.as_view()),
        };
        for mode in 0..4 {
            let excess = match mode {
                0 => Excess::Raw,
                1 => Excess::Unclipped { cached: cached.as_view() },
                2 => Excess::Clipped { cached: cached.as_view(), clip_gradient: true },
                _ => Excess::Clipped { cached: cached.as_view(), clip_gradient: false },
            };
            let out = device.kernels.preference(&stream, loss, &arrays, &excess).unwrap();
            let got = [&out.loss, &out.margin, &out.chosen_reward, &out.rejected_reward, &out.excess]
                .map(|array| down(&stream, &**array));
            let d_sums = down(&stream, &*out.d_sums);
            for (i, pair) in pairs.iter().enumerate() {
                let want = loss.evaluate(&pair.logps);
                let over = want.loss_nats - pair.cached;
                let (excess, active) = match mode {
                    0 => (want.loss_nats, true),
                    1 => (over, true),
                    _ if over <= 0.0 => (0.0, mode == 3),
                    _ => (over, true),
                };
                let factor = if !active {
                    0.0
                } else if weighted {
                    pair.weight
                } else {
                    1.0
                };
                let times = |x: f64| if factor == 0.0 { 0.0 } else { factor * x };
                let wants = [want.loss_nats, want.margin, want.chosen_reward, want.rejected_reward, excess]
                    .into_iter()
                    .chain([times(want.d_chosen), times(want.d_rejected)]);
                let gots = got.iter().map(|array| array[i]).chain([d_sums[i], d_sums[n + i]]);
                for (k, (got, want)) in gots.zip(wants).enumerate() {
                    let near = (got - want).abs() <= 1e-13 * want.abs().max(want_scale(&pair.logps));
                    assert!(
                        near || got == want || (got.is_nan() && want.is_nan()),
                        "{loss:?}, mode {mode}, pair {i}, output {k}: {got} vs {want}"
                    );
                }
            }
        }
    }
}

/// Rounding of differences of log-probabilities is relative to the log-probabilities.
fn want_scale(logps: &PairLogps) -> f64 {
    let all = [logps.chosen, logps.rejected, logps.ref_chosen, logps.ref_rejected];
    all.iter().filter(|x| x.is_finite()).fold(1.0, |most, x| most.max(x.abs()))
}

const KINDS: [PreferenceKind; 6] = [
    PreferenceKind::Sigmoid { label_smoothing: 0.0 },
    PreferenceKind::Sigmoid { label_smoothing: 0.1 },
    PreferenceKind::Ipo,
    PreferenceKind::Hinge,
    PreferenceKind::Robust { label_smoothing: 0.0 },
    PreferenceKind::Robust { label_smoothing: 0.2 },
];

/// Ordinary pairs, more than a block has threads.
fn ordinary_pairs() -> Vec<Pair> {
    let x = uniform(12, 6 * 150, 1.0);
    let pair = |(i, x): (usize, &[f32])| Pair {
        logps: PairLogps {
            chosen: -30.0 + 8.0 * f64::from(x[0]),
            rejected: -30.0 + 8.0 * f64::from(x[1]),
            ref_chosen: -30.0 + f64::from(x[2]),
            ref_rejected: -30.0 + f64::from(x[3]),
            chosen_tokens: 1 + (i % 5) as u32,
            rejected_tokens: 1 + (i % 7) as u32,
        },
        cached: 0.7 + f64::from(x[4]),
        weight: f64::from(x[5]),
    };
    x.chunks(6).enumerate().map(pair).collect()
}

/// Loss, excess, gradients of the chosen and then of the rejected completions, to be compared to the bit.
fn launched(loss: &PreferenceLoss, pairs: &[Pair], cached: &[f64], clip: Option<bool>) -> [Vec<f64>; 3] {
    let device = device();
    let stream = device.stream();
    let numbers = |of: fn(&Pair) -> f64| up(&stream, &pairs.iter().map(of).collect::<Vec<_>>());
    let tokens = |of: fn(&Pair) -> u32| up(&stream, &pairs.iter().map(of).collect::<Vec<_>>());
    let logps = [
        numbers(|p| p.logps.chosen),
        numbers(|p| p.logps.rejected),
        numbers(|p| p.logps.ref_chosen),
        numbers(|p| p.logps.ref_rejected),
    ];
    let lengths = [tokens(|p| p.logps.chosen_tokens), tokens(|p| p.logps.rejected_tokens)];
    let [chosen, rejected, ref_chosen, ref_rejected] = logps.each_ref().map(|x| x.as_view());
    let [chosen_tokens, rejected_tokens] = lengths.each_ref().map(|x| x.as_view());
    let (cached, weight) = (up(&stream, cached), numbers(|p| p.weight));
    let arrays = PairArrays {
        chosen,
        rejected,
        ref_chosen,
        ref_rejected,
        chosen_tokens,
        rejected_tokens,
        weight: Some(weight.as_view()),
    };
    let excess = match clip {
        None => Excess::Raw,
        Some(clip_gradient) => Excess::Clipped { cached: cached.as_view(), clip_gradient },
    };
    let out = device.kernels.preference(&stream, loss, &arrays, &excess).unwrap();
    [&out.loss, &out.excess, &out.d_sums].map(|array| down(&stream, &**array))
}

/// A pair exactly at its specialist gives no excess and, if gradients are clipped, no gradient; one just above gives both.
#[test]
fn a_pair_exactly_at_its_specialist_is_clipped() {
    let pairs = ordinary_pairs();
    for kind in KINDS {
        let loss = PreferenceLoss::new(kind, 0.1, 0.2).unwrap();
        // The device's own losses, to the bit.
        let [losses, _, gradients] = launched(&loss, &pairs, &vec![0.0; pairs.len()], None);
        let below: Vec<f64> = losses.iter().map(|loss| loss.next_down()).collect();
        for clip in [true, false] {
            let [_, excess, kept] = launched(&loss, &pairs, &losses, Some(clip));
            assert!(excess.iter().all(|excess| *excess == 0.0), "{kind:?}: {excess:?}");
            let want = if clip { vec![0.0; 2 * pairs.len()] } else { gradients.clone() };
            assert_eq!(kept, want, "{kind:?}, gradient clipped: {clip}");
            let [_, excess, kept] = launched(&loss, &pairs, &below, Some(clip));
            assert!(excess.iter().all(|excess| *excess > 0.0), "{kind:?}: {excess:?}");
            assert_eq!(kept, gradients, "{kind:?}, just above");
        }
    }
}

#[test]
fn preference_losses_have_the_same_bits_in_every_run() {
    let pairs = ordinary_pairs();
    let cached: Vec<f64> = pairs.iter().map(|pair| pair.cached).collect();
    for kind in KINDS {
        let loss = PreferenceLoss::new(kind, 0.3, 0.2).unwrap();
        let run = || launched(&loss, &pairs, &cached, Some(true)).map(|x| double_bits(&x));
        let first = run();
        for _ in 0..2 {
            assert_eq!(run(), first, "{kind:?}");
        }
    }
}

#[test]
fn every_loss_mode_and_pair_is_the_processors() {
    // More pairs than a block has threads.
    let x = uniform(11, 6 * 150, 1.0);
    let mut pairs: Vec<Pair> = x
        .chunks(6)
        .enumerate()
        .map(|(i, x)| {
            let spread = [1.0, 10.0, 300.0, 4000.0][i % 4];
            Pair {
                logps: PairLogps {
                    chosen: -30.0 + spread * f64::from(x[0]),
                    rejected: -30.0 + spread * f64::from(x[1]),
                    ref_chosen: -30.0 + f64::from(x[2]),
                    ref_rejected: -30.0 + f64::from(x[3]),
                    chosen_tokens: (i % 5) as u32,
                    rejected_tokens: (i % 7) as u32,
                },
                cached: 0.7 + f64::from(x[4]),
                weight: f64::from(x[5]),
            }
        })
        .collect();
    for (i, odd) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter().enumerate() {
        pairs[i].logps.chosen = odd;
        pairs[3 + i].logps.ref_rejected = odd;
        pairs[6 + i].cached = odd;
        pairs[9 + i].weight = odd;
    }
    for kind in KINDS {
        for (beta, sft_weight) in [(0.1, 0.0), (0.7, 0.3)] {
            compare(&PreferenceLoss::new(kind, beta, sft_weight).unwrap(), &pairs);
        }
    }
}

#[test]
fn no_pairs_and_wrong_lengths_are_refused() {
    let device = device();
    let stream = device.stream();
    let (sums, tokens) = (up(&stream, &[0f64; 4]), up(&stream, &[1u32; 4]));
    let run = |n: usize, tokens_n: usize, cached_n: usize| {
        let arrays = PairArrays {
            chosen: sums.slice(..n),
            rejected: sums.slice(..n),
            ref_chosen: sums.slice(..n),
            ref_rejected: sums.slice(..n),
            chosen_tokens: tokens.slice(..n),
            rejected_tokens: tokens.slice(..tokens_n),
            weight: None,
        };
        let loss = PreferenceLoss::new(PreferenceKind::Ipo, 0.1, 0.0).unwrap();
        let excess = Excess::Unclipped { cached: sums.slice(..cached_n) };
        device.kernels.preference(&stream, &loss, &arrays, &excess).map(|_| ())
    };
    assert_eq!(run(0, 0, 0), Err(LossError::Empty { what: "pairs" }));
    assert_eq!(run(4, 3, 4), Err(LossError::Length { what: "rejected_tokens", want: 4, got: 3 }));
    assert_eq!(run(4, 4, 3), Err(LossError::Length { what: "cached", want: 4, got: 3 }));
    assert_eq!(run(4, 4, 4), Ok(()));
}
