//! Files that may be missing or damaged.

use std::io::ErrorKind;
use std::path::Path;

/// A larger JSON file is none of ours, but for summaries, of which only the end is read.
const LARGEST: u64 = 64 << 20;

/// The text of a file; `None` if it is not there. What is wrong goes to the notes.
pub(crate) fn text(path: &Path, notes: &mut Vec<String>) -> Option<String> {
    let read = std::fs::metadata(path).and_then(|about| {
        if about.len() > LARGEST {
            return Err(std::io::Error::new(ErrorKind::FileTooLarge, "it is larger than 64 MiB"));
        }
        std::fs::read(path)
    });
    match read {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            notes.push(format!("{}: cannot be read: {error}", name(path)));
            None
        }
    }
}

/// As [`text`], parsed.
pub(crate) fn json<T: serde::de::DeserializeOwned>(path: &Path, notes: &mut Vec<String>) -> Option<T> {
    let text = text(path, notes)?;
    match serde_json::from_str(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            notes.push(format!("{}: damaged ({error}); delete it and call `ama run` again", name(path)));
            None
        }
    }
}

/// The last two components: enough to find a file in a run folder.
fn name(path: &Path) -> String {
    let mut last: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    last.reverse();
    last.join("/")
}
