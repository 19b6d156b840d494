//! How a caller watches and stops a long run.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::record::StepRecord;

/// Receives what happens; every method does nothing unless overridden.
pub trait Observer {
    /// One optimiser step is done; `done` and `total` are in the budget's unit (steps or tokens).
    fn step(&mut self, record: &StepRecord, done: u64, total: u64) {
        let _ = (record, done, total);
    }
    /// Forward-only work advanced to `done` of `total` pairs.
    fn scored(&mut self, label: &str, done: u64, total: u64) {
        let _ = (label, done, total);
    }
    /// A checkpoint was written.
    fn checkpoint(&mut self, step: u64, path: &std::path::Path) {
        let _ = (step, path);
    }
}

/// An [`Observer`] that ignores everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;
impl Observer for Silent {}

/// The caller's side of a long run: a stop flag that is read between steps, and an observer.
pub struct Control<'a> {
    stop: &'a AtomicBool,
    /// Who is told about progress.
    pub observer: &'a mut dyn Observer,
}

impl std::fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("stop", &self.stopped()).finish_non_exhaustive()
    }
}

impl<'a> Control<'a> {
    /// `stop` may be set at any time, from any thread or a signal handler.
    pub fn new(stop: &'a AtomicBool, observer: &'a mut dyn Observer) -> Self {
        Self { stop, observer }
    }

    /// Whether the caller asked to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
