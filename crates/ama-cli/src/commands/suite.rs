//! `ama suite generate`: the embedded task suite from a seed.

use std::path::PathBuf;

use ama_suite::{Sizes, Task, generate, write};
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::console::Console;
use crate::exit::bad_input;
use crate::files;
use crate::output::Output;

/// Options of `ama suite`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a suite: preference pairs of three tasks, a corpus, a tokenizer and the base model's config.json
    Generate(Generate),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ama suite generate --seed 7 --out mysuite\n  \
    ama suite generate --seed 7 --sizes A --out mysuite-a\n  \
    ama suite generate --seed 7 --helpful 60 --harmless 60 --reasoning 40 --held-out 10 --sft 500 --out tiny")]
struct Generate {
    /// Everything follows from it; another seed gives another suite
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Size set
    #[arg(long, value_enum, default_value_t = SizesArg::B, ignore_case = true)]
    sizes: SizesArg,
    /// Training pairs of the helpful task, instead of the set's
    #[arg(long, value_name = "N")]
    helpful: Option<usize>,
    /// Training pairs of the harmless task, instead of the set's
    #[arg(long, value_name = "N")]
    harmless: Option<usize>,
    /// Training pairs of the reasoning task, instead of the set's
    #[arg(long, value_name = "N")]
    reasoning: Option<usize>,
    /// Validation and test pairs of every task, instead of the set's
    #[arg(long, value_name = "N")]
    held_out: Option<usize>,
    /// Examples of the base model's corpus, instead of the set's
    #[arg(long, value_name = "N")]
    sft: Option<usize>,
    /// Folder to write; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Named size sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SizesArg {
    /// 6000 helpful, 1500 harmless, 400 reasoning
    A,
    /// 1500 helpful, 6000 harmless, 400 reasoning
    B,
    /// 6000 helpful, 6000 harmless, 400 reasoning: A and B are its first rows
    Union,
}

/// Runs `ama suite`.
///
/// # Errors
/// The folder is taken or cannot be written.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let Action::Generate(options) = &options.action;
    let _claim = Output::claim(&options.out)?;
    files::want_free(&options.out)?;
    let named = match options.sizes {
        SizesArg::A => Sizes::A,
        SizesArg::B => Sizes::B,
        SizesArg::Union => Sizes::UNION,
    };
    let sizes = Sizes {
        helpful: options.helpful.unwrap_or(named.helpful),
        harmless: options.harmless.unwrap_or(named.harmless),
        reasoning: options.reasoning.unwrap_or(named.reasoning),
        held_out: options.held_out.unwrap_or(named.held_out),
        sft: options.sft.unwrap_or(named.sft),
    };
    let largest =
        [sizes.helpful, sizes.harmless, sizes.reasoning, sizes.held_out, sizes.sft].into_iter().max();
    if largest.is_some_and(|largest| largest > 1_000_000) {
        return Err(bad_input(
            "a size is above 1000000; the templates do not have that many different prompts",
        ));
    }
    let suite = generate(options.seed, &sizes);
    write(&suite, &options.out)?;
    for task in Task::ALL {
        let splits = suite.task(task);
        console.say(&format!(
            "{:<10} {:>6} train {:>5} valid {:>5} test",
            task.name(),
            splits.train.len(),
            splits.valid.len(),
            splits.test.len()
        ))?;
    }
    console.say(&format!(
        "{:<10} {:>6} examples, in {}",
        "corpus",
        suite.sft.len(),
        options.out.display()
    ))?;
    console.finish(&json!({
        "out": options.out,
        "seed": options.seed,
        "train": { "helpful": sizes.helpful, "harmless": sizes.harmless, "reasoning": sizes.reasoning },
        "held_out": sizes.held_out,
        "sft": sizes.sft,
    }))
}
