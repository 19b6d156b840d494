//! The tokens that the files of a model folder name, in `transformers`' order of precedence.
//!
//! Where `tokenizer_config.json` has `added_tokens_decoder`, that and its own keys are all there is. Where it has not
//! (folders of older tools), `special_tokens_map.json` stands above the configuration, and the tokens of
//! `added_tokens.json` and of `tokenizer.json` (the latter where both have an id) are the added ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::document::Document;

/// The named special tokens, in the order in which they are registered.
pub(super) const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token as a file writes it: as a text, or with how it is matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Text(String),
    Described(Description),
}

/// A token with how it is matched in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    /// Where the file does not say, what is special is not normalized.
    normalized: Option<bool>,
    pub(super) special: bool,
}

impl Token {
    pub(super) fn content(&self) -> &str {
        match self {
            Self::Text(content) | Self::Described(Description { content, .. }) => content,
        }
    }

    /// What is registered: a text is a special token.
    pub(super) fn to_added(&self) -> AddedToken {
        match self {
            Self::Text(content) => AddedToken::from(content, true),
            Self::Described(token) => AddedToken::from(&token.content, token.special)
                .single_word(token.single_word)
                .lstrip(token.lstrip)
                .rstrip(token.rstrip)
                .normalized(token.normalized.unwrap_or(!token.special)),
        }
    }

    /// A token that is a text or an object with `content`; `None` for anything else.
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Object(_) => Description::read(value).map(Self::Described),
            _ => None,
        }
    }
}

impl Description {
    fn read(value: &Value) -> Option<Self> {
        let flag = |key: &str| match value.get(key) {
            None | Some(Value::Null) => Some(None),
            Some(flag) => flag.as_bool().map(Some),
        };
        Some(Self {
            content: value.get("content")?.as_str()?.to_owned(),
            single_word: flag("single_word")?.unwrap_or(false),
            lstrip: flag("lstrip")?.unwrap_or(false),
            rstrip: flag("rstrip")?.unwrap_or(false),
            normalized: flag("normalized")?,
            special: flag("special")?.unwrap_or(false),
        })
    }
}

/// The JSON objects of a model folder that say something about tokens; `None` for a file that is not there.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// `tokenizer.json`.
    pub(super) tokenizer: Value,
    /// `tokenizer_config.json`.
    pub(super) config: Document,
    /// `special_tokens_map.json`.
    pub(super) special_tokens_map: Option<Document>,
    /// `added_tokens.json`.
    pub(super) added_tokens: Option<Map<String, Value>>,
    /// `config.json`.
    pub(super) model: Map<String, Value>,
}

impl Files {
    /// The file that a token comes from.
    pub(super) fn file_of(&self, token: &str) -> &'static str {
        let written = serde_json::to_string(token).unwrap_or_default();
        let names = |value: Option<String>| value.is_some_and(|text| text.contains(&written));
        let config = self.config.map();
        if self.added_tokens.as_ref().is_some_and(|tokens| tokens.contains_key(token)) {
            "added_tokens.json"
        } else if names(self.special_tokens_map.as_ref().and_then(|d| serde_json::to_string(d.map()).ok())) {
            SPECIAL
        } else if self.tokenizer["model"]["vocab"].get(token).is_some()
            || names(serde_json::to_string(&self.tokenizer["added_tokens"]).ok())
                && !names(serde_json::to_string(config).ok())
        {
            "tokenizer.json"
        } else {
            CONFIG
        }
    }
}

/// A key that holds no token, no list of tokens, or no number where one has to stand.
#[derive(Debug)]
pub(super) struct BadKey {
    pub(super) file: &'static str,
    pub(super) key: String,
}

/// What the files say, before a tokenizer class adds its defaults.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Named special tokens; `None` where a file says that there is none.
    pub(super) named: BTreeMap<&'static str, Option<Token>>,
    /// Special tokens with a name of the model's own: the keys of an `extra_special_tokens` or
    /// `model_specific_special_tokens` object, and texts like `image_token` of the configuration.
    pub(super) own: Vec<(String, Token)>,
    /// The same, where they are objects or stand in `special_tokens_map.json`: they are registered before `own`.
    pub(super) first: Vec<(String, Token)>,
    /// Keys of such names that hold no token, and whether they hold something else instead.
    pub(super) none: BTreeMap<String, Option<BadKey>>,
    /// Special tokens without a name; `None` if no file has a list of them.
    pub(super) extra: Option<Vec<Token>>,
    /// Whether these stand under the newer name, or under the older one in its place.
    pub(super) newer: bool,
    /// Added tokens by id, which decides their order.
    pub(super) added: BTreeMap<i64, Description>,
}

