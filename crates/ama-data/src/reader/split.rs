//! The splits of a data set (train, validation, test), by the names of files and folders.

use std::path::PathBuf;

use crate::reader::shards;

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
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training"],
            Self::Validation => &["validation", "valid", "val", "dev"],
            Self::Test => &["test", "testing", "eval", "evaluation", "heldout", "holdout"],
        }
    }

    /// `train` and `Train2`, but also `trainset`, `tests` and `evaldata`.
    fn of_word(word: &str) -> Option<Self> {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
        let of_plain = |word: &str| {
            [Self::Train, Self::Validation, Self::Test].into_iter().find(|kind| kind.words().contains(&word))
        };
        let glued = ["datasets", "dataset", "data", "sets", "set", "splits", "split", "pairs", "prefs", "s"];
        of_plain(&word).or_else(|| glued.iter().find_map(|end| word.strip_suffix(end).and_then(of_plain)))
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
    let words = words(base);
    let held_out = |pair: &[&str]| {
        (pair[0].eq_ignore_ascii_case("held") || pair[0].eq_ignore_ascii_case("hold"))
            && pair[1].eq_ignore_ascii_case("out")
    };
    let mut kinds: Vec<SplitKind> = words.iter().filter_map(|word| SplitKind::of_word(word)).collect();
    if words.windows(2).any(held_out) {
        kinds.push(SplitKind::Test);
    }
    kinds.dedup();
    let [kind] = kinds[..] else { return None };
    Some((without_number(base).to_owned(), kind))
}

/// The words of a name, told apart by anything but letters and digits, and by capitals: `train`, `Pairs` of `trainPairs`.
fn words(name: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for part in name.split(|c: char| !c.is_ascii_alphanumeric()) {
        let bytes = part.as_bytes();
        let mut from = 0;
        for at in 1..bytes.len() {
            let after_small = !bytes[at - 1].is_ascii_uppercase();
            let before_small = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
            if bytes[at].is_ascii_uppercase() && (after_small || before_small) {
                words.push(&part[from..at]);
                from = at;
            }
        }
        words.push(&part[from..]);
    }
    words
}

/// `train` of `train-2` and `train2`, `train_part` of `train_part3`; but `train_v2`, which is not a piece of `train_v1`.
fn without_number(base: &str) -> &str {
    let name = base.trim_end_matches(|c: char| c.is_ascii_digit());
    let trimmed = name.trim_end_matches(['-', '_', '.']);
    let last = trimmed.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or(trimmed);
    let piece = ["part", "shard", "chunk"].contains(&last.to_ascii_lowercase().as_str());
    if trimmed.len() < name.len() || piece || SplitKind::of_word(last).is_some() { trimmed } else { base }
}

/// Whether a name is a word for a split and nothing else, but for numbers and the endings that preference data has:
/// `train`, `train-2`, `test_prefs`; not `training_args` or `eval_results`.
pub(crate) fn is_bare(stem: &str) -> bool {
    let base = without_number(without_shard(stem));
    let (word, rest) = base.split_once(['_', '-', '.']).unwrap_or((base, "prefs"));
    ["prefs", "pref", "pairs", "sft", "preferences"].contains(&rest)
        && word.chars().all(char::is_alphabetic)
        && SplitKind::of_word(word).is_some()
}

/// `train_prefs` of `train_prefs-00000-of-00002` and of `train_prefs-00000-of-00002-0123abcd`.
fn without_shard(stem: &str) -> &str {
    shards::of_name(stem).map_or(stem, |shard| shard.base)
}

/// Two names that differ in nothing but a split glued to other letters (`mytrain` and `mytest`); the first such pair.
pub(crate) fn glued<'a>(stems: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let others = || [SplitKind::Validation, SplitKind::Test].into_iter().flat_map(SplitKind::words);
    stems.iter().find_map(|&train| {
        let lower = train.to_lowercase();
        if !lower.contains("train") {
            return None;
        }
        let twins: Vec<String> = others().map(|word| lower.replacen("train", word, 1)).collect();
        let twin = stems.iter().find(|stem| twins.contains(&stem.to_lowercase()))?;
        Some((train, *twin))
    })
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
            ("trainset", "trainset", Train),
            ("testsets", "testsets", Test),
            ("trains", "trains", Train),
            ("trainPairs", "trainPairs", Train),
            ("DPOTestPairs", "DPOTestPairs", Test),
            ("valdata-00000-of-00001", "valdata", Validation),
            ("held_out", "held_out", Test),
            ("my-holdout", "my-holdout", Test),
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
    fn names_of_json_files() {
        for stem in ["train", "train-2", "train_0", "test_prefs", "train_sft", "train-00000-of-00002"] {
            assert!(is_bare(stem), "{stem}");
        }
        for stem in
            ["training_args", "eval_results", "train_results", "trainer_state", "config", "train_test"]
        {
            assert!(!is_bare(stem), "{stem}");
        }
    }

    #[test]
    fn words_glued_to_others() {
        assert_eq!(glued(&["a", "mytest", "mytrain"]), Some(("mytrain", "mytest")));
        assert_eq!(glued(&["pretraining", "latest", "mytrain"]), None);
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
