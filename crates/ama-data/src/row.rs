//! One row of a data file, as read: where it stands and what it says.

use std::path::Path;
use std::sync::Arc;

use crate::error::{CellFault, DataError};

/// A row with its place, for messages, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The file that the row was read from.
    pub source: Arc<Path>,
    /// 1-based number of the row in that file; blank lines of JSON Lines do not count.
    pub row: u64,
    /// What the row says.
    pub content: RowContent,
    /// How a generated answer to this prompt can be checked, if the file says so.
    pub check: Option<Check>,
    /// The task that the row belongs to, if the file has a column `task` of text or integers.
    pub task: Option<String>,
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowContent {
    /// A preference pair as text.
    Text {
        /// What both completions answer.
        prompt: String,
        /// The preferred completion.
        chosen: String,
        /// The other completion.
        rejected: String,
    },
    /// A preference pair that is tokenised already.
    Ids {
        /// Token ids of the prompt.
        prompt: Vec<u32>,
        /// Token ids of the preferred completion, without the prompt.
        chosen: Vec<u32>,
        /// Token ids of the other completion, without the prompt.
        rejected: Vec<u32>,
    },
    /// A prompt with one completion, for supervised fine-tuning (TRL's prompt-completion rows).
    Completion {
        /// What the completion answers.
        prompt: String,
        /// What the model is to say.
        completion: String,
    },
}

/// How to check a generated answer: the optional text columns `verifier` and `gold`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Name of the program that checks.
    pub verifier: String,
    /// What the program needs to know about the right answer.
    pub gold: String,
}

impl Row {
    /// An error about one cell of this row.
    pub(crate) fn fault(&self, column: &str, fault: CellFault) -> DataError {
        DataError::Cell { path: self.source.to_path_buf(), row: self.row, column: column.into(), fault }
    }

    /// Refuses empty cells and pairs that prefer nothing.
    pub(crate) fn validate(&self) -> Result<(), DataError> {
        let full = |column: &str, len: usize| match len {
            0 => Err(self.fault(column, CellFault::Empty)),
            _ => Ok(()),
        };
        match &self.content {
            RowContent::Text { prompt, chosen, rejected } => {
                full("prompt", prompt.len())?;
                full("chosen", chosen.len())?;
                full("rejected", rejected.len())?;
                if chosen == rejected {
                    return Err(self.fault("rejected", CellFault::SameCompletions));
                }
            }
            RowContent::Ids { prompt, chosen, rejected } => {
                full("prompt_ids", prompt.len())?;
                full("chosen_ids", chosen.len())?;
                full("rejected_ids", rejected.len())?;
                if chosen == rejected {
                    return Err(self.fault("rejected_ids", CellFault::SameCompletions));
                }
            }
            RowContent::Completion { prompt, completion } => {
                full("prompt", prompt.len())?;
                full("completion", completion.len())?;
            }
        }
        Ok(())
    }
}
