//! `metrics.jsonl`: one [`StepRecord`] a line, cut back to the checkpoint on resume.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::{StepRecord, TrainError};

/// An append-only log of steps.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens `path` and keeps only the lines of the first `steps` steps (0 starts afresh), so that a resumed run leaves
    /// no step twice. A half-written last line of a killed run goes too.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path.
    pub fn open(path: &Path, steps: u64) -> Result<Self, TrainError> {
        let mut keep = 0_u64;
        if let Ok(file) = File::open(path) {
            let mut reader = BufReader::new(file);
            let mut line = String::new();
            loop {
                line.clear();
                let read = reader.read_line(&mut line).map_err(TrainError::io("reading", path))?;
                let whole = line.ends_with('\n');
                match serde_json::from_str::<StepRecord>(&line) {
                    Ok(record) if whole && record.step <= steps => keep += read as u64,
                    _ => break,
                }
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(TrainError::io("opening", path))?;
        file.set_len(keep).map_err(TrainError::io("truncating", path))?;
        drop(file);
        let file = OpenOptions::new().append(true).open(path).map_err(TrainError::io("opening", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path.
    pub fn push(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(record).map_err(|e| TrainError::Io {
            action: "encoding",
            path: self.path.clone(),
            source: e.into(),
        })?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(TrainError::io("writing", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|l| serde_json::from_str::<StepRecord>(l).unwrap().step).collect()
    }

    #[test]
    fn resuming_cuts_back_to_the_checkpoint_and_drops_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        for step in 1..=5 {
            log.push(&StepRecord { step, ..StepRecord::default() }).unwrap();
        }
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\": 6, \"sta").unwrap();
        let mut log = MetricsLog::open(&path, 3).unwrap();
        log.push(&StepRecord { step: 4, loss: 0.5, ..StepRecord::default() }).unwrap();
        assert_eq!(lines(&path), [1, 2, 3, 4]);
        MetricsLog::open(&path, 9).unwrap();
        assert_eq!(lines(&path), [1, 2, 3, 4]);
        MetricsLog::open(&path, 0).unwrap();
        assert!(lines(&path).is_empty());
    }
}
