//! `cargo xtask experiment`: every method on the suite, over seeds, size sets and budgets.
//!
//! A seed decides on the base model, the specialists and the generalists together, so an interval over seeds is one over
//! whole experiments. All generalists of a budget see the same number of tokens; merges of the specialists see none. Test
//! pairs are looked at once; what is chosen (learning rates, the parameters of a merge) is chosen on validation pairs.

mod choice;
mod merges;
pub(crate) mod runs;
mod stats;
pub(crate) mod suite;
pub(crate) mod table;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use self::choice::Rates;
use self::runs::{FIRST_STAGE, Outcome};
use self::suite::{Size, Suite};
use crate::{pipeline, shell};

/// What to run, and where to.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seeds of whole experiments
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5")]
    seeds: Vec<u64>,
    /// Size sets of the suite
    #[arg(long, value_enum, value_delimiter = ',', default_value = "b,a")]
    sizes: Vec<Size>,
    /// Tokens of a generalist
    #[arg(long, value_delimiter = ',', default_value = "48000,96000,192000")]
    tokens: Vec<u64>,
    /// The same learning rate for every method, instead of the best of each on validation pairs
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// Compare on a suite that is generated from this seed instead of the embedded one
    #[arg(long, value_name = "SEED")]
    suite_seed: Option<u64>,
    /// Whole experiments at a time, one thread each; no result depends on it [default: as many as there are cores]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Folder of all runs and of results.md; finished runs in it are kept [default: runs/experiment, with the suite's
    /// seed and the learning rate appended where they are given]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Options {
    /// A folder of its own for everything that changes all runs.
    fn default_out(&self) -> PathBuf {
        let suite = self.suite_seed.map_or_else(String::new, |seed| format!("-suite-{seed}"));
        let rate = self.lr.map_or_else(String::new, |rate| format!("-lr-{rate:e}"));
        PathBuf::from("runs").join(format!("experiment{suite}{rate}"))
    }
}

/// Runs what is missing and writes the tables.
///
/// # Errors
/// A build or a run failed, or a folder could not be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    pipeline::build()?;
    let out = shell::root().join(options.out.clone().unwrap_or_else(|| options.default_out()));
    let suite = Suite::open(options.suite_seed, &out)?;
    let home = |size: Size| out.join(format!("size-{}", size.name()));
    let mut pieces = Vec::new();
    let mut choices = String::new();
    for &size in &options.sizes {
        let home = home(size);
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        let rates = match options.lr {
            Some(rate) => Rates::Same(rate),
            None => Rates::choose(&suite, size, &home, options.jobs)?,
        };
        choices += &rates.markdown(size);
        pieces.extend(options.seeds.iter().map(|&seed| (size, seed, rates.clone())));
    }
    let outcomes = runs::side_by_side(options.jobs, &pieces, |(size, seed, rates)| {
        one(&suite, *size, *seed, rates, &options.tokens, &home(*size).join(format!("seed-{seed}")))
    })?;
    let how = options.lr.map_or_else(String::new, |rate| {
        format!("Every method at a learning rate of {rate:e}, chosen by nobody.\n\n")
    });
    let text = how + &table::markdown(&outcomes.concat()) + &choices;
    let file = out.join("results.md");
    shell::write_whole(&file, &text)?;
    shell::say(&format!("{text}\ntables in {}", file.display()));
    Ok(())
}

/// One whole experiment: every method at every budget, and the merges.
fn one(
    suite: &Suite,
    size: Size,
    seed: u64,
    rates: &Rates,
    budgets: &[u64],
    home: &Path,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut first: Option<PathBuf> = None;
    for &tokens in budgets {
        let folder = home.join(format!("tokens-{tokens}"));
        if let Some(first) = &first {
            runs::share(FIRST_STAGE, first, &folder)?;
        }
        let mut sets = vec![
            format!("seed={seed}"),
            format!("generalist.tokens={tokens}"),
            format!("generalist.seeds=[{seed}]"),
        ];
        sets.extend(rates.sets());
        runs::run(&suite.methods(size), &folder, &sets)?;
        // Base and specialists are the same for every budget.
        let read = runs::read(&folder, size, tokens, seed)?;
        outcomes.extend(read.into_iter().filter(|outcome| outcome.tokens.is_some() || first.is_none()));
        first.get_or_insert(folder);
    }
    if let Some(first) = &first {
        outcomes.extend(merges::all(suite, first, size, seed)?);
    }
    Ok(outcomes)
}
