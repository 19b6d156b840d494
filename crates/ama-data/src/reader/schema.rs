//! Which shape of rows a file holds, found from the names and kinds of its columns.

use std::fmt;
use std::path::Path;

use crate::error::DataError;

/// The shape of the rows of a data set: the shapes that TRL accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schema {
    /// `prompt, chosen, rejected` as text.
    TextPairs,
    /// `chosen, rejected` as text with a shared beginning, which is the prompt.
    ImplicitPromptPairs,
    /// `prompt_ids, chosen_ids, rejected_ids` as lists of integers.
    IdPairs,
    /// `prompt, completion` as text: fine-tuning rows.
    PromptCompletion,
    /// `chosen, rejected` (and perhaps `prompt`) as lists of `{role, content}`. Detected, not read yet.
    ConversationalPairs,
    /// `messages`, or `prompt, completion` as lists of `{role, content}`. Detected, not read yet.
    ConversationalCompletion,
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextPairs => "text pairs (prompt, chosen, rejected)",
            Self::ImplicitPromptPairs => "text pairs with an implicit prompt (chosen, rejected)",
            Self::IdPairs => "tokenised pairs (prompt_ids, chosen_ids, rejected_ids)",
            Self::PromptCompletion => "prompt-completion rows (prompt, completion)",
            Self::ConversationalPairs => "conversational pairs",
            Self::ConversationalCompletion => "conversations",
        })
    }
}

/// What a column holds, as far as the shapes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    /// Any string type.
    Text,
    /// A list of any integer type.
    Ids,
    /// A list of structs with `role` (or `from`).
    Messages,
    /// Nothing but nulls so far, or empty lists: fits anything, and the cells will tell.
    Unknown,
    /// Anything else, by name.
    Other(String),
}

/// A file's shape, whether it says how to check answers, and whether it says which task a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) schema: Schema,
    pub(crate) checked: bool,
    pub(crate) tasked: bool,
}

impl Layout {
    /// The columns that are read, in the order of the content's fields; then `verifier` and `gold`; then `task`.
    pub(crate) fn columns(self) -> Vec<&'static str> {
        let mut columns = self.content_columns().to_vec();
        if self.checked {
            columns.extend(["verifier", "gold"]);
        }
        if self.tasked {
            columns.push("task");
        }
        columns
    }

    pub(crate) fn content_columns(self) -> &'static [&'static str] {
        match self.schema {
            Schema::TextPairs => &["prompt", "chosen", "rejected"],
            Schema::ImplicitPromptPairs => &["chosen", "rejected"],
            Schema::IdPairs => &["prompt_ids", "chosen_ids", "rejected_ids"],
            Schema::PromptCompletion => &["prompt", "completion"],
            Schema::ConversationalPairs | Schema::ConversationalCompletion => &[],
        }
    }
}

const TEXT: &str = "text (Utf8, LargeUtf8, Utf8View or a dictionary of them; a JSON string)";
const IDS: &str = "a list of integers";

/// Finds the shape. Token ids win over text; pairs win over prompt-completion.
pub(crate) fn detect(path: &Path, columns: &[(String, ColumnKind)]) -> Result<Layout, DataError> {
    let kind = |name: &str| columns.iter().find(|(column, _)| column == name).map(|(_, kind)| kind);
    let has = |name: &str| kind(name).is_some();
    let schema = if ["prompt_ids", "chosen_ids", "rejected_ids"].iter().all(|name| has(name)) {
        Schema::IdPairs
    } else if has("chosen") && has("rejected") {
        let messages =
            ["prompt", "chosen", "rejected"].into_iter().any(|c| kind(c) == Some(&ColumnKind::Messages));
        match (messages, has("prompt")) {
            (true, _) => Schema::ConversationalPairs,
            (false, true) => Schema::TextPairs,
            (false, false) => Schema::ImplicitPromptPairs,
        }
    } else if has("prompt") && has("completion") {
        let messages = ["prompt", "completion"].into_iter().any(|c| kind(c) == Some(&ColumnKind::Messages));
        if messages { Schema::ConversationalCompletion } else { Schema::PromptCompletion }
    } else if [kind("messages"), kind("conversations")].contains(&Some(&ColumnKind::Messages)) {
        Schema::ConversationalCompletion
    } else {
        return Err(missing(path, columns, has));
    };
    if matches!(schema, Schema::ConversationalPairs | Schema::ConversationalCompletion) {
        let messages = columns.iter().find(|(_, kind)| *kind == ColumnKind::Messages);
        let column = messages.map(|(column, _)| column.clone()).unwrap_or_default();
        return Err(DataError::Conversational { path: path.to_path_buf(), column });
    }
    // A column `task` of another type is somebody's own and is ignored.
    let tasked = matches!(kind("task"), Some(ColumnKind::Text | ColumnKind::Unknown));
    let layout = Layout { schema, checked: has("verifier") && has("gold"), tasked };
    for column in layout.columns() {
        let want_ids = column.ends_with("_ids");
        let got = match kind(column) {
            None | Some(ColumnKind::Unknown) => continue,
            Some(ColumnKind::Ids) if want_ids => continue,
            Some(ColumnKind::Text) if !want_ids => continue,
            Some(ColumnKind::Text) => "text".into(),
            Some(ColumnKind::Ids) => "lists of integers".into(),
            Some(ColumnKind::Messages) => "conversations".into(),
            Some(ColumnKind::Other(name)) => name.clone(),
        };
        let want = if want_ids { IDS } else { TEXT };
        return Err(DataError::ColumnType { path: path.to_path_buf(), column: column.into(), want, got });
    }
    Ok(layout)
}

/// Names the first missing column of the shape that the file is nearest to.
fn missing(path: &Path, columns: &[(String, ColumnKind)], has: impl Fn(&str) -> bool) -> DataError {
    let ids = ["prompt_ids", "chosen_ids", "rejected_ids"];
    let wanted = if ids.iter().any(|name| has(name)) && !has("chosen") && !has("rejected") {
        ids.into_iter().find(|name| !has(name)).unwrap_or("prompt_ids")
    } else if has("completion") {
        "prompt"
    } else if has("chosen") {
        "rejected"
    } else {
        "chosen"
    };
    let found: Vec<String> = columns.iter().map(|(name, _)| format!("`{name}`")).collect();
    let found = if found.is_empty() { "no column at all".into() } else { found.join(", ") };
    DataError::MissingColumn { path: path.to_path_buf(), wanted: wanted.into(), found }
}
