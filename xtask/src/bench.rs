//! `cargo xtask bench`: `ama` side by side with PyTorch and TRL, on this machine, in one run.
//!
//! ```text
//! options -> Lab (machine, peers, our programs, inputs) -> rows, each ours / peer / ours / peer -> table, raw numbers
//! ```

mod inputs;
mod kernels;
mod lab;
mod long;
mod machine;
mod ours;
mod peers;
mod samples;
mod scoring;
mod table;
mod training;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::shell;
use lab::Lab;
use table::Line;

/// What to measure, how often, and where to write.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask bench                                  every row; half an hour on 2 cores\n  \
    cargo xtask bench --quick                          no TRL, no 135M model, 2 repetitions: is everything in place?\n  \
    cargo xtask bench --rows dpo-10m,logits            these rows only\n  \
    cargo xtask bench --repeat 20 --out speed.md\n\n\
    The first call makes a Python virtual environment (PyTorch, transformers, TRL; 6 GB) with python3 and pip, which \
    keep to their own settings. Inputs are random and are made once, in target/bench/inputs.")]
pub(crate) struct Options {
    /// Two repetitions, one round; leaves out TRL and the rows of the 135M model
    #[arg(long)]
    quick: bool,
    /// Rows to measure, separated by commas [default: all]
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    rows: Vec<Row>,
    /// Measured steps or repetitions of each side, over two rounds taken in turn [default: 10, or 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    repeat: Option<u64>,
    /// Threads of both sides [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    threads: Option<u64>,
    /// Virtual environment of the peers; made if it does not exist, completed if something is missing [default: peers-venv in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    /// Markdown table to write, with the raw numbers beside it (.json) [default: bench/README.md in the target folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A row of the table, or a few that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    /// DPO step, 135M shape, length 256 (prompt 128), 2 pairs
    #[value(name = "dpo-135m")]
    Dpo135m,
    /// DPO step, 10m shape, length 256, 8 pairs
    #[value(name = "dpo-10m")]
    Dpo10m,
    /// The same with ragged lengths
    #[value(name = "dpo-10m-ragged")]
    Dpo10mRagged,
    /// Scoring without gradients, 135M shape
    #[value(name = "score-135m")]
    Score135m,
    /// Log-probability head forward and backward, time and memory
    Head,
    /// Log-probabilities from given logits, against PyTorch and the memory's bandwidth
    Logits,
    /// SFT step of the suite's 362k-parameter model
    SuiteSft,
    /// DPO step of the suite's 362k-parameter model
    SuiteDpo,
    /// 10m shape at 256 to 4096 tokens a sequence, the same tokens a step
    Long,
}

impl Row {
    const ALL: [Self; 9] = [
        Self::Dpo135m,
        Self::Dpo10m,
        Self::Dpo10mRagged,
        Self::Score135m,
        Self::Head,
        Self::Logits,
        Self::SuiteSft,
        Self::SuiteDpo,
        Self::Long,
    ];

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn is_slow(self) -> bool {
        matches!(self, Self::Dpo135m | Self::Score135m)
    }

    /// Measures the row: what the table shows, and the raw numbers.
    fn measure(self, lab: &Lab) -> Result<(Vec<Line>, Value)> {
        match self {
            Self::Dpo135m => training::dpo(lab, &training::DPO_135M),
            Self::Dpo10m => training::dpo(lab, &training::DPO_10M),
            Self::Dpo10mRagged => training::dpo(lab, &training::DPO_10M_RAGGED),
            Self::Score135m => scoring::measure(lab),
            Self::Head => kernels::head(lab),
            Self::Logits => kernels::logits(lab),
            Self::SuiteSft => training::suite(lab, &training::SUITE_SFT),
            Self::SuiteDpo => training::suite(lab, &training::SUITE_DPO),
            Self::Long => long::measure(lab),
        }
    }
}

/// Measures the rows and writes the table. A row that fails is named in the table, and the others are still measured.
///
/// # Errors
/// Something that every row needs is missing (Python, the build), a row failed, or the table cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    let rows: Vec<Row> = match options.rows.as_slice() {
        [] => Row::ALL.into_iter().filter(|row| !(options.quick && row.is_slow())).collect(),
        rows => rows.to_vec(),
    };
    let lab = Lab::open(options)?;
    let out = match &options.out {
        Some(file) => std::env::current_dir()?.join(file),
        None => lab.folder.join("README.md"),
    };
    let (mut lines, mut raw, mut failed) = (Vec::new(), serde_json::Map::new(), Vec::new());
    write(&out, &table::page(&lab, &lines))?; // before anything is measured: it may not be possible
    for row in rows {
        shell::say(&format!("bench: {}", row.name()));
        match row.measure(&lab) {
            Ok((more, numbers)) => {
                lines.extend(more);
                raw.insert(row.name(), numbers);
            }
            Err(error) => {
                shell::say(&format!("bench: {} failed: {error:#}", row.name()));
                lines.push(Line::failed(&row.name()));
                raw.insert(row.name(), json!({ "error": format!("{error:#}") }));
                failed.push(row.name());
            }
        }
        // After every row: a run that is cut off leaves what it has measured.
        write(&out, &table::page(&lab, &lines))?;
        write(
            &out.with_extension("json"),
            &json!({ "machine": lab.machine.json(), "rows": raw }).to_string(),
        )?;
    }
    shell::say(&table::page(&lab, &lines));
    shell::say(&format!("bench: table in {}, raw numbers beside it", out.display()));
    if failed.is_empty() { Ok(()) } else { bail!("bench: failed: {}", failed.join(", ")) }
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
