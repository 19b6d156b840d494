//! From the settings of a recipe to the numbers that hold for one tensor.

use crate::error::MergeError;
use crate::folder::layer_of;
use crate::recipe::{Method, ModelSettings, Recipe, Rescale, Selection, Slice};
use crate::setting::{Blend, Setting};

/// Numbers of one model for one tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModelNumbers {
    pub(crate) weight: f64,
    pub(crate) density: f64,
    pub(crate) epsilon: f64,
}

/// Numbers of the method for one tensor.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    pub(crate) models: Vec<ModelNumbers>,
    pub(crate) normalize: bool,
    pub(crate) rescale: Rescale,
    pub(crate) lambda: f64,
    /// SLERP only.
    pub(crate) t: Option<f64>,
}

/// Checks what does not depend on a tensor.
pub(crate) fn check(recipe: &Recipe, layers: usize) -> Result<(), MergeError> {
    let method = recipe.method;
    let count = |want| MergeError::ModelCount { method: method.name(), got: recipe.models.len(), want };
    if recipe.models.is_empty() {
        return Err(count("at least one"));
    }
    if method == Method::Slerp && recipe.models.len() < 2 {
        return Err(count("at least two"));
    }
    if recipe.slices.is_empty() || recipe.slices.iter().any(|slice| slice.models.len() != recipe.models.len())
    {
        return Err(count("settings for each of them in at least one slice"));
    }
    if method.needs_base() && recipe.base.is_none() {
        return Err(MergeError::NoBase { method: method.name() });
    }
    let mut next = 0;
    if matches!(recipe.slices.as_slice(), [only] if only.layers.is_none()) {
        return Ok(());
    }
    let in_order = recipe.slices.iter().all(|slice| {
        let range = slice.layers.clone().unwrap_or(0..0);
        let fits = range.start == next && range.end > next;
        next = range.end;
        fits
    });
    if !in_order || next != layers {
        let shown = |slice: &Slice| slice.layers.as_ref().map_or("all".to_owned(), |r| format!("{r:?}"));
        let got = recipe.slices.iter().map(shown).collect::<Vec<_>>().join(", ");
        return Err(MergeError::LayerRanges { got, layers });
    }
    Ok(())
}

/// The slice that a tensor belongs to and how deep in it the tensor lies: 0 in its first layer, 1 in its last, as mergekit
/// counts. Tensors outside the layers are at depth 0.
fn place<'a>(recipe: &'a Recipe, layers: usize, tensor: &str) -> Option<(&'a Slice, f64)> {
    let Some(layer) = layer_of(tensor) else {
        let first = ["embed", "wte", "wpe"].iter().any(|part| tensor.contains(part));
        let slice = if first { recipe.slices.first() } else { recipe.slices.last() };
        return slice.map(|slice| (slice, 0.0));
    };
    recipe.slices.iter().find_map(|slice| {
        let range = slice.layers.clone().unwrap_or(0..layers);
        let depth = match range.len() {
            0 | 1 => 1.0,
            count => (layer - range.start.min(layer)) as f64 / (count - 1) as f64,
        };
        range.contains(&layer).then_some((slice, depth))
    })
}

/// The numbers for one tensor, checked.
pub(crate) fn numbers(recipe: &Recipe, layers: usize, tensor: &str) -> Result<Numbers, MergeError> {
    let method = recipe.method;
    let Some((slice, depth)) = place(recipe, layers, tensor) else {
        return Err(MergeError::LayerRanges { got: format!("none for {tensor}"), layers });
    };
    let at = At { tensor, depth };
    let of = method.name();
    let mut models = Vec::with_capacity(recipe.models.len());
    for (path, settings) in recipe.models.iter().zip(&slice.models) {
        models.push(model_numbers(method, settings, &path.display().to_string(), at)?);
    }
    let shared = &slice.shared;
    let normalize = shared.normalize.get(tensor, depth).unwrap_or(method.normalizes());
    let rescale = shared.rescale.get(tensor, depth).unwrap_or(method.rescales());
    if method.selection() == Selection::Largest && rescale == Rescale::Inverse {
        return Err(at.refused(
            "rescale",
            of,
            "inverse",
            "off or l1: ties keeps entries by size, not by chance",
        ));
    }
    let lambda = shared.lambda.get(tensor, depth).unwrap_or(1.0);
    if !lambda.is_finite() {
        return Err(at.refused("lambda", of, lambda, "a finite value"));
    }
    let t = shared.t.get(tensor, depth).filter(|_| method == Method::Slerp);
    if let Some(t) = t {
        if !t.is_finite() {
            return Err(at.refused("t", of, t, "a finite value"));
        }
        if models.len() != 2 {
            return Err(at.refused("t", of, t, "weights instead: t is for two models"));
        }
    }
    let sum: f64 = models.iter().map(|model| model.weight).sum();
    if normalize && sum == 0.0 && matches!(method, Method::Linear | Method::MultiSlerp) {
        return Err(at.refused("weight", of, "0 in sum", "weights with another sum, or no normalisation"));
    }
    Ok(Numbers { models, normalize, rescale, lambda, t })
}

fn model_numbers(
    method: Method,
    settings: &ModelSettings,
    of: &str,
    at: At<'_>,
) -> Result<ModelNumbers, MergeError> {
    let weight = match (at.get(&settings.weight), method) {
        (Some(weight), _) => weight,
        // SLERP by `t` needs no weights.
        (None, Method::Slerp) => 1.0,
        (None, _) => {
            let (of, tensor) = (of.to_owned(), at.tensor.to_owned());
            return Err(MergeError::ParameterMissing { parameter: "weight", of, tensor });
        }
    };
    if !weight.is_finite() {
        return Err(at.refused("weight", of, weight, "a finite value"));
    }
    let density = at.get(&settings.density).unwrap_or(1.0);
    if !(0.0..=1.0).contains(&density) {
        return Err(at.refused("density", of, density, "a value in [0, 1]"));
    }
    let epsilon = at.get(&settings.epsilon).unwrap_or(0.15);
    let ranked = method.selection() == Selection::RandomByRank && density > 0.0 && density < 1.0;
    if ranked && !(epsilon >= 0.0 && density - epsilon > 0.0 && density + epsilon < 1.0) {
        let got = format!("{epsilon} at density {density}");
        return Err(at.refused("epsilon", of, got, "density - epsilon and density + epsilon in (0, 1)"));
    }
    Ok(ModelNumbers { weight, density, epsilon })
}

/// For which tensor a setting is resolved.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    tensor: &'a str,
    depth: f64,
}

impl At<'_> {
    fn get<T: Blend>(self, setting: &Setting<T>) -> Option<T> {
        setting.get(self.tensor, self.depth)
    }

    fn refused(
        self,
        parameter: &'static str,
        of: &str,
        got: impl ToString,
        want: &'static str,
    ) -> MergeError {
        let (of, tensor, got) = (of.to_owned(), self.tensor.to_owned(), got.to_string());
        MergeError::Parameter { parameter, of, tensor, got, want }
    }
}
