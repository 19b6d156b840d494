//! A file that one process at a time holds locked, and that goes with its holder.
//!
//! The operating system ends the lock with its process, however that ends: what is left of a killed holder is an unlocked
//! file, which the next one takes over. The holder removes the file before it unlocks it, so somebody who waited for it
//! may lock a file that has no name any more; such a lock excludes nobody, is noticed, and is taken again.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use same_file::Handle;

use crate::console;
use crate::exit::bad_input;

/// How long to wait for a holder that is just ending (one that was killed a moment ago, say).
const PATIENCE: Duration = Duration::from_millis(300);

/// A held lock; dropped, it is free and its file is gone.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    /// Open as long as the lock is held.
    _file: File,
}

impl Lock {
    /// Locks the file `path`, whose folder exists; `output` is what the lock stands for, in messages.
    ///
    /// # Errors
    /// Another process holds it (with that process's id), or the file cannot be opened.
    pub(crate) fn take(path: &Path, output: &Path) -> Result<Self> {
        let started = Instant::now();
        loop {
            let mut file = open(path).with_context(|| format!("cannot open {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => {
                    if has_name(&file, path)? {
                        record_holder(&mut file);
                        return Ok(Self { path: path.to_path_buf(), _file: file });
                    }
                }
                Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                    std::thread::sleep(PATIENCE / 20);
                }
                Err(TryLockError::WouldBlock) => return Err(taken(&mut file, output)),
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                    console::note(&format!(
                        "{}: this file system has no locks; see to it that no other `ama` writes there",
                        output.display()
                    ));
                    return Ok(Self { path: path.to_path_buf(), _file: file });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }

    /// Refuses if another process holds the lock of the file `path`, which need not exist.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub(crate) fn want_free(path: &Path, output: &Path) -> Result<()> {
        // Taken for a moment: whoever wants it just then waits longer than that.
        if path.exists() { Self::take(path, output).map(drop) } else { Ok(()) }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked: an unlocked file of that name may be somebody else's already.
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}

/// Whether `path` is still the name of the open file.
fn has_name(file: &File, path: &Path) -> Result<bool> {
    let context = || format!("cannot look at {}", path.display());
    let held = file.try_clone().and_then(Handle::from_file).with_context(context)?;
    match Handle::from_path(path) {
        Ok(named) => Ok(held == named),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(context),
    }
}

/// Writes the process id for the message of whoever comes second. Without it (a full disk, say) the lock is as good.
fn record_holder(file: &mut File) {
    let _ = file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
}

fn taken(file: &mut File, output: &Path) -> anyhow::Error {
    let mut text = String::new();
    // Where locks are mandatory the file cannot be read now.
    let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    let holder = match read.ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(pid) => format!("another `ama` (process {pid})"),
        None => "another `ama`".to_string(),
    };
    bad_input(format!(
        "{}: {holder} is working on it; wait for it to end or choose another output",
        output.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn the_second_is_refused_with_the_first_process_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, output) = (folder.path().join(".out.ama-lock"), Path::new("some/out"));
        let first = Lock::take(&path, output).unwrap();
        let second = Lock::take(&path, output).unwrap_err().to_string();
        assert!(second.contains(&format!("process {}", std::process::id())), "{second}");
        assert!(second.contains("some/out"), "{second}");
        assert!(Lock::want_free(&path, output).is_err());
        drop(first);
        assert!(!path.exists());
        Lock::want_free(&path, output).unwrap();
        // What a killed process left is no obstacle, whatever it says.
        fs::write(&path, "4194305 and more").unwrap();
        drop(Lock::take(&path, output).unwrap());
        assert!(!path.exists());
    }

    /// Without the check of the name, one thread locks the file that another has just removed, and a third a new one.
    #[test]
    fn removal_lets_no_two_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (inside, times) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while times.load(Ordering::Relaxed) < 400 {
                        let Ok(lock) = Lock::take(&path, &path) else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                        times.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(!path.exists());
    }
}
