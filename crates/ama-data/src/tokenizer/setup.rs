//! From the files of a model folder to a tokenizer as `transformers` 5 sets it up: what is registered, and in what order.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokenizers::{AddedToken, PostProcessorWrapper, Tokenizer};

use super::classes::{self, Class};
use super::settings::{self, BadKey, Description, Files, NAMED, Settings, Token};

/// A tokenizer with what the files say besides.
pub(super) struct SetUp {
    pub(super) tokenizer: Tokenizer,
    pub(super) eos_token: Option<String>,
    pub(super) split_special: bool,
    /// A text that the class takes for a place to fill in; rows with it are refused.
    pub(super) fill_token: Option<&'static str>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Refused {
    Class(classes::Refused),
    Key(BadKey),
    Tokenizer(tokenizers::Error),
    /// A key of `tokenizer_config.json` whose effect is not repeated here.
    Unsupported(&'static str),
    /// A key of `tokenizer_config.json` that is neither true nor false.
    Flag(&'static str),
}

impl From<tokenizers::Error> for Refused {
    fn from(error: tokenizers::Error) -> Self {
        Self::Tokenizer(error)
    }
}

/// `bytes` are those of `tokenizer.json`, which `files` has parsed.
pub(super) fn set_up(files: &Files, bytes: &[u8]) -> Result<SetUp, Refused> {
    let config = files.config.map();
    // `transformers` tells by this very search.
    let byte_level = bytes.windows(BYTE_LEVEL.len()).any(|window| window == BYTE_LEVEL);
    let class = classes::choose(config, &files.model, byte_level).map_err(Refused::Class)?;
    refuse_unsupported(config)?;
    want_flags(config, class)?;
    let mut settings = Settings::read(files).map_err(Refused::Key)?;
    for &(name, token) in class.own_tokens() {
        match settings.none.get_mut(name).map(Option::take) {
            Some(Some(bad)) => return Err(Refused::Key(bad)),
            Some(None) => {}
            // The class's own list, under the older name: a text under a token's name does not change it.
            None if !settings.newer => {
                let object = settings.first.iter().find(|(other, _)| other == name);
                let token = object.map_or_else(|| Token::Text(token.to_owned()), |(_, token)| token.clone());
                settings.extra.get_or_insert_default().push(token);
            }
            None => {}
        }
    }
    let special = special_tokens(class, &settings, &files.tokenizer);
    let text = |name: &str| special.iter().find(|(other, _)| other == name).map(|(_, token)| token.content());
    let file = match class.rebuild(&files.tokenizer, config, text("unk_token")) {
        Some(file) => Cow::Owned(file.to_string().into_bytes()),
        None => Cow::Borrowed(bytes),
    };
    let mut tokenizer = Tokenizer::from_bytes(file)?;
    register(&mut tokenizer, class, &special, &settings)?;
    if class == Class::CodeLlama {
        let bos = begin_with(text("bos_token"), &tokenizer)?;
        tokenizer.with_post_processor(Some(bos));
    }
    Ok(SetUp {
        eos_token: text("eos_token").map(str::to_owned),
        split_special: config.get("split_special_tokens").and_then(Value::as_bool).unwrap_or(false),
        fill_token: (class == Class::CodeLlama && !settings.none.contains_key("fill_token"))
            .then_some("<FILL_ME>"),
        tokenizer,
    })
}

const BYTE_LEVEL: &[u8] = b"\"ByteLevel\"";

fn refuse_unsupported(config: &serde_json::Map<String, Value>) -> Result<(), Refused> {
    let versioned = |name: &Value| {
        name.as_str().is_some_and(|name| name.starts_with("tokenizer.") && name != "tokenizer.json")
    };
    match config.get("fast_tokenizer_files") {
        Some(Value::Array(names)) if names.iter().any(versioned) => {
            return Err(Refused::Unsupported("fast_tokenizer_files"));
        }
        _ => {}
    }
    match config.get("fix_mistral_regex") {
        Some(Value::Bool(true)) => Err(Refused::Unsupported("fix_mistral_regex")),
        _ => Ok(()),
    }
}

/// Refuses what is no flag where one counts; some classes take null for their default.
fn want_flags(config: &serde_json::Map<String, Value>, class: Class) -> Result<(), Refused> {
    let want = |key, null_is_default| match config.get(key) {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::Null) if null_is_default => Ok(()),
        Some(_) => Err(Refused::Flag(key)),
    };
    want("split_special_tokens", false)?;
    if class == Class::Llama {
        want("legacy", true)?;
    }
    match class {
        Class::File | Class::Gemma => Ok(()),
        Class::Llama | Class::CodeLlama | Class::Qwen2 | Class::Qwen3_5 => want("add_prefix_space", true),
        Class::Gpt2 | Class::CodeGen | Class::GptNeoX | Class::Cohere => want("add_prefix_space", false),
    }
}

/// All special tokens with a name, in the order in which they are registered.
fn special_tokens(class: Class, settings: &Settings, file: &Value) -> Vec<(String, Token)> {
    let default = |name: &str| {
        let padding = file["padding"]["pad_token"].as_str().filter(|_| class.takes_padding_token());
        let of_class = class.default_tokens().iter().find(|(other, _)| *other == name);
        of_class.map(|(_, token)| *token).or(padding.filter(|_| name == "pad_token"))
    };
    let mut tokens = Vec::new();
    for name in NAMED {
        let token = match settings.named.get(name) {
            Some(token) => token.clone(),
            None => default(name).map(|token| Token::Text(token.to_owned())),
        };
        tokens.extend(token.map(|token| (name.to_owned(), token)));
    }
    let own = class.own_tokens().iter().filter(|(name, _)| !settings.none.contains_key(*name));
    let own = own.map(|&(name, token)| (name.to_owned(), Token::Text(token.to_owned())));
    for (name, token) in own.chain(settings.first.iter().cloned()).chain(settings.own.iter().cloned()) {
        settings::set(&mut tokens, &name, token);
    }
    // A named token keeps its place where such an object gives it.
    tokens.sort_by_key(|(name, _)| NAMED.iter().position(|named| named == name).unwrap_or(NAMED.len()));
    tokens
}

fn register(
    tokenizer: &mut Tokenizer,
    class: Class,
    special: &[(String, Token)],
    settings: &Settings,
) -> Result<(), Refused> {
    let extra = settings.extra.as_deref().unwrap_or_default();
    let in_file = tokenizer.get_added_tokens_decoder();
    let mut new = missing(&settings.added, in_file.values());
    let in_file = in_file.values().map(|token| token.content.as_str());
    let known: BTreeSet<String> = in_file.chain(new.iter().map(Token::content)).map(str::to_owned).collect();
    for token in special.iter().map(|(_, token)| token).chain(extra) {
        if !known.contains(token.content()) && !new.contains(token) {
            new.push(token.clone());
        }
    }
    for token in &mut new {
        let named = special.iter().any(|(_, other)| other.content() == token.content());
        if let Token::Described(described) = token
            && named
        {
            described.special = true;
        }
    }
    // One call for all: the ids of those that are in no vocabulary count on from the largest.
    tokenizer.add_tokens(new.iter().map(Token::to_added).collect::<Vec<_>>())?;
    let all = || special.iter().map(|(_, token)| token).chain(extra);
    match class {
        Class::Qwen2 => {
            let plain = all().map(|token| AddedToken::from(token.content(), true));
            tokenizer.add_tokens(plain.collect::<Vec<_>>())?;
        }
        Class::Cohere => {
            let special = all().map(|token| token.to_added().special(true));
            tokenizer.add_special_tokens(special.collect::<Vec<_>>())?;
        }
        _ => {}
    }
    Ok(())
}

/// The added tokens that `tokenizer.json` has not, or has with another way of matching, by id.
fn missing<'a>(
    added: &BTreeMap<i64, Description>,
    in_file: impl Iterator<Item = &'a AddedToken>,
) -> Vec<Token> {
    let in_file: BTreeMap<&str, &AddedToken> = in_file.map(|token| (token.content.as_str(), token)).collect();
    let tokens = added.values().cloned().map(Token::Described);
    tokens.filter(|token| in_file.get(token.content()) != Some(&&token.to_added())).collect()
}

/// A post-processor that puts a BOS before every text, or nothing.
fn begin_with(bos: Option<&str>, tokenizer: &Tokenizer) -> Result<PostProcessorWrapper, Refused> {
    let text = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let (mut single, mut pair) = (vec![text("A", 0)], vec![text("A", 0), text("B", 1)]);
    let mut tokens = json!({});
    if let Some(bos) = bos
        && let Some(id) = tokenizer.token_to_id(bos)
    {
        let special = json!({"SpecialToken": {"id": bos, "type_id": 0}});
        single.insert(0, special.clone());
        pair.insert(0, special);
        tokens[bos] = json!({"id": bos, "ids": [id], "tokens": [bos]});
    }
    let template =
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens});
    serde_json::from_value(template).map_err(|error| Refused::Tokenizer(error.into()))
}
