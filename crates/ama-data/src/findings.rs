//! What the texts of a row look like to somebody who has seen such rows go wrong. Nothing here changes a row.

use unicode_normalization::UnicodeNormalization as _;

use crate::row::RowContent;

/// What was found in one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Findings {
    /// All completions begin with the text of the prompt.
    pub(crate) prompt_repeated: bool,
    /// The completions of a pair differ in white space only.
    pub(crate) white_space_only: bool,
    /// They differ in their Unicode normal form only (NFC, NFD, NFKC, NFKD).
    pub(crate) normal_form_only: bool,
}

impl Findings {
    pub(crate) fn of(content: &RowContent) -> Self {
        match content {
            RowContent::Text { prompt, chosen, rejected } => {
                let white_space_only = words_equal(chosen, rejected);
                Self {
                    prompt_repeated: begins_with(chosen, prompt) && begins_with(rejected, prompt),
                    white_space_only,
                    normal_form_only: !white_space_only && forms_equal(chosen, rejected),
                }
            }
            RowContent::Completion { prompt, completion } => {
                Self { prompt_repeated: begins_with(completion, prompt), ..Self::default() }
            }
            RowContent::Ids { prompt, chosen, rejected } => Self {
                // One token alone begins many texts.
                prompt_repeated: prompt.len() > 1
                    && chosen.starts_with(prompt)
                    && rejected.starts_with(prompt),
                ..Self::default()
            },
        }
    }
}

/// White space around the prompt does not count: templates trim it.
fn begins_with(completion: &str, prompt: &str) -> bool {
    let prompt = prompt.trim();
    !prompt.is_empty() && completion.trim_start().starts_with(prompt)
}

fn words_equal(a: &str, b: &str) -> bool {
    let black = |c: &char| !c.is_whitespace();
    a != b && a.chars().filter(black).eq(b.chars().filter(black))
}

fn forms_equal(a: &str, b: &str) -> bool {
    a != b && !(a.is_ascii() && b.is_ascii()) && a.nfkc().eq(b.nfkc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prompt: &str, chosen: &str, rejected: &str) -> (bool, bool, bool) {
        let found = Findings::of(&RowContent::Text {
            prompt: prompt.into(),
            chosen: chosen.into(),
            rejected: rejected.into(),
        });
        (found.prompt_repeated, found.white_space_only, found.normal_form_only)
    }

    #[test]
    fn tells_the_kinds_apart() {
        let none = (false, false, false);
        assert_eq!(of("Q: why?\nA:", " because", " who knows"), none);
        assert_eq!(of("Q: why?\nA:", "Q: why?\nA: because", "Q: why?\nA: who knows"), (true, false, false));
        assert_eq!(of(" Q: why?\n", "\nQ: why? because", "Q: why? who knows"), (true, false, false));
        assert_eq!(of("Q: why?", "Q: why? because", "who knows"), none, "in both, or it is an answer");
        assert_eq!(of(" \n", "yes", "no"), none, "a prompt of white space begins every text");
        assert_eq!(of("Q", "yes", " yes\n"), (false, true, false));
        assert_eq!(of("Q", "a b", "a\u{a0}b"), (false, true, false));
        assert_eq!(of("Q", "ab", "a b"), (false, true, false));
        assert_eq!(of("Q", "na\u{ef}ve", "nai\u{308}ve"), (false, false, true));
        assert_eq!(of("Q", "\u{fb01}n", "fin"), (false, false, true));
        assert_eq!(of("Q", "na\u{ef}ve", "naive"), none);
        assert_eq!(of("Q", "Yes", "yes"), none);
    }

    #[test]
    fn looks_at_ids_and_completions_too() {
        let ids = |prompt: &[u32], chosen: &[u32], rejected: &[u32]| {
            let content =
                RowContent::Ids { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() };
            Findings::of(&content).prompt_repeated
        };
        assert!(ids(&[1, 2], &[1, 2, 3], &[1, 2, 4]));
        assert!(!ids(&[1, 2], &[1, 2, 3], &[1, 4]));
        assert!(!ids(&[1], &[1, 2], &[1, 3]));
        let completion =
            RowContent::Completion { prompt: "Say it:".into(), completion: "Say it: now".into() };
        assert!(Findings::of(&completion).prompt_repeated);
    }
}
