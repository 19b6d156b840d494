//! The one error type of the crate. Every message says what was wanted, what came, where, and the remedy.

use std::path::{Path, PathBuf};

use crate::reader::{Role, SelectError};

/// What can go wrong between a data file and a packed batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A path, folder or glob that stands for no data file.
    #[error(
        "{pattern}: no data file there; want a .parquet, .jsonl or .arrow file, a folder that holds some (a .json file \
         has to be named itself), or a glob that matches some"
    )]
    NoFiles {
        /// The path or glob that was asked for.
        pattern: String,
    },

    /// A glob that cannot be parsed.
    #[error("{pattern}: not a valid glob pattern: {message}; write [*] for a literal *")]
    BadGlob {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },

    /// A folder of which it is not clear which files are meant.
    #[error(transparent)]
    Select(#[from] SelectError),

    /// A file whose name ends in none of the known ways.
    #[error(
        "{}: unknown kind of data file; want a name ending in .parquet, .jsonl (also .gz or .zst) or .arrow; {remedy}",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },

    /// What Git keeps in place of a large file.
    #[error(
        "{}: a pointer of git-lfs, not the data itself; run `git lfs pull` in its repository, or download the file",
        path.display()
    )]
    GitLfsPointer {
        /// The file.
        path: PathBuf,
    },

    /// Text in an encoding that is not read.
    #[error("{}{}: its encoding is {name}; convert the file to UTF-8", path.display(), of_row(*.row))]
    Encoding {
        /// The file.
        path: PathBuf,
        /// 1-based row, if it is only that one.
        row: Option<u64>,
        /// The encoding.
        name: &'static str,
    },

    /// Text in a compression that is not read.
    #[error(
        "{}: it is compressed with {name}, which is not read; decompress it first (gzip and Zstandard are read)",
        path.display()
    )]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The compression.
        name: &'static str,
    },

    /// One JSON array instead of lines.
    #[error(
        "{}, row 1: the file is one JSON array, a list instead of an object per line; convert it, for instance with \
         `{}`", path.display(), lines_of_array(path, encoding)
    )]
    JsonArray {
        /// The file.
        path: PathBuf,
        /// How its bytes become text.
        encoding: &'static str,
    },

    /// A line that would take too much memory.
    #[error("{}, row {row}: a line of more than {most_mib} MiB; want one JSON object per line", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// 1-based row.
        row: u64,
        /// Most that a line may have, in MiB.
        most_mib: u64,
    },

    /// Keys that are different in every row.
    #[error(
        "{}, row {row}: more than {most} different keys up to here; want the same keys in every row", path.display()
    )]
    TooManyColumns {
        /// The file.
        path: PathBuf,
        /// 1-based row.
        row: u64,
        /// Most that a file may have.
        most: usize,
    },

    /// A file that is not what its name says, or is damaged.
    #[error(
        "{}: not a readable {format} file{}: {message}; it may be truncated or damaged, so write or download it again",
        path.display(), after_row(*.row)
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The format that its name promises.
        format: &'static str,
        /// The last row (1-based) that could still be read; `None` if it was not even opened.
        row: Option<u64>,
        /// What the decoder said.
        message: String,
    },

    /// A file without the columns of any supported shape.
    #[error(
        "{}: no column `{wanted}`; found {found}; want `prompt`, `chosen`, `rejected` (text), or `chosen`, `rejected` \
         with a shared beginning, or `prompt_ids`, `chosen_ids`, `rejected_ids` (lists of integers), or `prompt`, \
         `completion` for fine-tuning; rename or add the column, or say which one it is: `--column {wanted}={example}` \
         (`columns = {{ {wanted} = \"{example}\" }}` in a configuration)", path.display()
    )]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column that would complete the nearest supported shape.
        wanted: Role,
        /// The columns that the file has.
        found: String,
        /// A column that it could be, or a placeholder.
        example: String,
    },

    /// Pairs without a column `prompt`, and with others that could be the prompt.
    #[error(
        "{}: no column `prompt`, but {candidates} beside the completions; say which one is the prompt: \
         `--column prompt={example}` (`columns = {{ prompt = \"{example}\" }}` in a configuration), or `--column prompt=` \
         (`prompt = \"\"`) if it is the shared beginning of chosen and rejected", path.display()
    )]
    UnknownPrompt {
        /// The file.
        path: PathBuf,
        /// The columns that could be the prompt.
        candidates: String,
        /// The likeliest of them.
        example: String,
    },

    /// A column that was named and is not there.
    #[error("{}: no column `{column}`, which is to be its `{role}`; found {found}", path.display())]
    NoSuchColumn {
        /// The file.
        path: PathBuf,
        /// What the column is for.
        role: Role,
        /// The name that was given.
        column: String,
        /// The columns that the file has.
        found: String,
    },

    /// A name that is no role.
    #[error("column {name}=...: no such role; want one of {}", roles())]
    UnknownRole {
        /// The name.
        name: String,
    },

    /// A role without a column.
    #[error("column {role}=: names no column; name one, or leave it out")]
    UnnamedColumn {
        /// The role.
        role: Role,
    },

    /// Two columns for one role.
    #[error("column {role}=...: given twice; name one column")]
    RoleTwice {
        /// The role.
        role: Role,
    },

    /// One column for two roles.
    #[error("column `{column}` is to be both `{first}` and `{second}`; a column has one role")]
    ColumnTwice {
        /// The column.
        column: String,
        /// The one role.
        first: Role,
        /// The other.
        second: Role,
    },

    /// Completions with a verdict each instead of pairs.
    #[error(
        "{}{}: column `{column}` says whether each completion is good (unpaired preferences, as KTO takes them), which is \
         not supported; pair good and bad completions of a prompt as `chosen` and `rejected`, or for fine-tuning keep \
         the good rows and drop the column", path.display(), of_row(*.row)
    )]
    Unpaired {
        /// The file.
        path: PathBuf,
        /// The first row (1-based) with a verdict, where it is in words.
        row: Option<u64>,
        /// The column of verdicts.
        column: String,
    },

    /// Two columns of one name, of which one would be read.
    #[error("{}: column `{column}` comes more than once; rename or drop all but one", path.display())]
    ColumnRepeated {
        /// The file.
        path: PathBuf,
        /// The name.
        column: String,
    },

    /// A column of a type that does not fit.
    #[error("{}: column `{column}` holds {got}; want {want}; convert the column", path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The types that would do.
        want: &'static str,
        /// The type that came.
        got: String,
    },

    /// Rows that hold conversations.
    #[error(
        "{}{}: conversations (lists of role and content) in {columns}; conversational rows are not supported yet; \
         flatten with a chat template into text columns first", path.display(), of_row(*.row)
    )]
    Conversational {
        /// The file.
        path: PathBuf,
        /// The first row that holds a list or an object there, where rows can differ.
        row: Option<u64>,
        /// The columns that hold messages.
        columns: String,
    },

    /// Files of one data set that differ in shape.
    #[error(
        "{}: holds {got}, but {} of the same data set holds {want}; read them separately or convert one",
        path.display(), first.display()
    )]
    ShapeMismatch {
        /// The file that differs.
        path: PathBuf,
        /// The first file.
        first: PathBuf,
        /// The shape of the first file.
        want: String,
        /// The shape of this file.
        got: String,
    },

    /// A data set without a row.
    #[error("{}: no rows; want at least one", path.display())]
    NoRows {
        /// The first file of the data set.
        path: PathBuf,
    },

    /// A pooled data set without a row of the task that was asked for.
    #[error(
        "{}: no row has `{task}` in its column `task`; see what is there with `ama data inspect`", path.display()
    )]
    NoRowsOfTask {
        /// The first file of the data set.
        path: PathBuf,
        /// The task.
        task: String,
    },

    /// Rows that cannot be grouped.
    #[error("{pattern}: cannot propose tasks: {message}")]
    Cluster {
        /// The path or glob that was asked for.
        pattern: String,
        /// Why not.
        message: String,
    },

    /// A cell that cannot be used.
    #[error("{}, row {row}, column `{column}`: {fault}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// 1-based row; blank lines of JSON Lines do not count.
        row: u64,
        /// The column.
        column: String,
        /// What is wrong with the cell.
        fault: CellFault,
    },

    /// A line of JSON Lines that is no JSON object.
    #[error(
        "{}, row {row}{}: {message}; want one JSON object per line", path.display(), of_line(*.row, *.line)
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// 1-based row: blank lines do not count.
        row: u64,
        /// 1-based number of the line.
        line: u64,
        /// What the JSON parser said.
        message: String,
    },

    /// A tokenizer that cannot be used.
    #[error("{}: {message}; {remedy}", path.display())]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: &'static str,
    },

    /// A text that the tokenizer refuses.
    #[error("the tokenizer failed on {text:?}: {message}; check tokenizer.json (its unknown token, for one)")]
    Encode {
        /// The beginning of the text, or the ids to decode.
        text: String,
        /// What the tokenizer said.
        message: String,
    },

    /// A data set of which nothing is left.
    #[error(
        "{}: none of its {read} rows is left; {dropped} were dropped because the prompt alone reaches max_length {}; \
         raise max_length or shorten the prompts",
        path.display(), max_length.map_or("(none)".into(), |n| n.to_string())
    )]
    NothingLeft {
        /// The last data file, or the store if no row came at all.
        path: PathBuf,
        /// Rows read.
        read: u64,
        /// Rows dropped.
        dropped: u64,
        /// The limit that was set.
        max_length: Option<usize>,
    },

    /// Pairs and single completions in one store.
    #[error(
        "{}, row {row}: has {got} completion(s) where the rows before have {want}; build one store for pairs and one \
         for prompt-completion rows", path.display()
    )]
    MixedRows {
        /// The file.
        path: PathBuf,
        /// 1-based row.
        row: u64,
        /// Completions of the first row.
        want: usize,
        /// Completions of this row.
        got: usize,
    },

    /// A token store that is damaged, hostile or of another version.
    #[error("{}: not a usable token store: {what}; delete it and tokenise again", path.display())]
    Store {
        /// The store.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },

    /// A text that is no pair id.
    #[error("{text:?} is no pair id; want 32 hexadecimal digits")]
    BadId {
        /// The text, cut to 64 characters.
        text: String,
    },

    /// A sampler over nothing.
    #[error("task {task} has no examples to draw from; want at least one in each of at least one task")]
    EmptyTask {
        /// Index of the task; 0 if there are no tasks at all.
        task: usize,
    },

    /// A sampler over too much.
    #[error("{len} examples to shuffle; want at most {}", u32::MAX)]
    TooManyExamples {
        /// Number of examples.
        len: usize,
    },

    /// Probabilities that do not describe a draw.
    #[error("task probabilities {probabilities:?}; want {tasks} finite numbers >= 0 with sum 1")]
    BadProbabilities {
        /// What came.
        probabilities: Vec<f64>,
        /// Number of tasks.
        tasks: usize,
    },

    /// A saved sampler state that does not fit the data.
    #[error("cannot resume the sampler: {what}; resume with the data and options of the run that saved it")]
    SamplerState {
        /// What does not fit.
        what: String,
    },
}

