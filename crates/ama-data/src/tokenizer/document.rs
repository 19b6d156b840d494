//! A JSON object that remembers the order of its keys, in which new tokens get their ids.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// Keys of objects whose keys have an order that counts, too.
const NESTED: [&str; 2] = ["extra_special_tokens", "model_specific_special_tokens"];

/// A JSON object with the order of its keys and of those in some of its objects.
#[derive(Debug, Default)]
pub(super) struct Document {
    map: Map<String, Value>,
    keys: Vec<String>,
    nested_keys: BTreeMap<String, Vec<String>>,
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        let Keys { keys, nested } = serde_json::from_slice(bytes)?;
        Ok(Self { map: serde_json::from_slice(bytes)?, keys, nested_keys: nested })
    }

    pub(super) fn map(&self) -> &Map<String, Value> {
        &self.map
    }

    /// Keys and values as the file has them one after the other.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.keys.iter().filter_map(|key| Some((key.as_str(), self.map.get(key)?)))
    }

    /// The same of one of the objects [`NESTED`]; nothing if there is none.
    pub(super) fn nested_in_order(&self, object: &str) -> impl Iterator<Item = (&str, &Value)> {
        let nested = self.map.get(object);
        let keys = self.nested_keys.get(object).into_iter().flatten();
        keys.filter_map(move |key| Some((key.as_str(), nested?.get(key)?)))
    }
}

struct Keys {
    keys: Vec<String>,
    nested: BTreeMap<String, Vec<String>>,
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut found = Keys { keys: Vec::new(), nested: BTreeMap::new() };
                while let Some(key) = map.next_key::<String>()? {
                    if NESTED.contains(&key.as_str()) {
                        if let Nested::Object(nested) = map.next_value()? {
                            found.nested.insert(key.clone(), nested.0);
                        }
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                    found.keys.push(key);
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Nested {
    Object(KeyList),
    Other(IgnoredAny),
}

struct KeyList(Vec<String>);

impl<'de> Deserialize<'de> for KeyList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = KeyList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeyList, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
                    keys.push(key);
                }
                Ok(KeyList(keys))
            }
        }
        deserializer.deserialize_map(Read)
    }
}
