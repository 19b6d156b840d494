//! Samplers: permutations, proportions, and the same continuation after a resume anywhere.

use ama_data::{BatchSampler, DataError, Draw, EpochSampler, EpochState, Order, SamplerState};
use proptest::prelude::*;

#[test]
fn every_epoch_is_another_permutation() {
    for len in [1, 2, 31, 1025] {
        let mut sampler = EpochSampler::new(len, 7, 0, Order::Shuffled).unwrap();
        let epochs: Vec<Vec<usize>> = (0..4).map(|_| (0..len).map(|_| sampler.next()).collect()).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..len).collect::<Vec<_>>());
        }
        if len > 2 {
            assert!(epochs.windows(2).all(|pair| pair[0] != pair[1]), "the same order twice");
        }
        let mut file = EpochSampler::new(len, 7, 0, Order::File).unwrap();
        assert!((0..3 * len).all(|i| file.next() == i % len));
    }
}

#[test]
fn seeds_and_streams_give_other_orders() {
    let first = |seed, stream| {
        let mut sampler = EpochSampler::new(100, seed, stream, Order::Shuffled).unwrap();
        (0..100).map(|_| sampler.next()).collect::<Vec<_>>()
    };
    assert_eq!(first(1, 0), first(1, 0));
    assert_ne!(first(1, 0), first(2, 0));
    assert_ne!(first(1, 0), first(1, 1));
}

/// Every index is as likely at every place: chi-squared over 6000 shuffles of 5.
#[test]
fn the_shuffle_is_uniform() {
    let (len, shuffles) = (5, 6000);
    let mut counts = vec![vec![0_u32; len]; len];
    let mut sampler = EpochSampler::new(len, 3, 0, Order::Shuffled).unwrap();
    for _ in 0..shuffles {
        for row in &mut counts {
            row[sampler.next()] += 1;
        }
    }
    let expected = f64::from(shuffles) / len as f64;
    let chi: f64 = counts.iter().flatten().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
    // 16 degrees of freedom: the 99.9% quantile is 39.25.
    assert!(chi < 39.25, "chi-squared {chi}: {counts:?}");
}

/// Orders are part of what a seed means: they must not change between versions. The value is from
/// `golden/epoch_order.py`, which has the recipe in Python.
#[test]
fn the_order_is_stable() {
    let mut sampler = EpochSampler::new(10, 42, 1, Order::Shuffled).unwrap();
    let orders: [Vec<usize>; 2] =
        [(0..10).map(|_| sampler.next()).collect(), (0..10).map(|_| sampler.next()).collect()];
    assert_eq!(orders, [[2, 7, 3, 9, 6, 0, 1, 5, 8, 4], [8, 7, 2, 6, 0, 4, 5, 9, 1, 3]]);
    let mut sampler = EpochSampler::new(100_000, 42, 1, Order::Shuffled).unwrap();
    for want in [
        [59781, 5228, 11890, 45910, 12207, 92517, 64043, 21615, 12901, 67738],
        [42295, 52158, 60715, 35845, 31442, 60321, 51293, 59559, 67362, 89136],
    ] {
        let order: Vec<usize> = (0..100_000).map(|_| sampler.next()).collect();
        assert_eq!(order[..10], want);
    }
}

/// Beyond 65,536 examples in all, orders are computed and not held: the same walks, also of small tasks.
#[test]
fn large_data_sets_are_walked_in_epochs_too() {
    let sizes = [70_000, 3, 1, 400];
    let mut sampler = BatchSampler::new(&sizes, 5, Order::Shuffled).unwrap();
    for _ in 0..2 {
        let mut epoch = sampler.pooled(70_404);
        epoch.sort_unstable_by_key(|draw| (draw.task, draw.index));
        assert!(epoch.windows(2).all(|pair| pair[0] != pair[1]));
    }
    let mut seen = vec![0; 400];
    for _ in 0..4 * 400 {
        let draws = sampler.stratified(4);
        seen[draws[3].index] += 1;
    }
    assert!(seen.into_iter().all(|times| times == 4));
    let mut resumed = BatchSampler::restore(&sizes, &sampler.state()).unwrap();
    assert_eq!(resumed.stratified(48), sampler.stratified(48));
    assert_eq!(resumed.pooled(48), sampler.pooled(48));
}

