//! `results.json`, as `kit.py` leaves it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// What a run of the kit has found.
#[derive(Debug)]
pub(super) struct Results(Value);

/// How a part ended.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    /// `passed`, `failed` or `skipped`.
    pub(super) status: &'a str,
    /// Why, of a part that did not pass.
    pub(super) reason: &'a str,
    pub(super) seconds: f64,
    /// What it has found, whether or not it passed.
    pub(super) found: &'a Value,
}

impl Results {
    /// # Errors
    /// The file cannot be read or is none of the kit's.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        if value["kit"] != 1 || !value["parts"].is_array() {
            bail!("{} is not the results.json of kit.py, version 1", path.display());
        }
        Ok(Self(value))
    }

    #[cfg(test)]
    pub(super) fn of(value: Value) -> Self {
        Self(value)
    }

    /// A field at the top.
    pub(super) fn field(&self, name: &str) -> &Value {
        &self.0[name]
    }

    /// Whether it ran on the stand-in driver.
    pub(super) fn is_rehearsal(&self) -> bool {
        self.0["rehearsal"] != false
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.0["parts"].as_array().into_iter().flatten().map(|part| Part {
            name: part["part"].as_str().unwrap_or("?"),
            status: part["status"].as_str().unwrap_or("failed"),
            reason: part["reason"].as_str().unwrap_or_default(),
            seconds: part["seconds"].as_f64().unwrap_or(0.0),
            found: &part["found"],
        })
    }

    /// What a part has found; null if it did not run.
    pub(super) fn found(&self, part: &str) -> &Value {
        self.parts().find(|p| p.name == part).map_or(&Value::Null, |p| p.found)
    }
}
