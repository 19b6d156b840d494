//! The first ids of a long text, without tokenising all of it.
//!
//! What is given is exactly the beginning of what the whole text gives. There are two ways to know that.
//!
//! **A boundary.** The pre-tokenizers below split at certain places whatever stands further left or right: before a blank
//! that follows something else, between a letter and a punctuation mark, between a letter and a digit. Left of
//! such a place nothing depends on what is right of it, so the text up to there gives the beginning of the ids.
//!
//! **A window.** BPE merges pairs by rank, leftmost first. If no merge ever crosses a place, then what is left of it was
//! merged as if it stood alone: the ids of a text up to one of its token boundaries are the ids of its beginning up to
//! there. A window as long as the longest token has a boundary of the whole text in it, nobody knows which. What the
//! beginnings up to every place of the window have in common is therefore the beginning of the ids, wherever it is.
//! This needs a window inside one pre-token that ends at no place of its own: all of a text that is not pre-tokenized, or
//! a run of one character.
//!
//! Added tokens are split off before all that. A place is taken only if none is near it.

use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::{ModelWrapper, Tokenizer};
use unicode_normalization::UnicodeNormalization as _;

use super::classes::{QWEN2, QWEN3_5};

/// Text that is tried first at least, in bytes.
const FIRST: usize = 16 << 10;

/// Where a boundary is looked for, in bytes.
const SEARCH: usize = 32 << 10;

/// Characters of a run before the window, so that no contraction (`'ll`) reaches into it.
const BEFORE: usize = 4;

/// Bytes of a character.
const LONGEST_CHAR: usize = 4;