#[test]
fn stratified_batches_rotate_the_remainder() {
    let mut sampler = BatchSampler::new(&[50, 7, 20], 1, Order::Shuffled).unwrap();
    let mut totals = [0; 3];
    for step in 1..=30 {
        let draws = sampler.stratified(8);
        let mut counts = [0; 3];
        draws.iter().for_each(|draw| counts[draw.task] += 1);
        assert_eq!(draws.len(), 8);
        assert!(counts.iter().all(|&n| n == 2 || n == 3), "{counts:?}");
        assert!(draws.is_sorted_by_key(|draw| draw.task));
        totals.iter_mut().zip(counts).for_each(|(total, n)| *total += n);
        let (min, max) = (totals.iter().min().unwrap(), totals.iter().max().unwrap());
        assert!(max - min <= 1, "step {step}: {totals:?}");
    }
    assert_eq!(totals, [80, 80, 80]);
    assert_eq!(sampler.stratified(2).len(), 2);
}

#[test]
fn sampled_batches_keep_to_the_probabilities() {
    let mut sampler = BatchSampler::new(&[10, 10, 10, 10], 5, Order::Shuffled).unwrap();
    let (n, probabilities) = (40_000, [0.5, 0.0, 0.3, 0.2]);
    let mut counts = [0_u32; 4];
    for draw in sampler.sampled(&probabilities, n).unwrap() {
        counts[draw.task] += 1;
    }
    assert_eq!(counts[1], 0);
    for (count, p) in counts.into_iter().zip(probabilities) {
        let deviation = (n as f64 * p * (1.0 - p)).sqrt();
        assert!((f64::from(count) - n as f64 * p).abs() <= 4.0 * deviation, "{counts:?}");
    }
    assert!(sampler.sampled(&[0.0, 0.0, 1.0, 0.0], 100).unwrap().iter().all(|draw| draw.task == 2));
    let state = sampler.state();
    for bad in [
        &[0.5, 0.5][..],
        &[0.5, 0.5, 0.5, 0.5],
        &[1.5, -0.5, 0.0, 0.0],
        &[f64::NAN, 0.5, 0.5, 0.0],
        &[f64::INFINITY, 0.0, 0.0, 0.0],
        &[],
    ] {
        assert!(matches!(sampler.sampled(bad, 1), Err(DataError::BadProbabilities { .. })), "{bad:?}");
    }
    assert_eq!(sampler.state(), state, "a refused draw changes nothing");
}

#[test]
fn pooled_batches_walk_the_union() {
    let sizes = [3, 1, 6];
    let mut sampler = BatchSampler::new(&sizes, 5, Order::Shuffled).unwrap();
    for _ in 0..3 {
        let mut epoch = sampler.pooled(10);
        epoch.sort_unstable_by_key(|draw| (draw.task, draw.index));
        let want = (0..3).flat_map(|task| (0..sizes[task]).map(move |index| Draw { task, index }));
        assert_eq!(epoch, want.collect::<Vec<_>>());
    }
    let mut file = BatchSampler::new(&sizes, 5, Order::File).unwrap();
    let tasks: Vec<usize> = file.pooled(11).iter().map(|draw| draw.task).collect();
    assert_eq!(tasks, [0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 0]);
}

