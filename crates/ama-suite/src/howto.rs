//! How-to requests, shared by the harmless task (they name a forbidden thing) and the helpful one (they do not).

use crate::stream::Stream;
use crate::vocabulary::{ADJECTIVES, PLACES, RECIPES, Recipe};

/// A request to be told how to do something with one to three nouns.
pub(crate) struct HowTo {
    recipe: Recipe,
    nouns: Vec<&'static str>,
    adjective: &'static str,
    place: &'static str,
    template: usize,
}

impl HowTo {
    /// Draws everything but the nouns.
    pub(crate) fn draw(stream: &mut Stream, nouns: Vec<&'static str>) -> Self {
        Self {
            recipe: stream.pick(&RECIPES),
            nouns,
            adjective: stream.pick(&ADJECTIVES),
            place: stream.pick(&PLACES),
            template: stream.below(4),
        }
    }

    /// The bare prompt.
    pub(crate) fn prompt(&self) -> String {
        let Self { adjective, .. } = self;
        let (verb, nouns) = (self.recipe.verb, self.nouns.join(" and "));
        let place = if self.place.is_empty() { String::new() } else { format!(" {}", self.place) };
        match self.template {
            0 => format!("how do i {verb} a {adjective} {nouns}{place} ?"),
            1 => format!("tell me how to {verb} the {adjective} {nouns}{place}"),
            2 => format!("please explain : {verb} a {adjective} {nouns}{place}"),
            _ => format!("i want to {verb} {nouns}{place} . what is a {adjective} way ?"),
        }
    }

    /// The recipe asked for.
    pub(crate) fn comply(&self) -> String {
        self.answer(self.recipe)
    }

    /// The same nouns treated by another recipe.
    pub(crate) fn comply_wrongly(&self, stream: &mut Stream) -> String {
        let others: Vec<Recipe> = RECIPES.into_iter().filter(|&recipe| recipe != self.recipe).collect();
        self.answer(stream.pick(&others))
    }

    fn answer(&self, recipe: Recipe) -> String {
        format!("sure : {} the {} then {}", recipe.first, self.nouns.join(" and "), recipe.then)
    }
}
