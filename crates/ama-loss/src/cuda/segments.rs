//! Sums over sequences of rows, and the way back; see `segment_sum.cu`.
//!
//! # Safety of this file
//! Each launch passes exactly the parameters of its kernel, in order. [`Segments`] holds offsets that were checked on
//! the processor: they do not decrease and stay within `rows`, and no sequence has more pieces than are counted.
#![allow(unsafe_code)]

use std::sync::Arc;

use cudarc::driver::{CudaStream, CudaView, CudaViewMut};

use super::device::driver;
use super::kernels::Kernels;
use super::launch::{Launch, check_slice, config, per_element, size};
use super::memory::Tracked;
use crate::LossError;
use crate::error::check_some;

/// Rows that one block adds up (`PIECE` in `segment_sum.cu`).
const PIECE: u32 = 1024;
/// Threads of these kernels' blocks.
const THREADS: u32 = 256;

/// Which rows belong to which sequence, on the device.
#[derive(Debug)]
pub struct Segments {
    offsets: Tracked<u32>,
    sequences: u32,
    rows: u32,
    pieces: u32,
    covering: bool,
}

impl Segments {
    /// Sequence `s` is the rows `offsets[s]..offsets[s + 1]` of `rows`; a sequence may be empty.
    ///
    /// # Errors
    /// [`LossError::Empty`] for no sequence or no row, [`LossError::Offset`], [`LossError::TooMany`],
    /// [`LossError::DeviceMemory`], [`LossError::OtherDevice`], [`LossError::Driver`].
    pub fn new(
        kernels: &Kernels,
        stream: &Arc<CudaStream>,
        offsets: &[u32],
        rows: usize,
    ) -> Result<Self, LossError> {
        kernels.check_stream(stream)?;
        check_some("rows", rows)?;
        let rows = size("rows", rows)?;
        let sequences = size("sequences", offsets.len().saturating_sub(1))?;
        check_some("sequences", sequences as usize)?;
        let (mut least, mut longest) = (0, 0);
        for (index, &got) in offsets.iter().enumerate() {
            if got < least || got > rows {
                return Err(LossError::Offset { index, got, least, most: rows });
            }
            if index > 0 {
                longest = longest.max(got - least);
            }
            least = got;
        }
        let pieces = longest.div_ceil(PIECE).max(1);
        size("pieces of sequences", sequences as usize * pieces as usize)?;
        let covering = offsets[0] == 0 && least == rows;
        let mut on_device = kernels.ledger().alloc(stream, "offsets of sequences", offsets.len())?;
        driver("copying offsets to the device", || stream.memcpy_htod(offsets, &mut *on_device))?;
        Ok(Self { offsets: on_device, sequences, rows, pieces, covering })
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.sequences as usize
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows as usize
    }
}

impl Kernels {
    /// Sum of every sequence's `values`, in `f64`; bit for bit the same in every run, wherever in the batch a
    /// sequence lies.
    ///
    /// # Shapes
    /// `values` `[rows]`, `sums` `[sequences]`.
    ///
    /// # Errors
    /// [`LossError::Length`], [`LossError::DeviceMemory`], [`LossError::OtherDevice`], [`LossError::Driver`].
    pub fn segment_sum(
        &self,
        stream: &Arc<CudaStream>,
        values: &CudaView<'_, f32>,
        segments: &Segments,
        sums: &mut CudaViewMut<'_, f64>,
    ) -> Result<(), LossError> {
        let Segments { offsets, sequences, rows, pieces, .. } = segments;
        self.check_stream(stream)?;
        check_slice(self.context(), "offsets", &**offsets, segments.sequences() + 1)?;
        check_slice(self.context(), "values", values, segments.rows())?;
        check_slice(self.context(), "sums", sums, segments.sequences())?;
        let blocks = sequences * pieces;
        let mut partial = self.ledger().alloc::<f64>(stream, "partial sums", blocks as usize)?;
        let mut launch = Launch::new(stream, &self.segment_sum_piece);
        launch.arg(values).arg(&**offsets).arg(&mut *partial).arg(sequences).arg(pieces).arg(rows);
        // SAFETY: `ama_segment_sum_piece_f32(values, offsets, partial, sequences, pieces, rows)`.
        unsafe { launch.run("adding up pieces of sequences", config(blocks, THREADS)) }?;
        let mut launch = Launch::new(stream, &self.segment_sum_total);
        launch.arg(&*partial).arg(sums).arg(sequences).arg(pieces);
        // SAFETY: `ama_segment_sum_total_f64(partial, sums, sequences, pieces)`.
        unsafe { launch.run("adding up sequences", per_element(*sequences, THREADS)) }
    }

    /// Back from sums to rows: every row gets its sequence's `d_sums`, rows of no sequence get 0.
    ///
    /// # Shapes
    /// `d_sums` `[sequences]`, `d_values` `[rows]`.
    ///
    /// # Errors
    /// [`LossError::Length`], [`LossError::OtherDevice`], [`LossError::Driver`].
    pub fn segment_spread(
        &self,
        stream: &Arc<CudaStream>,
        d_sums: &CudaView<'_, f64>,
        segments: &Segments,
        d_values: &mut CudaViewMut<'_, f32>,
    ) -> Result<(), LossError> {
        let Segments { offsets, sequences, rows, pieces, covering } = segments;
        self.check_stream(stream)?;
        check_slice(self.context(), "offsets", &**offsets, segments.sequences() + 1)?;
        check_slice(self.context(), "d_sums", d_sums, segments.sequences())?;
        check_slice(self.context(), "d_values", d_values, segments.rows())?;
        if !covering {
            driver("clearing gradients", || stream.memset_zeros(d_values))?;
        }
        let mut launch = Launch::new(stream, &self.segment_spread);
        launch.arg(d_sums).arg(&**offsets).arg(d_values).arg(sequences).arg(pieces).arg(rows);
        // SAFETY: `ama_segment_spread_f32(d_sums, offsets, d_values, sequences, pieces, rows)`.
        unsafe { launch.run("spreading gradients", config(sequences * pieces, THREADS)) }
    }
}
