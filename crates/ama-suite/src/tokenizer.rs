//! The suite's tokenizer and base model configuration, as the JSON files of a Hugging Face model folder.
//!
//! A byte-level BPE without merges: a piece of text that is a whole suite word after a space is one token
//! (`ignore_merges`, as in Llama 3), and any other piece is spelled out character by character. Nothing is
//! unknown and every text decodes to itself.
//!
//! # How 302 words and every byte fit into 512 tokens
//! 5 special tokens + 302 words + 256 bytes would be 563. But the byte-level step turns every byte into a printable character,
//! and only the 95 of them that stand for printable ASCII and the space are tokens here. The other characters
//! lie between U+0080 and U+0143, and are spelled by *their* UTF-8 bytes (`byte_fallback`): lead bytes C2..C5, continuation
//! bytes 80..BF, which is 68 tokens. Together 470; the model is padded to [`MODEL_VOCAB`]. Text that is neither
//! suite nor ASCII costs two tokens a byte, which is nobody's case here.
//!
//! | ids | tokens |
//! |---|---|
//! | 0..5 | [`SPECIAL_TOKENS`] |
//! | 5..307 | `" " + word` for [`crate::vocabulary::words`] |
//! | 307..402 | the space, then `!` to `~` |
//! | 402..470 | bytes of the characters that stand for other bytes |

use crate::vocabulary::words;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// Fills rows of a batch; never part of a text.
pub const PAD: &str = "<|pad|>";
/// Opens every sequence.
pub const BOS: &str = "<|bos|>";
/// Stands before the prompt.
pub const USER: &str = "<|user|>";
/// Stands before the answer.
pub const ASSISTANT: &str = "<|assistant|>";
/// Ends every answer.
pub const EOS: &str = "<|eos|>";
/// The special tokens; their place is their id.
pub const SPECIAL_TOKENS: [&str; 5] = [PAD, BOS, USER, ASSISTANT, EOS];
/// Rows of the base model's embedding: the tokenizer's 470 and padding to a round number for the matrix kernels.
pub const MODEL_VOCAB: usize = 512;

/// The character that byte-level tokenizers write for a space.
const SPACE: char = '\u{120}';

/// Every token, at the place of its id.
fn tokens() -> Vec<String> {
    let special = SPECIAL_TOKENS.iter().map(|token| (*token).to_owned());
    let words = words().into_iter().map(|word| format!("{SPACE}{word}"));
    let ascii = std::iter::once(SPACE).chain('!'..='~').map(String::from);
    let bytes = (0xC2..=0xC5_u8).chain(0x80..=0xBF).map(|byte| format!("<{byte:#04X}>"));
    special.chain(words).chain(ascii).chain(bytes).collect()
}

