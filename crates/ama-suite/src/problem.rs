//! One problem of any task, and the pair or corpus example made from it.

use crate::base_errors::p_right_known;
use crate::layout::{render_answer, render_prompt};
use crate::stream::Stream;
use crate::task::{Example, Pair, Task};
use crate::{harmless, helpful, reasoning};

/// A problem, before an answer to it is drawn.
pub(crate) enum Problem {
    Helpful(helpful::Problem),
    Harmless(harmless::Problem),
    Reasoning(reasoning::Problem),
}

impl Problem {
    pub(crate) fn draw(task: Task, stream: &mut Stream) -> Self {
        match task {
            Task::Helpful => Problem::Helpful(helpful::Problem::draw(stream)),
            Task::Harmless => Problem::Harmless(harmless::Problem::draw(stream)),
            Task::Reasoning => Problem::Reasoning(reasoning::Problem::draw(stream)),
        }
    }

    fn task(&self) -> Task {
        match self {
            Problem::Helpful(_) => Task::Helpful,
            Problem::Harmless(_) => Task::Harmless,
            Problem::Reasoning(_) => Task::Reasoning,
        }
    }

    /// The bare prompt.
    pub(crate) fn prompt(&self) -> String {
        match self {
            Problem::Helpful(problem) => problem.prompt(),
            Problem::Harmless(problem) => problem.prompt(),
            Problem::Reasoning(problem) => problem.prompt(),
        }
    }

    fn context(&self) -> String {
        match self {
            Problem::Helpful(problem) => problem.context(),
            Problem::Harmless(problem) => problem.context(),
            Problem::Reasoning(problem) => problem.context(),
        }
    }

    fn chosen(&self) -> String {
        match self {
            Problem::Helpful(problem) => problem.chosen(),
            Problem::Harmless(problem) => problem.chosen(),
            Problem::Reasoning(problem) => problem.chosen(),
        }
    }

    fn rejected(&self, stream: &mut Stream) -> String {
        match self {
            Problem::Helpful(problem) => problem.rejected(stream),
            Problem::Harmless(problem) => problem.rejected(),
            Problem::Reasoning(problem) => problem.rejected(stream),
        }
    }

    /// The right answer against a wrong one.
    pub(crate) fn pair(&self, stream: &mut Stream) -> Pair {
        let chosen = self.chosen();
        let gold = match self {
            Problem::Reasoning(problem) => problem.gold(),
            _ => chosen.clone(),
        };
        Pair {
            prompt: render_prompt(&self.prompt()),
            chosen: render_answer(&chosen),
            rejected: render_answer(&self.rejected(stream)),
            verifier: self.task().verifier(),
            gold,
            context: self.context(),
        }
    }

    /// An answer that is right as often as the context says: wrong steps in a sum, else wholly right or wholly wrong.
    pub(crate) fn example(&self, stream: &mut Stream) -> Example {
        let answer = match self {
            Problem::Reasoning(problem) => problem.noisy(stream),
            _ if stream.chance(p_right_known(&self.context())) => self.chosen(),
            _ => self.rejected(stream),
        };
        Example { prompt: render_prompt(&self.prompt()), completion: render_answer(&answer) }
    }
}
