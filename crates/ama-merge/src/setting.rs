//! A parameter that may differ from tensor to tensor and from layer to layer.

/// A value that can lie between two given ones, or that is one of several.
pub trait Blend: Copy {
    /// The value at `depth` in `[0, 1]` along `values`, of which there is at least one.
    fn blend(values: &[Self], depth: f64) -> Self;
}

impl Blend for f64 {
    /// Linear interpolation between the two nearest of the equally spaced values.
    fn blend(values: &[Self], depth: f64) -> Self {
        let place = depth.clamp(0.0, 1.0) * (values.len() - 1) as f64;
        let below = place as usize;
        let above = (below + 1).min(values.len() - 1);
        let share = place - below as f64;
        // Also so that one value that is not finite is found as what it is.
        if share == 0.0 {
            return values[below];
        }
        (1.0 - share) * values[below] + share * values[above]
    }
}

impl Blend for bool {
    fn blend(values: &[Self], depth: f64) -> Self {
        step(values, depth)
    }
}

/// The last value that begins at or before `depth`.
pub(crate) fn step<T: Copy>(values: &[T], depth: f64) -> T {
    values[(depth.clamp(0.0, 1.0) * (values.len() - 1) as f64) as usize]
}

/// Values for the tensors whose names contain a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule<T> {
    /// Part of a tensor's name; `None` and `*` fit every tensor.
    pub filter: Option<String>,
    /// One value, or values spread evenly from the first layer to the last.
    pub values: Vec<T>,
}

/// A parameter as mergekit's configurations write it: a list of rules, of which the first that fits a tensor holds.
///
/// ```
/// use ama_merge::{Rule, Setting};
///
/// let rules = [
///     Rule { filter: Some("self_attn".into()), values: vec![0.0, 1.0] },
///     Rule { filter: None, values: vec![0.5] },
/// ];
/// let t = Setting::from_rules(rules);
/// assert_eq!(t.get("model.layers.1.self_attn.q_proj.weight", 0.25), Some(0.25));
/// assert_eq!(t.get("model.norm.weight", 0.0), Some(0.5));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Setting<T> {
    rules: Vec<Rule<T>>,
}

impl<T> Default for Setting<T> {
    /// Not set: every tensor gets the default.
    fn default() -> Self {
        Self { rules: Vec::new() }
    }
}

impl<T: Blend> Setting<T> {
    /// The same value everywhere.
    #[must_use]
    pub fn constant(value: T) -> Self {
        Self::gradient([value])
    }

    /// Values spread evenly from the first layer to the last.
    #[must_use]
    pub fn gradient(values: impl IntoIterator<Item = T>) -> Self {
        Self::from_rules([Rule { filter: None, values: values.into_iter().collect() }])
    }

    /// Rules in order of precedence.
    #[must_use]
    pub fn from_rules(rules: impl IntoIterator<Item = Rule<T>>) -> Self {
        Self { rules: rules.into_iter().collect() }
    }

    /// These rules, then those of `other` where none of these fits.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.rules.extend(other.rules);
        self
    }

    /// Whether no rule is there.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        self.rules.is_empty()
    }

    /// The value for a tensor in a layer at `depth`, 0 for the first and 1 for the last one; `None` if no rule fits. A rule
    /// without values never fits.
    #[must_use]
    pub fn get(&self, tensor: &str, depth: f64) -> Option<T> {
        let fits = |rule: &&Rule<T>| {
            let named = rule.filter.as_deref().is_none_or(|part| part == "*" || tensor.contains(part));
            named && !rule.values.is_empty()
        };
        self.rules.iter().find(fits).map(|rule| T::blend(&rule.values, depth))
    }

    /// The rules, in order.
    pub(crate) fn rules(&self) -> &[Rule<T>] {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_interpolate_numbers_and_step_through_switches() {
        let t = Setting::gradient([0.0, 0.5, 0.3, 0.7, 1.0]);
        for (depth, want) in [(0.0, 0.0), (0.125, 0.25), (0.25, 0.5), (0.375, 0.4), (0.75, 0.7), (1.0, 1.0)] {
            assert!((t.get("x", depth).unwrap() - want).abs() < 1e-12, "{depth}");
        }
        let on = Setting::gradient([true, false]);
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|depth| on.get("x", depth).unwrap()), [true, true, true, false]);
    }

    #[test]
    fn the_first_rule_that_fits_holds() {
        let rule = |filter: Option<&str>, values: Vec<f64>| Rule { filter: filter.map(Into::into), values };
        let inner = Setting::from_rules([rule(Some("mlp"), vec![1.0]), rule(Some("mlp"), vec![2.0])]);
        let outer = Setting::from_rules([rule(Some("*"), vec![]), rule(Some("norm"), vec![3.0])]);
        let both = inner.or(outer);
        assert_eq!(both.get("layers.0.mlp.up", 0.0), Some(1.0));
        assert_eq!(both.get("layers.0.norm", 0.0), Some(3.0));
        assert_eq!(both.get("layers.0.attn", 0.0), None);
    }
}
