//! From a row to token ids, exactly as TRL 1.16 prepares non-conversational rows.
//!
//! `DPOTrainer._prepare_dataset` (and `SFTTrainer`'s for prompt-completion rows) does this:
//! 1. append the text of the EOS token to every completion that does not end with it already;
//! 2. tokenise the prompt, and the prompt with each completion in one piece;
//! 3. the prompt ends where its ids cease to be a common prefix of *all* of these (tokens may merge across the
//!    boundary; what is cut off the prompt is dropped, the completion starts with the merged token);
//! 4. drop the row if the prompt has `max_length` ids or more; the collator then cuts prompt + completion to the
//!    first `max_length` ids (`truncation_mode="keep_start"`).

use crate::error::{CellFault, DataError};
use crate::id::PairId;
use crate::row::{Row, RowContent};
use crate::tokenizer::PairTokenizer;

/// How rows are tokenised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokeniseOptions {
    /// Longest prompt + completion in tokens; the end of longer ones is cut off. `None` cuts nothing.
    /// Default 1024, as TRL's `DPOConfig` and `SFTConfig`.
    pub max_length: Option<usize>,
}

impl Default for TokeniseOptions {
    fn default() -> Self {
        Self { max_length: Some(1024) }
    }
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tokenised {
    /// An example to train on.
    Kept {
        /// Its token ids.
        example: Example,
        /// Whether `max_length` cut a completion.
        truncated: bool,
        /// Tokens at the end of the prompt that merged with a completion and went out of the prompt with it.
        boundary_tokens: usize,
    },
    /// No example, as TRL has none.
    Dropped(DropReason),
}

/// Why a row gives no example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// The prompt alone reaches `max_length`, so that no token of a completion is left.
    PromptTooLong,
}

/// Token ids of an example: one prompt and its completions, none of them empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Name of the example.
    pub id: PairId,
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Token ids of the completions, without the prompt: chosen and rejected, or one for fine-tuning.
    pub completions: Vec<Vec<u32>>,
}

/// A borrowed [`Example`], for instance from a [`TokenStore`](crate::store::TokenStore).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExampleRef<'a> {
    /// Name of the example.
    pub id: PairId,
    /// Token ids of the prompt.
    pub prompt: &'a [u32],
    first: &'a [u32],
    second: Option<&'a [u32]>,
}

impl<'a> ExampleRef<'a> {
    /// A preference pair.
    pub fn pair(id: PairId, prompt: &'a [u32], chosen: &'a [u32], rejected: &'a [u32]) -> Self {
        Self { id, prompt, first: chosen, second: Some(rejected) }
    }

    /// A fine-tuning example.
    pub fn single(id: PairId, prompt: &'a [u32], completion: &'a [u32]) -> Self {
        Self { id, prompt, first: completion, second: None }
    }

    /// The completions: chosen then rejected, or the only one.
    pub fn completions(&self) -> impl Iterator<Item = &'a [u32]> + use<'a> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// The preferred (or only) completion.
    pub fn chosen(&self) -> &'a [u32] {
        self.first
    }

    /// The other completion of a pair; `None` for fine-tuning.
    pub fn rejected(&self) -> Option<&'a [u32]> {
        self.second
    }

    /// Tokens as TRL counts them: prompt + completion, for every completion.
    pub fn tokens(&self) -> usize {
        self.completions().map(|completion| self.prompt.len() + completion.len()).sum()
    }

    /// Tokens that the example takes in a [`Packed`](crate::pack::Packed) batch: the prompt once, and each
    /// completion less its last token.
    pub fn packed_tokens(&self) -> usize {
        self.prompt.len()
            + self.completions().map(|completion| completion.len().saturating_sub(1)).sum::<usize>()
    }
}

impl Example {
    /// Borrows the example.
    ///
    /// # Panics
    /// Unless there are one or two completions, as [`tokenise`] gives.
    pub fn as_ref(&self) -> ExampleRef<'_> {
        match self.completions.as_slice() {
            [completion] => ExampleRef::single(self.id, &self.prompt, completion),
            [chosen, rejected] => ExampleRef::pair(self.id, &self.prompt, chosen, rejected),
            other => panic!("an example has 1 or 2 completions, not {}", other.len()),
        }
    }
}

