//! Which format a file is in: by its name, and a look at its first bytes for what a name does not say.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::DataError;

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Ipc,
    JsonLines,
}

/// Endings of compressed JSON Lines; the content says how it is compressed.
const COMPRESSED: [&str; 4] = ["gz", "gzip", "zst", "zstd"];

/// Endings of tables that are not read, but look like data.
const TABLES: [&str; 5] = ["csv", "tsv", "xlsx", "txt", "pkl"];

/// A file name without the endings that say its format, and those endings in lower case.
pub(crate) fn split_name(name: &str) -> (&str, String) {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let ending = ending.to_ascii_lowercase();
    if !COMPRESSED.contains(&ending.as_str()) {
        return (stem, ending);
    }
    let (stem, inner) = stem.rsplit_once('.').unwrap_or((stem, ""));
    (stem, format!("{}.{ending}", inner.to_ascii_lowercase()))
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The format that the name says; `None` for a name that says none that is read.
pub(crate) fn format_of(path: &Path) -> Option<Format> {
    let (_, ending) = split_name(file_name(path));
    let (inner, compressed) = match ending.split_once('.') {
        Some((inner, _)) => (inner, true),
        None => (ending.as_str(), false),
    };
    match inner {
        "jsonl" | "ndjson" | "json" => Some(Format::JsonLines),
        "parquet" | "pq" if !compressed => Some(Format::Parquet),
        "arrow" | "ipc" | "feather" if !compressed => Some(Format::Ipc),
        _ => None,
    }
}

/// Whether the name is that of a table in a format that is not read (`.csv` for one).
pub(crate) fn is_other_table(path: &Path) -> bool {
    let (_, ending) = split_name(file_name(path));
    TABLES[..3].contains(&ending.split('.').next().unwrap_or_default())
}

/// The refusal of a file whose name says no format that is read, with what to do about it.
pub(crate) fn unknown(path: &Path) -> DataError {
    let (_, ending) = split_name(file_name(path));
    let remedy = match ending.split('.').next().unwrap_or_default() {
        "csv" | "tsv" => {
            "write it as Parquet or JSON Lines, for instance with `pandas.read_csv(...).to_parquet(...)` (a CSV file \
             does not say which cells are empty text and which are missing)"
        }
        table if TABLES.contains(&table) => "write it as Parquet or JSON Lines",
        "parquet" | "pq" | "arrow" | "bz2" | "xz" | "zip" | "lz4" | "7z" => "decompress it first",
        _ => "convert or rename it",
    };
    DataError::UnknownFormat { path: path.to_path_buf(), remedy }
}

/// The first bytes of a file, at most `len`.
pub(crate) fn head(path: &Path, len: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(DataError::io(path, "open"))?;
    file.take(len).read_to_end(&mut bytes).map_err(DataError::io(path, "read"))?;
    Ok(bytes)
}

/// Refuses text in a compression that is not read, by the first bytes of the file.
pub(crate) fn refuse_compressed(path: &Path, head: &[u8]) -> Result<(), DataError> {
    let kinds: [(&[u8], &str); 5] = [
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"PK\x03\x04", "zip"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"\x04\x22\x4d\x18", "LZ4"),
    ];
    match kinds.into_iter().find(|(magic, _)| head.starts_with(magic)) {
        Some((_, name)) => Err(DataError::Compressed { path: path.to_path_buf(), name }),
        None => Ok(()),
    }
}

/// Refuses what Git has in place of a large file where git-lfs was not there when the repository was cloned.
pub(crate) fn refuse_pointer(path: &Path) -> Result<(), DataError> {
    let pointers: [&[u8]; 2] =
        [b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"];
    let head = head(path, 64)?;
    match pointers.iter().any(|pointer| head.starts_with(pointer)) {
        true => Err(DataError::GitLfsPointer { path: path.to_path_buf() }),
        false => Ok(()),
    }
}
