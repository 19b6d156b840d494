//! The reasoning task: a sum told in two or three steps, answered step by step:
//! `tom has 12 cup . then finds 1 . then buys 2 . how many ?` is `12 + 1 = 13 ; 13 + 2 = 15 ; so 15`.
//!
//! Slips carry on: the steps after a wrong one start from the wrong number, so a wrong answer is as well-formed as a
//! right one.

use crate::base_errors::p_right_known;
use crate::stream::Stream;
use crate::vocabulary::{ADDING, ALLOWED, MAX_NUMBER, NAMES, TAKING};

/// Adding or taking away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
}

impl Sign {
    fn flipped(self) -> Self {
        match self {
            Sign::Plus => Sign::Minus,
            Sign::Minus => Sign::Plus,
        }
    }

    fn symbol(self) -> char {
        match self {
            Sign::Plus => '+',
            Sign::Minus => '-',
        }
    }

    fn apply(self, a: i64, b: i64) -> i64 {
        match self {
            Sign::Plus => a + b,
            Sign::Minus => a - b,
        }
    }
}

struct Step {
    sign: Sign,
    amount: u32,
    verb: &'static str,
}

/// How a step goes wrong.
#[derive(Clone, Copy)]
enum Slip {
    /// The step is left out.
    Skip,
    /// Taken for its opposite.
    Flip,
    /// The right step with a result that is off by 1, 2 or 10.
    Off,
}

/// A sum in words.
pub(crate) struct Problem {
    name: &'static str,
    noun: &'static str,
    start: u32,
    steps: Vec<Step>,
}

impl Problem {
    /// Numbers on the way are never negative, and at most 20 + 3 * 12.
    pub(crate) fn draw(stream: &mut Stream) -> Self {
        let start = stream.between(2, 20);
        let count = stream.between(2, 3);
        let mut current = start;
        let mut steps = Vec::new();
        for _ in 0..count {
            let sign = if current > 2 && stream.chance(0.5) { Sign::Minus } else { Sign::Plus };
            let (amount, verb) = match sign {
                Sign::Plus => (stream.between(1, 12), stream.pick(&ADDING)),
                Sign::Minus => (stream.between(1, current.min(12)), stream.pick(&TAKING)),
            };
            current = match sign {
                Sign::Plus => current + amount,
                Sign::Minus => current - amount,
            };
            steps.push(Step { sign, amount, verb });
        }
        Self { name: stream.pick(&NAMES), noun: stream.pick(&ALLOWED), start, steps }
    }

    pub(crate) fn prompt(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(|s| format!("then {} {}", s.verb, s.amount)).collect();
        format!("{} has {} {} . {} . how many ?", self.name, self.start, self.noun, steps.join(" . "))
    }

    pub(crate) fn context(&self) -> String {
        self.steps.iter().map(|step| step.verb).collect::<Vec<_>>().join(" ")
    }

    /// The right working.
    pub(crate) fn chosen(&self) -> String {
        self.work(|_| None).0
    }

    /// The right number.
    pub(crate) fn gold(&self) -> String {
        self.work(|_| None).1.to_string()
    }

    /// A working in which every step slips with the probability of its verb; it may come out right.
    pub(crate) fn noisy(&self, stream: &mut Stream) -> String {
        self.noisy_work(stream).0
    }

    /// A noisy working that ends in a wrong number. A slip in the last step alone always does, so at least a tenth of the
    /// workings do and the loop ends soon.
    pub(crate) fn rejected(&self, stream: &mut Stream) -> String {
        let gold = self.work(|_| None).1;
        loop {
            let (text, result) = self.noisy_work(stream);
            if result != gold {
                return text;
            }
        }
    }

    fn noisy_work(&self, stream: &mut Stream) -> (String, i64) {
        self.work(|verb| {
            if stream.chance(p_right_known(verb)) {
                return None;
            }
            let slip = match verb {
                "finds" => Slip::Skip,
                "drops" => Slip::Flip,
                _ => stream.pick(&[Slip::Off, Slip::Off, Slip::Flip, Slip::Skip]),
            };
            // Drawn for every slip, used by one kind.
            Some((slip, stream.pick(&[-10, -2, -1, 1, 2, 10])))
        })
    }

    /// The working and its result; `slip` says of a verb whether its step goes wrong, how, and by how much when it is off.
    /// Results stay within `0..=MAX_NUMBER`.
    fn work(&self, mut slip: impl FnMut(&str) -> Option<(Slip, i64)>) -> (String, i64) {
        let mut current = i64::from(self.start);
        let mut text = String::new();
        for step in &self.steps {
            let slip = slip(step.verb);
            let sign = match slip {
                Some((Slip::Skip, _)) => continue,
                Some((Slip::Flip, _)) => step.sign.flipped(),
                _ => step.sign,
            };
            let error = if let Some((Slip::Off, error)) = slip { error } else { 0 };
            let result =
                (sign.apply(current, i64::from(step.amount)) + error).clamp(0, i64::from(MAX_NUMBER));
            text.push_str(&format!("{current} {} {} = {result} ; ", sign.symbol(), step.amount));
            current = result;
        }
        (format!("{text}so {current}"), current)
    }
}
