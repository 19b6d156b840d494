//! What a score depends on, besides the pair.

use crate::hex;

/// Key of a set of scores: everything that the score of a pair depends on, by content.
///
/// Two runs with equal keys would compute equal scores, wherever their files lie; a changed weight or
/// tokenizer file is another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScoreKey {
    /// Hash of the model's weights and configuration.
    pub model: [u8; 32],
    /// Hash of the tokenizer (and of a chat template, if one is used).
    pub tokenizer: [u8; 32],
    /// Truncation of prompt and completion together, tokens; `None` for none.
    pub max_length: Option<u32>,
}

impl ScoreKey {
    /// Name of the key's folder in a store: 32 hexadecimal digits, a BLAKE3 hash of the three fields.
    pub fn folder_name(&self) -> String {
        // Fields of fixed length, and a tag before the optional one: no two keys hash the same bytes.
        let mut hasher = blake3::Hasher::new_derive_key("ama-specialist-cache score key, version 1");
        hasher.update(&self.model).update(&self.tokenizer);
        match self.max_length {
            None => hasher.update(&[0]),
            Some(max_length) => hasher.update(&[1]).update(&max_length.to_le_bytes()),
        };
        hex::encode(&hasher.finalize().as_bytes()[..16])
    }

    /// The fields as text, for a file's metadata.
    pub(crate) fn fields(&self) -> [String; 3] {
        let max_length = self.max_length.map_or_else(|| "none".to_owned(), |length| length.to_string());
        [hex::encode(&self.model), hex::encode(&self.tokenizer), max_length]
    }

    /// The reverse of [`Self::fields`].
    pub(crate) fn from_fields(model: &str, tokenizer: &str, max_length: &str) -> Option<Self> {
        let max_length = match max_length {
            "none" => None,
            digits => Some(digits.parse().ok()?),
        };
        Some(Self { model: hex::decode(model)?, tokenizer: hex::decode(tokenizer)?, max_length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_changes_the_folder() {
        let key = ScoreKey { model: [1; 32], tokenizer: [2; 32], max_length: Some(0) };
        let others = [
            ScoreKey { model: [3; 32], ..key },
            ScoreKey { tokenizer: [3; 32], ..key },
            ScoreKey { max_length: None, ..key },
            ScoreKey { max_length: Some(1), ..key },
        ];
        assert_eq!(key.folder_name().len(), 32);
        for other in others {
            assert_ne!(key.folder_name(), other.folder_name(), "{other:?}");
            let [model, tokenizer, max_length] = other.fields();
            assert_eq!(ScoreKey::from_fields(&model, &tokenizer, &max_length), Some(other));
        }
    }
}
