//! From the cells of one row, in whatever format, to a [`Row`].

use std::path::Path;
use std::sync::Arc;

use crate::error::{CellFault, DataError};
use crate::reader::conversation;
use crate::reader::schema::{Layout, Schema};
use crate::row::{Check, Row, RowContent};

/// The cells of one row; columns are numbered as in [`Layout::names`]. `None` is null or missing.
pub(crate) trait Cells {
    fn text(&self, column: usize) -> Result<Option<String>, CellFault>;
    fn ids(&self, column: usize) -> Result<Option<Vec<u32>>, CellFault>;
    /// Text, or an integer as text.
    fn task(&self, column: usize) -> Result<Option<String>, CellFault>;
}

/// Builds and validates a row. With `need_task`, a cell of the column `task` that cannot be used is an error.
pub(crate) fn assemble(
    cells: &impl Cells,
    layout: &Layout,
    need_task: bool,
    source: &Arc<Path>,
    row: u64,
) -> Result<Row, DataError> {
    let at = |column: usize, fault: CellFault| DataError::Cell {
        path: source.to_path_buf(),
        row,
        column: layout.name(column).into(),
        fault,
    };
    let text = |column: usize| match cells.text(column) {
        Ok(Some(text)) if conversation::is_written_out(&text) => {
            Err(at(column, CellFault::ConversationAsText))
        }
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(at(column, CellFault::Null)),
        Err(fault) => Err(at(column, fault)),
    };
    let ids = |column: usize| match cells.ids(column) {
        Ok(Some(ids)) => Ok(ids),
        Ok(None) => Err(at(column, CellFault::Null)),
        Err(fault) => Err(at(column, fault)),
    };
    if let Some(label) = layout.label_at() {
        // A cell that is no text is a verdict as well: true or 1 among words.
        let verdict = cells.task(label).map_or(true, |cell| cell.is_some_and(|cell| is_verdict(&cell)));
        if verdict {
            let (path, column) = (source.to_path_buf(), layout.name(label).into());
            return Err(DataError::Unpaired { path, row: Some(row), column });
        }
    }
    let content = match layout.schema {
        Schema::IdPairs => RowContent::Ids { prompt: ids(0)?, chosen: ids(1)?, rejected: ids(2)? },
        Schema::PromptCompletion => RowContent::Completion { prompt: text(0)?, completion: text(1)? },
        Schema::ImplicitPromptPairs => {
            let (mut chosen, mut rejected) = (text(0)?, text(1)?);
            for (column, cell) in [(0, &chosen), (1, &rejected)] {
                if cell.is_empty() {
                    return Err(at(column, CellFault::Empty));
                }
            }
            if chosen == rejected {
                return Err(at(1, CellFault::SameCompletions));
            }
            let split = prompt_length(&chosen, &rejected);
            if split == 0 {
                return Err(at(0, CellFault::NoSharedBeginning));
            }
            rejected.drain(..split);
            let completion = chosen.split_off(split);
            RowContent::Text { prompt: chosen, chosen: completion, rejected }
        }
        Schema::TextPairs => RowContent::Text { prompt: text(0)?, chosen: text(1)?, rejected: text(2)? },
    };
    let check = match layout.checked {
        true => read_check(cells, layout.content_len()).map_err(|(column, fault)| at(column, fault))?,
        false => None,
    };
    let task = match layout.task_at() {
        Some(column) => match cells.task(column) {
            Err(fault) if need_task => return Err(at(column, fault)),
            cell => cell.ok().flatten(),
        },
        None => None,
    };
    let row = Row { source: source.clone(), row, content, check, task };
    row.validate().map_err(|error| in_the_files_words(error, layout))?;
    Ok(row)
}

/// Whether a label in words says that a completion is good or bad, rather than what it is about.
fn is_verdict(label: &str) -> bool {
    const VERDICTS: [&str; 26] = [
        "good",
        "bad",
        "true",
        "false",
        "desirable",
        "undesirable",
        "chosen",
        "rejected",
        "0",
        "1",
        "-1",
        "0.0",
        "1.0",
        "yes",
        "no",
        "positive",
        "negative",
        "correct",
        "incorrect",
        "preferred",
        "dispreferred",
        "accepted",
        "right",
        "wrong",
        "like",
        "dislike",
    ];
    VERDICTS.contains(&label.trim().to_lowercase().as_str())
}

/// An error about a cell, with the column's name in the file instead of its role's.
fn in_the_files_words(error: DataError, layout: &Layout) -> DataError {
    match error {
        DataError::Cell { path, row, column, fault } => {
            let column = layout.name_of(&column).map_or(column.clone(), str::to_owned);
            DataError::Cell { path, row, column, fault }
        }
        other => other,
    }
}

fn read_check(cells: &impl Cells, first: usize) -> Result<Option<Check>, (usize, CellFault)> {
    let cell = |column: usize| cells.text(column).map_err(|fault| (column, fault));
    match (cell(first)?, cell(first + 1)?) {
        (Some(verifier), Some(gold)) => Ok(Some(Check { verifier, gold })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err((first, CellFault::Null)),
        (Some(_), None) => Err((first + 1, CellFault::Null)),
    }
}

/// Length in bytes of the prompt that two different texts share, as TRL's `extract_prompt` finds it: up to the
/// first character that differs, less one space before it; if one text continues the other, up to the last
/// character of the shorter one. 0 if they share nothing (where TRL, by an off-by-one in Python indexing, may
/// take all but the last character of `chosen`).
fn prompt_length(chosen: &str, rejected: &str) -> usize {
    let mut last: Option<(usize, char)> = None;
    for ((at, a), b) in chosen.char_indices().zip(rejected.chars()) {
        if a != b {
            return match last {
                Some((space, ' ')) => space,
                _ => at,
            };
        }
        last = Some((at, a));
    }
    last.map_or(0, |(at, _)| at)
}

/// A number as a token id.
pub(crate) fn token_id(value: impl TryInto<u32> + Copy + std::fmt::Display) -> Result<u32, CellFault> {
    value.try_into().map_err(|_| CellFault::TokenId { value: value.to_string(), vocab: 1 << 32 })
}

#[cfg(test)]
mod tests {
    use super::prompt_length;

    /// Values of `trl.data_utils.extract_prompt` (1.16), in characters of ASCII.
    #[test]
    fn implicit_prompt_as_trl() {
        for (chosen, rejected, prompt) in [
            ("The sky is blue.", "The sky is green.", "The sky is"),
            ("ab", "abc", "a"),
            ("abc", "ab", "a"),
            ("Q: 1+1? A: 2", "Q: 1+1? A: 3", "Q: 1+1? A:"),
            ("x  y", "x  z", "x "),
            ("prefix-a", "prefix-b", "prefix-"),
            ("über a", "über b", "über"),
            ("a", "b", ""),
            (" a", " b", ""),
        ] {
            assert_eq!(&chosen[..prompt_length(chosen, rejected)], prompt, "{chosen:?} {rejected:?}");
        }
    }
}
