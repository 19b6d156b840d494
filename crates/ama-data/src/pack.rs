//! Packing: examples of any length side by side in one batch, without padding, each prompt once.

use std::ops::Range;

use crate::tokenise::ExampleRef;

/// A batch with no padding, in which the completions of a pair share their prompt's keys and values
/// (prefix sharing: Wang & Hegde 2024, arXiv:2410.20305; exact, not an approximation).
///
/// A pair is its prompt segment (a root) once, then its chosen segment, then its rejected segment. A completion
/// `y_0 .. y_{n-1}` is predicted from the rows of the prompt's last token (predicts `y_0`) and of
/// `y_0 .. y_{n-2}` (predict `y_1 .. y_{n-1}`). Its last token is a target only and is not fed to the model, so
/// its segment holds `n - 1` tokens, and with `n = 1` there is no segment. An example with one completion
/// (fine-tuning) shares its prompt with nobody: prompt and completion are one root segment.
///
/// Offsets are CSR: group `i` is `offsets[i]..offsets[i+1]`. All indices count tokens, rows or segments of this
/// batch. [`Packed::clear`] keeps the buffers' capacity, so that one batch object serves a whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// `[tokens]`: the token ids of all segments back to back.
    pub ids: Vec<u32>,
    /// `[segments + 1]`: where each segment starts in `ids`; no segment is empty.
    pub segment_offsets: Vec<u32>,
    /// `[segments]`: the earlier segment, a root, that this one also attends to in whole; `None` for a root.
    pub segment_prefix: Vec<Option<u32>>,
    /// `[rows]`: indices into `ids` whose final hidden state goes to the language-model head.
    pub rows: Vec<u32>,
    /// `[rows]`: the token id predicted at each of `rows`.
    pub targets: Vec<u32>,
    /// `[sequences + 1]`: the log-probability of sequence `q` is the sum over its range of `rows`. Sequences are
    /// chosen, rejected, chosen, rejected, ... for pairs, and one per example for fine-tuning.
    pub sequence_offsets: Vec<u32>,
}

impl Default for Packed {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            segment_offsets: vec![0],
            segment_prefix: Vec::new(),
            rows: Vec::new(),
            targets: Vec::new(),
            sequence_offsets: vec![0],
        }
    }
}

impl Packed {
    /// A batch of these examples.
    pub fn of<'a>(examples: impl IntoIterator<Item = ExampleRef<'a>>) -> Self {
        let mut packed = Self::default();
        for example in examples {
            packed.push(example);
        }
        packed
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.segment_offsets.truncate(1);
        self.segment_prefix.clear();
        self.rows.clear();
        self.targets.clear();
        self.sequence_offsets.truncate(1);
    }

    /// Appends an example: its prompt as a root segment, then its completions (an only one in the prompt's segment).
    ///
    /// # Panics
    /// If the prompt or a completion is empty (neither [`tokenise`](crate::tokenise::tokenise) nor a
    /// [`TokenStore`](crate::store::TokenStore) gives such an example), or if the batch outgrows `u32` indices.
    pub fn push(&mut self, example: ExampleRef<'_>) {
        assert!(!example.prompt.is_empty(), "example {} has an empty prompt", example.id);
        let total = self.ids.len() + example.packed_tokens();
        assert!(u32::try_from(total).is_ok(), "a batch of {total} tokens outgrows its u32 indices");
        let prefix = self.segment_prefix.len() as u32;
        let alone = example.completions().count() == 1;
        self.segment(example.prompt, None);
        let last_of_prompt = self.ids.len() as u32 - 1;
        for completion in example.completions() {
            let (&first, rest) = completion
                .split_first()
                .unwrap_or_else(|| panic!("example {} has an empty completion", example.id));
            let start = self.ids.len() as u32;
            self.rows.push(last_of_prompt);
            self.targets.push(first);
            if !rest.is_empty() {
                let fed = &completion[..rest.len()];
                if alone {
                    self.lengthen(fed)
                } else {
                    self.segment(fed, Some(prefix))
                }
                self.rows.extend(start..self.ids.len() as u32);
                self.targets.extend_from_slice(rest);
            }
            self.sequence_offsets.push(self.rows.len() as u32);
        }
    }

    fn segment(&mut self, ids: &[u32], prefix: Option<u32>) {
        self.ids.extend_from_slice(ids);
        self.segment_offsets.push(self.ids.len() as u32);
        self.segment_prefix.push(prefix);
    }

    /// Adds to the last segment.
    fn lengthen(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        if let Some(end) = self.segment_offsets.last_mut() {
            *end = self.ids.len() as u32;
        }
    }

    /// Tokens that the model is fed: the length of `ids`.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.segment_prefix.len()
    }

    /// Number of sequences: two per pair, one per fine-tuning example.
    pub fn sequences(&self) -> usize {
        self.sequence_offsets.len() - 1
    }

    /// Whether nothing was pushed since the start or the last [`clear`](Self::clear).
    pub fn is_empty(&self) -> bool {
        self.sequences() == 0
    }
}

/// Cuts a batch into consecutive micro-batches of at most `max_tokens` tokens each, in order.
///
/// `lengths[i]` is what example `i` takes ([`ExampleRef::packed_tokens`]). Greedy: a micro-batch is closed when
/// the next example does not fit. No range is empty; an example longer than `max_tokens` stands alone.
///
/// ```
/// assert_eq!(ama_data::pack::micro_batches(&[3, 3, 9, 1], 6), [0..2, 2..3, 3..4]);
/// ```
pub fn micro_batches(lengths: &[usize], max_tokens: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut tokens) = (0, 0_usize);
    for (i, &length) in lengths.iter().enumerate() {
        if i > start && tokens.saturating_add(length) > max_tokens {
            ranges.push(start..i);
            (start, tokens) = (i, 0);
        }
        tokens = tokens.saturating_add(length);
    }
    if start < lengths.len() {
        ranges.push(start..lengths.len());
    }
    ranges
}
