//! `segment_sum.cu` as host C++: sums over sequences against `f64`, the same bits in every order and place, and the way back.

mod common;

use ama_cuda_emulator::{Argument, Buffer};
use common::segment_sum::{self, Case};
use common::{launch, module, races, seeds};

fn cases() -> Vec<Case> {
    let lengths: [&[u32]; 5] =
        [&[1], &[31, 0, 1, 1024], &[1025, 1023, 33], &[4099, 0, 2048, 2049, 5], &[0, 0]];
    let of = |l: &[u32]| {
        if races() { vec![Case::new(l, 3, 9)] } else { vec![Case::new(l, 0, 0), Case::new(l, 3, 9)] }
    };
    lengths.into_iter().take(if races() { 3 } else { 5 }).flat_map(of).collect()
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn sums_are_right_and_their_bits_depend_on_no_order() {
    let module = module("segment_sum.cu");
    for case in cases() {
        let first = case.sum(&module, 0);
        for (sequence, got) in first.iter().enumerate() {
            let values = &case.values[case.span(sequence)];
            let truth: f64 = values.iter().map(|x| f64::from(*x)).sum();
            // f32 values summed in f64: nothing but the order of additions can differ.
            let size: f64 = values.iter().map(|x| f64::from(x.abs())).sum();
            assert!((got - truth).abs() <= 1e-13 * size, "sequence {sequence}: {got} vs {truth}");
        }
        for seed in seeds().skip(1) {
            assert!(case.sum(&module, seed).iter().zip(&first).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn a_sequence_has_the_same_sum_wherever_it_lies() {
    let module = module("segment_sum.cu");
    let alone = Case::new(&[2500], 0, 0);
    let want = alone.sum(&module, 0)[0].to_bits();
    for before in [1, 7, 1024, 1500] {
        let mut case = Case::new(&[before, 2500, 3000], 0, 2);
        let at = case.span(1);
        case.values[at].copy_from_slice(&alone.values);
        assert_eq!(case.sum(&module, 1)[1].to_bits(), want, "behind {before} rows");
    }
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn nan_stays_in_its_sequence() {
    let module = module("segment_sum.cu");
    let mut case = Case::new(&[40, 1200, 40], 0, 0);
    case.values[1100] = f32::NAN;
    let sums = case.sum(&module, 1);
    assert!(sums[0].is_finite() && sums[1].is_nan() && sums[2].is_finite(), "{sums:?}");
}

#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn gradients_go_back_to_exactly_the_rows_of_a_sequence() {
    let module = module("segment_sum.cu");
    for case in cases() {
        let d_sums: Vec<f64> = (0..case.sequences()).map(|s| 0.1 + f64::from(s)).collect();
        let mut want = vec![-7.0f32; case.values.len()];
        for (sequence, d) in d_sums.iter().enumerate() {
            want[case.span(sequence)].fill(*d as f32);
        }
        for seed in seeds() {
            assert_eq!(case.spread(&module, &d_sums, seed), want);
        }
    }
}

/// Lengths on both sides of one and of two pieces; blocks behind the last piece of the last sequence do nothing.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn lengths_around_a_piece_and_blocks_without_one() {
    let module = module("segment_sum.cu");
    for length in [1, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025, 2047, 2048, 2049] {
        let mut case = Case::new(&[length, 3], 1, 2);
        let alone = case.sum(&module, 0);
        // A power of two each, so that one more or less shows.
        case.values.fill(0.5);
        case.surplus_blocks = 3;
        assert_eq!(case.sum(&module, 1), [0.5 * f64::from(length), 1.5], "{length}");
        let spread = case.spread(&module, &[0.25, -1.0], 1);
        let rows = [&[-7.0f32][..], &vec![0.25; length as usize], &[-1.0; 3], &[-7.0; 2]].concat();
        assert_eq!(spread, rows, "{length}");
        assert!(alone.iter().all(|sum| sum.is_finite()));
    }
}

/// Rows behind `rows` are nobody's, whatever the offsets say.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn offsets_behind_the_rows_are_not_followed() {
    let module = module("segment_sum.cu");
    let rows = [1, 5, 40, 41, 1060, 1064, 1065, 2088].map(|rows| (0, rows));
    for (before, rows) in rows.into_iter().chain([(3, 2), (3, 3), (3, 4)]) {
        // Sequences of 40, 2049 and 7 rows, of which only some are there.
        let mut case = Case::new(&[40, 2049, 7], before, 0);
        case.values = vec![1.0; rows];
        let inside = |s: usize| case.span(s).filter(|row| *row < rows).count();
        let want: Vec<f64> = (0..3).map(|s| inside(s) as f64).collect();
        assert_eq!(case.sum(&module, 1), want, "{rows} rows");
        let spread = case.spread(&module, &[2.0, 3.0, 4.0], 1);
        let of = |row: usize| (0..3).find(|s| case.span(*s).contains(&row)).map_or(-7.0, |s| s as f32 + 2.0);
        assert_eq!(spread, (0..rows).map(of).collect::<Vec<_>>(), "{rows} rows");
    }
}

/// The second stage by itself: a thread for every sequence and none behind them, all of a sequence's pieces and no more, in order.
#[test]
#[ignore = "needs a C++ compiler: cargo xtask cuda-check"]
fn pieces_are_added_up_in_order() {
    let module = module("segment_sum.cu");
    for (sequences, pieces) in [(1u32, 1u32), (3, 2), (31, 3), (64, 1), (65, 5), (256, 2), (257, 1)] {
        // Larger than the sum of all before: another order rounds differently. One sequence more than the kernel is told of.
        let value = |i: u32| 1.0 + f64::from(i % 7) * 1e16;
        let partial: Vec<f64> = (0..(sequences + 1) * pieces).map(value).collect();
        let (input, sums) = (Buffer::new(&partial), Buffer::<f64>::unwritten(sequences as usize));
        let arguments: [Argument<'_>; 4] = [(&input).into(), (&sums).into(), sequences.into(), pieces.into()];
        let threads = segment_sum::threads();
        launch(&module, "ama_segment_sum_total_f64", sequences.div_ceil(threads), threads, 1, &arguments);
        assert!(sums.is_intact(), "{sequences} sequences: written behind the last");
        let of = |pieces: &[f64]| pieces.iter().fold(0.0, |sum, piece| sum + piece);
        let want: Vec<f64> = partial.chunks(pieces as usize).take(sequences as usize).map(of).collect();
        assert_eq!(sums.values(), want, "{sequences} sequences of {pieces} pieces");
    }
}
