//! The splits of a data set (train, validation, test), by the names of files and folders.

use std::path::PathBuf;

/// What a split is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SplitKind {
    /// To learn from.
    Train,
    /// To choose settings by.
    Validation,
    /// To report.
    Test,
}

impl SplitKind {
    /// `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        self.words()[0]
    }

    /// The words that stand for it in names, as in `datasets`.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training"],
            Self::Validation => &["validation", "valid", "val", "dev"],
            Self::Test => &["test", "testing", "eval", "evaluation"],
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
        [Self::Train, Self::Validation, Self::Test]
            .into_iter()
            .find(|kind| kind.words().contains(&word.as_str()))
    }
}

/// Which split of a folder is read. It does not matter for a file or a glob, which name files, nor for a folder without
/// splits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitChoice {
    /// The one split of this kind; an error if there are none or several.
    Of(SplitKind),
    /// The split of this name (`train_prefs`), or the one split of this kind (`train`).
    Named(String),
}

impl Default for SplitChoice {
    fn default() -> Self {
        Self::Of(SplitKind::Train)
    }
}

/// A split of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    /// Its name, as the files or the folder have it: `train`, `train_prefs`.
    pub(crate) name: String,
    pub(crate) kind: Option<SplitKind>,
    /// Its files, or the folder that holds them.
    pub(crate) paths: Vec<PathBuf>,
}

impl SplitChoice {
    /// The splits that are meant: one, unless the choice can be read in several ways or in none.
    pub(crate) fn among<'a>(&self, splits: &'a [Split]) -> Vec<&'a Split> {
        let of_kind = |kind| splits.iter().filter(move |split| split.kind == Some(kind));
        match self {
            Self::Of(kind) => {
                // `train` itself comes before `train_prefs`.
                let named = of_kind(*kind).find(|split| kind.words().contains(&split.name.as_str()));
                named.map_or_else(|| of_kind(*kind).collect(), |split| vec![split])
            }
            Self::Named(name) => match splits.iter().find(|split| split.name == *name) {
                Some(split) => vec![split],
                None => match SplitKind::of_word(name) {
                    Some(kind) if name.chars().all(char::is_alphabetic) => of_kind(kind).collect(),
                    _ => Vec::new(),
                },
            },
        }
    }

    /// The name to put into a message.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Of(kind) => kind.name(),
            Self::Named(name) => name,
        }
    }
}

/// The split that a name without its ending says: its name, less the number of a shard, and its kind. `None` if it says
/// none, or two.
pub(crate) fn of_name(stem: &str) -> Option<(String, SplitKind)> {
    let base = without_shard(stem);
    let mut kinds = base
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(SplitKind::of_word)
        .collect::<Vec<SplitKind>>();
    kinds.dedup();
    let [kind] = kinds[..] else { return None };
    Some((without_number(base).to_owned(), kind))
}

/// `train` of `train-2` and `train2`, `train_part` of `train_part3`; but `train_v2`, which is not a piece of `train_v1`.
fn without_number(base: &str) -> &str {
    let name = base.trim_end_matches(|c: char| c.is_ascii_digit());
    let trimmed = name.trim_end_matches(['-', '_', '.']);
    let last = trimmed.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or(trimmed);
    let piece = ["part", "shard", "chunk"].contains(&last.to_ascii_lowercase().as_str());
    if trimmed.len() < name.len() || piece || SplitKind::of_word(last).is_some() { trimmed } else { base }
}

/// Whether a name is a word for a split and nothing else.
pub(crate) fn is_bare(stem: &str) -> bool {
    stem.chars().all(char::is_alphabetic) && SplitKind::of_word(stem).is_some()
}

/// `train_prefs` of `train_prefs-00000-of-00002` and of `train_prefs-00000-of-00002-0123abcd`.
fn without_shard(stem: &str) -> &str {
    let numbered = |at: usize| {
        let five = |text: Option<&str>| {
            text.is_some_and(|text| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let (before, after) =
            (at.checked_sub(5).and_then(|from| stem.get(from..at)), stem.get(at + 4..at + 9));
        five(before) && five(after)
    };
    match stem.find("-of-").filter(|&at| numbered(at)) {
        Some(at) => stem[..at - 5].trim_end_matches('-'),
        None => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        use SplitKind::{Test, Train, Validation};
        for (stem, name, kind) in [
            ("train", "train", Train),
            ("train-00000-of-00001", "train", Train),
            ("train_prefs-00003-of-00012-0a1b2c", "train_prefs", Train),
            ("ultrafeedback_binarized-test_sft", "ultrafeedback_binarized-test_sft", Test),
            ("helpful.train", "helpful.train", Train),
            ("train_2", "train", Train),
            ("Train3", "Train", Train),
            ("train_part2", "train_part", Train),
            ("train_v2", "train_v2", Train),
            ("validation", "validation", Validation),
            ("dev-1", "dev", Validation),
            ("eval", "eval", Test),
        ] {
            assert_eq!(of_name(stem), Some((name.to_owned(), kind)), "{stem}");
        }
        for stem in
            ["data-00000-of-00001", "part-00000-of-00002", "pretraining", "latest", "0000", "train_test"]
        {
            assert_eq!(of_name(stem), None, "{stem}");
        }
    }

    #[test]
    fn choices() {
        let splits: Vec<Split> = ["train_prefs", "train_sft", "test_prefs"]
            .into_iter()
            .map(|name| Split {
                name: name.into(),
                kind: of_name(name).map(|(_, kind)| kind),
                paths: Vec::new(),
            })
            .collect();
        let among = |choice: SplitChoice| -> Vec<String> {
            choice.among(&splits).into_iter().map(|split| split.name.clone()).collect()
        };
        assert_eq!(among(SplitChoice::default()), ["train_prefs", "train_sft"]);
        assert_eq!(among(SplitChoice::Of(SplitKind::Test)), ["test_prefs"]);
        assert_eq!(among(SplitChoice::Named("test".into())), ["test_prefs"]);
        assert_eq!(among(SplitChoice::Named("train_sft".into())), ["train_sft"]);
        assert!(among(SplitChoice::Named("valid".into())).is_empty());
        assert!(among(SplitChoice::Named("other".into())).is_empty());
    }
}