/// Tokenises one row as TRL does (see the [module](self)).
///
/// A row that is tokenised already goes through the truncation only, and its ids are checked against the
/// vocabulary.
///
/// # Errors
/// [`DataError::Cell`] for what TRL would train on without a word: an empty cell, equal completions (as text or
/// as ids), a prompt without a token, ids outside the vocabulary, and texts that the tokenizer refuses.
pub fn tokenise(
    row: &Row,
    tokenizer: &PairTokenizer,
    options: &TokeniseOptions,
) -> Result<Tokenised, DataError> {
    row.validate()?;
    let (prompt, completions, boundary_tokens) = match &row.content {
        RowContent::Text { prompt, chosen, rejected } => {
            encode_parts(row, tokenizer, prompt, &[("chosen", chosen), ("rejected", rejected)])?
        }
        RowContent::Completion { prompt, completion } => {
            encode_parts(row, tokenizer, prompt, &[("completion", completion)])?
        }
        RowContent::Ids { prompt, chosen, rejected } => {
            for (column, ids) in [("prompt_ids", prompt), ("chosen_ids", chosen), ("rejected_ids", rejected)]
            {
                if let Some(id) = ids.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
                    let vocab = tokenizer.vocab_size() as u64;
                    return Err(row.fault(column, CellFault::TokenId { value: id.to_string(), vocab }));
                }
            }
            (prompt.clone(), vec![chosen.clone(), rejected.clone()], 0)
        }
    };
    if prompt.is_empty() {
        return Err(row.fault("prompt", CellFault::NoPromptToken));
    }
    if let [chosen, rejected] = completions.as_slice()
        && chosen == rejected
    {
        return Err(row.fault("rejected", CellFault::SameIds));
    }
    let total = prompt.len() + completions.iter().map(Vec::len).sum::<usize>();
    if u32::try_from(total).is_err() {
        return Err(row.fault("prompt", CellFault::TooLong(total)));
    }
    let mut example = Example { id: PairId::of(&row.content), prompt, completions };
    let mut truncated = false;
    if let Some(max_length) = options.max_length {
        let Some(room) = max_length.checked_sub(example.prompt.len()).filter(|&room| room > 0) else {
            return Ok(Tokenised::Dropped(DropReason::PromptTooLong));
        };
        for completion in &mut example.completions {
            truncated |= completion.len() > room;
            completion.truncate(room);
        }
    }
    Ok(Tokenised::Kept { example, truncated, boundary_tokens })
}

/// Prompt ids, completion ids, and how many ids of the prompt went to the completions.
type Parts = (Vec<u32>, Vec<Vec<u32>>, usize);

fn encode_parts(
    row: &Row,
    tokenizer: &PairTokenizer,
    prompt: &str,
    completions: &[(&str, &String)],
) -> Result<Parts, DataError> {
    let encode = |column: &str, text: &str| {
        tokenizer.encode(text).map_err(|e| match e {
            DataError::Encode { message, .. } => row.fault(column, CellFault::Encode(message)),
            other => other,
        })
    };
    let mut prompt_ids = encode("prompt", prompt)?;
    let mut wholes = Vec::with_capacity(completions.len());
    for &(column, completion) in completions {
        let eos = if completion.ends_with(tokenizer.eos_token()) { "" } else { tokenizer.eos_token() };
        wholes.push(encode(column, &[prompt, completion, eos].concat())?);
    }
    let prompt_len =
        wholes.iter().map(|whole| common_prefix_length(&prompt_ids, whole)).min().unwrap_or(prompt_ids.len());
    let boundary_tokens = prompt_ids.len() - prompt_len;
    prompt_ids.truncate(prompt_len);
    for (whole, &(column, _)) in wholes.iter_mut().zip(completions) {
        whole.drain(..prompt_len);
        if whole.is_empty() {
            return Err(row.fault(column, CellFault::Empty));
        }
    }
    Ok((prompt_ids, wholes, boundary_tokens))
}

fn common_prefix_length(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