/// Regular expressions of pre-tokenizers that are known to split at the boundaries above: those of Qwen 2 and 3.5,
/// Llama 3, and Mistral's Tekken.
const SPLITS: [&str; 4] = [
    QWEN2,
    QWEN3_5,
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

/// What has to be known of a tokenizer to cut its texts.
#[derive(Debug)]
pub(super) struct Cuts {
    kind: Kind,
    /// Contents of the added tokens, with blanks for `▁`.
    added: Vec<String>,
    longest_added: usize,
    /// Whether an added token takes the white space before it along.
    strips: bool,
    /// Whether characters are composed (NFC).
    composes: bool,
}

#[derive(Debug)]
enum Kind {
    /// Pre-tokens as in GPT-2, bytes as characters. By ASCII character: how many of it at most stand side by side in a token.
    Split { runs: Box<[usize; 128]> },
    /// No pre-tokens. Bytes of text that one token covers at most.
    Whole { longest: usize },
}

impl Cuts {
    /// `None` for a tokenizer of which nothing of that is known.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let ModelWrapper::BPE(bpe) = tokenizer.get_model() else { return None };
        let affix = |affix: &Option<String>| affix.as_deref().is_some_and(|affix| !affix.is_empty());
        if bpe.dropout.is_some_and(|dropout| dropout > 0.0)
            || affix(&bpe.continuing_subword_prefix)
            || affix(&bpe.end_of_word_suffix)
        {
            return None;
        }
        let json = |part: serde_json::Result<Value>| part.ok();
        let normalizer = json(serde_json::to_value(tokenizer.get_normalizer()))?;
        let pre_tokenizer = json(serde_json::to_value(tokenizer.get_pre_tokenizer()))?;
        let normalizer = Normalizer::of(&normalizer)?;
        let kind = if splits(&pre_tokenizer) && !normalizer.marks_blanks {
            Kind::Split { runs: byte_runs(bpe)? }
        } else if joins(&pre_tokenizer, &normalizer) && !normalizer.composes {
            Kind::Whole { longest: longest_piece(bpe)? }
        } else {
            return None;
        };
        let tokens = tokenizer.get_added_tokens_decoder();
        // Where characters are composed, such a token may be found in a text that does not contain it letter by letter.
        if normalizer.composes && tokens.values().any(|token| token.normalized && !token.content.is_ascii()) {
            return None;
        }
        let added: Vec<String> = tokens.values().map(|token| blank(&token.content)).collect();
        Some(Self {
            kind,
            longest_added: added.iter().map(String::len).max().unwrap_or_default(),
            added,
            strips: tokens.values().any(|token| token.lstrip),
            composes: normalizer.composes,
        })
    }

    /// Whether two texts certainly have different ids: bytes are never lost but for blanks (at the beginning, beside added
    /// tokens, or for the mark that stands for them) and for the form of composed characters.
    pub(super) fn tells_apart(&self, a: &str, b: &str) -> bool {
        let black = |c: &char| !c.is_whitespace() && *c != '▁';
        if self.composes {
            !a.nfc().filter(black).eq(b.nfc().filter(black))
        } else {
            !a.chars().filter(black).eq(b.chars().filter(black))
        }
    }

    /// At least `want` ids that begin those of `text`; `None` if no place to cut was found. `encode` gives the ids of a
    /// whole text, less what is put behind it.
    pub(super) fn start<E>(
        &self,
        text: &str,
        want: usize,
        encode: impl Fn(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Option<Vec<u32>>, E> {
        let mut len = FIRST.max(want.saturating_mul(4));
        while len < text.len() / 2 {
            let ids = self.beginning(text, len, &encode)?;
            match ids {
                Some(ids) if ids.len() >= want => return Ok(Some(ids)),
                _ => len = len.saturating_mul(4),
            }
        }
        Ok(None)
    }

    fn beginning<E>(
        &self,
        text: &str,
        len: usize,
        encode: impl Fn(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Option<Vec<u32>>, E> {
        let len = char_boundary_from(text, len);
        let window = match &self.kind {
            Kind::Split { runs } => {
                if let Some(cut) = self.boundary(text, len) {
                    return encode(&text[..cut]).map(Some);
                }
                self.run(text, len, runs)
            }
            Kind::Whole { longest } => self.window(text, len, longest + LONGEST_CHAR),
        };
        let Some(window) = window else { return Ok(None) };
        let mut common: Option<Vec<u32>> = None;
        for end in window.filter(|&end| text.is_char_boundary(end)) {
            let ids = encode(&text[..end])?;
            match &mut common {
                None => common = Some(ids),
                Some(common) => {
                    let same = common.iter().zip(&ids).take_while(|(a, b)| a == b).count();
                    common.truncate(same);
                }
            }
        }
        Ok(common)
    }

    /// A place at `len` or behind it at which the pre-tokenizer always splits.
    fn boundary(&self, text: &str, len: usize) -> Option<usize> {
        let end = char_boundary_from(text, len + SEARCH);
        let mut before = text[..len].chars().next_back()?;
        for (at, c) in text[len..end].char_indices() {
            if always_split(before, c) && self.clear(text, len + at, len + at) {
                return Some(len + at);
            }
            before = c;
        }
        None
    }

    /// Ends of beginnings in a run of one ASCII character around `len`.
    fn run(&self, text: &str, len: usize, runs: &[usize; 128]) -> Option<std::ops::RangeInclusive<usize>> {
        let bytes = text.as_bytes();
        let byte = *bytes.get(len)?;
        let longest = *runs.get(usize::from(byte))?;
        let first = len.checked_sub(longest + BEFORE)?;
        let run = bytes.get(first..len + 2)?;
        if run.iter().any(|&other| other != byte) {
            return None;
        }
        if byte.is_ascii_whitespace() {
            // What follows a run of white space decides how it is split, unless it is all of one kind.
            let white = |c: &char| c.is_whitespace();
            let left = text[..len].chars().rev().take_while(white);
            let right = text[len..].chars().take_while(white);
            if self.strips || left.chain(right).any(|c| c != char::from(byte)) {
                return None;
            }
        } else if byte.is_ascii_control() {
            return None;
        }
        let window = len - longest..=len;
        self.clear(text, *window.start(), *window.end()).then_some(window)
    }

    /// Ends of beginnings of a text that is one piece.
    fn window(&self, text: &str, len: usize, longest: usize) -> Option<std::ops::RangeInclusive<usize>> {
        let first = len.checked_sub(longest)?;
        let next = text[len..].chars().next()?;
        let open = !(self.strips && next.is_whitespace());
        (open && self.clear(text, first, len)).then_some(first..=len)
    }

    /// Whether no added token stands in, or near, these bytes.
    fn clear(&self, text: &str, first: usize, last: usize) -> bool {
        let near = self.longest_added + 4 * LONGEST_CHAR;
        let first = char_boundary_from(text, first.saturating_sub(near));
        let last = char_boundary_from(text, last + near);
        let region = blank(&text[first..last]);
        !self.added.iter().any(|token| !token.is_empty() && region.contains(token))
    }
}

/// The first place between characters at or behind `at`.
fn char_boundary_from(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

fn always_split(before: char, c: char) -> bool {
    let letter = |c: char| {
        c.is_ascii_alphabetic()
            || matches!(c, '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
    };
    let digit = |c: char| c.is_ascii_digit();
    // An apostrophe may begin a contraction.
    let mark = |c: char| {
        c.is_ascii_punctuation() && c != '\'' || matches!(c, '，' | '。' | '！' | '？' | '；' | '：' | '、')
    };
    (c == ' ' && !before.is_whitespace())
        || ((letter(before) || digit(before)) && mark(c))
        || (before.is_ascii_alphabetic() && digit(c))
        || (digit(before) && c.is_ascii_alphabetic())
}

/// Blanks and the mark that stands for them are one here.
fn blank(text: &str) -> String {
    text.replace('▁', " ")
}

#[derive(Default)]
struct Normalizer {
    composes: bool,
    marks_blanks: bool,
}

impl Normalizer {
    fn of(value: &Value) -> Option<Self> {
        let mut found = Self::default();
        match value["type"].as_str() {
            None if value.is_null() => {}
            Some("NFC") => found.composes = true,
            Some("Prepend") if value["prepend"] == "▁" => {}
            Some("Replace") if value["pattern"]["String"] == " " && value["content"] == "▁" => {
                found.marks_blanks = true;
            }
            Some("Sequence") => {
                for part in value["normalizers"].as_array()? {
                    let part = Self::of(part)?;
                    found.composes |= part.composes;
                    found.marks_blanks |= part.marks_blanks;
                }
            }
            _ => return None,
        }
        Some(found)
    }
}

/// Whether the pre-tokenizer splits at the boundaries above and turns bytes into characters.
fn splits(value: &Value) -> bool {
    let byte_level = |part: &Value| part["type"] == "ByteLevel";
    let by_regex = |part: &Value| byte_level(part) && part["use_regex"] == true;
    let known = |part: &Value| {
        part["type"] == "Split"
            && part["behavior"] == "Isolated"
            && part["invert"] == false
            && part["pattern"]["Regex"].as_str().is_some_and(|regex| SPLITS.contains(&regex))
    };
    match value["pretokenizers"].as_array() {
        Some(parts) => {
            let digits = |part: &Value| part["type"] == "Digits";
            parts.last().is_some_and(byte_level)
                && parts.iter().any(|part| by_regex(part) || known(part))
                && parts.iter().all(|part| byte_level(part) || known(part) || digits(part))
                && parts.iter().filter(|part| byte_level(part)).count() == 1
        }
        None => by_regex(value),
    }
}

/// Whether the pre-tokenizer leaves a text in one piece.
fn joins(value: &Value, normalizer: &Normalizer) -> bool {
    match value["type"].as_str() {
        None => value.is_null(),
        Some("Metaspace") => value["split"] == false,
        // Of a text that has no blank left.
        Some("Split") => normalizer.marks_blanks && value["pattern"]["String"] == " ",
        _ => false,
    }
}

/// For a vocabulary that has every byte as a character: the longest run of each ASCII character in a token.
fn byte_runs(bpe: &BPE) -> Option<Box<[usize; 128]>> {
    let characters = bytes_as_characters();
    let vocab = bpe.get_vocab();
    if characters.iter().any(|c| !vocab.contains_key(c.encode_utf8(&mut [0; 4]) as &str)) {
        return None;
    }
    let mut runs = Box::new([1; 128]);
    for token in vocab.keys() {
        let (mut last, mut length) = (None, 0);
        for c in token.chars() {
            length = if last == Some(c) { length + 1 } else { 1 };
            last = Some(c);
            if length > 1
                && let Some(byte) = characters[..128].iter().position(|&other| other == c)
            {
                runs[byte] = runs[byte].max(length);
            }
        }
    }
    Some(runs)
}

/// GPT-2's character for every byte: printable ones stand for themselves, the others for 256 and on.
fn bytes_as_characters() -> [char; 256] {
    let mut next = 256_u32;
    std::array::from_fn(|byte| {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable { byte as u32 } else { next };
        next += u32::from(!printable);
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}

/// For a vocabulary that falls back to bytes and has all of them: the bytes of its longest token.
fn longest_piece(bpe: &BPE) -> Option<usize> {
    let vocab = bpe.get_vocab();
    let all = (0..=255).all(|byte| vocab.contains_key(&format!("<0x{byte:02X}>")));
    // Such a token inside a longer one could be merged with its neighbours.
    let merged = vocab.keys().any(|token| token.contains("<0x") && token.len() != "<0x00>".len());
    (bpe.byte_fallback && all && !merged).then(|| vocab.keys().map(String::len).max()).flatten()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use crate::tokenizer::PairTokenizer;

    fn golden(name: &str) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn open(file: &Value, config: &Value) -> PairTokenizer {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        PairTokenizer::from_folder(folder.path()).unwrap()
    }

    /// Tokenizers of both kinds: bytes split by regular expressions, and pieces of a text in one.
    fn tokenizers() -> Vec<(String, PairTokenizer)> {
        let bytes = golden("tokenizer.json");
        let files = golden("trl_ids.json")["files"].as_array().unwrap().clone();
        let pieces = files.into_iter().find(|file| file["model"]["byte_fallback"] == true).unwrap();
        let config = |class: &str| {
            json!({"tokenizer_class": class, "eos_token": "<|end|>", "bos_token": "<|start|>", "unk_token": "<unk>",
                "extra_special_tokens": ["<tool>"]})
        };
        let mut made = Vec::new();
        for class in ["GPT2Tokenizer", "Qwen2Tokenizer"] {
            made.push((class.to_owned(), open(&bytes, &config(class))));
        }
        for class in ["LlamaTokenizer", "GemmaTokenizer"] {
            made.push((format!("pieces/{class}"), open(&pieces, &config(class))));
        }
        let mut framed = bytes;
        framed["post_processor"] = json!({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<|end|>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|start|>": {"id": "<|start|>", "ids": [1], "tokens": ["<|start|>"]},
                "<|end|>": {"id": "<|end|>", "ids": [0], "tokens": ["<|end|>"]}}});
        made.push(("framed".into(), open(&framed, &config("PreTrainedTokenizerFast"))));
        made
    }

    /// Texts, and whether tokenizers that split them can be sure of their beginning.
    fn texts() -> Vec<(&'static str, String, bool)> {
        let words = (0..30_000).map(|i| format!("w{} ", i % 977)).collect::<String>();
        let mut tools = words.clone();
        for at in (15_000..40_000).step_by(7) {
            tools.replace_range(at..at + 1, "<");
        }
        vec![
            ("words", words.clone(), true),
            ("no blanks", "ab1Zq".repeat(30_000), true),
            ("equal signs", "=".repeat(150_000), true),
            ("one letter", "x".repeat(140_000), true),
            ("capitals", format!("{}xyz", "A".repeat(140_000)), true),
            ("digits", "7".repeat(140_000), true),
            ("blanks", format!("a{}b", " ".repeat(140_000)), true),
            ("line ends", format!("a{}b", "\n".repeat(140_000)), true),
            ("line ends behind a mark", format!("=={}b", "\n".repeat(140_000)), true),
            ("mixed white space", " \n\t\r\n  ".repeat(23_000), false),
            ("Chinese", "一种四行的诗，绝句是什么？".repeat(4_000), true),
            ("Chinese without marks", "绝句是什么".repeat(9_000), false),
            ("combining", format!("e\u{301}{}", "e\u{301}".repeat(45_000)), false),
            ("emoji", "👩‍👩‍👧‍👦".repeat(6_000), false),
            ("contractions", "it's we'll DON'T ".repeat(9_000), true),
            ("apostrophes", "'ll's".repeat(30_000), false),
            ("special tokens", "<|start|>a b<|end|>".repeat(7_500), false),
            ("special tokens between words", tools, true),
            ("a token at every place", "<tool>".repeat(23_000), false),
        ]
    }

    #[test]
    fn the_beginning_is_that_of_the_whole() {
        for (name, tokenizer) in tokenizers() {
            for (kind, text, sure) in texts() {
                let all = tokenizer.encode(&text).unwrap();
                for want in [50, 1025] {
                    let start = tokenizer.encode_start(&text, want).unwrap();
                    if start.whole {
                        assert_eq!(start.ids, all, "{name}, {kind}");
                    } else {
                        assert!(start.ids.len() >= want, "{name}, {kind}: {} of {want}", start.ids.len());
                        assert!(all.starts_with(&start.ids), "{name}, {kind}, {want}");
                        assert!(start.ids.len() < all.len());
                    }
                    if sure && !name.starts_with("pieces") && want < 1025 {
                        assert!(!start.whole, "{name}, {kind}: all of it was tokenised");
                    }
                }
            }
        }
    }

    #[test]
    fn pieces_need_no_boundary() {
        for (name, tokenizer) in tokenizers().into_iter().filter(|(name, _)| name.starts_with("pieces")) {
            for text in ["w17 and more ".repeat(20_000), "ab1Zq".repeat(60_000), "=".repeat(150_000)] {
                assert!(!tokenizer.encode_start(&text, 50).unwrap().whole, "{name}: {:?}", &text[..8]);
            }
        }
    }

    /// Texts of the same beginning: `tells_apart` may say no where ids differ, never yes where they are the same.
    #[test]
    fn only_different_ids_are_told_apart() {
        let texts = ["x ", "x", " x", "x\u{e9}", "xe\u{301}", "x\u{2581}", "x <tool>", "x<tool>"];
        for (name, tokenizer) in tokenizers() {
            let cuts = super::Cuts::of(&tokenizer.tokenizer).unwrap();
            for (a, b) in texts.iter().flat_map(|a| texts.iter().map(move |b| (a, b))) {
                let differ = tokenizer.encode(a).unwrap() != tokenizer.encode(b).unwrap();
                assert!(differ || !cuts.tells_apart(a, b), "{name}: {a:?} {b:?}");
            }
            assert!(cuts.tells_apart("one", "two"), "{name}");
        }
    }

    /// A tokenizer of which too little is known tokenises everything.
    #[test]
    fn others_are_left_alone() {
        let mut file = golden("tokenizer.json");
        file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"\w+ ?|\W"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
        let tokenizer = open(&file, &json!({"eos_token": "<|end|>"}));
        assert!(tokenizer.encode_start(&"word ".repeat(40_000), 10).unwrap().whole);
    }
}
