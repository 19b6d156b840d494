//! Progress: bars with an ETA on a terminal, plain lines elsewhere.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ama_train::{MetricsLog, Observer, StepRecord, TrainError};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::console;
use crate::fail_point;
use crate::live::LiveReport;

/// All bars of the program, so that parallel runs draw one below the other.
static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5)));

/// Without a terminal, a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Where the steps are logged.
enum Metrics {
    Nowhere,
    /// Opened at the first step, when it is known after how many steps a resumed run goes on.
    To(PathBuf),
    Open(MetricsLog),
}

/// Follows one training run or scoring pass; also writes its `metrics.jsonl`.
pub(crate) struct Progress<'a> {
    label: String,
    bar: Option<ProgressBar>,
    started: Instant,
    said: Instant,
    metrics: Metrics,
    report: Option<&'a LiveReport>,
    /// The first error of the metrics log; an observer cannot return it.
    failed: Option<TrainError>,
}

impl<'a> Progress<'a> {
    /// `label` names the work, for instance `specialist helpful`.
    pub(crate) fn new(label: impl Into<String>) -> Self {
        let now = Instant::now();
        Self {
            label: label.into(),
            bar: None,
            started: now,
            said: now,
            metrics: Metrics::Nowhere,
            report: None,
            failed: None,
        }
    }

    /// Also writes every step to a log, which is cut back to where the run resumes, and keeps a page up to date.
    pub(crate) fn with_metrics(mut self, path: Option<PathBuf>, report: Option<&'a LiveReport>) -> Self {
        self.metrics = path.map_or(Metrics::Nowhere, Metrics::To);
        self.report = report;
        self
    }

    fn log(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        if let Metrics::To(path) = &self.metrics {
            self.metrics = Metrics::Open(MetricsLog::open(path, record.step.saturating_sub(1))?);
        }
        match &mut self.metrics {
            Metrics::Open(log) => log.push(record),
            _ => Ok(()),
        }
    }

    /// Shows how many of the bytes of a result are written.
    pub(crate) fn written(&mut self, tensor: &str, done: u64, total: u64) {
        fail_point::reach("written");
        let label = self.label.clone();
        self.advance(&label, done >> 20, total.div_ceil(1 << 20), || format!("MiB {tensor}"));
    }

    /// Ends the bar.
    ///
    /// # Errors
    /// The metrics could not be written on the way.
    pub(crate) fn finish(mut self) -> Result<(), TrainError> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    fn advance(&mut self, label: &str, done: u64, total: u64, message: impl Fn() -> String) {
        if console::on_terminal() {
            let bar = self.bar.get_or_insert_with(|| new_bar(total));
            if bar.length() != Some(total) {
                bar.set_length(total);
            }
            bar.set_prefix(label.to_string());
            bar.set_message(message());
            bar.set_position(done);
        } else if self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            let elapsed = self.started.elapsed().as_secs_f64();
            let left =
                if done > 0 { elapsed * total.saturating_sub(done) as f64 / done as f64 } else { f64::NAN };
            console::note(&format!("{label}: {done}/{total}, {left:.0} s left, {}", message()));
        }
    }
}

fn new_bar(total: u64) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(total));
    let style = "{prefix:28} {bar:30} {human_pos}/{human_len} {elapsed} ETA {eta}  {msg}";
    // The template is a constant; were it wrong, the default style would do.
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

impl Observer for Progress<'_> {
    fn step(&mut self, record: &StepRecord, done: u64, total: u64) {
        if self.failed.is_none() {
            self.failed = self.log(record).err();
        }
        if let Some(report) = self.report {
            report.refresh();
        }
        fail_point::reach("step");
        let label = self.label.clone();
        self.advance(&label, done, total, || {
            format!("step {} loss {:.4} {:.0} tok/s", record.step, record.loss, record.tokens_per_s)
        });
    }

    fn scored(&mut self, label: &str, done: u64, total: u64) {
        fail_point::reach("scored");
        let label = if self.label.is_empty() { label.to_string() } else { self.label.clone() };
        self.advance(&label, done, total, || "pairs".to_string());
    }

    fn checkpoint(&mut self, step: u64, path: &Path) {
        fail_point::reach("checkpoint");
        tracing::debug!(step, path = %path.display(), "checkpoint");
    }
}
