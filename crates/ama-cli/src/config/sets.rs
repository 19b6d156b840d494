//! `--set key=value`, `extends` and paths: everything that happens to the TOML table before it is typed.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::ConfigError;
use super::keys::PATHS;
use crate::files::folder_of;

/// How deep `extends` may go.
const MAX_EXTENDS: usize = 8;

/// Reads a file and what it extends, makes its paths absolute and applies the overrides.
pub(crate) fn load_table(path: &Path, sets: &[String]) -> Result<Table, ConfigError> {
    let mut table = read(path, MAX_EXTENDS)?;
    for text in sets {
        apply(&mut table, text)?;
    }
    Ok(table)
}

/// The parser's complaint in one line, without the picture of the place that its own display draws.
fn complaint(text: &str, error: &toml::de::Error) -> String {
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return error.message().to_owned();
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: {}", error.message())
}

/// One file merged over the one it extends.
fn read(path: &Path, depth: usize) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    let syntax = |message: String| ConfigError::Syntax { path: path.to_path_buf(), message };
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| syntax(complaint(&text, &error)))?;
    let folder = folder_of(path);
    anchor(&mut table, &std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf()));
    match table.remove("extends") {
        None => Ok(table),
        Some(_) if depth == 0 => Err(syntax(format!("`extends` goes deeper than {MAX_EXTENDS} files"))),
        Some(Value::String(below)) => {
            let mut merged = read(&folder.join(below), depth - 1)?;
            merge(&mut merged, table);
            Ok(merged)
        }
        Some(other) => Err(ConfigError::BadType {
            path: path.to_path_buf(),
            section: "extends".into(),
            message: format!("want the path of a configuration, got {other}"),
        }),
    }
}

/// Puts `above` over `below`: tables merge key by key, everything else is replaced.
fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Makes the paths in a freshly read file absolute.
fn anchor(table: &mut Table, folder: &Path) {
    for &(section, key) in PATHS {
        match table.get_mut(section) {
            Some(Value::Table(one)) => anchor_key(one, key, folder),
            Some(Value::Array(list)) => {
                for element in list {
                    if let Value::Table(one) = element {
                        anchor_key(one, key, folder);
                    }
                }
            }
            _ => {}
        }
    }
}

fn anchor_key(table: &mut Table, key: &str, folder: &Path) {
    if let Some(Value::String(text)) = table.get_mut(key) {
        *text = join(folder, text);
    }
}

/// `folder/text`, without `.` and `..` where that needs no file system. What is no path of this machine stays as it is.
fn join(folder: &Path, text: &str) -> String {
    if is_elsewhere(text) {
        return text.to_owned();
    }
    let mut clean = PathBuf::new();
    for part in folder.join(text).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir if clean.file_name().is_some() => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean.to_string_lossy().into_owned()
}

/// Whether a text is an address (`hf://...`), or a path that a shell would have to expand (`~/...`).
pub(super) fn is_elsewhere(text: &str) -> bool {
    text.contains("://") || text == "~" || text.starts_with("~/")
}

/// Applies one `key=value`. Elements of `task` and `method` go by name or by number: `task.helpful.limit=100`.
/// A path is relative to the current folder.
fn apply(table: &mut Table, text: &str) -> Result<(), ConfigError> {
    let bad = |reason: String| ConfigError::BadSet { text: text.to_string(), reason };
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| bad("want key=value, for example --set generalist.lr=3e-4".into()))?;
    let (key, value) = (key.trim(), value.trim());
    let mut value = parse_value(value);
    let parts: Vec<&str> = key.split('.').collect();
    let Some((&last, ancestors)) = parts.split_last() else {
        return Err(bad("the key is empty".into()));
    };
    if last.is_empty() || ancestors.iter().any(|part| part.is_empty()) {
        return Err(bad("a part of the key is empty".into()));
    }
    let is_path = parts.first().is_some_and(|first| PATHS.contains(&(*first, last)));
    if let (true, Value::String(path)) = (is_path, &mut value) {
        let here = std::env::current_dir().unwrap_or_default();
        *path = join(&here, path);
    }
    let mut place = table;
    let mut ancestors = ancestors.iter();
    while let Some(&part) = ancestors.next() {
        let next = place.entry(part).or_insert_with(|| Value::Table(Table::new()));
        place = match next {
            Value::Table(inner) => inner,
            Value::Array(list) => {
                let which = ancestors.next().ok_or_else(|| {
                    bad(format!("`{part}` is a list; name an element, for example {part}.NAME.{last}=..."))
                })?;
                let names = names(list);
                let found = which
                    .parse::<usize>()
                    .ok()
                    .or_else(|| names.iter().position(|name| name.as_deref() == Some(*which)));
                let element = found.and_then(|index| list.get_mut(index)).and_then(Value::as_table_mut);
                element.ok_or_else(|| {
                    let known: Vec<_> = names.into_iter().flatten().collect();
                    bad(format!("`{part}` has no element `{which}`; it has {}", known.join(", ")))
                })?
            }
            _ => return Err(bad(format!("`{part}` holds a value, not a table"))),
        };
    }
    place.insert(last.to_string(), value);
    Ok(())
}

