//! A stage of a run: a folder, a content key, and `stage.json` written last.
//!
//! - `stage.json` holds the key of what was done: with an equal key the stage is skipped;
//! - `stage.key` holds the key of what was begun: with an equal key the folder is kept and the work continues from
//!   its checkpoints;
//! - anything else in the folder is of no use any more and goes.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exit::Stopped;
use crate::live::LiveReport;
use crate::{console, files, stop};

/// Version of `stage.json`.
const FORMAT: u32 = 1;

/// One stage, by name and content.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    /// Name in messages and folder below the run folder, for instance `specialists/helpful`.
    name: String,
    folder: PathBuf,
    key: String,
    force: bool,
    report: Option<&'a LiveReport>,
}

/// `stage.json`.
#[derive(Debug, Serialize, Deserialize)]
struct StageFile<T> {
    format: u32,
    stage: String,
    key: String,
    seconds: f64,
    outputs: T,
}

impl<'a> Stage<'a> {
    /// The stage `name` of the run folder `root`; `key` covers all its inputs and settings.
    pub(crate) fn new(root: &Path, name: impl Into<String>, key: String, force: bool) -> Self {
        let name = name.into();
        Self { folder: root.join(&name), name, key, force, report: None }
    }

    /// Also brings a page up to date when it is done.
    pub(crate) fn reporting(self, report: &'a LiveReport) -> Self {
        Self { report: Some(report), ..self }
    }

    /// What an earlier call with the same key left, or else what `work` makes in the stage's folder.
    ///
    /// # Errors
    /// `work` failed, the disk refuses, or the user asked to stop.
    pub(crate) fn run<T: Serialize + DeserializeOwned>(
        &self,
        work: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let done = self.folder.join("stage.json");
        if !self.force
            && let Some(outputs) = self.finished(&done)?
        {
            console::note(&format!("{:<34} unchanged", self.name));
            return Ok(outputs);
        }
        if stop::flag().load(Ordering::Relaxed) {
            return Err(Stopped.into());
        }
        self.begin(&done)?;
        let started = Instant::now();
        let outputs = work(&self.folder).with_context(|| self.name.clone())?;
        let seconds = started.elapsed().as_secs_f64();
        let file =
            StageFile { format: FORMAT, stage: self.name.clone(), key: self.key.clone(), seconds, outputs };
        files::write_json(&done, &file)?;
        // What was there to continue from is of no use now.
        clear(&self.folder.join("checkpoints"))?;
        console::note(&format!("{:<34} done in {seconds:.1} s", self.name));
        if let Some(report) = self.report {
            report.refresh();
        }
        Ok(file.outputs)
    }

    fn finished<T: DeserializeOwned>(&self, done: &Path) -> Result<Option<T>> {
        let Some(file) = files::read_json::<StageFile<serde_json::Value>>(done)? else { return Ok(None) };
        if file.format != FORMAT || file.key != self.key {
            return Ok(None);
        }
        let outputs = serde_json::from_value(file.outputs).with_context(|| {
            format!("{}: not what this version writes; delete it and run again", done.display())
        })?;
        Ok(Some(outputs))
    }

    /// Keeps the folder if the same work was begun in it, else empties it.
    fn begin(&self, done: &Path) -> Result<()> {
        let begun = self.folder.join("stage.key");
        let same = std::fs::read_to_string(&begun).is_ok_and(|key| key == self.key);
        if !same || self.force || done.exists() {
            if done.exists() && !self.force {
                console::note(&format!("{:<34} inputs or settings changed: done again", self.name));
            }
            files::remove(&self.folder)?;
        }
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        remove_unfinished(&self.folder)?;
        files::write_whole(&begun, self.key.as_bytes())
    }
}

/// Removes what a killed process was writing: until they are whole, files and folders have names with a dot in front. The
/// run folder's lock says that nobody is writing now.
fn remove_unfinished(folder: &Path) -> Result<()> {
    files::remove_entries(folder, |name| name.starts_with('.'))
}

/// Empties a folder and leaves it there.
fn clear(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        files::remove(folder)?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    fn stage(root: &Path, key: &str) -> Stage<'static> {
        Stage::new(root, "a/b", key.to_string(), false)
    }

    #[test]
    fn done_is_skipped_begun_is_kept_changed_is_emptied() {
        let root = tempfile::tempdir().unwrap();
        let failed: Result<u32> = stage(root.path(), "k1").run(|folder| {
            std::fs::write(folder.join("state"), "half").unwrap();
            std::fs::create_dir(folder.join(".final.writing-1-0")).unwrap();
            std::fs::write(folder.join(".tmp"), "h").unwrap();
            bail!("cut off")
        });
        assert!(failed.is_err());
        let kept = stage(root.path(), "k1").run(|folder| {
            let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            assert!(
                names.into_iter().all(|name| !name.to_string_lossy().starts_with('.')),
                "half-written things go"
            );
            Ok(std::fs::read_to_string(folder.join("state")).unwrap())
        });
        assert_eq!(kept.unwrap(), "half", "the same work goes on from what is there");
        let again: String = stage(root.path(), "k1").run(|_| bail!("not called")).unwrap();
        assert_eq!(again, "half", "a finished stage is skipped");
        let other = stage(root.path(), "k2").run(|folder| Ok(folder.join("state").exists()));
        assert!(!other.unwrap(), "other work starts in an empty folder");
        let forced = Stage::new(root.path(), "a/b", "k2".into(), true).run(|_| Ok(7));
        assert_eq!(forced.unwrap(), 7, "force does a finished stage again");
    }
}
