//! Compiled kernels on disk.
//!
//! One file per kernel source, options, architecture and compiler: `<hash of all that>.ptx`. Its first line holds the
//! length and the hash of the rest, so a file that was cut off or changed is not believed. Files are written under
//! another name, synced and renamed: a reader sees all of one or none, and two processes may write the same one at
//! once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where compiled kernels are kept between processes.
///
/// The cache only saves time: a folder that cannot be read or written is the same as none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelCache {
    folder: Option<PathBuf>,
}

/// First word of an entry; to be changed with its layout.
const MAGIC: &str = "ama-loss-kernel-1";

impl KernelCache {
    /// `ama/kernels` in the user's cache folder: `$XDG_CACHE_HOME` or `~/.cache`, `%LOCALAPPDATA%` on Windows.
    /// [`none`](Self::none) if there is no such folder.
    pub fn user() -> Self {
        let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = if cfg!(windows) {
            from("LOCALAPPDATA")
        } else {
            from("XDG_CACHE_HOME").or_else(|| Some(from("HOME")?.join(".cache")))
        };
        Self { folder: base.map(|base| base.join("ama").join("kernels")) }
    }

    /// `folder`, which is created when the first kernel is stored.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()) }
    }

    /// Compile in every process.
    pub fn none() -> Self {
        Self::default()
    }

    /// The entry of `key`, if it is there and whole.
    pub(super) fn load(&self, key: &str) -> Option<String> {
        let text = fs::read_to_string(entry(self.folder.as_deref()?, key)).ok()?;
        let (head, body) = text.split_once('\n')?;
        (head == header(body)).then(|| body.to_owned())
    }

    /// Keeps `body` under `key`, if it can.
    pub(super) fn store(&self, key: &str, body: &str) {
        if let Some(folder) = &self.folder {
            // Without an entry the next process compiles again; nothing else is lost.
            let _ = write(folder, key, body);
        }
    }
}

fn entry(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.ptx"))
}

fn header(body: &str) -> String {
    format!("{MAGIC} {} {}", body.len(), blake3::hash(body.as_bytes()).to_hex())
}

fn write(folder: &Path, key: &str, body: &str) -> io::Result<()> {
    static WRITES: AtomicU32 = AtomicU32::new(0);
    fs::create_dir_all(folder)?;
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let unfinished = folder.join(format!("{key}.{}-{number}.unfinished", std::process::id()));
    let written = (|| {
        let mut file = File::create(&unfinished)?;
        write!(file, "{}\n{body}", header(body))?;
        file.sync_all()?;
        fs::rename(&unfinished, entry(folder, key))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_and_a_damaged_one_does_not() {
        let folder = std::env::temp_dir().join(format!("ama-loss-cache-{}", std::process::id()));
        let cache = KernelCache::folder(&folder);
        assert_eq!(cache.load("key"), None);
        cache.store("key", ".version 7.0\nbody\n");
        assert_eq!(cache.load("key").as_deref(), Some(".version 7.0\nbody\n"));
        assert_eq!(cache.load("other"), None);
        let whole = fs::read_to_string(entry(&folder, "key")).unwrap();
        for damaged in
            [&whole[..whole.len() - 1], &whole.replace("7.0", "7.1"), "", "ama-loss-kernel-1", "\n"]
        {
            fs::write(entry(&folder, "key"), damaged).unwrap();
            assert_eq!(cache.load("key"), None, "{damaged:?}");
        }
        cache.store("key", "new");
        assert_eq!(cache.load("key").as_deref(), Some("new"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing unfinished stays");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_is_no_cache() {
        let cache = KernelCache::folder("/dev/null/kernels");
        cache.store("key", "body");
        assert_eq!(cache.load("key"), None);
        KernelCache::none().store("key", "body");
        assert_eq!(KernelCache::none().load("key"), None);
    }
}
