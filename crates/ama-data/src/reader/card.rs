//! What a dataset card says about its files: the front matter of a Hub repository's `README.md`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

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

/// The configuration that a card means when none is named: the only one, or the one that is the default. `Err` names
/// them all where none is; `Ok(None)` for a folder without a card, or a card that names no files.
pub(crate) fn read(folder: &Path) -> Result<Option<Config>, Vec<String>> {
    let text = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    let mut configs = configs(&text).unwrap_or_default();
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
        None => Err(configs.into_iter().map(|config| config.name).collect()),
    }
}

#[derive(Deserialize)]
struct Card {
    #[serde(default)]
    configs: Vec<RawConfig>,
}

#[derive(Deserialize)]
struct RawConfig {
    config_name: String,
    data_dir: Option<String>,
    data_files: Option<DataFiles>,
    #[serde(default)]
    default: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DataFiles {
    One(String),
    Entries(Vec<Entry>),
    BySplit(BTreeMap<String, Patterns>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Pattern(String),
    Split { split: String, path: Patterns },
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

/// `None` for a text without front matter, or with one of another shape: then file names have to tell.
fn configs(text: &str) -> Option<Vec<Config>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let front = text.strip_prefix("---")?.split("\n---").next()?;
    let card: Card = serde_saphyr::from_str(front).ok()?;
    let config = |raw: RawConfig| Config {
        name: raw.config_name,
        folder: raw.data_dir,
        is_default: raw.default,
        splits: match raw.data_files {
            None => Vec::new(),
            Some(DataFiles::One(pattern)) => vec![(None, vec![pattern])],
            Some(DataFiles::BySplit(splits)) => {
                splits.into_iter().map(|(split, patterns)| (Some(split), patterns.into())).collect()
            }
            Some(DataFiles::Entries(entries)) => {
                let mut splits: Vec<(Option<String>, Vec<String>)> = Vec::new();
                for entry in entries {
                    let (split, patterns) = match entry {
                        Entry::Pattern(pattern) => (None, vec![pattern]),
                        Entry::Split { split, path } => (Some(split), path.into()),
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
    Some(card.configs.into_iter().map(config).collect())
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
        assert!(super::configs("# no front matter").is_none() && super::configs("---\n: [\n---\n").is_none());
    }
}
