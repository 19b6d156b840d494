//! A Hugging Face tokenizer, set up as `transformers` 5 sets it up before TRL uses it.

mod classes;

use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::DataError;

/// The named special tokens that `transformers` registers with the tokenizer, in its order.
const NAMED_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A tokenizer together with the end-of-sequence token that completions get.
pub struct PairTokenizer {
    tokenizer: Tokenizer,
    eos_token: String,
    eos_id: u32,
    vocab_size: usize,
    fingerprint: [u8; 32],
}

impl fmt::Debug for PairTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairTokenizer")
            .field("eos_token", &self.eos_token)
            .field("eos_id", &self.eos_id)
            .field("vocab_size", &self.vocab_size)
            .finish_non_exhaustive()
    }
}

impl PairTokenizer {
    /// Loads `tokenizer.json` of a model folder.
    ///
    /// The end-of-sequence token is `eos_token` of `tokenizer_config.json` (a text, or an object with `content`),
    /// else of `special_tokens_map.json`, else the (first) `eos_token_id` of `config.json`. As in `transformers`,
    /// truncation and padding that `tokenizer.json` asks for are switched off, and the named special tokens of
    /// the configuration are recognised in text even if `tokenizer.json` lists them as ordinary vocabulary, and
    /// the classes `GPT2Tokenizer` and `LlamaTokenizer` replace parts of `tokenizer.json` by their own.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::Tokenizer`]: unreadable files, no end-of-sequence token, or one that is
    /// not in the vocabulary.
    pub fn from_folder(dir: &Path) -> Result<Self, DataError> {
        let path = dir.join("tokenizer.json");
        let config = read_object(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let special = read_object(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        let model = read_object(&dir.join("config.json"))?.unwrap_or_default();
        let mut eos = token_text(config.get("eos_token")).or_else(|| token_text(special.get("eos_token")));
        if eos.is_none() {
            let id = match model.get("eos_token_id") {
                Some(Value::Array(ids)) => ids.first().and_then(Value::as_u64),
                other => other.and_then(Value::as_u64),
            };
            if let Some(id) = id.and_then(|id| u32::try_from(id).ok()) {
                eos = load(&path)?.0.id_to_token(id);
            }
        }
        let eos = eos.ok_or_else(|| DataError::Tokenizer {
            path: dir.to_path_buf(),
            message: "no end-of-sequence token".into(),
            remedy: "set eos_token in tokenizer_config.json, or eos_token_id in config.json to an id of the vocabulary",
        })?;
        let mut named: Vec<String> =
            NAMED_TOKENS.iter().filter_map(|&name| token_text(config.get(name))).collect();
        for list in ["additional_special_tokens", "extra_special_tokens"] {
            if let Some(Value::Array(tokens)) = config.get(list) {
                named.extend(tokens.iter().filter_map(|token| token_text(Some(token))));
            }
        }
        let split_special = config.get("split_special_tokens").and_then(Value::as_bool).unwrap_or(false);
        let (mut tokenizer, mut bytes) = load(&path)?;
        if let Some(file) = classes::rebuilt(&bytes, &config, model.get("model_type").and_then(Value::as_str))
        {
            bytes = file.to_string().into_bytes();
            tokenizer = parse(&path, &bytes)?;
        }
        Self::set_up(&path, tokenizer, &bytes, &eos, &named, split_special)
    }

    /// Loads a lone `tokenizer.json`, taken as it is; `eos_token` is the text of its end-of-sequence token.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::Tokenizer`], as [`from_folder`](Self::from_folder).
    pub fn from_file(path: &Path, eos_token: &str) -> Result<Self, DataError> {
        let (tokenizer, bytes) = load(path)?;
        Self::set_up(path, tokenizer, &bytes, eos_token, &[], false)
    }

    fn set_up(
        path: &Path,
        mut tokenizer: Tokenizer,
        bytes: &[u8],
        eos_token: &str,
        named: &[String],
        split_special: bool,
    ) -> Result<Self, DataError> {
        let refuse =
            |message: String, remedy| DataError::Tokenizer { path: path.to_path_buf(), message, remedy };
        tokenizer
            .with_truncation(None)
            .map_err(|e| refuse(e.to_string(), "remove the truncation entry from tokenizer.json"))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(split_special);
        let eos_id = tokenizer.token_to_id(eos_token).ok_or_else(|| {
            refuse(
                format!("the end-of-sequence token {eos_token:?} is not in the vocabulary"),
                "use the tokenizer that belongs to the model, or correct eos_token in tokenizer_config.json",
            )
        })?;
        for token in named.iter().map(String::as_str).chain([eos_token]) {
            let known = tokenizer.token_to_id(token).is_some();
            let added = tokenizer.get_added_vocabulary().get_vocab().contains_key(token);
            if known && !added {
                tokenizer.add_special_tokens([AddedToken::from(token, true)]).map_err(|e| {
                    refuse(e.to_string(), "correct the special tokens in tokenizer_config.json")
                })?;
            }
        }
        let vocab_size = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let mut hasher = blake3::Hasher::new_derive_key("ama-data 2025 tokenizer v1");
        hasher.update(blake3::hash(bytes).as_bytes());
        hasher.update(&[u8::from(split_special)]);
        for token in [eos_token].into_iter().chain(named.iter().map(String::as_str)) {
            hasher.update(&(token.len() as u64).to_le_bytes());
            hasher.update(token.as_bytes());
        }
        let fingerprint = *hasher.finalize().as_bytes();
        Ok(Self { tokenizer, eos_token: eos_token.into(), eos_id, vocab_size, fingerprint })
    }

    /// The largest token id plus one: embeddings need at least so many rows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Id of the end-of-sequence token.
    pub fn eos_id(&self) -> u32 {
        self.eos_id
    }

    /// Text of the end-of-sequence token.
    pub fn eos_token(&self) -> &str {
        &self.eos_token
    }

    /// Hash of everything that decides which ids a text gets: the bytes of `tokenizer.json` (as rebuilt for its
    /// class, if it is), the end-of-sequence token and the named special tokens.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Token ids of a text, with the special tokens that the tokenizer's post-processor adds (a BOS, say), as
    /// `tokenizer(text)["input_ids"]` in `transformers`. Special tokens written out in the text become their ids.
    ///
    /// # Errors
    /// [`DataError::Encode`] if the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match self.tokenizer.encode_fast(text, true) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => {
                Err(DataError::Encode { text: text.chars().take(64).collect(), message: e.to_string() })
            }
        }
    }

    /// Token ids of a prompt to generate from: what TRL feeds before the completion.
    ///
    /// That is [`encode`](Self::encode), less an end-of-sequence token that the post-processor put at the end
    /// (in training TRL cuts it off, because prompt and completion in one piece do not have it there).
    ///
    /// # Errors
    /// [`DataError::Encode`] if the tokenizer refuses the text, or gives it no token at all.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>, DataError> {
        let mut ids = self.encode(prompt)?;
        if ids.last() == Some(&self.eos_id) && ids.len() > 1 && !prompt.ends_with(&self.eos_token) {
            ids.pop();
        }
        if ids.is_empty() {
            let text = prompt.chars().take(64).collect();
            return Err(DataError::Encode { text, message: "the prompt has no tokens".into() });
        }
        Ok(ids)
    }

    /// The text of token ids, without special tokens.
    ///
    /// # Errors
    /// [`DataError::Encode`] if an id is outside the vocabulary or the decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let fail = |message| DataError::Encode { text: format!("{:?}", &ids[..ids.len().min(16)]), message };
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            return Err(fail(format!("id {id} is not below the vocabulary size {}", self.vocab_size)));
        }
        self.tokenizer.decode(ids, true).map_err(|e| fail(e.to_string()))
    }
}

fn load(path: &Path) -> Result<(Tokenizer, Vec<u8>), DataError> {
    let bytes = fs::read(path).map_err(DataError::io(path, "read"))?;
    Ok((parse(path, &bytes)?, bytes))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Tokenizer, DataError> {
    Tokenizer::from_bytes(bytes).map_err(|e| DataError::Tokenizer {
        path: path.to_path_buf(),
        message: format!("not a tokenizer: {e}"),
        remedy: "want the tokenizer.json of the `tokenizers` library; save it again with save_pretrained",
    })
}

/// A JSON object from a file, or `None` if there is no such file.
fn read_object(path: &Path) -> Result<Option<serde_json::Map<String, Value>>, DataError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(DataError::io(path, "read")(e)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| DataError::Tokenizer {
        path: path.to_path_buf(),
        message: format!("not a JSON object: {e}"),
        remedy: "correct or restore the file",
    })
}

/// The text of a special token, which is a text itself or an object with `content`.
fn token_text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Object(token) => token.get("content")?.as_str().map(str::to_owned),
        _ => None,
    }
}
