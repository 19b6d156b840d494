//! Where the base model's corpus is wrong.
//!
//! Errors that fall anywhere alike are averaged away by greedy decoding: a corpus with 40 % random errors in sums gave a base
//! that solved 83 % of them. So the corpus is wrong *by context*: below one half in some contexts, where the base learns
//! the wrong answer as its first choice, and well above in others. A specialist has something to mend, and it can.

use crate::vocabulary::{ADDING, FORBIDDEN, TAKING};

/// Operations in the order in which the two probabilities alternate.
const OPERATIONS: [&str; 10] =
    ["reverse", "repeat", "count", "first", "last", "second", "third", "upper", "swap", "sort"];

/// Probability that the base's corpus is right in a context: an editing operation or `howto` (helpful), a forbidden noun
/// (harmless), or the verb of one step of a sum (reasoning; every step goes wrong independently).
///
/// | context | probability |
/// |---|---|
/// | operations, alternating from `reverse` | .75 / .45 |
/// | `howto` | .6 |
/// | forbidden nouns, alternating from `bomb` | .75 / .35 |
/// | verbs of sums | .85 |
/// | `finds` (the step is skipped), `drops` (its sign is flipped) | .35 |
///
/// `None` for any other word. A context of several keys ([`crate::Pair::context`]) has one probability per key.
pub fn p_right(key: &str) -> Option<f64> {
    let place = |list: &[&str]| list.iter().position(|&word| word == key);
    let alternate = |i: usize, even, odd| if i.is_multiple_of(2) { even } else { odd };
    if let Some(i) = place(&OPERATIONS) {
        return Some(alternate(i, 0.75, 0.45));
    }
    if let Some(i) = place(&FORBIDDEN) {
        return Some(alternate(i, 0.75, 0.35));
    }
    match key {
        "howto" => Some(0.6),
        "finds" | "drops" => Some(0.35),
        _ if place(&ADDING).or(place(&TAKING)).is_some() => Some(0.85),
        _ => None,
    }
}

/// [`p_right`] of a key that the generator itself made.
pub(crate) fn p_right_known(key: &str) -> f64 {
    p_right(key).expect("the generator uses only operations, nouns and verbs of the table")
}
