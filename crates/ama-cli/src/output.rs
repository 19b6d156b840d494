//! A command's output, ours alone while we make it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::exit::bad_input;
use crate::files;
use crate::lock::Lock;

/// The claim on an output file or folder, which need not exist: a locked `.NAME.ama-lock` beside it.
///
/// Whatever is written on the way to the output has a hidden name that begins with the output's, so that the claim also
/// says whose leftovers those of killed processes are: ours.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    _lock: Lock,
    /// Goes after the lock: only an empty folder can be removed.
    _parents: NewParents,
}

impl Output {
    /// Claims the output `path`, makes its missing parent folders, and removes what killed processes were writing there.
    ///
    /// # Errors
    /// Another process works on it; `path` has no name of its own; the disk refuses.
    pub(crate) fn claim(path: &Path) -> Result<Self> {
        if path.is_symlink() && !path.exists() {
            return Err(bad_input(format!(
                "{}: is a link to a place that does not exist; name the place itself",
                path.display()
            )));
        }
        let Some(lock_path) = lock_path(path) else {
            return Err(bad_input(format!(
                "{}: does not name a file or folder that can be created",
                path.display()
            )));
        };
        let parents = NewParents::of(path)?;
        let lock = match Lock::take(&lock_path, path) {
            // Made by another process, which has ended and found them empty: they are ours to make now.
            Err(_) if !files::folder_of(path).exists() => return Self::claim(path),
            lock => lock?,
        };
        let output = Self { path: path.to_path_buf(), _lock: lock, _parents: parents };
        remove_unfinished(path)?;
        Ok(output)
    }

    /// As [`Output::claim`], for a file: refuses, before any work is done, what a file must not take the place of.
    ///
    /// # Errors
    /// As [`Output::claim`]; a folder, a device or another thing that is no file has that name; a file of a model would be
    /// replaced.
    pub(crate) fn claim_file(path: &Path) -> Result<Self> {
        let refuse = |what: &str| Err(bad_input(format!("{}: {what}", path.display())));
        if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return refuse("is a folder; want the name of a file to write");
        }
        if path.exists() {
            if !path.is_file() {
                return refuse("is no regular file; want the name of a file to write");
            }
            if is_of_a_model(path) {
                return refuse("is a file of a model folder; choose another place for what is written");
            }
        }
        Self::claim(path)
    }

    /// Claims the files that a command writes besides its output, those that are asked for.
    ///
    /// # Errors
    /// As [`Output::claim_file`].
    pub(crate) fn claim_logs(paths: [&Option<PathBuf>; 2]) -> Result<Vec<Self>> {
        if let [Some(one), Some(other)] = paths
            && one == other
        {
            return Err(bad_input(format!("{}: named for two files; name two", one.display())));
        }
        paths.into_iter().flatten().map(|path| Self::claim_file(path)).collect()
    }

    /// Where the output goes.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a model folder would be broken without that file.
fn is_of_a_model(path: &Path) -> bool {
    const NAMES: [&str; 7] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "model.safetensors.index.json",
    ];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    NAMES.contains(&&*name) || name.ends_with(".safetensors")
}

/// Refuses an output folder that another process is about to create.
///
/// # Errors
/// As [`Output::claim`].
pub(crate) fn want_unclaimed(path: &Path) -> Result<()> {
    lock_path(path).map_or(Ok(()), |lock| Lock::want_free(&lock, path))
}

/// `.NAME.ama-lock` beside `path`; `None` for a path like `..`.
fn lock_path(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy();
    Some(path.with_file_name(format!(".{name}.ama-lock")))
}

/// Removes what processes that held the claim before us had not finished: files and folders that were to get the
/// output's name. Nobody else writes them while we hold it.
fn remove_unfinished(path: &Path) -> Result<()> {
    let start = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let folder = files::folder_of(path);
    files::remove_entries(folder, |name| name.strip_prefix(&start).is_some_and(is_unfinished))
}

/// How `ama` and its crates name what is not whole yet, after the name that it will have.
fn is_unfinished(end: &str) -> bool {
    let of_process = |kind: &str| {
        end.strip_prefix(kind).is_some_and(|id| id.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
    };
    (end.starts_with("ama-") && end.ends_with(".tmp")) || of_process("writing-") || of_process("merging-")
}

/// Parent folders that were made for an output; those that are still empty at the end go.
#[derive(Debug)]
struct NewParents(Vec<PathBuf>);

impl NewParents {
    fn of(path: &Path) -> Result<Self> {
        let folder = files::folder_of(path);
        let missing = folder.ancestors().filter(|folder| !folder.as_os_str().is_empty());
        let missing = missing.take_while(|folder| !folder.exists()).map(Path::to_path_buf).collect();
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(missing))
    }
}

impl Drop for NewParents {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Refused for a folder that holds something.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn leftovers_of_this_output_go_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [".out.writing-12-0", ".out.merging-7-1", ".other.writing-12-0", ".out.writing-notes"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("half"), "").unwrap();
        }
        for name in [".out.ama-Xy12Zw.tmp", ".other.ama-Xy12Zw.tmp", ".out.tmp", "out.ama-x.tmp"] {
            fs::write(at(name), "").unwrap();
        }
        drop(Output::claim(&at("out")).unwrap());
        let left = [
            ".other.ama-Xy12Zw.tmp",
            ".other.writing-12-0",
            ".out.tmp",
            ".out.writing-notes",
            "out.ama-x.tmp",
        ];
        assert_eq!(names(folder.path()), left);
    }

    #[test]
    fn parents_that_stay_empty_go() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b/out");
        let claim = Output::claim(&out).unwrap();
        want_unclaimed(&out).unwrap_err();
        drop(claim);
        assert_eq!(names(folder.path()), [""; 0]);
        let claim = Output::claim(&out).unwrap();
        fs::write(claim.path(), "whole").unwrap();
        drop(claim);
        assert_eq!(names(&folder.path().join("a/b")), ["out"]);
        let folder_in_the_way = Output::claim_file(&folder.path().join("a")).unwrap_err().to_string();
        assert!(folder_in_the_way.contains("is a folder"), "{folder_in_the_way}");
        assert!(Output::claim(&out.join("..")).unwrap_err().to_string().contains("does not name"));
    }
}
