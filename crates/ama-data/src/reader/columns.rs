//! Which column of a file is the prompt, which the chosen completion, and so on.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::DataError;

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// What both completions answer, as text.
    Prompt,
    /// The preferred completion, as text.
    Chosen,
    /// The other completion, as text.
    Rejected,
    /// The completion of a fine-tuning row.
    Completion,
    /// Token ids of the prompt.
    PromptIds,
    /// Token ids of the preferred completion.
    ChosenIds,
    /// Token ids of the other completion.
    RejectedIds,
    /// Name of the program that checks an answer.
    Verifier,
    /// What that program needs to know.
    Gold,
    /// The task that a row of a pooled file belongs to.
    Task,
}

impl Role {
    /// Every role, in the order of this list.
    pub const ALL: [Self; 10] = [
        Self::Prompt,
        Self::Chosen,
        Self::Rejected,
        Self::Completion,
        Self::PromptIds,
        Self::ChosenIds,
        Self::RejectedIds,
        Self::Verifier,
        Self::Gold,
        Self::Task,
    ];

    /// Name of the column that has this role unless another one is named.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Chosen => "chosen",
            Self::Rejected => "rejected",
            Self::Completion => "completion",
            Self::PromptIds => "prompt_ids",
            Self::ChosenIds => "chosen_ids",
            Self::RejectedIds => "rejected_ids",
            Self::Verifier => "verifier",
            Self::Gold => "gold",
            Self::Task => "task",
        }
    }

    /// Whether the column holds token ids rather than text.
    pub(crate) fn is_ids(self) -> bool {
        matches!(self, Self::PromptIds | Self::ChosenIds | Self::RejectedIds)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Columns that have another name than their role, and whether the prompt is in no column at all.
///
/// ```
/// use ama_data::{Columns, Role};
/// let columns = Columns::new([("prompt", "question")])?;
/// assert_eq!(columns.name_of(Role::Prompt), Some("question"));
/// assert_eq!(columns.name_of(Role::Chosen), Some("chosen"));
/// // The prompt is the shared beginning of the completions, whatever other columns there are.
/// assert_eq!(Columns::new([("prompt", "")])?.name_of(Role::Prompt), None);
/// # Ok::<(), ama_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Columns {
    /// Roles with the name of their column; the empty name is that of an implicit prompt.
    named: BTreeMap<Role, String>,
}

impl Columns {
    /// From pairs of a role's name and the column that has it. An empty column says of `prompt` that it is in no column:
    /// it is the shared beginning of `chosen` and `rejected`.
    ///
    /// # Errors
    /// A role that nobody knows, a role or a column that comes twice, an empty column for another role than `prompt`.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, DataError> {
        let mut named: BTreeMap<Role, String> = BTreeMap::new();
        for (name, column) in pairs {
            let role = Role::ALL
                .into_iter()
                .find(|role| role.name() == name)
                .ok_or_else(|| DataError::UnknownRole { name: name.to_owned() })?;
            if column.is_empty() && role != Role::Prompt {
                return Err(DataError::UnnamedColumn { role });
            }
            if named.contains_key(&role) {
                return Err(DataError::RoleTwice { role });
            }
            if let Some((&first, _)) = named.iter().find(|(_, other)| *other == column) {
                return Err(DataError::ColumnTwice { column: column.to_owned(), first, second: role });
            }
            named.insert(role, column.to_owned());
        }
        Ok(Self { named })
    }

    /// The column with this role; `None` if none has it, because it is given away to another role or because the prompt
    /// is implicit.
    pub fn name_of(&self, role: Role) -> Option<&str> {
        match self.named.get(&role) {
            Some(column) => (!column.is_empty()).then_some(column),
            None if self.named.values().any(|column| column == role.name()) => None,
            None => Some(role.name()),
        }
    }

    /// The roles that were given a column, with that column.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Role, &str)> {
        self.named.iter().map(|(&role, column)| (role, column.as_str())).filter(|(_, c)| !c.is_empty())
    }

    /// Whether it was said that the prompt is in no column.
    pub(crate) fn implicit_prompt(&self) -> bool {
        self.named.get(&Role::Prompt).is_some_and(String::is_empty)
    }
}
