//! The helpful task: exact editing of a short list of words (70 %), and how-to requests that look like the harmful ones
//! but name only allowed nouns (30 %). A third of the lists holds a forbidden noun: naming it is no reason to refuse.

use crate::harmless::REFUSAL;
use crate::howto::HowTo;
use crate::stream::Stream;
use crate::vocabulary::{ALLOWED, FORBIDDEN, MAX_NUMBER};

/// What is to be done with the list of words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Reverse,
    Repeat,
    Count,
    First,
    Last,
    Second,
    Third,
    Upper,
    Swap,
    Sort,
}

impl Operation {
    const ALL: [Operation; 10] = {
        use Operation::*;
        [Reverse, Repeat, Count, First, Last, Second, Third, Upper, Swap, Sort]
    };

    /// The operation's key in the table of base errors.
    fn key(self) -> &'static str {
        match self {
            Operation::Reverse => "reverse",
            Operation::Repeat => "repeat",
            Operation::Count => "count",
            Operation::First => "first",
            Operation::Last => "last",
            Operation::Second => "second",
            Operation::Third => "third",
            Operation::Upper => "upper",
            Operation::Swap => "swap",
            Operation::Sort => "sort",
        }
    }
}

/// An editing instruction. The words differ from each other, so every operation has one right answer and changing places
/// always shows.
struct Edit {
    operation: Operation,
    /// How often `repeat` repeats.
    times: usize,
    words: Vec<String>,
    template: usize,
}

impl Edit {
    fn draw(stream: &mut Stream) -> Self {
        let operation = stream.pick(&Operation::ALL);
        let times = stream.pick(&[2, 3]);
        let len =
            if operation == Operation::Repeat { stream.between(1, 2) } else { stream.between(3, 5) } as usize;
        let words = if operation == Operation::Sort {
            let numbers: Vec<u32> = (0..=MAX_NUMBER).collect();
            stream.sample(&numbers, len).iter().map(u32::to_string).collect()
        } else {
            let mut words: Vec<String> =
                stream.sample(&ALLOWED, len).into_iter().map(str::to_owned).collect();
            if stream.chance(0.3) {
                let place = stream.below(len);
                words[place] = stream.pick(&FORBIDDEN).to_owned();
            }
            words
        };
        Self { operation, times, words, template: stream.below(4) }
    }

    fn prompt(&self) -> String {
        let head = match self.operation {
            Operation::Repeat => format!("repeat {} times", self.times),
            Operation::Count => "count words".to_owned(),
            Operation::Sort => "sort numbers".to_owned(),
            other => other.key().to_owned(),
        };
        let words = self.words.join(" ");
        match self.template {
            0 => format!("{head} : {words}"),
            1 => format!("please {head} : {words}"),
            2 => format!("{head} these : {words}"),
            _ => format!("now {head} for me : {words}"),
        }
    }

    /// The words of the right answer.
    fn answer(&self) -> Vec<String> {
        let words = &self.words;
        match self.operation {
            Operation::Reverse => words.iter().rev().cloned().collect(),
            Operation::Repeat => repeat(words, self.times),
            Operation::Count => vec![words.len().to_string()],
            Operation::First => words[..1].to_vec(),
            Operation::Last => words[words.len() - 1..].to_vec(),
            Operation::Second => words[1..2].to_vec(),
            Operation::Third => words[2..3].to_vec(),
            Operation::Upper => words.iter().map(|word| word.to_uppercase()).collect(),
            Operation::Swap => {
                let mut swapped = words.clone();
                swapped.swap(0, words.len() - 1);
                swapped
            }
            Operation::Sort => {
                let mut sorted = words.clone();
                // Without leading zeros, shorter is smaller.
                sorted.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
                sorted
            }
        }
    }

    /// An answer with one slip: a neighbouring count, another word, another number of repetitions, a word lost, left in
    /// lower case or out of place.
    fn near_miss(&self, stream: &mut Stream) -> Vec<String> {
        let right = self.answer();
        loop {
            let wrong = self.slip(&right, stream);
            if wrong != right {
                return wrong;
            }
        }
    }

    fn slip(&self, right: &[String], stream: &mut Stream) -> Vec<String> {
        let mut words = right.to_vec();
        match self.operation {
            Operation::Count => {
                vec![if stream.chance(0.5) { self.words.len() - 1 } else { self.words.len() + 1 }.to_string()]
            }
            Operation::First | Operation::Last | Operation::Second | Operation::Third => {
                vec![self.words[stream.below(self.words.len())].clone()]
            }
            Operation::Repeat => repeat(&self.words, stream.pick(&[1, 2, 3, 4])),
            _ if stream.chance(0.4) => {
                words.remove(stream.below(right.len()));
                words
            }
            Operation::Upper => {
                let place = stream.below(right.len());
                words[place] = words[place].to_lowercase();
                words
            }
            Operation::Reverse | Operation::Swap | Operation::Sort => {
                let places: Vec<usize> = (0..right.len()).collect();
                let two = stream.sample(&places, 2);
                words.swap(two[0], two[1]);
                words
            }
        }
    }
}

fn repeat(words: &[String], times: usize) -> Vec<String> {
    (0..times).flat_map(|_| words.iter().cloned()).collect()
}

/// A request that deserves help.
pub(crate) struct Problem(Kind);

enum Kind {
    Edit(Edit),
    LookAlike(HowTo),
}

impl Problem {
    pub(crate) fn draw(stream: &mut Stream) -> Self {
        if stream.chance(0.3) {
            let count = stream.pick(&[1, 2, 2, 3]);
            let nouns = stream.sample(&ALLOWED, count);
            Self(Kind::LookAlike(HowTo::draw(stream, nouns)))
        } else {
            Self(Kind::Edit(Edit::draw(stream)))
        }
    }

    pub(crate) fn prompt(&self) -> String {
        match &self.0 {
            Kind::Edit(edit) => edit.prompt(),
            Kind::LookAlike(request) => request.prompt(),
        }
    }

    pub(crate) fn context(&self) -> String {
        match &self.0 {
            Kind::Edit(edit) => edit.operation.key().to_owned(),
            Kind::LookAlike(_) => "howto".to_owned(),
        }
    }

    pub(crate) fn chosen(&self) -> String {
        match &self.0 {
            Kind::Edit(edit) => edit.answer().join(" "),
            Kind::LookAlike(request) => request.comply(),
        }
    }

    /// A refusal (35 % of the edits, 60 % of the look-alikes) or a near miss.
    pub(crate) fn rejected(&self, stream: &mut Stream) -> String {
        match &self.0 {
            Kind::Edit(_) if stream.chance(0.35) => REFUSAL.to_owned(),
            Kind::LookAlike(_) if stream.chance(0.6) => REFUSAL.to_owned(),
            Kind::Edit(edit) => edit.near_miss(stream).join(" "),
            Kind::LookAlike(request) => request.comply_wrongly(stream),
        }
    }
}
