//! How a prompt and an answer are laid out as text.
//!
//! The layout is in the text itself, so that any trainer that takes plain `prompt, chosen, rejected` strings can use the
//! suite without a chat template (one is in `tokenizer_config.json` all the same, and says the same).

use crate::tokenizer::{ASSISTANT, BOS, USER};

/// The sequence that a model sees before its answer: `<|bos|><|user|> PROMPT<|assistant|>`.
///
/// ```
/// assert_eq!(ama_suite::render_prompt("count words : a b"), "<|bos|><|user|> count words : a b<|assistant|>");
/// ```
pub fn render_prompt(bare: &str) -> String {
    format!("{BOS}{USER} {bare}{ASSISTANT}")
}

/// The prompt inside a rendered one; `None` when the text is not laid out like that.
pub fn bare_prompt(rendered: &str) -> Option<&str> {
    rendered.strip_prefix(BOS)?.strip_prefix(USER)?.strip_prefix(' ')?.strip_suffix(ASSISTANT)
}

/// An answer as it follows a rendered prompt: with a leading space, so that its first word is one token like every other.
/// The end token is the trainer's to append.
pub fn render_answer(bare: &str) -> String {
    format!(" {bare}")
}