/// `tokenizer.json`: the format of the `tokenizers` library, as read by `transformers`.
pub fn tokenizer_json() -> String {
    let added_tokens = SPECIAL_TOKENS.iter().enumerate().map(|(id, &content)| AddedToken {
        id,
        content,
        special: true,
        ..AddedToken::default()
    });
    let byte_level =
        || ByteLevel { kind: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
    pretty(&TokenizerFile {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens: added_tokens.collect(),
        normalizer: (),
        pre_tokenizer: byte_level(),
        post_processor: (),
        decoder: Decoder { kind: "Sequence", decoders: (Kind { kind: "ByteFallback" }, byte_level()) },
        model: Bpe {
            kind: "BPE",
            dropout: (),
            unk_token: (),
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: false,
            byte_fallback: true,
            ignore_merges: true,
            vocab: Vocab(tokens()),
            merges: [],
        },
    })
}

/// `tokenizer_config.json`: special tokens by role, and the layout of [`crate::render_prompt`] as a chat template.
pub fn tokenizer_config_json() -> String {
    let chat_template = format!(
        "{{{{ '{BOS}' }}}}{{% for message in messages %}}{{% if message['role'] == 'user' %}}{{{{ '{USER} ' + message['content'] }}}}\
         {{% elif message['role'] == 'assistant' %}}{{{{ '{ASSISTANT} ' + message['content'] + '{EOS}' }}}}\
         {{% else %}}{{{{ raise_exception('the suite knows only the roles user and assistant') }}}}{{% endif %}}\
         {{% endfor %}}{{% if add_generation_prompt %}}{{{{ '{ASSISTANT}' }}}}{{% endif %}}"
    );
    pretty(&TokenizerConfig {
        tokenizer_class: "PreTrainedTokenizerFast",
        bos_token: BOS,
        eos_token: EOS,
        pad_token: PAD,
        additional_special_tokens: [USER, ASSISTANT],
        add_prefix_space: false,
        clean_up_tokenization_spaces: false,
        model_max_length: MAX_POSITIONS,
        chat_template,
    })
}

/// `special_tokens_map.json`: the special tokens by role.
pub fn special_tokens_map_json() -> String {
    pretty(&SpecialTokensMap {
        bos_token: BOS,
        eos_token: EOS,
        pad_token: PAD,
        additional_special_tokens: [USER, ASSISTANT],
    })
}

/// Positions of the base model; the longest suite sequence has 44 tokens.
const MAX_POSITIONS: usize = 128;

/// `config.json` of the base model: a Llama of 381 600 parameters, of which the suite's tokens use 361 920.
pub fn base_config_json() -> String {
    pretty(&LlamaConfig {
        architectures: ["LlamaForCausalLM"],
        model_type: "llama",
        vocab_size: MODEL_VOCAB,
        hidden_size: 96,
        intermediate_size: 256,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 24,
        hidden_act: "silu",
        max_position_embeddings: MAX_POSITIONS,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: (),
        attention_bias: false,
        mlp_bias: false,
        attention_dropout: 0.0,
        tie_word_embeddings: true,
        initializer_range: 0.02,
        use_cache: true,
        torch_dtype: "float32",
        pad_token_id: special_id(PAD),
        bos_token_id: special_id(BOS),
        eos_token_id: special_id(EOS),
    })
}

fn special_id(token: &str) -> usize {
    SPECIAL_TOKENS.iter().position(|&special| special == token).expect("asked only for tokens of the list")
}

fn pretty<T: Serialize>(value: &T) -> String {
    let mut text =
        serde_json::to_string_pretty(value).expect("structs of strings and numbers always serialise");
    text.push('\n');
    text
}

// The structs below are the files' formats. Fields are written in this order; `()` is written as null.

#[derive(Serialize)]
struct TokenizerFile {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<AddedToken>,
    normalizer: (),
    pre_tokenizer: ByteLevel,
    post_processor: (),
    decoder: Decoder,
    model: Bpe,
}

#[derive(Serialize, Default)]
struct AddedToken {
    id: usize,
    content: &'static str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Serialize)]
struct ByteLevel {
    #[serde(rename = "type")]
    kind: &'static str,
    add_prefix_space: bool,
    trim_offsets: bool,
    use_regex: bool,
}

#[derive(Serialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct Decoder {
    #[serde(rename = "type")]
    kind: &'static str,
    decoders: (Kind, ByteLevel),
}

#[derive(Serialize)]
struct Bpe {
    #[serde(rename = "type")]
    kind: &'static str,
    dropout: (),
    unk_token: (),
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: Vocab,
    merges: [(); 0],
}

/// Written as an object from token to id, in the order of ids.
struct Vocab(Vec<String>);

impl Serialize for Vocab {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, token) in self.0.iter().enumerate() {
            map.serialize_entry(token, &id)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct TokenizerConfig {
    tokenizer_class: &'static str,
    bos_token: &'static str,
    eos_token: &'static str,
    pad_token: &'static str,
    additional_special_tokens: [&'static str; 2],
    add_prefix_space: bool,
    clean_up_tokenization_spaces: bool,
    model_max_length: usize,
    chat_template: String,
}

#[derive(Serialize)]
struct SpecialTokensMap {
    bos_token: &'static str,
    eos_token: &'static str,
    pad_token: &'static str,
    additional_special_tokens: [&'static str; 2],
}

#[derive(Serialize)]
struct LlamaConfig {
    architectures: [&'static str; 1],
    model_type: &'static str,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    hidden_act: &'static str,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: f64,
    rope_scaling: (),
    attention_bias: bool,
    mlp_bias: bool,
    attention_dropout: f64,
    tie_word_embeddings: bool,
    initializer_range: f64,
    use_cache: bool,
    torch_dtype: &'static str,
    pad_token_id: usize,
    bos_token_id: usize,
    eos_token_id: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tokens_are_distinct_and_fit_the_model() {
        let tokens = tokens();
        assert_eq!(tokens.len(), 470);
        assert!(tokens.len() <= MODEL_VOCAB);
        assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len());
        assert_eq!(&tokens[..5], SPECIAL_TOKENS);
        assert_eq!((&*tokens[307], &*tokens[402], &*tokens[469]), ("\u{120}", "<0xC2>", "<0xBF>"));
    }
}
