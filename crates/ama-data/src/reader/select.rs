//! Which files a path stands for. A file and a glob name files; in a folder, one split is chosen, never all that lies
//! there.

use std::fs;
use std::path::Component::{CurDir, Normal};
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::reader::card;
use crate::reader::format::{format_of, is_other_table, split_name};
use crate::reader::saved;
use crate::reader::select_error::SelectError;
use crate::reader::split::{self, Split, SplitChoice};

/// How many folders deep data is looked for.
const MAX_DEPTH: usize = 4;

/// The files that a path or glob stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFiles {
    /// The files, in the order in which they are read; at least one.
    pub files: Vec<PathBuf>,
    /// The split of the folder that they are; `None` for a file, a glob, or a folder without splits.
    pub split: Option<String>,
}

impl DataFiles {
    /// Finds the files of `path_or_glob`; of a folder with several splits, those of `split`.
    ///
    /// A folder is, in this order: what `datasets` saved (`dataset_dict.json`, `state.json`), a repository with a card
    /// that names its files (`configs` in `README.md`), or files and folders whose names say their splits
    /// (`train-00000-of-00002.parquet`, `test/`); without any of these, all data files directly in it, or those of the
    /// only folder in it that holds some. Hidden files, caches (`cache-*.arrow`) and `.json` files that are not named after
    /// a split are passed over.
    ///
    /// # Errors
    /// No data file there; a split that is not there or not the only one of its kind; a split in a folder that has none,
    /// or for a path that names files; several formats; several folders or configurations to choose from.
    pub fn find(path_or_glob: &str, split: &SplitChoice) -> Result<Self, DataError> {
        let path = Path::new(path_or_glob);
        if path.is_dir() {
            return in_folder(path, split, MAX_DEPTH)?
                .ok_or_else(|| DataError::NoFiles { pattern: path_or_glob.into() });
        }
        let files = if path.exists() { vec![path.to_path_buf()] } else { of_glob(path_or_glob)? };
        match split {
            _ if files.is_empty() => Err(DataError::NoFiles { pattern: path_or_glob.into() }),
            SplitChoice::Named(name) => {
                Err(SelectError::SplitOfFiles { pattern: path_or_glob.into(), split: name.clone() }.into())
            }
            SplitChoice::Of(_) => Ok(Self { files, split: None }),
        }
    }
}

