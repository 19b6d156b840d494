//! Sizes, splits and how a whole suite is generated.
//!
//! **Disjoint by construction.** A hash of the bare prompt decides which split it may appear in, whatever the seed and
//! the sizes. So no prompt of one split occurs in another, in the corpus, or in another split of *another seed's*
//! suite: a base trained on one seed's corpus may be tested on another seed's test split.
//!
//! **Prefixes.** Every split of every task has its own random stream, so a larger size only appends. The smaller size
//! set of a task is the beginning of the larger.

use crate::error::SuiteError;
use crate::problem::Problem;
use crate::stream::Stream;
use crate::task::{Example, Pair, Task};
use std::collections::HashSet;
use std::str::FromStr;

/// How many pairs and examples a suite holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Training pairs of [`Task::Helpful`].
    pub helpful: usize,
    /// Training pairs of [`Task::Harmless`].
    pub harmless: usize,
    /// Training pairs of [`Task::Reasoning`].
    pub reasoning: usize,
    /// Validation pairs of every task, and as many test pairs.
    pub held_out: usize,
    /// Examples of the base model's corpus, all tasks together.
    pub sft: usize,
}

impl Sizes {
    /// The default: the easy task is plentiful, the slow ones are scarce.
    pub const B: Sizes = Sizes { helpful: 1500, harmless: 6000, reasoning: 400, held_out: 300, sft: 80_000 };
    /// The other set: the slowest task to converge is also the largest.
    pub const A: Sizes = Sizes { helpful: 6000, harmless: 1500, ..Sizes::B };
    /// The larger of A and B for every task. Both are prefixes of it: this is what is committed.
    pub const UNION: Sizes = Sizes { helpful: 6000, ..Sizes::B };

    /// Training pairs of a task.
    pub fn train(&self, task: Task) -> usize {
        match task {
            Task::Helpful => self.helpful,
            Task::Harmless => self.harmless,
            Task::Reasoning => self.reasoning,
        }
    }
}

/// The two named size sets; results are reported on both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SizeSet {
    /// [`Sizes::A`].
    A,
    /// [`Sizes::B`], the default.
    B,
}

impl SizeSet {
    /// The set's sizes.
    pub fn sizes(self) -> Sizes {
        match self {
            SizeSet::A => Sizes::A,
            SizeSet::B => Sizes::B,
        }
    }
}

impl FromStr for SizeSet {
    type Err = SuiteError;

    /// Reads `A` or `B`.
    ///
    /// # Errors
    /// [`SuiteError::UnknownName`].
    fn from_str(name: &str) -> Result<Self, SuiteError> {
        match name {
            "A" => Ok(SizeSet::A),
            "B" => Ok(SizeSet::B),
            _ => Err(SuiteError::UnknownName { kind: "size set", got: name.to_owned(), want: "A, B" }),
        }
    }
}

/// One task's pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSplits {
    /// Which task.
    pub task: Task,
    /// Pairs to train on.
    pub train: Vec<Pair>,
    /// Pairs to choose settings by.
    pub valid: Vec<Pair>,
    /// Pairs to report on.
    pub test: Vec<Pair>,
}

/// A whole suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// The seed it came from.
    pub seed: u64,
    /// The tasks, in the order of [`Task::ALL`].
    pub tasks: [TaskSplits; 3],
    /// The base model's corpus, tasks mixed.
    pub sft: Vec<Example>,
}

impl Suite {
    /// One task's pairs.
    pub fn task(&self, task: Task) -> &TaskSplits {
        &self.tasks[task as usize]
    }
}

/// Shares of the tasks in the corpus, in the order of [`Task::ALL`].
const SFT_SHARES: [f64; 3] = [0.4, 0.2, 0.4];

/// The splits that share out the prompts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Split {
    Train,
    Valid,
    Test,
    Sft,
}

impl Split {
    /// The split in which a bare prompt may appear: 1/4 train, 1/8 valid, 1/8 test, 1/2 corpus.
    fn of(prompt: &str) -> Self {
        match prompt_hash(prompt) >> 61 {
            0 | 1 => Split::Train,
            2 => Split::Valid,
            3 => Split::Test,
            _ => Split::Sft,
        }
    }

    /// The split's random stream for a task. The corpus mixes tasks and has one.
    fn stream(self, task: Option<Task>) -> u64 {
        task.map_or(0, |task| 4 * (task as u64 + 1)) + self as u64
    }
}

/// FNV-1a (64 bit) with the SplitMix64 finaliser, whose high bits are well mixed.
fn prompt_hash(prompt: &str) -> u64 {
    let fnv = prompt.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Draws problems of one split, never the same prompt twice.
struct Fresh {
    split: Split,
    stream: Stream,
    seen: HashSet<String>,
}

impl Fresh {
    fn new(seed: u64, split: Split, task: Option<Task>) -> Self {
        Self { split, stream: Stream::new(seed, split.stream(task)), seen: HashSet::new() }
    }

    /// Draws until the prompt is new and belongs to this split.
    fn problem(&mut self, task: Task) -> Problem {
        loop {
            let problem = Problem::draw(task, &mut self.stream);
            let prompt = problem.prompt();
            if Split::of(&prompt) == self.split && self.seen.insert(prompt) {
                return problem;
            }
        }
    }

    fn pair(&mut self, task: Task) -> Pair {
        self.problem(task).pair(&mut self.stream)
    }

    fn example(&mut self) -> Example {
        let task = if self.stream.chance(SFT_SHARES[0]) {
            Task::Helpful
        } else if self.stream.chance(SFT_SHARES[1] / (1.0 - SFT_SHARES[0])) {
            Task::Harmless
        } else {
            Task::Reasoning
        };
        self.problem(task).example(&mut self.stream)
    }
}

/// Generates a suite.
///
/// The same seed and sizes give the same suite, on every machine and in every version with the same
/// [`GENERATOR`](crate::GENERATOR). Another size of one split changes no other split; a smaller size is a prefix of a larger.
/// The number of different prompts is bounded by the templates (harmless, the smallest, has some 20 million), so sizes
/// in the millions become slow before they become impossible.
pub fn generate(seed: u64, sizes: &Sizes) -> Suite {
    let pairs = |split, task, n| {
        let mut fresh = Fresh::new(seed, split, Some(task));
        (0..n).map(|_| fresh.pair(task)).collect()
    };
    let tasks = Task::ALL.map(|task| TaskSplits {
        task,
        train: pairs(Split::Train, task, sizes.train(task)),
        valid: pairs(Split::Valid, task, sizes.held_out),
        test: pairs(Split::Test, task, sizes.held_out),
    });
    let mut fresh = Fresh::new(seed, Split::Sft, None);
    let sft = (0..sizes.sft).map(|_| fresh.example()).collect();
    Suite { seed, tasks, sft }
}
