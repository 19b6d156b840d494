//! Which shape of rows a file holds, found from the names and kinds of its columns.

use std::fmt;
use std::path::Path;

use crate::error::DataError;
use crate::reader::columns::{Columns, Role};

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
}

impl Schema {
    /// The roles of the columns of the content, in the order of its fields.
    fn roles(self) -> &'static [Role] {
        match self {
            Self::TextPairs => &PAIR,
            Self::ImplicitPromptPairs => &[Role::Chosen, Role::Rejected],
            Self::IdPairs => &IDS,
            Self::PromptCompletion => &[Role::Prompt, Role::Completion],
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextPairs => "text pairs (prompt, chosen, rejected)",
            Self::ImplicitPromptPairs => "text pairs with an implicit prompt (chosen, rejected)",
            Self::IdPairs => "tokenised pairs (prompt_ids, chosen_ids, rejected_ids)",
            Self::PromptCompletion => "prompt-completion rows (prompt, completion)",
        })
    }
}

const PAIR: [Role; 3] = [Role::Prompt, Role::Chosen, Role::Rejected];
const IDS: [Role; 3] = [Role::PromptIds, Role::ChosenIds, Role::RejectedIds];

/// What a column holds, as far as the shapes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    /// Any string type.
    Text,
    /// A list of any integer type.
    Ids,
    /// Any integer type, by name.
    Integer(String),
    /// True or false.
    Boolean,
    /// A list of objects with `role` (or `from`), or one such object.
    Messages,
    /// Any other number, by name.
    Number(String),
    /// Lists, objects or bytes that may hold text, by name.
    Nested(String),
    /// Nothing but nulls so far, or empty lists: fits anything, and the cells will tell.
    Unknown,
    /// Anything else (dates, lists of numbers), by name.
    Other(String),
}

impl ColumnKind {
    /// Takes in what a further cell holds, where rows can differ: text among numbers makes a column of text, and the cells
    /// will tell. Otherwise the first cell that is not null decides.
    pub(crate) fn join(&mut self, next: impl FnOnce() -> Self) {
        match self {
            Self::Unknown => *self = next(),
            Self::Integer(_) | Self::Number(_) | Self::Boolean | Self::Other(_) => {
                if let wider @ (Self::Text | Self::Messages | Self::Nested(_)) = next() {
                    *self = wider;
                }
            }
            Self::Text | Self::Ids | Self::Messages | Self::Nested(_) => {}
        }
    }

    /// Whether it can say yes or no about each row.
    fn is_verdict(&self) -> bool {
        matches!(self, Self::Boolean | Self::Integer(_) | Self::Number(_))
    }

    /// Whether it can hold what a completion answers.
    fn may_be_prompt(&self) -> bool {
        matches!(self, Self::Text | Self::Ids | Self::Messages | Self::Nested(_))
    }

    fn description(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Ids => "lists of integers".into(),
            Self::Boolean => "booleans".into(),
            Self::Messages => "conversations".into(),
            Self::Unknown => "nothing but nulls".into(),
            Self::Integer(name) | Self::Number(name) | Self::Nested(name) | Self::Other(name) => name.clone(),
        }
    }
}

/// A column that a file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: ColumnKind,
    /// The first row (1-based) that holds a list or an object there, where rows can differ.
    pub(crate) first_nested: Option<u64>,
}

/// A file's shape and the columns that are read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) schema: Schema,
    /// The content's columns in the order of its fields; then `verifier` and `gold`; then `task`; then a label, which has
    /// no role.
    columns: Vec<(Option<Role>, String)>,
    pub(crate) checked: bool,
    pub(crate) tasked: bool,
    /// Whether the last column is a label in words, which may say that a completion is a bad one.
    pub(crate) labelled: bool,
    /// A column for the task of a type that names none, and what it holds.
    pub(crate) unusable_task: Option<(String, String)>,
    /// Columns of text, lists or objects that are not read and do not look like labels.
    pub(crate) unread: Vec<String>,
}

