//! Stable names of examples: a hash of what the row says, not of where it stands.

use std::fmt;
use std::str::FromStr;

use crate::error::DataError;
use crate::row::RowContent;

/// The name of an example: the first 16 bytes of a BLAKE3 hash of its content.
///
/// The hash covers the kind of the row (text pair, token-id pair, prompt-completion) and its cells, each
/// preceded by its length, so that moving a character from one cell to the next gives another id. It does not
/// cover the file, the row number, the tokenizer or `max_length`: the same pair has the same id in every split,
/// file format and run. A pair with an implicit prompt has the id of the same pair with the prompt written out.
///
/// Displayed (and parsed) as 32 lower-case hexadecimal digits; ordered by bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairId([u8; 16]);

impl PairId {
    /// The id of a row's content.
    pub fn of(content: &RowContent) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("ama-data 2025 pair id v1");
        match content {
            RowContent::Text { prompt, chosen, rejected } => {
                hasher.update(&[0]);
                for cell in [prompt, chosen, rejected] {
                    hasher.update(&(cell.len() as u64).to_le_bytes());
                    hasher.update(cell.as_bytes());
                }
            }
            RowContent::Ids { prompt, chosen, rejected } => {
                hasher.update(&[1]);
                for cell in [prompt, chosen, rejected] {
                    hasher.update(&(cell.len() as u64).to_le_bytes());
                    for id in cell {
                        hasher.update(&id.to_le_bytes());
                    }
                }
            }
            RowContent::Completion { prompt, completion } => {
                hasher.update(&[2]);
                for cell in [prompt, completion] {
                    hasher.update(&(cell.len() as u64).to_le_bytes());
                    hasher.update(cell.as_bytes());
                }
            }
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(bytes)
    }

    /// The id with these bytes, as [`as_bytes`](Self::as_bytes) gave them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairId({self})")
    }
}

impl FromStr for PairId {
    type Err = DataError;

    /// # Errors
    /// [`DataError::BadId`] unless `text` is exactly 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let bad = || DataError::BadId { text: text.chars().take(64).collect() };
        let digits: Vec<u8> = text
            .chars()
            .map(|c| c.to_digit(16).map(|d| d as u8))
            .collect::<Option<_>>()
            .filter(|digits: &Vec<u8>| digits.len() == 32)
            .ok_or_else(bad)?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(prompt: &str, chosen: &str, rejected: &str) -> PairId {
        PairId::of(&RowContent::Text {
            prompt: prompt.into(),
            chosen: chosen.into(),
            rejected: rejected.into(),
        })
    }

    #[test]
    fn prints_and_parses_back() {
        let id = text("p", "c", "r");
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(id.to_string().parse::<PairId>().unwrap(), id);
        for bad in ["", "00", "g0000000000000000000000000000000", "000000000000000000000000000000000"] {
            assert!(matches!(bad.parse::<PairId>(), Err(DataError::BadId { .. })), "{bad}");
        }
    }

    #[test]
    fn tells_contents_apart() {
        let ids = [text("p", "c", "r"), text("p", "r", "c"), text("pc", "", "r"), text("", "pc", "r")];
        for (i, a) in ids.iter().enumerate() {
            for b in &ids[i + 1..] {
                assert_ne!(a, b);
            }
        }
        let sft = PairId::of(&RowContent::Completion { prompt: "p".into(), completion: "c".into() });
        assert_ne!(sft, text("p", "c", ""));
    }

    /// The id names pairs in caches on disk: it must never change between versions.
    #[test]
    fn is_stable() {
        assert_eq!(text("p", "c", "r").to_string(), "b9ba01580a3fbc0b11957a22d248d36b");
    }
}
