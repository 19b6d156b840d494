//! The packed batch: token segments back to back, no padding, prompts shared by their completions.
//!
//! `ama-data` makes it, this crate reads it, and they meet in plain slices. A preference pair is three
//! segments: the prompt (a *root*), then chosen and rejected, both of which name the prompt as their prefix.
//! A token attends to all of its prefix segment and causally to its own segment, so chosen and rejected see
//! the same prompt keys and values, computed once (prefix sharing, Wang & Hegde 2024, arXiv 2410.20305).

use crate::ModelError;

/// A borrowed packed batch. Building one is free; [`PackedView::validate`] checks it.
#[derive(Debug, Clone, Copy)]
pub struct PackedView<'a> {
    /// All token ids, `[tokens]`, segments back to back.
    pub ids: &'a [u32],
    /// `[segments + 1]`: segment `s` is `ids[segment_offsets[s]..segment_offsets[s + 1]]`, never empty.
    pub segment_offsets: &'a [u32],
    /// `[segments]`: the earlier root segment whose keys and values this one also attends to, if any.
    pub segment_prefix: &'a [Option<u32>],
    /// `[rows]`: packed-token indices whose final hidden state goes to the head. An index may repeat: a
    /// prompt's last token predicts the first token of both completions.
    pub rows: &'a [u32],
    /// `[rows]`: the token id predicted at each row.
    pub targets: &'a [u32],
    /// `[sequences + 1]`: sequence `q` owns rows `sequence_offsets[q]..sequence_offsets[q + 1]`.
    pub sequence_offsets: &'a [u32],
}

impl<'a> PackedView<'a> {
    /// Number of packed tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Number of segments.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segment_prefix.len()
    }

    /// Number of sequences.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.sequence_offsets.len().saturating_sub(1)
    }

    /// Rows (indices into `rows` and `targets`) of sequence `q`; `q < sequences()` on a valid view.
    #[must_use]
    pub fn sequence(&self, q: usize) -> std::ops::Range<usize> {
        self.sequence_offsets[q] as usize..self.sequence_offsets[q + 1] as usize
    }

    /// Checks every index of the batch against a vocabulary of `vocab` tokens.
    ///
    /// Positions may exceed the model's `max_position_embeddings`: rotary embeddings are defined for every
    /// position, and TRL only warns.
    ///
    /// # Errors
    /// [`ModelError::Batch`] or [`ModelError::BatchLength`] naming the first field and index at fault.
    pub fn validate(&self, vocab: usize) -> Result<(), ModelError> {
        let (tokens, segments) = (self.ids.len(), self.segment_prefix.len());
        if u32::try_from(tokens).is_err() {
            return Err(length("ids", tokens, "at most 2^32 - 1".into()));
        }
        offsets("segment_offsets", self.segment_offsets, segments, tokens, "segments are never empty")?;
        for (s, prefix) in self.segment_prefix.iter().enumerate() {
            let Some(p) = *prefix else { continue };
            let root = (p as usize) < s && self.segment_prefix[p as usize].is_none();
            if !root {
                let want = format!("an earlier segment (below {s}) that has no prefix itself");
                return Err(entry("segment_prefix", s, p, want));
            }
        }
        if self.targets.len() != self.rows.len() {
            return Err(length("targets", self.targets.len(), format!("{}, one per row", self.rows.len())));
        }
        let sequences = self.sequence_offsets.len().checked_sub(1);
        let Some(sequences) = sequences else {
            return Err(length("sequence_offsets", 0, "the number of sequences plus one".into()));
        };
        let why = "a sequence scores at least one token";
        offsets("sequence_offsets", self.sequence_offsets, sequences, self.rows.len(), why)?;
        below("ids", self.ids, vocab, "the vocabulary size")?;
        below("targets", self.targets, vocab, "the vocabulary size")?;
        below("rows", self.rows, tokens, "the number of packed tokens")
    }
}

/// CSR offsets: `parts + 1` strictly increasing entries from 0 to `total`.
fn offsets(
    field: &'static str,
    got: &[u32],
    parts: usize,
    total: usize,
    why: &str,
) -> Result<(), ModelError> {
    if got.len() != parts + 1 {
        return Err(length(field, got.len(), format!("{}, one more than there are parts", parts + 1)));
    }
    if got[0] != 0 {
        return Err(entry(field, 0, got[0], "0".into()));
    }
    for (i, pair) in got.windows(2).enumerate() {
        if pair[1] <= pair[0] {
            return Err(entry(field, i + 1, pair[1], format!("more than {} ({why})", pair[0])));
        }
    }
    if got[parts] as usize != total {
        return Err(entry(field, parts, got[parts], format!("{total}, the end of what it divides")));
    }
    Ok(())
}

fn below(field: &'static str, got: &[u32], limit: usize, what: &str) -> Result<(), ModelError> {
    match got.iter().position(|&v| v as usize >= limit) {
        Some(i) => Err(entry(field, i, got[i], format!("below {limit}, {what}"))),
        None => Ok(()),
    }
}

fn entry(field: &'static str, index: usize, got: u32, want: String) -> ModelError {
    ModelError::Batch { field, index, got: u64::from(got), want }
}

fn length(field: &'static str, got: usize, want: String) -> ModelError {
    ModelError::BatchLength { field, got, want }
}