impl Layout {
    /// Names of the columns that are read, in the file's own words.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(_, name)| name.as_str())
    }

    /// The name of the column at a place of [`names`](Self::names).
    pub(crate) fn name(&self, column: usize) -> &str {
        &self.columns[column].1
    }

    /// Number of columns of the content.
    pub(crate) fn content_len(&self) -> usize {
        self.schema.roles().len()
    }

    /// The place of the column `task`, where there is one.
    pub(crate) fn task_at(&self) -> Option<usize> {
        self.tasked.then(|| self.columns.len() - 1 - usize::from(self.labelled))
    }

    /// The place of the label in words, where there is one.
    pub(crate) fn label_at(&self) -> Option<usize> {
        self.labelled.then(|| self.columns.len() - 1)
    }

    /// The file's name of a role's column.
    pub(crate) fn name_of(&self, role: &str) -> Option<&str> {
        self.columns
            .iter()
            .find(|(other, _)| other.is_some_and(|other| other.name() == role))
            .map(|(_, name)| name.as_str())
    }
}

const WANT_TEXT: &str = "text (Utf8, LargeUtf8, Utf8View or a dictionary of them; a JSON string)";
const WANT_IDS: &str = "a list of integers";
const WANT_TASK: &str = "text or integers";

/// Finds the shape. Token ids win over text; pairs win over prompt-completion. With `need_task`, a column `task` has to be
/// of a usable type.
pub(crate) fn detect(
    path: &Path,
    found: &[Column],
    columns: &Columns,
    need_task: bool,
) -> Result<Layout, DataError> {
    let file = File { path, found, columns };
    for (role, column) in columns.named() {
        if !found.iter().any(|other| other.name == column) {
            let (column, found) = (column.to_owned(), file.names());
            return Err(DataError::NoSuchColumn { path: path.to_path_buf(), role, column, found });
        }
    }
    let all = |roles: &[Role]| roles.iter().all(|&role| file.column(role).is_some());
    let schema = if all(&IDS) {
        Schema::IdPairs
    } else if all(&PAIR) {
        Schema::TextPairs
    } else if all(&PAIR[1..]) {
        Schema::ImplicitPromptPairs
    } else if all(Schema::PromptCompletion.roles()) {
        Schema::PromptCompletion
    } else if let Some(column) = ["messages", "conversations", "conversation"]
        .iter()
        .find_map(|&name| found.iter().find(|c| c.name == name && c.kind == ColumnKind::Messages))
    {
        return Err(file.conversational(&[column]));
    } else {
        return Err(file.missing());
    };
    file.refuse_conversations(schema)?;
    file.refuse_unpaired(schema)?;
    file.refuse_unknown_prompt(schema)?;
    let checked = all(&[Role::Verifier, Role::Gold]);
    let tasked = match file.column(Role::Task).map(|column| &column.kind) {
        Some(ColumnKind::Text | ColumnKind::Integer(_) | ColumnKind::Unknown) => true,
        // A column `task` of another type is somebody's own, unless tasks are asked for.
        Some(kind) if need_task => return Err(file.wrong_type(Role::Task, WANT_TASK, kind)),
        _ => false,
    };
    let unusable_task = file
        .column(Role::Task)
        .filter(|_| !tasked)
        .map(|column| (column.name.clone(), column.kind.description()));
    let mut roles = schema.roles().to_vec();
    if checked {
        roles.extend([Role::Verifier, Role::Gold]);
    }
    for &role in &roles {
        let want_ids = role.is_ids();
        match file.column(role).map(|column| &column.kind) {
            None | Some(ColumnKind::Unknown) => {}
            Some(ColumnKind::Ids) if want_ids => {}
            Some(ColumnKind::Text) if !want_ids => {}
            Some(kind) => {
                return Err(file.wrong_type(role, if want_ids { WANT_IDS } else { WANT_TEXT }, kind));
            }
        }
    }
    if tasked {
        roles.push(Role::Task);
    }
    let mut read: Vec<(Option<Role>, String)> =
        roles.into_iter().filter_map(|role| Some((Some(role), columns.name_of(role)?.to_owned()))).collect();
    if let Some((_, name)) =
        read.iter().find(|(_, name)| found.iter().filter(|c| c.name == *name).count() > 1)
    {
        return Err(DataError::ColumnRepeated { path: path.to_path_buf(), column: name.clone() });
    }
    let is_read = |name: &str| read.iter().any(|(_, other)| other == name);
    let label = match schema {
        Schema::PromptCompletion => found.iter().find(|column| {
            is_verdict_name(&column.name) && column.kind == ColumnKind::Text && !is_read(&column.name)
        }),
        _ => None,
    };
    let is_noted = |column: &&Column| {
        let name = column.name.as_str();
        let may_matter =
            matches!(column.kind, ColumnKind::Text | ColumnKind::Messages | ColumnKind::Nested(_));
        // What the verifiers of our own suites are told apart by.
        let of_suite = name == "context" && file.column(Role::Verifier).is_some();
        let passed = is_label(name)
            && label.is_none_or(|label| label.name != name)
            && !(schema == Schema::ImplicitPromptPairs && may_name_prompt(name));
        may_matter && !is_read(name) && !of_suite && !passed
    };
    let unread = found.iter().filter(is_noted).map(|column| column.name.clone()).collect();
    let labelled = label.is_some();
    read.extend(label.map(|label| (None, label.name.clone())));
    Ok(Layout { schema, columns: read, checked, tasked, labelled, unusable_task, unread })
}