/// The list under the older name of `extra_special_tokens`, and the file that it stands in.
type Older<'a> = Option<(&'static str, &'a Value)>;

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const EXTRA: &str = "extra_special_tokens";
const OLDER: &str = "additional_special_tokens";
const MODEL_SPECIFIC: &str = "model_specific_special_tokens";

impl Settings {
    pub(super) fn read(files: &Files) -> Result<Self, BadKey> {
        let mut settings = Self::default();
        let mut older = settings.read_config(&files.config)?;
        let mut by_content = BTreeMap::new();
        if let Some(decoder) = files.config.map().get("added_tokens_decoder") {
            let bad = || BadKey { file: CONFIG, key: "added_tokens_decoder".into() };
            for (id, token) in decoder.as_object().ok_or_else(bad)? {
                let token = Description::read(token).ok_or_else(bad)?;
                by_content.insert(token.content.clone(), token.clone());
                settings.added.insert(id.parse().map_err(|_| bad())?, token);
            }
        } else {
            settings.read_older_files(files, &mut by_content, &mut older)?;
        }
        settings.newer = settings.extra.is_some();
        // The older name counts where no file has a list under the newer one.
        if !settings.newer
            && let Some((file, list)) = older
        {
            settings.extra = Some(tokens(file, OLDER, list)?);
        }
        for token in settings.named.values_mut().flatten() {
            if let Some(described) = by_content.get(token.content()) {
                *token = Token::Described(described.clone());
            }
        }
        Ok(settings)
    }

