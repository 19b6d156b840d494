//! The tokenizer, loaded by the library that everybody else loads it with.

use ama_suite::{SPECIAL_TOKENS, Sizes, Task, bare_prompt, generate, tokenizer_json, vocabulary};
use std::collections::HashSet;
use tokenizers::Tokenizer;

const SMALL: Sizes = Sizes { helpful: 6000, harmless: 1000, reasoning: 1000, held_out: 100, sft: 5000 };

fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(tokenizer_json()).expect("a valid tokenizer.json")
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, true).unwrap().get_ids().to_vec()
}

#[test]
fn every_word_is_one_token_of_its_own() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.get_vocab_size(true), 470);
    for (i, word) in vocabulary::words().iter().enumerate() {
        assert_eq!(ids(&tokenizer, &format!(" {word}")), [5 + i as u32], "{word}");
    }
    for (i, token) in SPECIAL_TOKENS.iter().enumerate() {
        assert_eq!(ids(&tokenizer, token), [i as u32]);
    }
    assert_eq!(SPECIAL_TOKENS, ["<|pad|>", "<|bos|>", "<|user|>", "<|assistant|>", "<|eos|>"]);
}

/// Lengths, the boundary between prompt and answer, round trips; no word unused.
#[test]
fn suite_texts_are_one_token_a_word() {
    let tokenizer = tokenizer();
    let suite = generate(9, &SMALL);
    let mut texts: Vec<(&str, &str)> = suite.sft.iter().map(|e| (&*e.prompt, &*e.completion)).collect();
    for task in Task::ALL {
        let splits = suite.task(task);
        for pair in splits.train.iter().chain(&splits.valid).chain(&splits.test) {
            texts.extend([(&*pair.prompt, &*pair.chosen), (&*pair.prompt, &*pair.rejected)]);
        }
    }
    let (mut longest, mut used) = (0, HashSet::new());
    for (prompt, answer) in texts {
        let words = |text: &str| text.split_whitespace().count();
        let whole = format!("{prompt}{answer}<|eos|>");
        let (prompt_ids, whole_ids) = (ids(&tokenizer, prompt), ids(&tokenizer, &whole));
        assert_eq!(prompt_ids.len(), 3 + words(bare_prompt(prompt).unwrap()), "{prompt}");
        assert_eq!((prompt_ids[0], prompt_ids[1], *prompt_ids.last().unwrap()), (1, 2, 3));
        assert_eq!(whole_ids.len(), prompt_ids.len() + words(answer) + 1, "{whole}");
        let (before, after) = whole_ids.split_at(prompt_ids.len());
        assert_eq!(before, prompt_ids, "tokens merge over the boundary in {whole}");
        // The bodies hold no special token and no spelled-out word.
        let body = prompt_ids[2..prompt_ids.len() - 1].iter().chain(&after[..after.len() - 1]);
        assert!(body.clone().all(|&id| (5..307).contains(&id)), "{whole}");
        used.extend(body.copied());
        assert_eq!(*after.last().unwrap(), 4);
        assert_eq!(tokenizer.decode(&whole_ids, false).unwrap(), whole);
        let bare = format!(" {}{answer}", bare_prompt(prompt).unwrap());
        assert_eq!(tokenizer.decode(&whole_ids, true).unwrap(), bare);
        longest = longest.max(whole_ids.len());
    }
    assert!((40..=44).contains(&longest), "the longest sequence has {longest} tokens");
    assert_eq!(used.len(), 302, "every word occurs");
}

#[test]
fn any_text_survives() {
    let tokenizer = tokenizer();
    let mut texts: Vec<String> = [
        "",
        " ",
        "reverse : apple",
        "  two  spaces and\ttabs\r\n\n",
        "apples 100 007 12,5 don't re-make",
        "naïve café ß Ω ж 漢字 🙂👩‍👩‍👧 \u{0}\u{7f}\u{80}\u{ad}\u{a0}\u{feff}\u{10ffff}",
        "<0xC2><0x80> Ġapple Ċ ▁",
        "<|bos|<|user |>> <|BOS|> <| eos |>",
    ]
    .map(str::to_owned)
    .to_vec();
    // Every character of the first planes' edges, alone and after a space.
    for code in (0..0x300).chain(0x7f0..0x810).chain(0xff00..0x10010) {
        texts.extend(char::from_u32(code).map(|c| format!("{c} {c}a")));
    }
    for text in texts {
        let ids = ids(&tokenizer, &text);
        assert!(ids.iter().all(|&id| (5..470).contains(&id)), "{text:?}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text, "{ids:?}");
    }
}

/// Ordinary text cannot be read as a byte token or as a special token.
#[test]
fn tokens_cannot_be_smuggled_in() {
    let tokenizer = tokenizer();
    for text in ["<0xC2>", " <0xC2>", "<0x80><0x80>"] {
        assert!(ids(&tokenizer, text).iter().all(|&id| id < 402), "{text}");
    }
    let mut words = vocabulary::words();
    words.extend(
        ["eos", "<", "|", ">", "<|", "|>", "< |eos| >", "<|eos |>", "<|EOS|>", "</s>", "<eos>"]
            .map(String::from),
    );
    for a in &words {
        for text in [a.clone(), format!("<|{a}"), format!("{a}|>"), format!("<|{a}>")] {
            assert!(ids(&tokenizer, &text).iter().all(|&id| id >= 5), "{text}");
        }
    }
}

/// Ids and rendered chats of `transformers` (tests/golden/tokens.py).
#[test]
fn agrees_with_transformers() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/tokens.json")).unwrap();
    let tokenizer = tokenizer();
    let rows = golden["rows"].as_array().unwrap();
    assert!(rows.len() >= 12);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let want: Vec<u32> =
            row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(ids(&tokenizer, text), want, "{text}");
        assert_eq!(row["decoded"], text);
    }
    assert_eq!(golden["chat_prompt"], ama_suite::render_prompt("count words : cat dog fox"));
    let turn = "count words : cat dog fox";
    assert_eq!(
        golden["chat_turn"],
        format!("{}{}<|eos|>", ama_suite::render_prompt(turn), ama_suite::render_answer("3"))
    );
    assert_eq!(golden["parameters"], 381_600);
    assert_eq!(golden["special"], serde_json::json!({"bos": 1, "eos": 4, "pad": 0}));
}
