//! Cases for `segment_sum.cu`, and its kernels as functions.

use ama_cuda_emulator::{Argument, Buffer};

use super::naive::uniform;
use super::{Kernels, launch, races};

/// Rows that a block adds up, as in `segment_sum.cu`.
pub const PIECE: u32 = 1024;

/// Threads of a block; few for the race detector.
pub fn threads() -> u32 {
    if races() { 64 } else { 256 }
}

/// Sequences with their bounds over `rows`.
pub struct Case {
    pub values: Vec<f32>,
    pub offsets: Vec<u32>,
    pub pieces: u32,
    /// Blocks launched beyond those of the sequences, which have nothing to do.
    pub surplus_blocks: u32,
}

impl Case {
    pub fn new(lengths: &[u32], before: u32, after: u32) -> Self {
        let mut offsets = vec![before];
        offsets.extend(lengths.iter().scan(before, |end, n| {
            *end += n;
            Some(*end)
        }));
        let rows = before + lengths.iter().sum::<u32>() + after;
        let pieces = lengths.iter().max().map_or(1, |n| n.div_ceil(PIECE).max(1));
        // Of very different sizes: numbers alike would have an exact sum in f64, whatever the order.
        let scaled = |(i, x): (usize, f32)| x * 0.5f32.powi((i * 7 % 60) as i32);
        let values = uniform(11, rows as usize, 20.0).into_iter().enumerate().map(scaled).collect();
        Self { values, offsets, pieces, surplus_blocks: 0 }
    }

    pub fn sequences(&self) -> u32 {
        self.offsets.len() as u32 - 1
    }

    pub fn sum(&self, module: &Kernels, seed: u64) -> Vec<f64> {
        let (sequences, blocks) = (self.sequences(), self.sequences() * self.pieces);
        let (values, offsets) = (Buffer::new(&self.values), Buffer::new(&self.offsets));
        let partial = Buffer::<f64>::unwritten(blocks as usize);
        let sums = Buffer::<f64>::unwritten(sequences as usize);
        let rows = self.values.len() as u32;
        let arguments: [Argument<'_>; 6] = [
            (&values).into(),
            (&offsets).into(),
            (&partial).into(),
            sequences.into(),
            self.pieces.into(),
            rows.into(),
        ];
        let with_surplus = blocks + self.surplus_blocks;
        launch(module, "ama_segment_sum_piece_f32", with_surplus, threads(), seed, &arguments);
        let arguments: [Argument<'_>; 4] =
            [(&partial).into(), (&sums).into(), sequences.into(), self.pieces.into()];
        launch(
            module,
            "ama_segment_sum_total_f64",
            sequences.div_ceil(threads()) + self.surplus_blocks,
            threads(),
            seed,
            &arguments,
        );
        assert!(values.is_intact() && offsets.is_intact() && partial.is_intact() && sums.is_intact());
        sums.values()
    }

    pub fn spread(&self, module: &Kernels, d_sums: &[f64], seed: u64) -> Vec<f32> {
        let (d_sums, offsets) = (Buffer::new(d_sums), Buffer::new(&self.offsets));
        let rows = self.values.len();
        let d_values = Buffer::new(&vec![-7.0f32; rows]);
        let arguments: [Argument<'_>; 6] = [
            (&d_sums).into(),
            (&offsets).into(),
            (&d_values).into(),
            self.sequences().into(),
            self.pieces.into(),
            (rows as u32).into(),
        ];
        let blocks = self.sequences() * self.pieces + self.surplus_blocks;
        launch(module, "ama_segment_spread_f32", blocks, threads(), seed, &arguments);
        assert!(d_sums.is_intact() && offsets.is_intact() && d_values.is_intact());
        d_values.values()
    }

    pub fn span(&self, sequence: usize) -> std::ops::Range<usize> {
        self.offsets[sequence] as usize..self.offsets[sequence + 1] as usize
    }
}
