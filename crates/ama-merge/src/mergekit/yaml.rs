//! mergekit's configuration file, as it is written.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) models: Option<Vec<Model>>,
    pub(super) slices: Option<Vec<Slice>>,
    pub(super) modules: Option<de::IgnoredAny>,
    pub(super) merge_method: String,
    pub(super) base_model: Option<Reference>,
    pub(super) dtype: Option<String>,
    pub(super) out_dtype: Option<String>,
    pub(super) tokenizer_source: Option<Reference>,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) chat_template: Option<String>,
    pub(super) parameters: Option<Parameters>,
}

/// Values by name.
pub(super) type Parameters = BTreeMap<String, Value>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) model: Reference,
    pub(super) parameters: Option<Parameters>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slice {
    pub(super) sources: Vec<Source>,
    pub(super) base_model: Option<Reference>,
    pub(super) residual_weight: Option<f64>,
    pub(super) parameters: Option<Parameters>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) model: Reference,
    pub(super) layer_range: (usize, usize),
    pub(super) parameters: Option<Parameters>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tokenizer {
    pub(super) source: Option<Reference>,
    pub(super) tokens: Option<de::IgnoredAny>,
    pub(super) pad_to_multiple_of: Option<u64>,
}

/// A model: its folder, or a mapping with more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference(pub(super) String);

/// A parameter's value: one, a list along the layers, or a list of conditions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value(pub(super) Vec<Condition>);

/// Values for the tensors that a filter fits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) filter: Option<String>,
    pub(super) values: Vec<Scalar>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Bool(bool),
    Number(f64),
    Text(String),
}

impl Scalar {
    /// As pydantic reads numbers: a text such as `1e-3` is one, too.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Number(value) => Some(*value),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }

    /// As pydantic reads switches.
    pub(super) fn switch(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Number(value) if *value == 0.0 => Some(false),
            Self::Number(value) if *value == 1.0 => Some(true),
            Self::Number(_) => None,
            Self::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" | "t" | "1" => Some(true),
                "false" | "no" | "off" | "n" | "f" | "0" => Some(false),
                _ => None,
            },
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// Visitor methods for the scalars.
macro_rules! scalars {
    ($($method:ident($type:ty) => $scalar:expr;)*) => {
        $(fn $method<E: de::Error>(self, value: $type) -> Result<Self::Value, E> {
            Ok(Self::Value::from($scalar(value)))
        })*
    };
}
macro_rules! visit_scalars {
    () => {
        scalars! {
            visit_bool(bool) => Scalar::Bool;
            visit_i64(i64) => |value| Scalar::Number(value as f64);
            visit_u64(u64) => |value| Scalar::Number(value as f64);
            visit_f64(f64) => Scalar::Number;
            visit_str(&str) => |value: &str| Scalar::Text(value.to_owned());
        }
    };
}

/// An element of a list: a scalar or a condition.
enum Element {
    Scalar(Scalar),
    Condition(Condition),
}

impl From<Scalar> for Element {
    fn from(scalar: Scalar) -> Self {
        Self::Scalar(scalar)
    }
}

impl From<Scalar> for Value {
    fn from(scalar: Scalar) -> Self {
        Self(vec![Condition { filter: None, values: vec![scalar] }])
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a switch, or a mapping with `value` and `filter`")
            }

            visit_scalars!();

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element, A::Error> {
                condition(map).map(Element::Condition)
            }
        }
        deserializer.deserialize_any(Elements)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a switch, a list of them, or mappings with `value` and `filter`")
            }

            visit_scalars!();

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let (mut scalars, mut conditions) = (Vec::new(), Vec::new());
                while let Some(element) = list.next_element::<Element>()? {
                    match element {
                        Element::Scalar(scalar) => scalars.push(scalar),
                        Element::Condition(condition) => conditions.push(condition),
                    }
                }
                match (scalars.is_empty(), conditions.is_empty()) {
                    (false, false) => {
                        Err(de::Error::custom("a list of values or of conditions, not of both"))
                    }
                    (false, true) => Ok(Value(vec![Condition { filter: None, values: scalars }])),
                    _ => Ok(Value(conditions)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
                Ok(Value(vec![condition(map)?]))
            }
        }
        deserializer.deserialize_any(Values)
    }
}

/// `{filter: ..., value: ...}`.
fn condition<'de, A: MapAccess<'de>>(mut map: A) -> Result<Condition, A::Error> {
    let (mut filter, mut values) = (None, None);
    while let Some(key) = map.next_key::<String>()? {
        match key.as_str() {
            "filter" => filter = map.next_value::<Option<String>>()?,
            "value" => match map.next_value::<Value>()?.0.as_slice() {
                [one] if one.filter.is_none() => values = Some(one.values.clone()),
                _ => return Err(de::Error::custom("`value`: want a value or a list of values")),
            },
            other => return Err(de::Error::unknown_field(other, &["value", "filter"])),
        }
    }
    let values = values.ok_or_else(|| de::Error::missing_field("value"))?;
    Ok(Condition { filter, values })
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct References;
        impl<'de> Visitor<'de> for References {
            type Value = Reference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a model folder")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Reference, E> {
                Ok(Reference(value.to_owned()))
            }

            /// `{path: ...}`, or `{model: ...}` of either form.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reference, A::Error> {
                let mut found = None;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "path" => found = Some(Reference(map.next_value()?)),
                        "model" => found = Some(map.next_value()?),
                        other => return Err(de::Error::unknown_field(other, &["model", "path"])),
                    }
                }
                found.ok_or_else(|| de::Error::missing_field("path"))
            }
        }
        deserializer.deserialize_any(References)
    }
}