fn of_glob(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(Vec::new());
    }
    let matches = glob::glob(pattern)
        .map_err(|e| DataError::BadGlob { pattern: pattern.into(), message: e.to_string() })?;
    let mut files = Vec::new();
    for file in matches {
        let file = file.map_err(|e| {
            let path = e.path().to_path_buf();
            DataError::io(&path, "list")(e.into())
        })?;
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// `None` if there is no data in the folder.
fn in_folder(folder: &Path, choice: &SplitChoice, depth: usize) -> Result<Option<DataFiles>, DataError> {
    if let Some(names) = saved::splits(folder)? {
        let splits: Vec<Split> = names
            .into_iter()
            .map(|name| {
                let kind = split::of_name(&name).map(|(_, kind)| kind);
                Split { paths: vec![folder.join(&name)], name, kind }
            })
            .collect();
        return of_split(folder, choose(folder, choice, &splits, &[])?).map(Some);
    }
    if let Some(files) = saved::files(folder)? {
        return without_split(folder, choice, files).map(Some);
    }
    match card::read(folder) {
        Ok(None) => {}
        Ok(Some(config)) if config.splits.is_empty() && config.folder.is_none() => {}
        Ok(Some(config)) => return of_card(folder, &config, choice, depth).map(Some),
        Err(names) => {
            let (path, names) = (folder.to_path_buf(), quoted(&names));
            return Err(SelectError::SeveralConfigs { path, names }.into());
        }
    }
    let Listing { splits, files, others } = Listing::of(folder, depth)?;
    if !splits.is_empty() {
        return of_split(folder, choose(folder, choice, &splits, &files)?).map(Some);
    }
    if !files.is_empty() {
        return without_split(folder, choice, files).map(Some);
    }
    let is_default = |other: &&PathBuf| other.file_name().is_some_and(|name| name == "default");
    match (others.as_slice(), others.iter().find(is_default)) {
        ([], _) => Ok(None),
        ([only], _) | (_, Some(only)) => in_folder(only, choice, depth - 1),
        (several, None) => {
            let names: Vec<String> = several.iter().map(|other| other.display().to_string()).collect();
            let (path, names) = (folder.to_path_buf(), quoted(&names));
            Err(SelectError::SeveralFolders { path, names }.into())
        }
    }
}

/// The files of a card's configuration.
fn of_card(
    folder: &Path,
    config: &card::Config,
    choice: &SplitChoice,
    depth: usize,
) -> Result<DataFiles, DataError> {
    let none = |pattern: &Path| DataError::NoFiles { pattern: pattern.display().to_string() };
    let base = config.folder.as_ref().map_or(folder.to_path_buf(), |below| folder.join(below));
    let (splits, all): (Vec<_>, Vec<_>) = config.splits.iter().partition(|(split, _)| split.is_some());
    if splits.is_empty() && all.is_empty() {
        // The card of the folder itself has been read; what is left is what lies below.
        let found = match base == folder || depth == 0 {
            true => None,
            false => in_folder(&base, choice, depth - 1)?,
        };
        return found.ok_or_else(|| none(&base));
    }
    let matches = |patterns: &[String]| -> Result<Vec<PathBuf>, DataError> {
        let mut files = Vec::new();
        for pattern in patterns {
            let whole = Path::new(&glob::Pattern::escape(&base.to_string_lossy())).join(pattern);
            let outside = Path::new(pattern).components().any(|part| !matches!(part, Normal(_) | CurDir));
            let found = if outside { Vec::new() } else { of_pattern(&base.join(pattern), &whole)? };
            if found.is_empty() {
                return Err(none(&base.join(pattern)));
            }
            files.extend(found.into_iter().filter(|file| !files.contains(file)).collect::<Vec<_>>());
        }
        Ok(files)
    };
    if splits.is_empty() {
        let patterns: Vec<String> = all.iter().flat_map(|(_, patterns)| patterns.clone()).collect();
        return without_split(folder, choice, matches(&patterns)?);
    }
    let named: Vec<Split> = splits
        .iter()
        .filter_map(|(split, _)| split.as_deref())
        .map(|name| Split {
            name: name.to_owned(),
            kind: split::of_name(name).map(|(_, kind)| kind),
            paths: Vec::new(),
        })
        .collect();
    let chosen = choose(folder, choice, &named, &[])?;
    let patterns = splits.iter().find(|(split, _)| split.as_deref() == Some(chosen.name.as_str()));
    let files = matches(patterns.map_or(&[], |(_, patterns)| patterns.as_slice()))?;
    of_split(folder, &Split { paths: files, ..chosen.clone() })
}

/// A pattern of a card may also be the name of a file with brackets in it.
fn of_pattern(plain: &Path, pattern: &Path) -> Result<Vec<PathBuf>, DataError> {
    match plain.is_file() {
        true => Ok(vec![plain.to_path_buf()]),
        false => of_glob(&pattern.to_string_lossy()),
    }
}

fn choose<'a>(
    folder: &Path,
    choice: &SplitChoice,
    splits: &'a [Split],
    beside: &[PathBuf],
) -> Result<&'a Split, DataError> {
    match choice.among(splits)[..] {
        [split] => Ok(split),
        ref meant => {
            let of = |splits: &[&Split]| {
                quoted(&splits.iter().map(|split| split.name.clone()).collect::<Vec<_>>())
            };
            let mut found = of(&splits.iter().collect::<Vec<_>>());
            if let [first, ..] = beside {
                let (count, name) = (beside.len(), name_of(first));
                found +=
                    &format!(", and {count} of no split ({name}{})", if count > 1 { ", ..." } else { "" });
            }
            let (path, wanted) = (folder.to_path_buf(), choice.name().to_owned());
            Err(match meant {
                [] => SelectError::NoSuchSplit { path, wanted, found },
                several => SelectError::SeveralSplits { path, wanted, found: of(several) },
            }
            .into())
        }
    }
}

