//! The score of one pair.

use crate::{CacheError, hex};

/// Id of a pair: a hash of its content.
pub type PairId = [u8; 16];

/// Log-probabilities that one model gives one preference pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairScore {
    /// Log-probability of the chosen completion given the prompt, *summed* over its tokens, nats.
    pub chosen_logp: f64,
    /// The same of the rejected completion.
    pub rejected_logp: f64,
    /// Tokens of the chosen completion that the sum is over.
    pub chosen_tokens: u32,
    /// Tokens of the rejected completion.
    pub rejected_tokens: u32,
}

impl PairScore {
    /// Whether two runs with the same key may both have computed these scores: equal token counts, and sums
    /// within `1e-3 + 1e-5 |logp|` nats. f32 sums in another order (thread count, packing, processor) differ
    /// in their last digits; another model differs by far more.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-3 + 1e-5 * a.abs().min(b.abs());
        (self.chosen_tokens, self.rejected_tokens) == (other.chosen_tokens, other.rejected_tokens)
            && close(self.chosen_logp, other.chosen_logp)
            && close(self.rejected_logp, other.rejected_logp)
    }

    pub(crate) fn check(&self, id: &PairId) -> Result<(), CacheError> {
        for (column, value) in [("chosen_logp", self.chosen_logp), ("rejected_logp", self.rejected_logp)] {
            if !value.is_finite() {
                return Err(CacheError::NotFinite { pair: hex::encode(id), column, value });
            }
        }
        Ok(())
    }
}
