//! The one error type of the crate.

use std::path::PathBuf;

use ama_safetensors::FolderError;

/// What can go wrong when models are merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    // ---- what is asked for ----
    /// The recipe names too few or too many models for its method.
    #[error("method {method} got {got} model(s); want {want}")]
    ModelCount {
        /// Name of the method.
        method: &'static str,
        /// Models named, without the base.
        got: usize,
        /// What would have been right.
        want: &'static str,
    },
    /// A task-vector method without a base.
    #[error(
        "method {method} merges differences from a base model, and none is named; name the model that the \
         others were trained from"
    )]
    NoBase {
        /// Name of the method.
        method: &'static str,
    },
    /// A parameter of the method has a value that cannot be used.
    #[error("{parameter} of {of} for tensor {tensor} is {got}; want {want}")]
    Parameter {
        /// Name of the parameter.
        parameter: &'static str,
        /// The model folder it belongs to, or the method.
        of: String,
        /// The tensor for which it was resolved.
        tensor: String,
        /// The value found.
        got: String,
        /// What would have been right.
        want: &'static str,
    },
    /// A parameter without a default was not given for a tensor.
    #[error(
        "{parameter} of {of} is not set for tensor {tensor}; give a value without a filter as the last one"
    )]
    ParameterMissing {
        /// Name of the parameter.
        parameter: &'static str,
        /// The model folder it belongs to, or the method.
        of: String,
        /// The tensor for which it was resolved.
        tensor: String,
    },
    /// Slices that leave out, repeat or reorder layers.
    #[error(
        "slices cover layers {got}, but the model has layers 0 to {layers} (exclusive); merging keeps every layer in \
         its place, so the ranges have to follow one another from 0 to {layers}"
    )]
    LayerRanges {
        /// The ranges, as given.
        got: String,
        /// Layers of the model.
        layers: usize,
    },
    // ---- model folders ----
    /// A path is no model folder, or its weights files cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A JSON file that cannot be read.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's complaint, with line and column.
        source: serde_json::Error,
    },
    /// A `config.json` that is no object.
    #[error("{}: want a JSON object", path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
    },
    /// Element types that are not merged.
    #[error(
        "{}: tensor {tensor} is {got}; weights are merged from F32, F16 or BF16, and tensors of other types have to be \
         the same in every folder (dequantise the model first)", dir.display()
    )]
    ElementType {
        /// The folder.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
        /// The element type found.
        got: String,
    },
    // ---- folders that do not belong together ----
    /// A tensor of the first folder is not in another.
    #[error(
        "{}: tensor {tensor} of shape {shape:?} is missing; {} has it. Only models of one architecture are merged",
        dir.display(), reference.display()
    )]
    TensorMissing {
        /// The folder that lacks it.
        dir: PathBuf,
        /// The folder that has it.
        reference: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor that the first folder does not have.
    #[error(
        "{}: tensor {tensor} of shape {shape:?} is not in {}. Only models of one architecture are merged; an adapter has \
         to be merged into its own base first", dir.display(), reference.display()
    )]
    TensorUnknown {
        /// The folder that has it.
        dir: PathBuf,
        /// The folder that lacks it.
        reference: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Shapes differ.
    #[error(
        "{}: tensor {tensor} has shape {got:?}; want {want:?} as in {}{}", dir.display(), reference.display(),
        if *vocabulary { ". The vocabularies differ in size: resize the embeddings of one model to the other's \
        tokenizer first (`resize_token_embeddings` in transformers, or mergekit's tokensurgeon)" } else { "" }
    )]
    TensorShape {
        /// The folder.
        dir: PathBuf,
        /// The folder whose shape is wanted.
        reference: PathBuf,
        /// The tensor.
        tensor: String,
        /// Shape found.
        got: Box<[usize]>,
        /// Shape wanted.
        want: Box<[usize]>,
        /// Whether rows are tokens.
        vocabulary: bool,
    },
    /// One id stands for two tokens, or one token has two ids.
    #[error(
        "{}: {problem}; in {} it is otherwise, so that rows of the embeddings would be mixed up. Bring the models to one \
         tokenizer first (mergekit's tokensurgeon), or say that the vocabularies may be trusted \
         (`--trust-vocabulary`) if only an unused token was renamed", dir.display(), reference.display()
    )]
    Vocabulary {
        /// The folder.
        dir: PathBuf,
        /// The folder it is compared with.
        reference: PathBuf,
        /// Token and id.
        problem: String,
    },
    /// `config.json` says that the weights mean something else.
    #[error(
        "{}: config.json has {key} = {got}, {} has {want}; weights of different architectures cannot be merged",
        dir.display(), reference.display()
    )]
    Architecture {
        /// The folder.
        dir: PathBuf,
        /// The folder it is compared with.
        reference: PathBuf,
        /// The key.
        key: &'static str,
        /// Value found.
        got: String,
        /// Value wanted.
        want: String,
    },
    /// A tensor that is not of floating-point type differs between the folders.
    #[error(
        "{}: tensor {tensor} of type {dtype} differs from that of {}; only floating-point weights can be merged",
        dir.display(), reference.display()
    )]
    BufferDiffers {
        /// The folder.
        dir: PathBuf,
        /// The folder it is compared with.
        reference: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: String,
    },
    // ---- arithmetic ----
    /// Weights of a model that are infinite or not a number.
    #[error("{}: tensor {tensor} has values that are not finite; that model is broken", dir.display())]
    NonFiniteInput {
        /// The folder.
        dir: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A merged weight that cannot be written.
    #[error(
        "tensor {tensor}: the merged value at index {index} is {value}, which {dtype} cannot hold; look for values that are \
         not finite in the models, use smaller weights, or write bfloat16 or float32"
    )]
    NonFinite {
        /// The tensor.
        tensor: String,
        /// Index of the element, row-major.
        index: usize,
        /// The merged value.
        value: f32,
        /// Element type of the output.
        dtype: &'static str,
    },
    /// Vectors that cancel have no direction between them.
    #[error(
        "tensor {tensor}: the weighted directions of the models cancel, so that no point on the sphere lies between \
         them; change the weights or use `linear`"
    )]
    Antipodal {
        /// The tensor.
        tensor: String,
    },
    // ---- output ----
    /// The folder to write is in the way.
    #[error("{}: exists and is not an empty folder; choose another name or remove it", path.display())]
    TargetExists {
        /// The path.
        path: PathBuf,
    },
    /// The path to write has no last component.
    #[error("{}: not a name for a new folder", path.display())]
    BadTarget {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The caller asked to stop; nothing was written.
    #[error("stopped before the merge was complete; no folder was written")]
    Stopped,
    // ---- mergekit configurations ----
    /// YAML that cannot be read, or a key that is not known.
    #[error("{}: {problem}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// The parser's complaint, with line and column.
        problem: String,
    },
    /// A mergekit configuration that asks for something this crate does not do.
    #[error("{}: {key}: {problem}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is not supported, and the remedy.
        problem: String,
    },
}

/// Names action and path in an I/O error.
pub(crate) fn io(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> MergeError {
    let path = path.into();
    move |source| MergeError::Io { action, path, source }
}