/// A file's columns and what they are taken for.
struct File<'a> {
    path: &'a Path,
    found: &'a [Column],
    columns: &'a Columns,
}

impl<'a> File<'a> {
    fn column(&self, role: Role) -> Option<&'a Column> {
        let name = self.columns.name_of(role)?;
        self.found.iter().find(|column| column.name == name)
    }

    fn names(&self) -> String {
        match self.found {
            [] => "no column at all".into(),
            found => quoted(found.iter().map(|column| column.name.as_str())),
        }
    }

    /// Conversations in a column of the shape, or beside it where the prompt would be looked for.
    fn refuse_conversations(&self, schema: Schema) -> Result<(), DataError> {
        let is_messages = |column: &&Column| column.kind == ColumnKind::Messages;
        let mut messages: Vec<&Column> =
            schema.roles().iter().filter_map(|&role| self.column(role)).filter(is_messages).collect();
        if messages.is_empty() && schema == Schema::ImplicitPromptPairs && !self.columns.implicit_prompt() {
            messages = self.found.iter().filter(is_messages).collect();
        }
        if messages.is_empty() { Ok(()) } else { Err(self.conversational(&messages)) }
    }

    /// Rows of prompt, completion and a verdict (TRL's unpaired preference): some of the completions are bad ones.
    fn refuse_unpaired(&self, schema: Schema) -> Result<(), DataError> {
        let verdict =
            self.found.iter().find(|column| is_verdict_name(&column.name) && column.kind.is_verdict());
        match verdict {
            Some(column) if schema == Schema::PromptCompletion => Err(DataError::Unpaired {
                path: self.path.to_path_buf(),
                row: None,
                column: column.name.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// An implicit prompt where another column could be the prompt.
    fn refuse_unknown_prompt(&self, schema: Schema) -> Result<(), DataError> {
        if schema != Schema::ImplicitPromptPairs || self.columns.implicit_prompt() {
            return Ok(());
        }
        let known = |name: &str| {
            let roles = [Role::Chosen, Role::Rejected, Role::Verifier, Role::Gold, Role::Task];
            roles.into_iter().any(|role| self.columns.name_of(role) == Some(name))
                || is_label(name) && !names_prompt(name)
        };
        let candidates: Vec<&str> = self
            .found
            .iter()
            .filter(|column| column.kind.may_be_prompt() && !known(&column.name))
            .map(|column| column.name.as_str())
            .collect();
        // The likeliest one stands in the remedy.
        let likely = candidates.iter().find(|name| names_prompt(name));
        match likely.or(candidates.first()) {
            None => Ok(()),
            Some(&example) => Err(DataError::UnknownPrompt {
                path: self.path.to_path_buf(),
                candidates: quoted(candidates.iter().copied()),
                example: example.to_owned(),
            }),
        }
    }

    fn conversational(&self, columns: &[&Column]) -> DataError {
        DataError::Conversational {
            path: self.path.to_path_buf(),
            row: columns.iter().filter_map(|column| column.first_nested).min(),
            columns: quoted(columns.iter().map(|column| column.name.as_str())),
        }
    }

    fn wrong_type(&self, role: Role, want: &'static str, kind: &ColumnKind) -> DataError {
        let column = self.columns.name_of(role).unwrap_or(role.name()).to_owned();
        DataError::ColumnType { path: self.path.to_path_buf(), column, want, got: kind.description() }
    }

    /// Names the first missing column of the shape that the file is nearest to.
    fn missing(&self) -> DataError {
        let has = |role: Role| self.column(role).is_some();
        let first = |roles: &[Role]| roles.iter().copied().find(|&role| !has(role));
        let any_ids = IDS.into_iter().any(has);
        let wanted = if any_ids && !has(Role::Chosen) && !has(Role::Rejected) {
            first(&IDS).unwrap_or(Role::PromptIds)
        } else if has(Role::Completion) {
            Role::Prompt
        } else {
            first(&PAIR[1..]).unwrap_or(Role::Chosen)
        };
        // `Chosen` for `chosen`, `chosen_input_ids` for `chosen_ids`.
        let resembling = self.found.iter().find(|column| {
            let plain: String =
                column.name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
            let plain = plain.replace("inputids", "ids");
            plain == wanted.name().replace('_', "") || plain == format!("{wanted}ids")
        });
        let (wanted, example) = match resembling {
            Some(column) if matches!(column.kind, ColumnKind::Ids) && !wanted.is_ids() => {
                (ids_of(wanted), column.name.clone())
            }
            Some(column) => (wanted, column.name.clone()),
            None => (wanted, "NAME".into()),
        };
        DataError::MissingColumn { path: self.path.to_path_buf(), wanted, found: self.names(), example }
    }
}

/// The same part of a row as token ids.
fn ids_of(role: Role) -> Role {
    match role {
        Role::Chosen => Role::ChosenIds,
        Role::Rejected => Role::RejectedIds,
        Role::Prompt => Role::PromptIds,
        other => other,
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Whether a column of this name, beside prompt and completion, may say which completions are good.
fn is_verdict_name(name: &str) -> bool {
    ["label", "labels", "kto_tag"].iter().any(|verdict| name.eq_ignore_ascii_case(verdict))
}

/// Whether a column's name speaks of a prompt, and not of its number or of who wrote it.
fn names_prompt(name: &str) -> bool {
    let name = name.to_lowercase();
    ["prompt", "question", "instruction", "query", "input"].iter().any(|word| name.contains(word))
        && !["id", "hash", "model"].iter().any(|end| name.ends_with(end))
}

/// Whether a column labels the row in some files and holds the text to answer in others.
fn may_name_prompt(name: &str) -> bool {
    ["source", "type", "category"].contains(&name.to_lowercase().as_str())
}

/// Whether a column's name says that it labels the row (where it is from, who wrote it), so that it is not the prompt.
fn is_label(name: &str) -> bool {
    const LABELS: [&str; 27] = [
        "id",
        "ids",
        "idx",
        "index",
        "uuid",
        "hash",
        "source",
        "dataset",
        "subset",
        "split",
        "category",
        "type",
        "language",
        "lang",
        "url",
        "model",
        "license",
        "author",
        "annotator",
        "timestamp",
        "date",
        "created_at",
        "version",
        "label",
        "meta",
        "metadata",
        "tags",
    ];
    let lower = name.to_lowercase();
    let last = lower.rsplit(['_', '-', '.', ' ']).next().unwrap_or(&lower);
    LABELS.contains(&last) || LABELS.contains(&lower.as_str()) || name.starts_with("__")
}