impl DataError {
    pub(crate) fn io(path: &std::path::Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }
}

/// A command that writes the items of a JSON array as lines.
fn lines_of_array(path: &Path, encoding: &str) -> String {
    let path = path.display();
    match encoding {
        "gzip" => format!("gzip -dc < {path} | jq -c '.[]' > rows.jsonl"),
        "Zstandard" => format!("zstd -dc < {path} | jq -c '.[]' > rows.jsonl"),
        "UTF-16" => format!("iconv -f UTF-16 -t UTF-8 {path} | jq -c '.[]' > rows.jsonl"),
        _ => format!("jq -c '.[]' {path} > rows.jsonl"),
    }
}

fn of_row(row: Option<u64>) -> String {
    row.map(|row| format!(", row {row}")).unwrap_or_default()
}

/// The line of a row, where blank lines make it another number.
fn of_line(row: u64, line: u64) -> String {
    if row == line { String::new() } else { format!(" (line {line})") }
}

fn roles() -> String {
    Role::ALL.map(Role::name).join(", ")
}

fn after_row(row: Option<u64>) -> String {
    row.map(|row| format!(" after row {row}")).unwrap_or_default()
}

/// What is wrong with a cell, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CellFault {
    /// No value.
    #[error("null or missing; fill the cell or remove the row")]
    Null,
    /// A column that the file does not have, where rows have to say their task.
    #[error("the file has no such column; add it, or let `ama data cluster` write a column `task`")]
    NoTaskColumn,
    /// A text or list of length 0.
    #[error("empty; fill the cell or remove the row")]
    Empty,
    /// A value of the wrong type.
    #[error("holds {got}; want {want}; convert the cell")]
    Type {
        /// The type that would do.
        want: &'static str,
        /// What came.
        got: String,
    },
    /// A key that a JSON object has more than once.
    #[error("the key comes more than once in the row; keep one")]
    KeyTwice,
    /// Half of a character of UTF-16.
    #[error(
        "holds half of a surrogate pair (such as \\ud83d), which is no character; mend the text or remove the row"
    )]
    LoneSurrogate,
    /// A conversation as JSON in a column of text.
    #[error(
        "holds a conversation written out as text (a list of role and content); conversational rows are not supported \
         yet; flatten with a chat template first"
    )]
    ConversationAsText,
    /// A pair that prefers nothing.
    #[error("chosen and rejected are the same; remove the row")]
    SameCompletions,
    /// Two different texts that the tokenizer cannot tell apart.
    #[error("chosen and rejected become the same token ids; remove the row")]
    SameIds,
    /// An implicit prompt that does not exist.
    #[error(
        "chosen and rejected share no beginning to use as the prompt; add a `prompt` column or remove the row"
    )]
    NoSharedBeginning,
    /// A number that is no token id.
    #[error("{value} is no token id; want 0 <= id < {vocab}; tokenise with the model's own tokenizer")]
    TokenId {
        /// The number.
        value: String,
        /// Number of ids that the tokenizer (or the id type) has.
        vocab: u64,
    },
    /// A prompt of which no token is left.
    #[error(
        "the prompt has no token before the completion (it is empty, or all of it merges with the completion, and \
         the tokenizer adds no BOS); lengthen the prompt or remove the row"
    )]
    NoPromptToken,
    /// A text that the tokenizer refuses.
    #[error("the tokenizer failed: {0}; check tokenizer.json (its unknown token, for one)")]
    Encode(String),
    /// More tokens than the store can count.
    #[error("{0} tokens; want fewer than 2^32; split or remove the row")]
    TooLong(usize),
}
