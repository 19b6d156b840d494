//! Packing, against the batch that it stands for: every sequence written out with its prompt.

use ama_data::{Example, Packed, PairId, micro_batches};
use proptest::prelude::*;

fn example(prompt: Vec<u32>, completions: Vec<Vec<u32>>) -> Example {
    Example { id: PairId::from_bytes([0; 16]), prompt, completions }
}

/// What a model sees at each row of a sequence, and what it is to predict there: `(context, target)`.
type Predictions = Vec<(Vec<u32>, u32)>;

/// Reads a batch the way a model does: follows prefixes, positions and offsets, and nothing else.
fn unpack(packed: &Packed) -> Vec<Predictions> {
    let segment_of = |row: u32| packed.segment_offsets.partition_point(|&start| start <= row) - 1;
    let segment = |s: usize| packed.segment_offsets[s] as usize..packed.segment_offsets[s + 1] as usize;
    let sequences = packed.sequence_offsets.windows(2).map(|ends| ends[0] as usize..ends[1] as usize);
    sequences
        .map(|range| {
            range
                .map(|at| {
                    let row = packed.rows[at];
                    let own = segment_of(row);
                    let mut context = Vec::new();
                    if let Some(prefix) = packed.segment_prefix[own] {
                        context.extend_from_slice(&packed.ids[segment(prefix as usize)]);
                    }
                    context.extend_from_slice(&packed.ids[segment(own).start..=row as usize]);
                    (context, packed.targets[at])
                })
                .collect()
        })
        .collect()
}

/// The same without packing: token `j` of a completion is predicted from the prompt and the tokens before it.
fn spell_out(examples: &[Example]) -> Vec<Predictions> {
    let sequences =
        examples.iter().flat_map(|e| e.completions.iter().map(|completion| (&e.prompt, completion)));
    sequences
        .map(|(prompt, completion)| {
            (0..completion.len()).map(|j| ([&prompt[..], &completion[..j]].concat(), completion[j])).collect()
        })
        .collect()
}

fn check(examples: &[Example]) -> Packed {
    let packed = Packed::of(examples.iter().map(Example::as_ref));
    assert_eq!(unpack(&packed), spell_out(examples));
    assert!(packed.segment_offsets.windows(2).all(|ends| ends[0] < ends[1]), "an empty segment");
    assert_eq!(packed.segment_offsets.len(), packed.segments() + 1);
    assert_eq!((packed.segment_offsets[0], packed.sequence_offsets[0]), (0, 0));
    assert_eq!(*packed.segment_offsets.last().unwrap() as usize, packed.tokens());
    assert_eq!(packed.rows.len(), packed.targets.len());
    assert_eq!(*packed.sequence_offsets.last().unwrap() as usize, packed.rows.len());
    assert_eq!(packed.sequences(), examples.iter().map(|e| e.completions.len()).sum::<usize>());
    for (s, prefix) in packed.segment_prefix.iter().enumerate() {
        if let Some(prefix) = prefix {
            assert!((*prefix as usize) < s && packed.segment_prefix[*prefix as usize].is_none());
        }
    }
    let lengths: Vec<usize> = examples.iter().map(|e| e.as_ref().packed_tokens()).collect();
    assert_eq!(packed.tokens(), lengths.iter().sum::<usize>());
    packed
}

#[test]
fn a_pair_by_hand() {
    let packed = check(&[
        example(vec![10, 11], vec![vec![20, 21, 22], vec![30]]),
        example(vec![12], vec![vec![40], vec![50, 51]]),
    ]);
    assert_eq!(packed.ids, [10, 11, 20, 21, 12, 50]);
    assert_eq!(packed.segment_offsets, [0, 2, 4, 5, 6]);
    assert_eq!(packed.segment_prefix, [None, Some(0), None, Some(2)]);
    assert_eq!(packed.rows, [1, 2, 3, 1, 4, 4, 5]);
    assert_eq!(packed.targets, [20, 21, 22, 30, 40, 50, 51]);
    assert_eq!(packed.sequence_offsets, [0, 3, 4, 5, 7]);
}

#[test]
fn a_fine_tuning_example_by_hand() {
    let packed = check(&[example(vec![1, 2, 3], vec![vec![4, 5]])]);
    assert_eq!(packed.ids, [1, 2, 3, 4]);
    assert_eq!((packed.rows, packed.targets, packed.sequence_offsets), (vec![2, 3], vec![4, 5], vec![0, 2]));
}

#[test]
fn clear_starts_over() {
    let a = example(vec![1], vec![vec![2, 3], vec![4]]);
    let b = example(vec![5, 6], vec![vec![7], vec![8, 9]]);
    let mut packed = Packed::of([a.as_ref(), b.as_ref()]);
    packed.clear();
    assert!(packed.is_empty());
    assert_eq!(packed, Packed::default());
    packed.push(b.as_ref());
    assert_eq!(packed, Packed::of([b.as_ref()]));
}

fn completions(count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0..1000_u32, 1..6), count)
}

proptest! {
    #[test]
    fn packing_says_the_same(
        examples in prop::collection::vec(
            (prop::collection::vec(0..1000_u32, 1..6), completions(1..=2)).prop_map(|(p, c)| example(p, c)), 0..8)
    ) {
        check(&examples);
    }

    #[test]
    fn micro_batches_cover_everything_once(lengths in prop::collection::vec(0..50_usize, 0..40), max in 0..100_usize) {
        let ranges = micro_batches(&lengths, max);
        let covered: Vec<usize> = ranges.iter().cloned().flatten().collect();
        prop_assert_eq!(covered, (0..lengths.len()).collect::<Vec<_>>());
        for (i, range) in ranges.iter().enumerate() {
            let tokens: usize = lengths[range.clone()].iter().sum();
            prop_assert!(!range.is_empty());
            prop_assert!(tokens <= max || range.len() == 1);
            if let Some(next) = ranges.get(i + 1) {
                prop_assert!(tokens + lengths[next.start] > max, "closed too early");
            }
        }
    }
}
