//! Which files a path stands for. A file and a glob name files; in a folder, one split is chosen, never all that lies
//! there.

use std::fs;
use std::path::Component::{CurDir, Normal};
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::reader::card;
use crate::reader::format::{format_of, is_other_table, split_name};
use crate::reader::saved::{self, Saved};
use crate::reader::select_error::SelectError;
use crate::reader::shards;
use crate::reader::split::{self, Split, SplitChoice, SplitKind};

/// How many folders deep a split is looked for.
const MAX_DEPTH: usize = 4;

/// How many folders deep the folder of a split may go, all of which is read.
const MAX_DEPTH_OF_SPLIT: usize = 16;

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
    /// only folder in it that holds some. The folder of a split is read with the folders in it. Hidden files, caches
    /// (`cache-*.arrow`) and `.json` files that are not named after a split are passed over.
    ///
    /// # Errors
    /// No data file there; a split that is not there or not the only one of its kind; a split in a folder that has none,
    /// or for a path that names files; several formats; several folders or configurations to choose from; shards that are
    /// missing or of two writings; a split within another; a card or a list of files that cannot be read or followed.
    pub fn find(path_or_glob: &str, split: &SplitChoice) -> Result<Self, DataError> {
        let path = Path::new(path_or_glob);
        if path.is_dir() {
            return in_folder(path, split, MAX_DEPTH)?
                .ok_or_else(|| DataError::NoFiles { pattern: path_or_glob.into() });
        }
        let files = if path.exists() { vec![path.to_path_buf()] } else { of_glob(path_or_glob)? };
        if files.is_empty() {
            not_here(path_or_glob)?;
        }
        match split {
            _ if files.is_empty() => Err(DataError::NoFiles { pattern: path_or_glob.into() }),
            SplitChoice::Named(name) => {
                Err(SelectError::SplitOfFiles { pattern: path_or_glob.into(), split: name.clone() }.into())
            }
            SplitChoice::Of(_) => Ok(Self { files, split: None }),
        }
    }
}

/// Refuses what is no path of this machine by what it is.
fn not_here(path: &str) -> Result<(), SelectError> {
    let plain = |part: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(legal)
    };
    let download = "download it first, and name its folder or a file in it";
    let (what, remedy) = if path.contains("://") {
        ("a URL; data is read from this machine only", download)
    } else if path.starts_with('~') {
        ("no such file; `~` is not replaced by the home folder here", "write the path in full")
    } else if path.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name))
        && format_of(Path::new(path)).is_none()
    {
        ("no such file or folder; if it is a data set of the Hugging Face Hub", download)
    } else {
        return Ok(());
    };
    Err(SelectError::NotHere { path: path.to_owned(), what, remedy })
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
        let chosen = choose(folder, choice, &splits, &[])?;
        if !folder.join(&chosen.name).is_dir() {
            return Err(saved::no_folder(folder, &chosen.name));
        }
        return of_split(folder, chosen).map(Some);
    }
    if let Some(Saved { files, split }) = saved::files(folder)? {
        let Some(name) = split else { return without_split(folder, choice, files).map(Some) };
        let kind = split::of_name(&name).map(|(_, kind)| kind);
        let split = Split { name, kind, paths: files };
        // It is the only one there; only somebody who asks for another by name cannot mean it.
        if matches!(choice, SplitChoice::Named(_)) {
            choose(folder, choice, std::slice::from_ref(&split), &[])?;
        }
        return of_split(folder, &split).map(Some);
    }
    match card::read(folder)? {
        Some(config) if !config.splits.is_empty() || config.folder.is_some() => {
            return of_card(folder, &config, choice, depth).map(Some);
        }
        _ => {}
    }
    let Listing { splits, files, others, json } = Listing::of(folder, depth)?;
    if !splits.is_empty() {
        let beside = [files, json].concat();
        let found = of_split(folder, choose(folder, choice, &splits, &beside)?)?;
        shards::complete(&found.files)?;
        return Ok(Some(found));
    }
    if !files.is_empty() {
        let found = without_split(folder, choice, files)?;
        shards::complete(&found.files)?;
        let name = |file: &'_ PathBuf| split_name(name_of(file)).0.to_owned();
        let names: Vec<String> = found.files.iter().map(name).collect();
        let stems: Vec<&str> = names.iter().map(String::as_str).collect();
        return match split::glued(&stems) {
            None => Ok(Some(found)),
            Some((train, other)) => {
                let (path, train, other) = (folder.to_path_buf(), train.to_owned(), other.to_owned());
                Err(SelectError::LooksLikeSplits { path, train, other }.into())
            }
        };
    }
    let is_default = |other: &&PathBuf| other.file_name().is_some_and(|name| name == "default");
    match (others.as_slice(), others.iter().find(is_default)) {
        ([], _) if json.is_empty() => Ok(None),
        ([], _) => Err(only_json(folder, &json)),
        ([only], _) | (_, Some(only)) => in_folder(only, choice, depth - 1),
        (several, None) => {
            let names: Vec<String> = several.iter().map(|other| other.display().to_string()).collect();
            let (path, names) = (folder.to_path_buf(), quoted(&names));
            Err(SelectError::SeveralFolders { path, names }.into())
        }
    }
}

const NOTHING_MATCHES: &str = "nothing in the folder matches it; download the whole repository, mend the README, or \
                               name the files themselves";

