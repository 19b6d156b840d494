//! What a dataset card says about its files: the front matter of a Hub repository's `README.md`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::DataError;
use crate::reader::select_error::SelectError;

/// One configuration of a data set: another selection of the repository's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) name: String,
    /// The folder in which patterns and splits are looked for, relative to the card's.
    pub(crate) folder: Option<String>,
    /// Patterns of each split, in the order of the card; the split `None` is all there is.
    pub(crate) splits: Vec<(Option<String>, Vec<String>)>,
    is_default: bool,
}

/// The configuration that a card means when none is named: the only one, or the one that is the default; `None` for a
/// folder without a card, or a card that names no files.
///
/// # Errors
/// Several configurations and no default; a card that speaks of `configs` and cannot be read.
pub(crate) fn read(folder: &Path) -> Result<Option<Config>, DataError> {
    let path = folder.join("README.md");
    let text = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DataError::io(&path, "read")(error)),
    };
    let mut configs = configs(&String::from_utf8_lossy(&text))
        .map_err(|message| SelectError::Card { path: path.clone(), message })?;
    let one = match configs.len() {
        0 => return Ok(None),
        1 => Some(0),
        _ => configs
            .iter()
            .position(|config| config.is_default)
            .or_else(|| configs.iter().position(|config| config.name == "default")),
    };
    match one {
        Some(at) => Ok(Some(configs.swap_remove(at))),
        None => {
            let names: Vec<String> = configs.iter().map(|config| format!("`{}`", config.name)).collect();
            let (path, names) = (folder.to_path_buf(), names.join(", "));
            Err(SelectError::SeveralConfigs { path, names }.into())
        }
    }
}

#[derive(Deserialize)]
struct Card {
    configs: Option<Vec<RawConfig>>,
}

#[derive(Deserialize)]
struct RawConfig {
    config_name: String,
    data_dir: Option<String>,
    data_files: Option<DataFiles>,
    default: Option<bool>,
}

/// A name, which YAML takes for a number or a truth value if it looks like one.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(untagged)]
enum Name {
    Text(String),
    Number(i64),
    Truth(bool),
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        match name {
            Name::Text(text) => text,
            Name::Number(number) => number.to_string(),
            Name::Truth(truth) => truth.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DataFiles {
    One(String),
    Entries(Vec<Entry>),
    BySplit(BTreeMap<Name, Patterns>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Pattern(String),
    Split { split: Name, path: Patterns },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Patterns {
    One(String),
    Many(Vec<String>),
}

impl From<Patterns> for Vec<String> {
    fn from(patterns: Patterns) -> Self {
        match patterns {
            Patterns::One(pattern) => vec![pattern],
            Patterns::Many(patterns) => patterns,
        }
    }
}

/// None for a text without front matter, or with one that does not speak of them: then file names have to tell. `Err`
/// says in one line what is wrong with a front matter that does.
fn configs(text: &str) -> Result<Vec<Config>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(front) = text.strip_prefix("---").and_then(|text| text.split("\n---").next()) else {
        return Ok(Vec::new());
    };
    let named = front
        .lines()
        .any(|line| line.trim_start_matches([' ', '{', '"', '\'']).trim_end().starts_with("configs"));
    let card: Card = match serde_saphyr::from_str(front) {
        Ok(card) => card,
        Err(_) if !named => return Ok(Vec::new()),
        Err(error) => {
            let said = error.to_string();
            let line = said.lines().next().unwrap_or_default();
            return Err(line.strip_prefix("error: ").unwrap_or(line).to_owned());
        }
    };
    let config = |raw: RawConfig| Config {
        name: raw.config_name,
        folder: raw.data_dir,
        is_default: raw.default.unwrap_or(false),
        splits: match raw.data_files {
            None => Vec::new(),
            Some(DataFiles::One(pattern)) => vec![(None, vec![pattern])],
            Some(DataFiles::BySplit(splits)) => {
                splits.into_iter().map(|(split, patterns)| (Some(split.into()), patterns.into())).collect()
            }
            Some(DataFiles::Entries(entries)) => {
                let mut splits: Vec<(Option<String>, Vec<String>)> = Vec::new();
                for entry in entries {
                    let (split, patterns) = match entry {
                        Entry::Pattern(pattern) => (None, vec![pattern]),
                        Entry::Split { split, path } => (Some(split.into()), path.into()),
                    };
                    match splits.iter_mut().find(|(other, _)| *other == split) {
                        Some((_, all)) => all.extend(patterns),
                        None => splits.push((split, patterns)),
                    }
                }
                splits
            }
        },
    };
    Ok(card.configs.unwrap_or_default().into_iter().map(config).collect())
}

#[cfg(test)]
mod tests {
    use super::configs;

    #[test]
    fn every_way_to_name_files() {
        let card = "---\nlicense: mit\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: data/train-*\n  \
                    - split: test\n    path:\n    - x.jsonl\n    - y.jsonl\n- config_name: b\n  data_files: \"*.csv\"\n  \
                    default: true\n- config_name: c\n  data_dir: sub\n---\n# Title\n---\nmore\n";
        let configs = configs(card).unwrap();
        let splits = |at: usize| -> Vec<(Option<&str>, Vec<&str>)> {
            let config: &super::Config = &configs[at];
            let splits = config.splits.iter();
            splits
                .map(|(split, patterns)| (split.as_deref(), patterns.iter().map(String::as_str).collect()))
                .collect()
        };
        assert_eq!(
            splits(0),
            [(Some("train"), vec!["data/train-*"]), (Some("test"), vec!["x.jsonl", "y.jsonl"])]
        );
        assert_eq!(splits(1), [(None, vec!["*.csv"])]);
        assert!(configs[1].is_default && splits(2).is_empty() && configs[2].folder.as_deref() == Some("sub"));
        for text in ["# no front matter", "---\n: [\n---\n", "---\nconfigs:\n---\n"] {
            assert!(super::configs(text).unwrap().is_empty(), "{text}");
        }
    }
}
