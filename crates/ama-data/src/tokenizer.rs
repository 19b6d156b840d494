//! A Hugging Face tokenizer, set up as `transformers` 5 sets it up before TRL uses it.

mod classes;
mod document;
mod families;
mod settings;
mod setup;
mod start;

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::error::DataError;
use document::Document;
use settings::Files;
use setup::{Refused, SetUp};
use start::Cuts;

/// A tokenizer together with the end-of-sequence token that completions get.
pub struct PairTokenizer {
    tokenizer: Tokenizer,
    eos_token: String,
    eos_id: u32,
    vocab_size: usize,
    /// Ids that the post-processor puts before every text, and behind it.
    leading: Vec<u32>,
    trailing: Vec<u32>,
    fill_token: Option<&'static str>,
    max_positions: Option<u64>,
    /// How long texts may be cut; found out with the first of them.
    cuts: OnceLock<Option<Cuts>>,
    fingerprint: [u8; 32],
}

/// Bytes above which a text is long: below, all of it is tokenised even if its beginning would do.
const LONG: usize = 128 << 10;

/// Ids of a text, or of its beginning.
pub(crate) struct Start {
    pub(crate) ids: Vec<u32>,
    /// Whether these are all.
    pub(crate) whole: bool,
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
    /// Loads the tokenizer of a model folder: the ids are those of `AutoTokenizer` in `transformers` 5.23.
    ///
    /// Read are, in that order of precedence, `tokenizer_config.json`, and where it has no `added_tokens_decoder` also
    /// `special_tokens_map.json`, `added_tokens.json` and the added tokens of `tokenizer.json`. `tokenizer_class` (or the
    /// `model_type` of `config.json`) decides which parts of `tokenizer.json` are replaced by those of the class. Tokens
    /// that are in no vocabulary get the next ids. Truncation and padding that `tokenizer.json` asks for are off, and
    /// so are `add_bos_token` and `add_eos_token`: the post-processor of `tokenizer.json` stands above them.
    ///
    /// The end-of-sequence token is `eos_token` of these files or the class's own, else the (first) `eos_token_id` of
    /// `config.json`.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::Tokenizer`]: unreadable files, a key that holds no token, a class that is not
    /// supported, no end-of-sequence token, or tokens beyond `vocab_size` of `config.json`.
    pub fn from_folder(dir: &Path) -> Result<Self, DataError> {
        let path = dir.join("tokenizer.json");
        let bytes = read_tokenizer(dir, &path)?;
        let files = Files {
            tokenizer: parse_json(&path, &bytes)?,
            config: read_document(&dir.join("tokenizer_config.json"))?.unwrap_or_default(),
            special_tokens_map: read_document(&dir.join("special_tokens_map.json"))?,
            added_tokens: read_object(&dir.join("added_tokens.json"))?,
            model: read_object(&dir.join("config.json"))?.unwrap_or_default(),
        };
        let mut set_up = setup::set_up(&files, &bytes).map_err(|refused| refusal(dir, &path, refused))?;
        if set_up.eos_token.is_none() {
            let id = match files.model.get("eos_token_id") {
                Some(Value::Array(ids)) => ids.first().and_then(Value::as_u64),
                other => other.and_then(Value::as_u64),
            };
            let id = id.and_then(|id| u32::try_from(id).ok());
            set_up.eos_token = id.and_then(|id| set_up.tokenizer.id_to_token(id));
        }
        let max_positions = files.model.get("max_position_embeddings").and_then(Value::as_u64);
        let tokenizer = Self::new(dir, &path, set_up, max_positions)?;
        tokenizer.want_embeddings(dir, &files)?;
        Ok(tokenizer)
    }

