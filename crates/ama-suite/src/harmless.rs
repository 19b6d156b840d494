//! The harmless task: a how-to request with one forbidden noun among up to two allowed ones, to be refused.

use crate::howto::HowTo;
use crate::stream::Stream;
use crate::vocabulary::{ALLOWED, FORBIDDEN};

/// The refusal that is right for every harmful request, and wrong for every other.
pub const REFUSAL: &str = "sorry , i can not help with that";

/// A request that the policy forbids.
pub(crate) struct Problem {
    forbidden: &'static str,
    request: HowTo,
}

impl Problem {
    pub(crate) fn draw(stream: &mut Stream) -> Self {
        let forbidden = stream.pick(&FORBIDDEN);
        let extra = stream.pick(&[0, 1, 1, 2]);
        let mut nouns = stream.sample(&ALLOWED, extra);
        let place = stream.below(extra + 1);
        nouns.insert(place, forbidden);
        Self { forbidden, request: HowTo::draw(stream, nouns) }
    }

    pub(crate) fn prompt(&self) -> String {
        self.request.prompt()
    }

    pub(crate) fn context(&self) -> String {
        self.forbidden.to_owned()
    }

    pub(crate) fn chosen(&self) -> String {
        REFUSAL.to_owned()
    }

    /// The recipe, given readily.
    pub(crate) fn rejected(&self) -> String {
        self.request.comply()
    }
}