    /// Returns the list under the older name, if it is not used up.
    fn read_config<'a>(&mut self, document: &'a Document) -> Result<Older<'a>, BadKey> {
        let config = document.map();
        let bad = |key: &str| BadKey { file: CONFIG, key: key.into() };
        let empty = |value: &Value| match value {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        let mut extra = config.get(EXTRA);
        let mut older = config.get(OLDER);
        if extra.is_none_or(empty)
            && let Some(list) = older.take()
        {
            if list.is_object() {
                return Err(bad(OLDER));
            }
            extra = Some(list);
        }
        for (key, value) in document.in_order() {
            self.read_token(CONFIG, key, value)?;
        }
        match extra {
            Some(Value::Object(_)) => self.add_own(CONFIG, document, EXTRA)?,
            Some(Value::Null) => self.extra = Some(Vec::new()),
            Some(list) => self.extra = Some(tokens(CONFIG, EXTRA, list)?),
            None => {}
        }
        // `transformers` collects the tokens above under this very key, in place of what the file has there.
        if self.own.is_empty() {
            match config.get(MODEL_SPECIFIC) {
                None | Some(Value::Null) => {}
                Some(Value::Object(_)) => self.add_own(CONFIG, document, MODEL_SPECIFIC)?,
                Some(_) => return Err(bad(MODEL_SPECIFIC)),
            }
        }
        Ok(older.map(|list| (CONFIG, list)))
    }

    /// A key that names one token; other keys are passed over.
    fn read_token(&mut self, file: &'static str, key: &str, value: &Value) -> Result<(), BadKey> {
        let bad = || BadKey { file, key: key.into() };
        let mut token = Token::read(value);
        if let Some(Token::Described(described)) = &mut token
            && file == SPECIAL
        {
            described.special = true;
        }
        if let Some(&name) = NAMED.iter().find(|&&name| name == key) {
            if token.is_none() && !value.is_null() {
                return Err(bad());
            }
            self.named.insert(name, token);
        } else if key.ends_with("_token") {
            // What the map has under a name replaces what the configuration has, even by nothing.
            let text = value.is_string() && file == CONFIG;
            let place = if text { &mut self.own } else { &mut self.first };
            let marked = file == SPECIAL || value["__type"] == "AddedToken";
            match token {
                Some(token) if value.is_string() || marked => {
                    set(place, key, token);
                    self.none.remove(key);
                }
                None if value.is_object() && marked => return Err(bad()),
                // In the configuration an object without the mark may be anything.
                _ => {
                    place.retain(|(name, _)| name != key);
                    self.none.insert(key.to_owned(), (!value.is_null()).then(bad));
                }
            }
        }
        Ok(())
    }

    /// The tokens of the object under a key of the document.
    fn add_own(&mut self, file: &'static str, document: &Document, key: &str) -> Result<(), BadKey> {
        for (name, value) in document.nested_in_order(key) {
            let token = Token::read(value).ok_or_else(|| BadKey { file, key: format!("{key}.{name}") })?;
            set(&mut self.own, name, token);
        }
        Ok(())
    }

    fn read_older_files<'a>(
        &mut self,
        files: &'a Files,
        by_content: &mut BTreeMap<String, Description>,
        older: &mut Older<'a>,
    ) -> Result<(), BadKey> {
        let mut special = BTreeSet::new();
        let map = files.special_tokens_map.as_ref();
        for (key, value) in map.iter().flat_map(|map| map.in_order()) {
            match (key, value) {
                (MODEL_SPECIFIC, _) => return Err(BadKey { file: SPECIAL, key: key.into() }),
                (OLDER, list) => *older = Some((SPECIAL, list)),
                (EXTRA, Value::Object(_)) => self.extra = None,
                (EXTRA, Value::Null) => self.extra = Some(Vec::new()),
                (EXTRA, list) => {
                    let extra = self.extra.get_or_insert_default();
                    for mut token in tokens(SPECIAL, key, list)? {
                        if let Token::Described(described) = &mut token {
                            described.special = true;
                        }
                        special.insert(token.content().to_owned());
                        if !extra.contains(&token) {
                            extra.push(token);
                        }
                    }
                }
                _ => self.read_token(SPECIAL, key, value)?,
            }
        }
        if let Some(map) = map {
            self.add_own(SPECIAL, map, EXTRA)?;
        }
        // `transformers` knows an object of the configuration for a token only after it has looked for these.
        let in_map = |name: &str| map.is_some_and(|map| map.map().contains_key(name));
        let named = self.named.iter().filter_map(|(name, token)| Some((in_map(name), token.as_ref()?)));
        let listed = self.extra.iter().flatten().map(|token| (false, token));
        for (in_map, token) in named.chain(listed) {
            if in_map || matches!(token, Token::Text(_)) {
                special.insert(token.content().to_owned());
            }
        }
        let bad = || BadKey { file: "added_tokens.json", key: "the tokens and their ids".into() };
        for (content, id) in files.added_tokens.iter().flatten() {
            let special = special.contains(content);
            let token = Description {
                content: content.clone(),
                single_word: false,
                lstrip: false,
                rstrip: false,
                normalized: Some(!special),
                special,
            };
            by_content.insert(content.clone(), token.clone());
            self.added.insert(id.as_i64().ok_or_else(bad)?, token);
        }
        let bad = || BadKey { file: "tokenizer.json", key: "added_tokens".into() };
        for token in files.tokenizer["added_tokens"].as_array().into_iter().flatten() {
            let described = Description::read(token).ok_or_else(bad)?;
            by_content.insert(described.content.clone(), described.clone());
            self.added.insert(token["id"].as_i64().ok_or_else(bad)?, described);
        }
        Ok(())
    }
}

/// Puts a token under a name, in the place that the name has already if it has one.
pub(super) fn set(tokens: &mut Vec<(String, Token)>, name: &str, token: Token) {
    match tokens.iter_mut().find(|(other, _)| other == name) {
        Some((_, old)) => *old = token,
        None => tokens.push((name.to_owned(), token)),
    }
}

fn tokens(file: &'static str, key: &str, list: &Value) -> Result<Vec<Token>, BadKey> {
    let tokens = list.as_array().map(|list| list.iter().map(Token::read).collect::<Option<Vec<_>>>());
    match tokens {
        Some(Some(tokens)) => Ok(tokens),
        // Some tools write null for an empty list.
        None if list.is_null() => Ok(Vec::new()),
        _ => Err(BadKey { file, key: key.into() }),
    }
}