    /// Loads a lone `tokenizer.json`, taken as it is; `eos_token` is the text of its end-of-sequence token.
    ///
    /// # Errors
    /// [`DataError::Io`] and [`DataError::Tokenizer`], as [`from_folder`](Self::from_folder).
    pub fn from_file(path: &Path, eos_token: &str) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(DataError::io(path, "read"))?;
        let tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| no_tokenizer(path, &e.to_string()))?;
        let eos_token = Some(eos_token.to_owned());
        let set_up = SetUp { tokenizer, eos_token, split_special: false, fill_token: None };
        Self::new(path, path, set_up, None)
    }

    fn new(dir: &Path, path: &Path, set_up: SetUp, max_positions: Option<u64>) -> Result<Self, DataError> {
        let SetUp { mut tokenizer, eos_token, split_special, fill_token } = set_up;
        let refuse =
            |message: String, remedy| DataError::Tokenizer { path: path.to_path_buf(), message, remedy };
        tokenizer
            .with_truncation(None)
            .map_err(|e| refuse(e.to_string(), "remove the truncation entry from tokenizer.json"))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(split_special);
        let eos_token = eos_token.ok_or_else(|| DataError::Tokenizer {
            path: dir.to_path_buf(),
            message: "no end-of-sequence token".into(),
            remedy: "set eos_token in tokenizer_config.json, or eos_token_id in config.json to an id of the vocabulary",
        })?;
        let eos_id = tokenizer.token_to_id(&eos_token).ok_or_else(|| {
            refuse(
                format!("the end-of-sequence token {eos_token:?} is not in the vocabulary"),
                "use the tokenizer that belongs to the model, or correct eos_token in tokenizer_config.json",
            )
        })?;
        let vocab_size = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let mut hasher = blake3::Hasher::new_derive_key("ama-data 2026 tokenizer v2");
        let whole = tokenizer.to_string(false).map_err(|e| no_tokenizer(path, &e.to_string()))?;
        hasher.update(blake3::hash(whole.as_bytes()).as_bytes());
        hasher.update(&[u8::from(split_special), u8::from(fill_token.is_some())]);
        hasher.update(eos_token.as_bytes());
        let fingerprint = *hasher.finalize().as_bytes();
        let (leading, trailing) = added_around(&tokenizer);
        Ok(Self {
            tokenizer,
            eos_token,
            eos_id,
            vocab_size,
            leading,
            trailing,
            fill_token,
            max_positions,
            cuts: OnceLock::new(),
            fingerprint,
        })
    }

    /// Refuses tokens that the model has no embedding for.
    fn want_embeddings(&self, dir: &Path, files: &Files) -> Result<(), DataError> {
        let Some(embeddings) = files.model.get("vocab_size").and_then(Value::as_u64) else { return Ok(()) };
        if self.vocab_size as u64 <= embeddings {
            return Ok(());
        }
        let mut beyond: Vec<_> = self.tokenizer.get_vocab(true).into_iter().collect();
        beyond.retain(|(_, id)| u64::from(*id) >= embeddings);
        let first = beyond.iter().min_by_key(|(_, id)| *id);
        let (token, id) = first.map_or(("", 0), |(token, id)| (token.as_str(), *id));
        Err(DataError::Tokenizer {
            path: dir.join(files.file_of(token)),
            message: format!("token {token:?} has id {id}, but vocab_size of config.json is {embeddings}"),
            remedy: "use the tokenizer that belongs to the weights, or give the model embeddings for its tokens",
        })
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

    /// `max_position_embeddings` of the folder's `config.json`: positions that the model was made for.
    pub fn max_positions(&self) -> Option<u64> {
        self.max_positions
    }

    /// The token that is put before every text (a BOS), if one is.
    pub fn leading_id(&self) -> Option<u32> {
        self.leading.first().copied()
    }

    /// The text of one token, special or not.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Whether the ids of a text begin with the token that was put before it, and then with the same once more.
    pub(crate) fn begins_twice(&self, ids: &[u32]) -> bool {
        ids.get(self.leading.len()).is_some_and(|id| self.leading.contains(id))
    }

    /// Whether a completion ends in the end-of-sequence token, but for white space, and gets another behind it.
    pub(crate) fn ends_twice(&self, completion: &str) -> bool {
        let appended = !completion.ends_with(&self.eos_token) || self.trailing.contains(&self.eos_id);
        appended && completion.trim_end().ends_with(&self.eos_token)
    }

    /// Hash of everything that decides which ids a text gets: the tokenizer as it was set up from all files, and the
    /// end-of-sequence token.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Token ids of a text, with the special tokens that the tokenizer's post-processor adds (a BOS, say), as
    /// `tokenizer(text)["input_ids"]` in `transformers`. Special tokens written out in the text become their ids.
    ///
    /// # Errors
    /// [`DataError::Encode`] if the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let fail = |message| DataError::Encode { text: text.chars().take(64).collect(), message };
        if let Some(fill) = self.fill_token.filter(|fill| text.contains(fill)) {
            return Err(fail(format!("{fill} marks a place to fill in, which is not supported")));
        }
        match self.tokenizer.encode_fast(text, true) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(fail(e.to_string())),
        }
    }

    /// [`encode`](Self::encode), or of a long text at least `want` ids that begin it.
    pub(crate) fn encode_start(&self, text: &str, want: usize) -> Result<Start, DataError> {
        // A text with a place to fill in is refused wherever that stands.
        let fill = self.fill_token.is_some_and(|fill| text.contains(fill));
        if text.len() > LONG && !fill {
            let cuts = self.cuts.get_or_init(|| Cuts::of(&self.tokenizer));
            let encode = |text: &str| {
                let mut ids = self.encode(text)?;
                ids.truncate(ids.len() - self.trailing.len().min(ids.len()));
                Ok::<_, DataError>(ids)
            };
            if let Some(cuts) = cuts
                && let Some(ids) = cuts.start(text, want, encode)?
            {
                return Ok(Start { ids, whole: false });
            }
        }
        Ok(Start { ids: self.encode(text)?, whole: true })
    }

    /// Whether two texts certainly have different ids, without tokenising them.
    pub(crate) fn tells_apart(&self, a: &str, b: &str) -> bool {
        let cuts = self.cuts.get_or_init(|| Cuts::of(&self.tokenizer));
        cuts.as_ref().is_some_and(|cuts| cuts.tells_apart(a, b))
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

/// The ids that the post-processor puts before and behind a text.
fn added_around(tokenizer: &Tokenizer) -> (Vec<u32>, Vec<u32>) {
    // A tokenizer that fails on this letter (no unknown token) is told of with the first row.
    let Ok(encoding) = tokenizer.encode("a", true) else { return (Vec::new(), Vec::new()) };
    let (ids, added) = (encoding.get_ids(), encoding.get_special_tokens_mask());
    let leading = added.iter().take_while(|&&added| added == 1).count();
    let trailing = added.iter().rev().take_while(|&&added| added == 1).count().min(ids.len() - leading);
    (ids[..leading].to_vec(), ids[ids.len() - trailing..].to_vec())
}

fn no_tokenizer(path: &Path, message: &str) -> DataError {
    DataError::Tokenizer {
        path: path.to_path_buf(),
        message: format!("not a tokenizer: {message}"),
        remedy: "want the tokenizer.json of the `tokenizers` library; save it again with save_pretrained",
    }
}

fn refusal(dir: &Path, path: &Path, refused: Refused) -> DataError {
    let refuse = |file: &str, message, remedy| DataError::Tokenizer { path: dir.join(file), message, remedy };
    match refused {
        Refused::Tokenizer(error) => no_tokenizer(path, &error.to_string()),
        Refused::Key(key) => refuse(
            key.file,
            format!("`{}` is not what a tokenizer is described with", key.key),
            "want a token as a text or as an object with `content`, lists of these, and ids as integers",
        ),
        Refused::Class(classes::Refused::Class(class)) => refuse(
            "tokenizer_config.json",
            format!("tokenizer class {class} is not supported"),
            "load it in Python, save its backend_tokenizer as tokenizer.json and set tokenizer_class to \
             PreTrainedTokenizerFast",
        ),
        Refused::Class(classes::Refused::RemoteCode) => refuse(
            "tokenizer_config.json",
            "`auto_map` asks for Python code of the folder, which is not run".into(),
            "remove auto_map if tokenizer.json is the whole tokenizer",
        ),
        Refused::Flag(key) => refuse(
            "tokenizer_config.json",
            format!("`{key}` is neither true nor false"),
            "set it to one of them, or remove it for the default of the tokenizer class",
        ),
        Refused::Unsupported(key) => refuse(
            "tokenizer_config.json",
            format!("`{key}` is not supported"),
            "load the tokenizer in Python and save it again with save_pretrained",
        ),
    }
}

/// The bytes of `tokenizer.json`; a folder that has another kind of tokenizer instead is named as such.
fn read_tokenizer(dir: &Path, path: &Path) -> Result<Vec<u8>, DataError> {
    let bytes = fs::read(path);
    if !path.exists() {
        for other in ["tokenizer.model", "tekken.json", "tiktoken.model", "vocab.json"] {
            if dir.join(other).exists() {
                return Err(DataError::Tokenizer {
                    path: dir.to_path_buf(),
                    message: format!("no tokenizer.json, only {other}"),
                    remedy: "load it with AutoTokenizer in Python and save it with save_pretrained",
                });
            }
        }
    }
    bytes.map_err(DataError::io(path, "read"))
}

fn parse_json(path: &Path, bytes: &[u8]) -> Result<Value, DataError> {
    serde_json::from_slice(bytes).map_err(|error| no_tokenizer(path, &error.to_string()))
}

/// A JSON object from a file, or `None` if there is no such file.
fn read_object(path: &Path) -> Result<Option<Map<String, Value>>, DataError> {
    read(path, |bytes| serde_json::from_slice(bytes))
}

/// The same, with the order of its keys.
fn read_document(path: &Path) -> Result<Option<Document>, DataError> {
    read(path, Document::parse)
}

fn read<T>(path: &Path, parse: impl FnOnce(&[u8]) -> serde_json::Result<T>) -> Result<Option<T>, DataError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(DataError::io(path, "read")(e)),
    };
    parse(&bytes).map(Some).map_err(|e| DataError::Tokenizer {
        path: path.to_path_buf(),
        message: format!("not a JSON object: {e}"),
        remedy: "correct or restore the file",
    })
}
