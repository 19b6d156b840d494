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
use crate::tokenizer::{PairTokenizer, Start};

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
        /// Special tokens of the row's text that are there a second time.
        doubled: Doubled,
    },
    /// No example, as TRL has none.
    Dropped(DropReason),
}

/// Special tokens that a text brings along although they are put around it anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubled {
    /// The prompt begins with the token that the tokenizer puts before every text.
    pub bos: bool,
    /// How many completions end in the end-of-sequence token (and white space) while another is put behind.
    pub eos: usize,
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
    let parts = match &row.content {
        RowContent::Text { prompt, chosen, rejected } => {
            encode_parts(row, tokenizer, options, prompt, &[("chosen", chosen), ("rejected", rejected)])?
        }
        RowContent::Completion { prompt, completion } => {
            encode_parts(row, tokenizer, options, prompt, &[("completion", completion)])?
        }
        RowContent::Ids { prompt, chosen, rejected } => {
            for (column, ids) in [("prompt_ids", prompt), ("chosen_ids", chosen), ("rejected_ids", rejected)]
            {
                if let Some(id) = ids.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
                    let vocab = tokenizer.vocab_size() as u64;
                    return Err(row.fault(column, CellFault::TokenId { value: id.to_string(), vocab }));
                }
            }
            Some(Parts {
                prompt: prompt.clone(),
                completions: vec![chosen.clone(), rejected.clone()],
                ..Parts::default()
            })
        }
    };
    let Some(Parts { prompt, completions, boundary_tokens, doubled, cut }) = parts else {
        return Ok(Tokenised::Dropped(DropReason::PromptTooLong));
    };
    if prompt.is_empty() {
        return Err(row.fault("prompt", CellFault::NoPromptToken));
    }
    // Where only beginnings are known, the texts were told apart in another way.
    if let [chosen, rejected] = completions.as_slice()
        && chosen == rejected
        && !cut
    {
        return Err(row.fault("rejected", CellFault::SameIds));
    }
    let total = prompt.len() + completions.iter().map(Vec::len).sum::<usize>();
    if u32::try_from(total).is_err() {
        return Err(row.fault("prompt", CellFault::TooLong(total)));
    }
    let mut example = Example { id: PairId::of(&row.content), prompt, completions };
    let mut truncated = cut;
    if let Some(max_length) = options.max_length {
        let Some(room) = max_length.checked_sub(example.prompt.len()).filter(|&room| room > 0) else {
            return Ok(Tokenised::Dropped(DropReason::PromptTooLong));
        };
        for completion in &mut example.completions {
            truncated |= completion.len() > room;
            completion.truncate(room);
        }
    }
    Ok(Tokenised::Kept { example, truncated, boundary_tokens, doubled })
}

/// A row as ids, before `max_length` cuts it.
#[derive(Default)]
struct Parts {
    prompt: Vec<u32>,
    completions: Vec<Vec<u32>>,
    /// Ids of the prompt that went to the completions.
    boundary_tokens: usize,
    doubled: Doubled,
    /// Whether a completion is longer than its ids here: `max_length` cuts it in any case.
    cut: bool,
}

/// `None` if the prompt alone reaches `max_length`, without having looked at all of it.
fn encode_parts(
    row: &Row,
    tokenizer: &PairTokenizer,
    options: &TokeniseOptions,
    prompt: &str,
    completions: &[(&str, &String)],
) -> Result<Option<Parts>, DataError> {
    let encode = |column: &str, text: &str, want: usize| {
        tokenizer.encode_start(text, want).map_err(|e| match e {
            DataError::Encode { message, .. } => row.fault(column, CellFault::Encode(message)),
            other => other,
        })
    };
    let max_length = options.max_length.unwrap_or(usize::MAX);
    let Start { ids: mut prompt_ids, whole } = encode("prompt", prompt, max_length)?;
    if !whole {
        // All texts begin with the prompt, and so with these ids.
        return Ok(None);
    }
    // So many ids decide where the prompt ends and whether a completion is cut.
    let want = max_length.max(prompt_ids.len()).saturating_add(1);
    let eos = tokenizer.eos_token();
    let texts: Vec<String> = completions
        .iter()
        .map(|(_, completion)| {
            [prompt, completion, if completion.ends_with(eos) { "" } else { eos }].concat()
        })
        .collect();
    let mut starts = Vec::with_capacity(texts.len());
    for (text, (column, _)) in texts.iter().zip(completions) {
        starts.push(encode(column, text, want)?);
    }
    if let [chosen, rejected] = starts.as_slice()
        && !(chosen.whole && rejected.whole)
        && chosen.ids.iter().zip(&rejected.ids).all(|(a, b)| a == b)
        && !tokenizer.tells_apart(&texts[0], &texts[1])
    {
        // Whether they are equal to the end, or only to the cut.
        for ((start, text), (column, _)) in starts.iter_mut().zip(&texts).zip(completions) {
            *start = encode(column, text, usize::MAX)?;
        }
    }
    let doubled = Doubled {
        bos: tokenizer.begins_twice(&prompt_ids),
        eos: completions.iter().filter(|(_, completion)| tokenizer.ends_twice(completion)).count(),
    };
    let prompt_len = starts
        .iter()
        .map(|start| common_prefix_length(&prompt_ids, &start.ids))
        .min()
        .unwrap_or(prompt_ids.len());
    let boundary_tokens = prompt_ids.len() - prompt_len;
    prompt_ids.truncate(prompt_len);
    let cut = starts.iter().any(|start| !start.whole);
    let mut wholes: Vec<Vec<u32>> = starts.into_iter().map(|start| start.ids).collect();
    for (whole, &(column, _)) in wholes.iter_mut().zip(completions) {
        whole.drain(..prompt_len);
        if whole.is_empty() {
            return Err(row.fault(column, CellFault::Empty));
        }
    }
    Ok(Some(Parts { prompt: prompt_ids, completions: wholes, boundary_tokens, doubled, cut }))
}

fn common_prefix_length(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
