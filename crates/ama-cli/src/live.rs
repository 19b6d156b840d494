//! `report.html` of a run that goes on: brought up to date between steps, seldom and in bounded time.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ama_report::{PageOptions, Reading, Run, page};
use anyhow::Result;

use crate::files;
use crate::output::Output;

/// The page is written at most this often.
const EVERY: Duration = Duration::from_secs(15);
/// And takes at most one part in so many of the time.
const SHARE: u32 = 50;
/// Bytes of logs that are read for it; longer logs are sampled.
const READ: u64 = 8 << 20;
/// Name of the page in the run folder.
pub(crate) const PAGE: &str = "report.html";
/// A page of a running run loads itself again after so many seconds.
pub(crate) const RELOAD_SECONDS: u32 = 15;

/// The page of one run folder.
#[derive(Debug)]
pub(crate) struct LiveReport {
    folder: PathBuf,
    /// When the page is due next.
    due: Mutex<Instant>,
}

impl LiveReport {
    /// Of the run folder as the user named it; nothing is written yet.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), due: Mutex::new(Instant::now()) }
    }

    /// Writes the page if it is due and no other thread is just doing so. A page that cannot be written is no reason to
    /// stop training.
    pub(crate) fn refresh(&self) {
        let Ok(mut due) = self.due.try_lock() else { return };
        let started = Instant::now();
        if started < *due {
            return;
        }
        if let Err(error) = self.write(|run| run) {
            tracing::warn!("{error:#}");
        }
        *due = Instant::now() + EVERY.max(started.elapsed() * SHARE);
    }

    /// Writes the page of a run that nobody works in from now on; `None` if there is nothing to write or it cannot be
    /// written.
    pub(crate) fn finish(&self) -> Option<PathBuf> {
        match self.write(Run::released) {
            Ok(written) => written,
            Err(error) => {
                tracing::warn!("{error:#}");
                None
            }
        }
    }

    /// Writes the page of a folder that is a run folder already.
    fn write(&self, as_seen: impl FnOnce(Run) -> Run) -> Result<Option<PathBuf>> {
        if !self.folder.join("run.json").exists() {
            return Ok(None);
        }
        let run = as_seen(Run::read(&self.folder, Reading::Within(READ))?);
        let html = page(&[run], PageOptions { reload_seconds: Some(RELOAD_SECONDS) })?;
        let page = Output::claim_file(&self.folder.join(PAGE))?;
        files::write_whole(page.path(), html.as_bytes())?;
        Ok(Some(page.path().to_path_buf()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_folder_gets_a_page_and_not_all_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let report = LiveReport::new(folder.path());
        report.refresh();
        assert_eq!(report.finish(), None);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing that would make the folder not ours"
        );

        std::fs::write(folder.path().join("run.json"), r#"{"format": "ama-run 1"}"#).unwrap();
        let path = LiveReport::new(folder.path()).finish().unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("not finished"));
        std::fs::remove_file(&path).unwrap();
        report.refresh();
        assert!(!path.exists(), "the first call was just now");
    }
}