/// The files of the split that was chosen.
fn of_split(folder: &Path, split: &Split) -> Result<DataFiles, DataError> {
    let mut files = Vec::new();
    for path in &split.paths {
        match path.is_dir() {
            true => files.extend(all_in(path)?),
            false => files.push(path.clone()),
        }
    }
    if files.is_empty() {
        let inside = split.paths.first().map_or(folder, PathBuf::as_path);
        return Err(DataError::NoFiles { pattern: inside.display().to_string() });
    }
    one_format(folder, &files)?;
    Ok(DataFiles { files, split: Some(split.name.clone()) })
}

/// Files that are not told apart by splits.
fn without_split(
    folder: &Path,
    choice: &SplitChoice,
    mut files: Vec<PathBuf>,
) -> Result<DataFiles, DataError> {
    if let SplitChoice::Named(name) = choice {
        let found = format!("none, only files of no split ({})", name_of(&files[0]));
        let (path, wanted) = (folder.to_path_buf(), name.clone());
        return Err(SelectError::NoSuchSplit { path, wanted, found }.into());
    }
    // Beside data that can be read, a table of another format is rather a note about it.
    if files.iter().any(|file| format_of(file).is_some()) {
        files.retain(|file| format_of(file).is_some());
    }
    one_format(folder, &files)?;
    Ok(DataFiles { files, split: None })
}

/// All data files of a folder that is one split.
fn all_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    if let Some(files) = saved::files(folder)? {
        return Ok(files);
    }
    let mut files = entries(folder)?;
    files.retain(|path| path.is_file() && is_data(path));
    Ok(files)
}

/// The same rows in two formats would be read twice.
fn one_format(folder: &Path, files: &[PathBuf]) -> Result<(), DataError> {
    let ending = |path: &PathBuf| match split_name(name_of(path)).1 {
        short if short == "pq" => "parquet".into(),
        ending => ending,
    };
    let first = &files[0];
    match files.iter().find(|file| ending(file) != ending(first)) {
        None => Ok(()),
        Some(other) => {
            let (path, first) = (folder.to_path_buf(), name_of(first).to_owned());
            Err(SelectError::MixedFormats { path, first, other: name_of(other).to_owned() }.into())
        }
    }
}

/// What lies in a folder.
struct Listing {
    /// Files and folders that say which split they are.
    splits: Vec<Split>,
    /// Data files that do not.
    files: Vec<PathBuf>,
    /// Other folders with data in them.
    others: Vec<PathBuf>,
}

impl Listing {
    fn of(folder: &Path, depth: usize) -> Result<Self, DataError> {
        let mut listing = Self { splits: Vec::new(), files: Vec::new(), others: Vec::new() };
        for path in entries(folder)? {
            let name = name_of(&path);
            let said = if path.is_dir() {
                if depth == 0 || !holds_data(&path, depth - 1) {
                    continue;
                }
                split::of_name(name)
            } else if is_data(&path) {
                split::of_name(split_name(name).0)
            } else {
                continue;
            };
            match said {
                Some((name, kind)) => match listing.splits.iter_mut().find(|split| split.name == name) {
                    Some(split) => split.paths.push(path),
                    None => listing.splits.push(Split { name, kind: Some(kind), paths: vec![path] }),
                },
                None if path.is_dir() => listing.others.push(path),
                None => listing.files.push(path),
            }
        }
        Ok(listing)
    }
}

/// Paths in a folder by name, without hidden ones.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder, "list"))? {
        let path = entry.map_err(DataError::io(folder, "list"))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a file in a folder is data by its name.
fn is_data(path: &Path) -> bool {
    let (stem, ending) = split_name(name_of(path));
    let cache = stem.starts_with("cache-") && ending == "arrow";
    // `.json` in a folder is rather a configuration or an index than data, unless it is called `train.json`.
    let settings = ending == "json" && !split::is_bare(stem);
    !cache && !settings && (format_of(path).is_some() || is_other_table(path))
}

fn holds_data(folder: &Path, depth: usize) -> bool {
    entries(folder).is_ok_and(|paths| {
        paths.iter().any(|path| match path.is_dir() {
            true => depth > 0 && holds_data(path, depth - 1),
            false => is_data(path),
        })
    })
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
