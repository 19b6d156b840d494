//! `config.resolved.toml`: what was asked for.

use std::path::Path;

use toml::{Table, Value};

use super::files;

/// How long a stage is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Optimiser steps.
    Steps(u64),
    /// Tokens as TRL counts them.
    Tokens(u64),
}

/// The resolved configuration.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Plan {
    /// The file as it is.
    pub text: String,
    /// The file, parsed; empty if that failed.
    pub settings: Table,
    /// Names of the tasks.
    pub tasks: Vec<String>,
    /// Names of the methods.
    pub methods: Vec<String>,
    /// Seeds of every method.
    pub seeds: Vec<u64>,
}

impl Plan {
    pub(crate) fn read(folder: &Path, notes: &mut Vec<String>) -> Self {
        let Some(text) = files::text(&folder.join("config.resolved.toml"), notes) else {
            return Self::default();
        };
        let settings: Table = match text.parse() {
            Ok(settings) => settings,
            Err(error) => {
                notes.push(format!(
                    "config.resolved.toml: damaged ({})",
                    error.to_string().replace('\n', " ")
                ));
                Table::new()
            }
        };
        let names = |key: &str| -> Vec<String> {
            let list = settings.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(|one| Some(one.get("name")?.as_str()?.to_string())).collect()
        };
        let (tasks, methods) = (names("task"), names("method"));
        let seeds = settings
            .get("generalist")
            .and_then(|generalist| generalist.get("seeds")?.as_array())
            .map(|seeds| seeds.iter().filter_map(|seed| u64::try_from(seed.as_integer()?).ok()).collect())
            .unwrap_or_default();
        Self { text, settings, tasks, methods, seeds }
    }

    /// Length of the base model's training on so many rows; `None` if it is not made here.
    #[must_use]
    pub fn base_budget(&self, rows: Option<u64>) -> Option<Budget> {
        budget(self.settings.get("base")?, "batch", self.settings.get("base")?, rows)
    }

    /// Length of a specialist's training on so many pairs.
    #[must_use]
    pub fn specialist_budget(&self, task: &str, pairs: Option<u64>) -> Option<Budget> {
        let shared = self.settings.get("specialist")?;
        let tasks =
            self.settings.get("task").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let own = tasks
            .iter()
            .find(|one| one.get("name").and_then(Value::as_str) == Some(task))
            .and_then(|one| one.get("specialist"));
        // A length of the task's own displaces the shared one.
        let has_length =
            |own: &&Value| ["steps", "tokens", "epochs"].iter().any(|key| own.get(key).is_some());
        let length = own.filter(has_length).unwrap_or(shared);
        let batch = own.filter(|own| own.get("batch_pairs").is_some()).unwrap_or(shared);
        budget(length, "batch_pairs", batch, pairs)
    }

    /// Length of a generalist's training on so many pairs of all tasks.
    #[must_use]
    pub fn generalist_budget(&self, pairs: Option<u64>) -> Option<Budget> {
        let generalist = self.settings.get("generalist")?;
        budget(generalist, "batch_pairs", generalist, pairs)
    }

    /// Settings as `key.key` and value, sorted; lists of tables go by their names.
    #[must_use]
    pub fn flat(&self) -> Vec<(String, String)> {
        let mut flat = Vec::new();
        for (key, value) in &self.settings {
            flatten(key, value, &mut flat);
        }
        flat
    }
}

fn budget(length: &Value, batch_key: &str, batch: &Value, examples: Option<u64>) -> Option<Budget> {
    let whole = |key: &str| u64::try_from(length.get(key)?.as_integer()?).ok();
    if let Some(steps) = whole("steps") {
        return Some(Budget::Steps(steps));
    }
    if let Some(tokens) = whole("tokens") {
        return Some(Budget::Tokens(tokens));
    }
    let epochs = length.get("epochs")?;
    let epochs = epochs.as_float().or_else(|| Some(epochs.as_integer()? as f64))?;
    let batch = batch.get(batch_key)?.as_integer()?;
    Some(Budget::Steps(((epochs * examples? as f64 / batch.max(1) as f64).ceil() as u64).max(1)))
}

fn flatten(prefix: &str, value: &Value, flat: &mut Vec<(String, String)>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(&format!("{prefix}.{key}"), value, flat);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_table) => {
            for (index, one) in list.iter().enumerate() {
                let name = one.get("name").and_then(Value::as_str);
                let name = name.map_or_else(|| index.to_string(), str::to_string);
                flatten(&format!("{prefix}.{name}"), one, flat);
            }
        }
        other => flat.push((prefix.to_string(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[specialist]\nepochs = 1.5\nbatch_pairs = 32\n[generalist]\ntokens = 960\nseeds = [0, 3]\n\
            [[task]]\nname = 'a'\nspecialist = { tokens = 77 }\n[[task]]\nname = 'b'\nspecialist = { batch_pairs = 10 }\n\
            [base]\nepochs = 1\nbatch = 40\n[[method]]\nname = 'ama-s'\n";
        std::fs::write(folder.path().join("config.resolved.toml"), text).unwrap();
        let plan = Plan::read(folder.path(), &mut Vec::new());
        assert_eq!(plan.specialist_budget("a", Some(100)), Some(Budget::Tokens(77)));
        assert_eq!(plan.specialist_budget("b", Some(100)), Some(Budget::Steps(15)));
        assert_eq!(plan.specialist_budget("c", Some(100)), Some(Budget::Steps(5)));
        assert_eq!(plan.generalist_budget(None), Some(Budget::Tokens(960)));
        assert_eq!(plan.base_budget(Some(80_000)), Some(Budget::Steps(2000)));
        assert_eq!(plan.base_budget(None), None);
        assert_eq!(
            (plan.tasks.len(), &plan.methods[..], &plan.seeds[..]),
            (2, &["ama-s".to_string()][..], &[0, 3][..])
        );
        assert!(plan.flat().contains(&("task.a.specialist.tokens".into(), "77".into())));
    }
}
