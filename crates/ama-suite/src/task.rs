//! Tasks, preference pairs and corpus examples.

use crate::error::SuiteError;
use crate::verify::Verifier;
use std::fmt;
use std::str::FromStr;

/// One of the suite's three tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Exact editing instructions and benign look-alikes of the harmful requests.
    Helpful,
    /// Requests that the policy forbids.
    Harmless,
    /// Short worked sums.
    Reasoning,
}

impl Task {
    /// Every task, in the order in which the suite lists them.
    pub const ALL: [Task; 3] = [Task::Helpful, Task::Harmless, Task::Reasoning];

    /// The task's name in files: `helpful`, `harmless` or `reasoning`.
    pub fn name(self) -> &'static str {
        match self {
            Task::Helpful => "helpful",
            Task::Harmless => "harmless",
            Task::Reasoning => "reasoning",
        }
    }

    /// The program that checks this task's answers.
    pub fn verifier(self) -> Verifier {
        match self {
            Task::Helpful => Verifier::Exact,
            Task::Harmless => Verifier::Refusal,
            Task::Reasoning => Verifier::FinalNumber,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Task {
    type Err = SuiteError;

    /// Reads [`Task::name`] back; the case matters.
    ///
    /// # Errors
    /// [`SuiteError::UnknownName`].
    fn from_str(name: &str) -> Result<Self, SuiteError> {
        Task::ALL.into_iter().find(|task| task.name() == name).ok_or_else(|| SuiteError::UnknownName {
            kind: "task",
            got: name.to_owned(),
            want: "helpful, harmless, reasoning",
        })
    }
}

/// A preference pair, as text that a tokenizer takes as it is: `prompt + chosen` is the whole sequence but for the end
/// token, which the trainer appends (as TRL does).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The rendered prompt, special tokens included ([`crate::render_prompt`]).
    pub prompt: String,
    /// The right answer, with its leading space.
    pub chosen: String,
    /// A wrong answer, with its leading space.
    pub rejected: String,
    /// The program that tells right from wrong.
    pub verifier: Verifier,
    /// What the verifier compares with, without leading space: the exact answer, the refusal or the final number.
    pub gold: String,
    /// What decides how often the base's corpus is right here, as keys of [`crate::p_right`] separated by spaces: the
    /// editing operation or `howto`, the forbidden noun, or the verb of every step.
    pub context: String,
}

/// An example of the corpus on which the base model is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The rendered prompt ([`crate::render_prompt`]).
    pub prompt: String,
    /// The answer, right or wrong, with its leading space.
    pub completion: String,
}
