//! Why it is not clear which files of a folder are meant.

use std::path::PathBuf;

/// A path that cannot be taken for one split of one data set. Every message names what there is to choose from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// A folder without the split that is wanted.
    #[error(
        "{}: has no split `{wanted}`; it has {found}; choose with `--split NAME` (`split` or `eval_split` in a \
         configuration), or name the files", path.display()
    )]
    NoSuchSplit {
        /// The folder.
        path: PathBuf,
        /// The split that was asked for.
        wanted: String,
        /// The splits that it has.
        found: String,
    },

    /// A folder with several splits of the kind that is wanted.
    #[error(
        "{}: has several splits that `{wanted}` could mean: {found}; choose with `--split NAME` (`split` or \
         `eval_split` in a configuration), or name the files with a glob", path.display()
    )]
    SeveralSplits {
        /// The folder.
        path: PathBuf,
        /// The split that was asked for.
        wanted: String,
        /// The splits that it could be.
        found: String,
    },

    /// A split of something that names files itself.
    #[error(
        "{pattern}: names files, of which no split `{split}` can be chosen; name the folder, or leave out the split"
    )]
    SplitOfFiles {
        /// The path or glob that was asked for.
        pattern: String,
        /// The split that was asked for.
        split: String,
    },

    /// One split in two formats.
    #[error(
        "{}: holds {first} and {other}, the same data in two formats or two data sets; name the files of one with a glob",
        path.display()
    )]
    MixedFormats {
        /// The folder.
        path: PathBuf,
        /// A file of the one format.
        first: String,
        /// A file of another.
        other: String,
    },

    /// Several folders below one that could be meant.
    #[error("{}: holds no data file, but several folders with data: {names}; name one of them", path.display())]
    SeveralFolders {
        /// The folder.
        path: PathBuf,
        /// The folders.
        names: String,
    },

    /// A repository with several configurations.
    #[error(
        "{}: its README.md has several configurations ({names}) and no default; name the files of one, as a folder or \
         with a glob", path.display()
    )]
    SeveralConfigs {
        /// The folder.
        path: PathBuf,
        /// The configurations.
        names: String,
    },

    /// Shards of which one is not there.
    #[error(
        "{}: has {have} of the {count} shards that {found} speaks of; {shard} is missing; download it, or name the files \
         that are there with a glob", path.display()
    )]
    MissingShard {
        /// The folder.
        path: PathBuf,
        /// The number of the first missing shard, as names have it.
        shard: String,
        /// A shard that is there.
        found: String,
        /// Shards that are there.
        have: usize,
        /// Shards that there should be.
        count: u32,
    },

    /// One table that was written more than once.
    #[error(
        "{}: holds {first} and {other}, the same table written twice; remove the older one, or name the files of one \
         with a glob", path.display()
    )]
    TwoWritings {
        /// The folder.
        path: PathBuf,
        /// A file of the one writing.
        first: String,
        /// A file of another.
        other: String,
    },

    /// A split with a file of another split in its folder.
    #[error(
        "{}: by its name of another split than its folder {folder}; move it, or name the files of one split with a glob",
        path.display()
    )]
    OtherSplitInside {
        /// The file or folder.
        path: PathBuf,
        /// The name of the split's folder.
        folder: String,
    },

    /// Two files that look like two splits, under words that are none.
    #[error(
        "{}: {train} and {other} look like two splits; call them `train` and `test` (or `validation`), or name the file \
         itself", path.display()
    )]
    LooksLikeSplits {
        /// The folder.
        path: PathBuf,
        /// The file that looks like training data.
        train: String,
        /// The other file.
        other: String,
    },

    /// Folders that go too deep, or in a circle.
    #[error("{}: more than {most} folders deep; name the files with a glob", path.display())]
    TooDeep {
        /// The folder that is not looked into.
        path: PathBuf,
        /// The most that is looked through.
        most: usize,
    },

    /// A link to a file that is not there.
    #[error(
        "{}: a link to {}, which is not there; put the file there (download it again), or remove the link",
        path.display(), target.display()
    )]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },

    /// A folder with `.json` files that could be anything.
    #[error(
        "{}: no data file there but {names}; a .json file in a folder is taken if it is called after a split \
         (`train.json`); name the file itself", path.display()
    )]
    OnlyJson {
        /// The folder.
        path: PathBuf,
        /// The files.
        names: String,
    },

    /// Something that has to be on this machine first.
    #[error("{path}: {what}; {remedy}")]
    NotHere {
        /// The path as it was given.
        path: String,
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },

    /// A card that names files and cannot be read.
    #[error(
        "{}: its front matter has `configs`, but {message}; mend it (or remove `configs`, so that the names of the \
         files tell), or name the files with a glob", path.display()
    )]
    Card {
        /// The `README.md`.
        path: PathBuf,
        /// What the parser said, with the line.
        message: String,
    },

    /// A card that names files that are not there.
    #[error("{}: names `{pattern}`, and there is no data file for it: {why}", path.display())]
    CardFiles {
        /// The `README.md`.
        path: PathBuf,
        /// The pattern.
        pattern: String,
        /// Why not, and what to do.
        why: &'static str,
    },

    /// A folder of `save_to_disk` that contradicts itself.
    #[error("{}: {message}; save the data set again with `save_to_disk`", path.display())]
    SavedDataset {
        /// `state.json` or `dataset_dict.json`.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}