/// The files of a card's configuration.
fn of_card(
    folder: &Path,
    config: &card::Config,
    choice: &SplitChoice,
    depth: usize,
) -> Result<DataFiles, DataError> {
    let none = |pattern: &str, why: &'static str| -> DataError {
        let (path, pattern) = (folder.join("README.md"), pattern.to_owned());
        SelectError::CardFiles { path, pattern, why }.into()
    };
    let refused = |pattern: &str| {
        let outside = Path::new(pattern).components().any(|part| !matches!(part, Normal(_) | CurDir));
        match (pattern.contains("://"), outside) {
            (true, _) => {
                Err(none(pattern, "it is a URL; download the file, and name it instead of the folder"))
            }
            (_, true) => Err(none(pattern, "it leaves the folder; name the files themselves")),
            _ => Ok(()),
        }
    };
    let below = config.folder.as_deref().unwrap_or(".");
    refused(below)?;
    let base = if config.folder.is_some() { folder.join(below) } else { folder.to_path_buf() };
    let (splits, all): (Vec<_>, Vec<_>) = config.splits.iter().partition(|(split, _)| split.is_some());
    if splits.is_empty() && all.is_empty() {
        // The card of the folder itself has been read; what is left is what lies below.
        let found = match base == folder || depth == 0 {
            true => None,
            false if !base.is_dir() => None,
            false => in_folder(&base, choice, depth - 1)?,
        };
        return found.ok_or_else(|| none(below, NOTHING_MATCHES));
    }
    let matches = |patterns: &[String]| -> Result<Vec<PathBuf>, DataError> {
        let mut files = Vec::new();
        for pattern in patterns {
            let whole = Path::new(&glob::Pattern::escape(&base.to_string_lossy())).join(pattern);
            refused(pattern)?;
            let found = of_pattern(&base.join(pattern), &whole)?;
            if found.is_empty() {
                return Err(none(pattern, NOTHING_MATCHES));
            }
            if pattern.contains('*') {
                shards::complete(&found)?;
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
            true => all_in(path, path, split.kind, MAX_DEPTH_OF_SPLIT, &mut files)?,
            false => files.push(path.clone()),
        }
    }
    if files.is_empty() {
        let inside = split.paths.first().map_or(folder, PathBuf::as_path);
        let json: Vec<PathBuf> = entries(inside)?.into_iter().filter(|path| is_passed_json(path)).collect();
        if !json.is_empty() {
            return Err(only_json(inside, &json));
        }
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

/// All data files of a folder that is one split, or lies in one.
fn all_in(
    split: &Path,
    folder: &Path,
    kind: Option<SplitKind>,
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> Result<(), DataError> {
    if depth == 0 {
        let path = folder.to_path_buf();
        return Err(SelectError::TooDeep { path, most: MAX_DEPTH_OF_SPLIT }.into());
    }
    if let Some(saved) = saved::files(folder)? {
        files.extend(saved.files);
        return Ok(());
    }
    for path in entries(folder)? {
        let name = match path.is_dir() {
            true if holds_data(&path, depth - 1) => name_of(&path),
            false if is_data(&path) => split_name(name_of(&path)).0,
            _ => continue,
        };
        let said = split::of_name(name).map(|(_, kind)| kind);
        if kind.is_some() && said.is_some() && said != kind {
            let folder = name_of(split).to_owned();
            return Err(SelectError::OtherSplitInside { path, folder }.into());
        }
        match path.is_dir() {
            true => all_in(split, &path, kind, depth - 1, files)?,
            false => files.push(path),
        }
    }
    Ok(())
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
    /// `.json` files that are passed over.
    json: Vec<PathBuf>,
}

impl Listing {
    fn of(folder: &Path, depth: usize) -> Result<Self, DataError> {
        let mut listing =
            Self { splits: Vec::new(), files: Vec::new(), others: Vec::new(), json: Vec::new() };
        for path in entries(folder)? {
            let name = name_of(&path);
            let said = if path.is_dir() {
                let said = split::of_name(name);
                // All of a split's folder is read, however deep.
                let deep = if said.is_some() { MAX_DEPTH_OF_SPLIT } else { depth };
                if deep == 0 || !holds_data(&path, deep - 1) {
                    continue;
                }
                said
            } else if is_data(&path) {
                split::of_name(split_name(name).0)
            } else {
                if is_passed_json(&path) {
                    listing.json.push(path);
                }
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

/// Paths in a folder by name, without hidden ones. A link that looks like data and leads nowhere is an error.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder, "list"))? {
        let path = entry.map_err(DataError::io(folder, "list"))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        let named = is_data(&path) || split::of_name(split_name(name_of(&path)).0).is_some();
        if named && !path.exists() && path.is_symlink() {
            let target = fs::read_link(&path).map_err(DataError::io(&path, "read"))?;
            return Err(SelectError::DanglingLink { path, target }.into());
        }
        paths.push(path);
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

/// Whether it is a `.json` file that [`is_data`] takes for something else.
fn is_passed_json(path: &Path) -> bool {
    split_name(name_of(path)).1 == "json" && !is_data(path) && path.is_file()
}

fn holds_data(folder: &Path, depth: usize) -> bool {
    match entries(folder) {
        Ok(paths) => paths.iter().any(|path| match path.is_dir() {
            true => depth > 0 && holds_data(path, depth - 1),
            false => is_data(path),
        }),
        // A broken link to data is found again by whoever reads the folder.
        Err(error) => matches!(error, DataError::Select(_)),
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The refusal of a folder without data, but with `.json` files that are passed over.
fn only_json(folder: &Path, json: &[PathBuf]) -> DataError {
    const SHOWN: usize = 5;
    let names: Vec<String> = json.iter().take(SHOWN).map(|path| name_of(path).to_owned()).collect();
    let more = if json.len() > SHOWN { ", ..." } else { "" };
    SelectError::OnlyJson { path: folder.to_path_buf(), names: quoted(&names) + more }.into()
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