fn names(list: &[Value]) -> Vec<Option<String>> {
    list.iter().map(|element| Some(element.get("name")?.as_str()?.to_string())).collect()
}

/// A TOML value, or the text itself where it is none.
fn parse_value(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    match parsed {
        Some(mut table) if table.len() == 1 => {
            table.remove("value").unwrap_or_else(|| Value::String(text.to_string()))
        }
        _ => Value::String(text.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn sets_reach_tables_and_list_elements() {
        let mut t = table("[generalist]\nlr = 1.0\n[[task]]\nname = 'a'\n[[task]]\nname = 'b'");
        for set in ["generalist.lr=3e-4", "generalist.seeds=[0, 1]", "task.b.limit=7", "task.0.limit=5"] {
            apply(&mut t, set).unwrap();
        }
        apply(&mut t, "loss.kind=ipo").unwrap();
        assert_eq!(t["generalist"]["lr"].as_float(), Some(3e-4));
        assert_eq!(t["generalist"]["seeds"].as_array().unwrap().len(), 2);
        assert_eq!(t["task"][1]["limit"].as_integer(), Some(7));
        assert_eq!(t["task"][0]["limit"].as_integer(), Some(5));
        assert_eq!(t["loss"]["kind"].as_str(), Some("ipo"));
    }

    #[test]
    fn sets_that_cannot_be_applied_say_why() {
        let mut t = table("seed = 1\n[[task]]\nname = 'a'");
        for (set, want) in [
            ("nonsense", "want key=value"),
            ("task.limit=3", "name an element"),
            ("task.z.limit=3", "it has a"),
            ("seed.x=3", "holds a value"),
            (".x=3", "empty"),
        ] {
            let error = apply(&mut t, set).unwrap_err().to_string();
            assert!(error.contains(want), "{set}: {error}");
        }
    }

    #[test]
    fn extends_merges_and_anchors_each_file_at_its_own_folder() {
        let folder = tempfile::tempdir().unwrap();
        let sub = folder.path().join("sub");
        std::fs::create_dir(&sub).unwrap();
        std::fs::write(folder.path().join("base.toml"), "seed = 3\n[model]\npath = 'm'\n[loss]\nbeta = 0.5")
            .unwrap();
        std::fs::write(sub.join("top.toml"), "extends = '../base.toml'\n[loss]\nkind = 'ipo'").unwrap();
        let t = load_table(&sub.join("top.toml"), &[]).unwrap();
        assert_eq!(t["seed"].as_integer(), Some(3));
        assert_eq!(t["loss"]["beta"].as_float(), Some(0.5));
        assert_eq!(t["loss"]["kind"].as_str(), Some("ipo"));
        assert!(t["model"]["path"].as_str().unwrap().ends_with("/m"));
        assert!(!t["model"]["path"].as_str().unwrap().contains("sub"));
    }

    #[test]
    fn endless_extends_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loop.toml");
        std::fs::write(&path, "extends = 'loop.toml'").unwrap();
        assert!(load_table(&path, &[]).unwrap_err().to_string().contains("deeper"));
    }
}
