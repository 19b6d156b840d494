//! Packs preference pairs and single sequences by hand, following the contract of `PackedView`.

#![allow(dead_code, reason = "each test binary uses its part")]

use ama_model::PackedView;

/// Token ids of one preference pair.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) prompt: Vec<u32>,
    pub(crate) chosen: Vec<u32>,
    pub(crate) rejected: Vec<u32>,
}

impl Pair {
    pub(crate) fn new(prompt: &[u32], chosen: &[u32], rejected: &[u32]) -> Self {
        Self { prompt: prompt.to_vec(), chosen: chosen.to_vec(), rejected: rejected.to_vec() }
    }
}

/// An owned packed batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packed {
    pub(crate) ids: Vec<u32>,
    pub(crate) segment_offsets: Vec<u32>,
    pub(crate) segment_prefix: Vec<Option<u32>>,
    pub(crate) rows: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) sequence_offsets: Vec<u32>,
}

impl Packed {
    pub(crate) fn empty() -> Self {
        Self { segment_offsets: vec![0], sequence_offsets: vec![0], ..Self::default() }
    }

    pub(crate) fn view(&self) -> PackedView<'_> {
        PackedView {
            ids: &self.ids,
            segment_offsets: &self.segment_offsets,
            segment_prefix: &self.segment_prefix,
            rows: &self.rows,
            targets: &self.targets,
            sequence_offsets: &self.sequence_offsets,
        }
    }

    /// Appends a segment and returns its index.
    pub(crate) fn segment(&mut self, ids: &[u32], prefix: Option<u32>) -> u32 {
        self.ids.extend(ids);
        self.segment_offsets.push(self.ids.len() as u32);
        self.segment_prefix.push(prefix);
        self.segment_prefix.len() as u32 - 1
    }

    /// Appends a completion of the root segment `prompt`.
    pub(crate) fn completion(&mut self, prompt: u32, completion: &[u32]) {
        self.rows.push(self.segment_offsets[prompt as usize + 1] - 1);
        let fed = &completion[..completion.len() - 1];
        if !fed.is_empty() {
            let start = self.ids.len() as u32;
            self.segment(fed, Some(prompt));
            self.rows.extend(start..self.ids.len() as u32);
        }
        self.targets.extend(completion);
        self.sequence_offsets.push(self.rows.len() as u32);
    }

    /// Every pair: prompt once, chosen, rejected.
    pub(crate) fn pairs(pairs: &[Pair]) -> Self {
        let mut packed = Self::empty();
        for pair in pairs {
            let prompt = packed.segment(&pair.prompt, None);
            packed.completion(prompt, &pair.chosen);
            packed.completion(prompt, &pair.rejected);
        }
        packed
    }

    /// Appends prompt and completion as one plain causal sequence, without sharing.
    pub(crate) fn plain(&mut self, prompt: &[u32], completion: &[u32]) {
        let start = self.ids.len() as u32;
        let whole = [prompt, &completion[..completion.len() - 1]].concat();
        self.segment(&whole, None);
        self.rows.extend(start + prompt.len() as u32 - 1..self.ids.len() as u32);
        self.targets.extend(completion);
        self.sequence_offsets.push(self.rows.len() as u32);
    }

    /// The same sequences in the same order, each on its own.
    pub(crate) fn unshared(pairs: &[Pair]) -> Self {
        let mut packed = Self::empty();
        for pair in pairs {
            packed.plain(&pair.prompt, &pair.chosen);
            packed.plain(&pair.prompt, &pair.rejected);
        }
        packed
    }

    /// One sequence with every row scored (against token 0).
    pub(crate) fn every_row(ids: &[u32]) -> Self {
        let mut packed = Self::empty();
        packed.segment(ids, None);
        packed.rows = (0..ids.len() as u32).collect();
        packed.targets = vec![0; ids.len()];
        packed.sequence_offsets = vec![0, ids.len() as u32];
        packed
    }
}
