//! The configuration of `ama run` and `ama train`: TOML in, validated settings out.
//!
//! `extends` and `--set` work on the plain table ([`sets`]); the table is typed once, unknown keys refused ([`raw`]);
//! ranges and paths are checked once ([`validate`]); the rest of the program sees [`settings`] only.

mod convert;
mod error;
mod keys;
mod methods;
mod raw;
mod reading;
mod sets;
mod settings;
mod validate;

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub(crate) use error::ConfigError;
pub(crate) use keys::text as keys_text;
pub(crate) use settings::{
    BaseSettings, Config, Decay, InitKind, Length, LossKind, LossSettings, MethodSettings, Passes,
    SpecialistNoise, Start, TaskSettings, Training, Warmup,
};

pub(crate) use validate::{NAME, is_name};

use ama_data::{RowReader, SplitKind};
use raw::{RawConfig, RawData, RawEval, RawPool, RawTask};

/// Reads, overrides, types and validates a configuration.
///
/// # Errors
/// [`ConfigError`], naming the file, the key and the remedy.
pub(crate) fn load(path: &Path, sets: &[String]) -> Result<Config, ConfigError> {
    let table = sets::load_table(path, sets)?;
    validate::validate(path, type_table(path, table)?)
}

/// Turns the table into typed sections.
fn type_table(path: &Path, mut table: Table) -> Result<RawConfig, ConfigError> {
    let eval: RawEval = optional(path, &mut table, "eval")?.unwrap_or_default();
    let data: RawData = optional(path, &mut table, "data")?.unwrap_or_default();
    let config = RawConfig {
        seed: optional(path, &mut table, "seed")?.unwrap_or(0),
        model: optional(path, &mut table, "model")?,
        base: optional(path, &mut table, "base")?,
        loss: optional(path, &mut table, "loss")?.unwrap_or_default(),
        specialist: optional(path, &mut table, "specialist")?.unwrap_or_default(),
        generalist: optional(path, &mut table, "generalist")?.unwrap_or_default(),
        task: tasks(path, &mut table, &eval.split, &data)?,
        data,
        eval,
        method: list(path, &mut table, "method")?,
    };
    if let Some((key, _)) = table.into_iter().next() {
        let known: Vec<&str> =
            keys::KEYS.iter().filter(|key| key.section.is_empty()).map(|key| key.name).collect();
        return Err(unknown(path, "", &key, &known));
    }
    Ok(config)
}

/// The tasks of `[[task]]`, then those of `[pool]` in the order in which the training file names them.
fn tasks(path: &Path, table: &mut Table, split: &str, data: &RawData) -> Result<Vec<RawTask>, ConfigError> {
    let mut tasks: Vec<RawTask> = list(path, table, "task")?;
    if let Some(pool) = optional::<RawPool>(path, table, "pool")? {
        if (split == "test" && pool.test.is_none()) || (split == "valid" && pool.valid.is_none()) {
            return Err(ConfigError::MissingKey {
                path: path.to_path_buf(),
                key: format!("pool.{split}"),
                remedy: validate::NEEDS_SPLIT.into(),
            });
        }
        let split = pool.split.as_deref();
        let read = reading::options(path, "pool", &pool.columns, &data.columns, split, SplitKind::Train)?;
        let pooled = |source| ConfigError::Pool { path: path.to_path_buf(), source: Box::new(source) };
        let names = ama_data::task_names(&pool.train, &read).map_err(pooled)?;
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            let mut rows = RowReader::open_with(&pool.train, &read).map_err(pooled)?.only_task(name);
            let column = rows.task_column().unwrap_or("task").to_owned();
            if let Some(row) = rows.next().transpose().map_err(pooled)? {
                const SHOWN: usize = 64;
                let cut: String = name.chars().take(SHOWN).collect();
                let name = format!("{cut:?}{}", if cut.len() < name.len() { "..." } else { "" });
                let (path, data) = (path.to_path_buf(), row.source.to_path_buf());
                return Err(ConfigError::PoolTask { path, data, row: row.row, column, name, want: NAME });
            }
        }
        tasks.extend(names.into_iter().map(|name| RawTask {
            select: Some(name.clone()),
            name,
            train: pool.train.clone(),
            valid: pool.valid.clone(),
            test: pool.test.clone(),
            columns: pool.columns.clone(),
            split: pool.split.clone(),
            eval_split: pool.eval_split.clone(),
            limit: pool.limit,
            eval_limit: pool.eval_limit,
            specialist: None,
        }));
    }
    Ok(tasks)
}

fn optional<T: DeserializeOwned>(
    path: &Path,
    table: &mut Table,
    key: &str,
) -> Result<Option<T>, ConfigError> {
    table.remove(key).map(|value| typed(path, key, value)).transpose()
}

fn list<T: DeserializeOwned>(path: &Path, table: &mut Table, key: &str) -> Result<Vec<T>, ConfigError> {
    match table.remove(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(elements)) => elements
            .into_iter()
            .enumerate()
            .map(|(index, element)| {
                let name = element.get("name").and_then(Value::as_str).map(str::to_string);
                typed(path, &format!("{key}.{}", name.unwrap_or_else(|| index.to_string())), element)
            })
            .collect(),
        Some(_) => Err(ConfigError::BadType {
            path: path.to_path_buf(),
            section: key.to_string(),
            message: format!("want a list of tables, each headed [[{key}]]"),
        }),
    }
}

/// Types one section and says what is wrong with it in terms of dotted keys.
fn typed<T: DeserializeOwned>(path: &Path, section: &str, value: Value) -> Result<T, ConfigError> {
    value.try_into().map_err(|error: toml::de::Error| {
        let message = error.message().to_string();
        let nested = error.to_string();
        // A table inside the section (`task.NAME.specialist`) is named by the error's trailing "in `specialist`".
        let inner = nested.rsplit_once("in `").and_then(|(_, tail)| tail.split('`').next()).unwrap_or("");
        let quoted = quoted(&message);
        match quoted.split_first() {
            Some((key, known)) if message.starts_with("unknown field") => {
                let parent = inner.strip_suffix(*key).unwrap_or(inner).trim_end_matches('.');
                unknown(path, &dotted(section, parent), key, known)
            }
            Some((key, _)) if message.starts_with("missing field") => ConfigError::MissingKey {
                path: path.to_path_buf(),
                key: dotted(&dotted(section, inner), key),
                remedy: remedy(section, key),
            },
            _ => ConfigError::BadType { path: path.to_path_buf(), section: dotted(section, inner), message },
        }
    })
}

fn unknown(path: &Path, section: &str, key: &str, known: &[&str]) -> ConfigError {
    let suggestion =
        keys::nearest(key, known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    let place = if section.is_empty() { "the top level".to_string() } else { format!("`{section}`") };
    ConfigError::UnknownKey {
        path: path.to_path_buf(),
        key: dotted(section, key),
        suggestion,
        known: format!("{place} knows {}", known.join(", ")),
    }
}

/// What to write for a key that was left out.
fn remedy(section: &str, key: &str) -> String {
    let table = section.split('.').next().unwrap_or("");
    keys::KEYS.iter().find(|known| known.section == table && known.name == key).map_or_else(
        || "add it".to_string(),
        |known| format!("add `{key} = ...` ({}): {}", known.range, known.meaning),
    )
}

fn dotted(section: &str, key: &str) -> String {
    match (section.is_empty(), key.is_empty()) {
        (true, _) => key.to_string(),
        (_, true) => section.to_string(),
        _ => format!("{section}.{key}"),
    }
}

/// Everything between backticks.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests;
