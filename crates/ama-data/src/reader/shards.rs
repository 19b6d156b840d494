//! Shards of one table: all of them, and of one writing only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::reader::format::split_name;
use crate::reader::select_error::SelectError;

/// A place in `name-00001-of-00003`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard<'a> {
    /// What comes before the numbers.
    pub(crate) base: &'a str,
    index: u32,
    count: u32,
}

/// The shard that a name without its ending says: `train_prefs-00000-of-00002`, also with `-0123abcd` behind it.
pub(crate) fn of_name(stem: &str) -> Option<Shard<'_>> {
    let number = |text: Option<&str>| {
        let text = text.filter(|text| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()));
        text.and_then(|text| text.parse().ok())
    };
    let at = stem.find("-of-")?;
    let from = at.checked_sub(5)?;
    let (index, count) = (number(stem.get(from..at))?, number(stem.get(at + 4..at + 9))?);
    Some(Shard { base: stem[..from].trim_end_matches('-'), index, count })
}

/// A file, and the shard that its name says.
type Piece<'a> = (&'a PathBuf, Option<Shard<'a>>);

/// Refuses a table with a missing shard, and one that was written twice.
pub(crate) fn complete(files: &[PathBuf]) -> Result<(), SelectError> {
    let mut tables: BTreeMap<(&Path, &str), Vec<Piece<'_>>> = BTreeMap::new();
    for file in files {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str()))
        else {
            continue;
        };
        let stem = split_name(name).0;
        let shard = of_name(stem);
        tables.entry((folder, shard.map_or(stem, |shard| shard.base))).or_default().push((file, shard));
    }
    for ((folder, _), pieces) in tables {
        let Some((first, Shard { count, .. })) =
            pieces.iter().find_map(|(file, shard)| Some((*file, (*shard)?)))
        else {
            continue;
        };
        let twice = |other: &Path| SelectError::TwoWritings {
            path: folder.to_path_buf(),
            first: name_of(first),
            other: name_of(other),
        };
        let mut seen: BTreeMap<u32, &PathBuf> = BTreeMap::new();
        for (file, shard) in &pieces {
            match shard {
                Some(shard) if shard.count == count => {
                    if let Some(other) = seen.insert(shard.index, file) {
                        let (path, first) = (folder.to_path_buf(), name_of(other));
                        return Err(SelectError::TwoWritings { path, first, other: name_of(file) });
                    }
                }
                _ => return Err(twice(file)),
            }
        }
        if let Some(missing) = (0..count).find(|index| !seen.contains_key(index)) {
            let (path, found) = (folder.to_path_buf(), name_of(first));
            let shard = format!("{missing:05}-of-{count:05}");
            return Err(SelectError::MissingShard { path, shard, found, have: seen.len(), count });
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
