//! The one error type of the crate.

use std::path::PathBuf;

use ama_safetensors::FolderError;

/// What can go wrong when a model is built, fed, loaded or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A packed batch breaks its contract (see [`crate::PackedView`]).
    #[error("packed batch: `{field}`[{index}] is {got}; want {want}")]
    Batch {
        /// The field of the view, as it is named there.
        field: &'static str,
        /// Index into that field.
        index: usize,
        /// The value found.
        got: u64,
        /// What would have been right.
        want: String,
    },
    /// Two slices of a packed batch (or a batch and a result) do not fit together.
    #[error("packed batch: `{field}` has {got} entries; want {want}")]
    BatchLength {
        /// The field of the view, as it is named there.
        field: &'static str,
        /// Its length.
        got: usize,
        /// The length it should have, and why.
        want: String,
    },
    /// The closure that turns log-probabilities into gradients answered with the wrong number of values
    /// or with a value that is not finite.
    #[error(
        "upstream gradient of sequence {sequence} of {sequences} is {got}; want one finite value per sequence"
    )]
    Upstream {
        /// The sequence whose value is bad, or the number of values that came.
        sequence: usize,
        /// How many sequences the batch has.
        sequences: usize,
        /// The value, or `missing`/`surplus`.
        got: String,
    },
    /// A model shape or an initialisation that cannot be built.
    #[error("model shape: {key} is {got}; want {want}")]
    Shape {
        /// The configuration key or parameter name.
        key: String,
        /// The value found.
        got: String,
        /// What would have been right.
        want: String,
    },
    /// Memory for a tensor could not be had.
    #[error("out of memory or wrong element count in dfdx while {doing}: {source}")]
    Tensor {
        /// What was being computed.
        doing: &'static str,
        /// dfdx's own error.
        source: dfdx::tensor::CpuError,
    },
    /// The head kernel refused its input.
    #[error("language-model head: {source}")]
    Head {
        /// The kernel's own error.
        source: ama_loss::LossError,
    },
    // ---- parameters ----
    /// A parameter that the configuration asks for is not there.
    #[error("parameter {name} of shape {shape:?} is missing; does config.json belong to these weights?")]
    ParameterMissing {
        /// Hugging Face name.
        name: String,
        /// The shape that the configuration asks for.
        shape: Vec<usize>,
    },
    /// A parameter that the configuration does not know.
    #[error("parameter {name} is unknown to this configuration; does config.json belong to these weights?")]
    ParameterUnknown {
        /// Its name.
        name: String,
    },
    /// A parameter with a wrong number of values.
    #[error("parameter {name} has {got} values; its shape {shape:?} wants {want}")]
    ParameterLength {
        /// Hugging Face name.
        name: String,
        /// The shape that the configuration asks for.
        shape: Vec<usize>,
        /// The product of the shape.
        want: usize,
        /// The number of values found.
        got: usize,
    },
    // ---- configuration and folders ----
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb ("read", "create", ...).
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A JSON file (`config.json`, `generation_config.json`) is not the JSON that it should be.
    #[error("{}: not valid JSON of the expected form: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// A key of `config.json` is missing, malformed, or asks for a computation that is not built.
    #[error("{}: key `{key}` is {got}; want {want}", path.display())]
    Config {
        /// The configuration file (or the name given for an in-memory one).
        path: PathBuf,
        /// The JSON key, dotted when nested.
        key: String,
        /// What came, as JSON, or "missing".
        got: String,
        /// What is accepted.
        want: String,
    },
    /// A field of a [`LlamaConfig`](crate::LlamaConfig) was changed after it was read.
    #[error(
        "the configuration was changed after it was read from JSON (`{key}`), so saving it would describe \
         another model; build the changed configuration with LlamaConfig::from_json_str"
    )]
    ConfigChanged {
        /// First field that differs.
        key: &'static str,
    },
    /// The path is no model folder, or its weights files cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A tensor that the configuration has no place for.
    #[error(
        "{}: tensor `{tensor}` is not part of the model that config.json describes; check num_hidden_layers, \
         tie_word_embeddings, and that both files belong together",
        path.display()
    )]
    UnknownTensor {
        /// The weights file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor that the configuration calls for is nowhere.
    #[error(
        "{}: tensor `{tensor}` of shape {shape:?} is missing; config.json calls for it, so check that both \
         belong together and that no shard is missing",
        path.display()
    )]
    MissingTensor {
        /// The weights file, or the folder when there are several.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shape it should have.
        shape: Vec<usize>,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor `{tensor}` has shape {got:?}; config.json calls for {want:?}", path.display())]
    TensorShape {
        /// The weights file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Shape by the configuration.
        want: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// A tensor's element type is not one of the three that are read.
    #[error(
        "{}: tensor `{tensor}` holds {got} values; want F32, F16 or BF16 (dequantise quantised weights first)",
        path.display()
    )]
    TensorDtype {
        /// The weights file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its element type as the file names it.
        got: String,
    },
    /// `tie_word_embeddings` is true but the file holds an output head of its own.
    #[error(
        "{}: config.json says tie_word_embeddings = true, but `lm_head.weight` differs from \
         `model.embed_tokens.weight`; set tie_word_embeddings to false if the head is meant to be separate, \
         or remove the tensor",
        path.display()
    )]
    TiedHeadDiffers {
        /// The weights file that holds the head.
        path: PathBuf,
    },
    /// Tensor names with a prefix too many.
    #[error(
        "{}: its tensor names begin with `{prefix}` (`{found}`), as a wrapper (torch.compile, PEFT, DDP) saves them; save \
         the model inside the wrapper (PEFT: after `merge_and_unload()`), or take `{prefix}` off the names",
        path.display()
    )]
    PrefixTooMany {
        /// The weights file.
        path: PathBuf,
        /// What stands before the names, with its dot.
        prefix: String,
        /// A name as it stands in the file.
        found: String,
    },
    /// Tensor names that lack the prefix of the decoder inside the model.
    #[error(
        "{}: its tensor names lack the prefix `{prefix}` (`{found}`), as a decoder without its language-model head saves \
         them (AutoModel); save it as AutoModelForCausalLM, or put `{prefix}` before the names",
        path.display()
    )]
    PrefixTooFew {
        /// The weights file.
        path: PathBuf,
        /// What should stand before the names, with its dot.
        prefix: String,
        /// A name as it stands in the file.
        found: String,
    },
    /// There is no output head, and it is not tied to the embeddings.
    #[error(
        "{}: tensor `lm_head.weight` is missing, and config.json does not tie the head to the embeddings; set \
         tie_word_embeddings to true if the model was trained so, or save the model with its head \
         (AutoModelForCausalLM)",
        path.display()
    )]
    NoHead {
        /// The weights file, or the folder when there are several.
        path: PathBuf,
    },
    /// A weight that is NaN or infinite.
    #[error(
        "{}: tensor `{tensor}` holds {value} at {index:?}; such a model computes nothing but NaN, so download it again or \
         take an earlier checkpoint",
        path.display()
    )]
    NonFiniteWeight {
        /// The weights file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Where in the tensor, one index per axis.
        index: Vec<usize>,
        /// The value.
        value: f32,
    },
    /// A folder to be written exists already and is not empty.
    #[error("{} exists already and is not empty; choose another output or remove it first", path.display())]
    TargetExists {
        /// The folder.
        path: PathBuf,
    },
    /// A path cannot be a folder to write (it has no name of its own, such as `..`).
    #[error("{} does not name a folder that can be created", path.display())]
    BadTarget {
        /// The path.
        path: PathBuf,
    },
    /// A weight does not fit into the narrower type it is to be saved in.
    #[error("tensor `{tensor}` holds {value:e}, which is infinite in {dtype}; save as bf16 or f32 instead")]
    SaveOverflow {
        /// The tensor's name.
        tensor: String,
        /// The offending value.
        value: f32,
        /// Target type.
        dtype: &'static str,
    },
    /// A weight that is NaN or infinite was to be saved.
    #[error(
        "tensor `{tensor}` holds {value} at {index:?}, so no model is written; the training has diverged: lower the \
         learning rate or clip the gradients"
    )]
    SaveNonFinite {
        /// The tensor's name.
        tensor: String,
        /// Where in the tensor, one index per axis.
        index: Vec<usize>,
        /// The value.
        value: f32,
    },
    // ---- generation ----
    /// A prompt with no token: there is nothing to predict from.
    #[error("prompt {prompt} has no token; give it at least one (for example the BOS token)")]
    EmptyPrompt {
        /// Index into the prompts.
        prompt: usize,
    },
    /// A prompt holds a token id beyond the vocabulary.
    #[error(
        "prompt {prompt} holds token id {token}, but the vocabulary has {vocab_size} tokens; tokenizer and \
         model do not match"
    )]
    TokenOutOfRange {
        /// Index into the prompts.
        prompt: usize,
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A generation option is outside its range.
    #[error("option `{name}` is {got}; want {want}")]
    Option {
        /// The option's field name.
        name: &'static str,
        /// What came.
        got: f64,
        /// What is accepted.
        want: &'static str,
    },
    /// The model produced NaN or infinite logits.
    #[error(
        "the logits of sequence {sequence} are not finite after {tokens} tokens; the weights are too large to compute with, so \
         take an earlier checkpoint or another model"
    )]
    NonFiniteLogits {
        /// Index into the prompts.
        sequence: usize,
        /// Tokens of that sequence so far.
        tokens: usize,
    },
}