#[test]
fn bad_sizes_and_states_are_refused() {
    assert!(matches!(BatchSampler::new(&[], 0, Order::File), Err(DataError::EmptyTask { task: 0 })));
    assert!(matches!(BatchSampler::new(&[3, 0], 0, Order::File), Err(DataError::EmptyTask { task: 1 })));
    let too_many = EpochSampler::new(usize::MAX, 0, 0, Order::File);
    assert!(matches!(too_many, Err(DataError::TooManyExamples { .. })));
    let sizes = [4, 5];
    let good = BatchSampler::new(&sizes, 0, Order::Shuffled).unwrap().state();
    let refused = |state: &SamplerState| {
        let error = BatchSampler::restore(&sizes, state).unwrap_err();
        assert!(matches!(error, DataError::SamplerState { .. }), "{error}");
    };
    refused(&SamplerState { version: 99, ..good.clone() });
    refused(&SamplerState { sizes: vec![4, 6], ..good.clone() });
    refused(&SamplerState { sizes: vec![4], ..good.clone() });
    refused(&SamplerState { tasks: vec![EpochState { epoch: 0, position: 0 }], ..good.clone() });
    refused(&SamplerState { tasks: vec![EpochState { epoch: 0, position: 5 }; 2], ..good.clone() });
    refused(&SamplerState { pooled: EpochState { epoch: 0, position: 10 }, ..good.clone() });
    refused(&SamplerState { pooled: EpochState { epoch: 0, position: u64::MAX }, ..good.clone() });
    assert!(BatchSampler::restore(&sizes, &good).is_ok());
    assert!(serde_json::from_str::<SamplerState>(r#"{"version": 1}"#).is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Stratified(usize),
    Sampled(Vec<f64>, usize),
    Pooled(usize),
}

fn step(tasks: usize) -> impl Strategy<Value = Step> {
    let weights = prop::collection::vec(0.01..1.0, tasks);
    prop_oneof![
        (0..20_usize).prop_map(Step::Stratified),
        (weights, 0..20_usize).prop_map(|(weights, n)| {
            let sum: f64 = weights.iter().sum();
            Step::Sampled(weights.iter().map(|w| w / sum).collect(), n)
        }),
        (0..20_usize).prop_map(Step::Pooled),
    ]
}

fn take(sampler: &mut BatchSampler, step: &Step) -> Vec<Draw> {
    match step {
        Step::Stratified(n) => sampler.stratified(*n),
        Step::Sampled(probabilities, n) => sampler.sampled(probabilities, *n).unwrap(),
        Step::Pooled(n) => sampler.pooled(*n),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Saved as JSON anywhere and restored, a sampler goes on as if nothing had happened.
    #[test]
    fn resumes_to_the_same_draws(
        (sizes, steps) in prop::collection::vec(1..40_usize, 1..5)
            .prop_flat_map(|sizes| { let k = sizes.len(); (Just(sizes), prop::collection::vec(step(k), 1..30)) }),
        seed: u64,
        cut in 0..30_usize,
        shuffled: bool,
    ) {
        let order = if shuffled { Order::Shuffled } else { Order::File };
        let cut = cut.min(steps.len());
        let mut whole = BatchSampler::new(&sizes, seed, order).unwrap();
        for step in &steps[..cut] {
            take(&mut whole, step);
        }
        let saved = serde_json::to_string(&whole.state()).unwrap();
        let mut resumed = BatchSampler::restore(&sizes, &serde_json::from_str(&saved).unwrap()).unwrap();
        prop_assert_eq!(resumed.state(), whole.state());
        for step in &steps[cut..] {
            prop_assert_eq!(take(&mut resumed, step), take(&mut whole, step));
        }
        prop_assert_eq!(resumed.state(), whole.state());
    }

    /// However batches are drawn, each task's indices come in whole permutations.
    #[test]
    fn tasks_are_walked_in_epochs(
        (sizes, steps) in prop::collection::vec(1..12_usize, 1..4)
            .prop_flat_map(|sizes| { let k = sizes.len(); (Just(sizes), prop::collection::vec(step(k), 1..40)) }),
        seed: u64,
    ) {
        let mut sampler = BatchSampler::new(&sizes, seed, Order::Shuffled).unwrap();
        let mut drawn = vec![Vec::new(); sizes.len()];
        for step in steps.iter().filter(|step| !matches!(step, Step::Pooled(_))) {
            for draw in take(&mut sampler, step) {
                drawn[draw.task].push(draw.index);
            }
        }
        for (indices, size) in drawn.iter().zip(sizes) {
            for epoch in indices.chunks(size) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                sorted.dedup();
                prop_assert_eq!(sorted.len(), epoch.len());
                prop_assert!(sorted.last().is_none_or(|&last| last < size));
            }
        }
    }
}
