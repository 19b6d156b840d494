//! The record that lies beside the merged weights: what was merged, and how.

use serde_json::{Map, Value, json};

use crate::recipe::{Recipe, Rescale, Slice};
use crate::setting::Setting;

/// Name of the file.
pub(crate) const FILE: &str = "ama_merge.json";

/// The recipe as JSON. Parameters that are not set are left out.
pub(crate) fn of(recipe: &Recipe) -> Value {
    json!({
        "format": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "method": recipe.method.name(),
        "base": recipe.base,
        "models": recipe.models,
        "slices": recipe.slices.iter().map(slice).collect::<Vec<_>>(),
        "dtype": recipe.dtype.map(|dtype| dtype.name()),
        "seed": recipe.seed,
    })
}

fn slice(slice: &Slice) -> Value {
    let mut record = Map::new();
    if let Some(layers) = &slice.layers {
        record.insert("layer_range".to_owned(), json!([layers.start, layers.end]));
    }
    let models = slice.models.iter().map(|model| {
        let mut settings = Map::new();
        put(&mut settings, "weight", &model.weight, |v| json!(v));
        put(&mut settings, "density", &model.density, |v| json!(v));
        put(&mut settings, "epsilon", &model.epsilon, |v| json!(v));
        Value::Object(settings)
    });
    record.insert("models".to_owned(), models.collect());
    let shared = &slice.shared;
    put(&mut record, "normalize", &shared.normalize, |v| json!(v));
    put(&mut record, "rescale", &shared.rescale, |v| json!(rescale(v)));
    put(&mut record, "lambda", &shared.lambda, |v| json!(v));
    put(&mut record, "t", &shared.t, |v| json!(v));
    Value::Object(record)
}

fn rescale(rescale: Rescale) -> &'static str {
    match rescale {
        Rescale::Off => "off",
        Rescale::Inverse => "inverse",
        Rescale::L1 => "l1",
    }
}

/// As mergekit writes it: a value, a list of values, or a list of filters and values.
fn put<T: Copy + crate::setting::Blend>(
    record: &mut Map<String, Value>,
    key: &str,
    setting: &Setting<T>,
    value: impl Fn(T) -> Value,
) {
    let values = |values: &[T]| match values {
        [one] => value(*one),
        many => many.iter().map(|v| value(*v)).collect(),
    };
    let written = match setting.rules() {
        [] => return,
        [rule] if rule.filter.is_none() => values(&rule.values),
        rules => {
            rules.iter().map(|rule| json!({"filter": rule.filter, "value": values(&rule.values)})).collect()
        }
    };
    record.insert(key.to_owned(), written);
}
