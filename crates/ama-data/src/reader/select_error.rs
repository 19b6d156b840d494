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

    /// A folder of `save_to_disk` that contradicts itself.
    #[error("{}: {message}; save the data set again with `save_to_disk`", path.display())]
    SavedDataset {
        /// `state.json` or `dataset_dict.json`.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}
