//! Sparsified task vectors: which entries stay, and by what they are scaled.

mod by_rank;
mod largest;
mod random;

use std::ops::Range;

use rayon::prelude::*;

use self::by_rank::ByRank;
use self::largest::Largest;
use self::random::Random;
use super::philox::Stream;
use super::{CHUNK, Values, chunks, read_delta, vectorised};
use crate::recipe::{Rescale, Selection};

/// Below this sum of absolute values nothing is rescaled (mergekit's bound).
const NO_SUM: f64 = 1e-7;

/// What to keep of one model's task vector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) selection: Selection,
    /// Share to keep, in `[0, 1]`.
    pub(crate) density: f64,
    /// Half the spread of probabilities of [`Selection::RandomByRank`].
    pub(crate) epsilon: f64,
    pub(crate) rescale: Rescale,
    /// Random numbers of the random selections.
    pub(crate) stream: Stream,
}

/// Which entries stay.
#[derive(Debug)]
enum Kept {
    All,
    None,
    Largest(Largest),
    Random(Random),
    ByRank(ByRank),
}

/// A rule, ready to be applied to any chunk of the task vector.
#[derive(Debug)]
pub(crate) struct Sparsifier {
    kept: Kept,
    scale: f32,
}

/// Elements of a chunk of a tensor with rows of `row` elements. A row is never cut if ranks within it matter.
pub(crate) fn chunk_len(selection: Selection, row: usize) -> usize {
    match selection {
        Selection::RandomByRank => (CHUNK / row.max(1)).max(1) * row.max(1),
        _ => CHUNK,
    }
}

impl Sparsifier {
    /// Finds thresholds and factors, reading the task vector as often as they need.
    pub(crate) fn prepare(base: Values<'_>, model: Values<'_>, row: usize, spec: &Spec) -> Self {
        let kept = match spec.selection {
            _ if spec.density >= 1.0 || spec.selection == Selection::All => Kept::All,
            _ if spec.density <= 0.0 => Kept::None,
            Selection::Largest => Kept::Largest(Largest::find(base, model, spec.density)),
            Selection::Random => Kept::Random(Random::new(spec.stream, spec.density)),
            _ => Kept::ByRank(ByRank {
                stream: spec.stream,
                row: row.max(1),
                density: spec.density,
                epsilon: spec.epsilon,
                inverse: spec.rescale == Rescale::Inverse,
            }),
        };
        let mut sparsifier = Self { kept, scale: 1.0 };
        match (&sparsifier.kept, spec.rescale) {
            (Kept::Random(_), Rescale::Inverse) => sparsifier.scale = (1.0 / spec.density) as f32,
            (Kept::Largest(_) | Kept::Random(_) | Kept::ByRank(_), Rescale::L1) => {
                sparsifier.scale = sparsifier.l1_factor(base, model, chunk_len(spec.selection, row));
            }
            _ => {}
        }
        sparsifier
    }

    /// Zeroes what is dropped of the entries from `start` on and scales the rest.
    #[inline(always)]
    pub(crate) fn apply(&self, delta: &mut [f32], start: usize) {
        match &self.kept {
            Kept::All => return,
            Kept::None => delta.fill(0.0),
            Kept::Largest(largest) => largest.apply(delta, start),
            Kept::Random(random) => random.apply(delta, start),
            Kept::ByRank(by_rank) => by_rank.apply(delta, start),
        }
        if self.scale != 1.0 {
            for d in delta {
                *d *= self.scale;
            }
        }
    }

    /// Sum of absolute values of the whole task vector over that of what is kept.
    fn l1_factor(&self, base: Values<'_>, model: Values<'_>, chunk: usize) -> f32 {
        let parts: Vec<(f64, f64)> = over_chunks(
            base,
            model,
            chunk,
            #[inline(always)]
            |delta, range| {
                let before = l1(delta);
                self.apply(delta, range.start);
                (before, l1(delta))
            },
        );
        let (before, after) = parts.iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        if before < NO_SUM || after < NO_SUM { 1.0 } else { (before / after) as f32 }
    }
}

/// Runs `work`, which is `#[inline(always)]`, on every chunk of the task vector; answers in order.
fn over_chunks<R: Send>(
    base: Values<'_>,
    model: Values<'_>,
    chunk: usize,
    work: impl Fn(&mut [f32], &Range<usize>) -> R + Sync,
) -> Vec<R> {
    chunks(base.len(), chunk)
        .map_init(
            || (vec![0.0f32; chunk], vec![0.0f32; chunk]),
            |(scratch, delta), range| {
                vectorised(
                    #[inline(always)]
                    || {
                        let delta = &mut delta[..range.len()];
                        read_delta(&base, &model, &range, &mut scratch[..range.len()], delta);
                        work(delta, &range)
                    },
                )
            },
        )
        .collect()
}

/// Sum of absolute values in f64, in eight lanes that are added in a fixed order.
#[inline(always)]
fn l1(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (whole, rest) = values.as_chunks::<8>();
    for chunk in whole {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(v.abs());
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|v| f64::from(v.abs())).sum::<f64>()
}
