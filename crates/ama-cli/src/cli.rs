//! The command line: parsing, threads, logging, exit codes.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::commands::{
    data, eval, generate, merge, report, run, score, sft, specialist, suite, train, watch,
};
use crate::console::{self, Console};
use crate::device::{self, Device};
use crate::exit;
use crate::stop;
use crate::threads;

/// Align one language model on many preference tasks (AutoMixAlign, arXiv:2506.00569)
#[derive(Debug, Parser)]
#[command(name = "ama", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Print one JSON object last on stdout; everything else goes to stderr
    #[arg(long, global = true)]
    json: bool,
    /// Worker threads [default: as many as the machine offers]; results depend on it in the last bits
    #[arg(long, global = true, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print where the time went at the end: every op's calls, milliseconds, GFLOP/s and GB/s
    #[arg(long, global = true)]
    profile: bool,
    /// Where the language-model head and its gradient run: cpu, or cuda:N (a build with `--features cuda`); the other
    /// layers stay on the CPU [default: cpu]
    #[arg(long, global = true, value_name = "DEVICE", default_value = "cpu", hide_default_value = true)]
    device: Device,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look into preference files, or check that every row can be used
    Data(data::Options),
    /// The embedded three-task suite
    Suite(suite::Options),
    /// Supervised fine-tuning on prompts and completions
    Sft(sft::Options),
    /// Plain single-task DPO
    Specialist(specialist::Options),
    /// Log-probabilities of every pair, to a Parquet file
    Score(score::Options),
    /// One stage-2 run of a configuration, with any mixer
    Train(train::Options),
    /// Held-out loss, accuracy, margin and verified win rate of a model
    Eval(eval::Options),
    /// Continue a prompt
    Generate(generate::Options),
    /// Merge models: soup, SLERP, task arithmetic, TIES, DARE, DELLA, or a mergekit configuration
    Merge(merge::Options),
    /// Every stage of a configuration: skipped when done, resumed when cut off
    Run(run::Options),
    /// A run folder, or several side by side, as one HTML page
    Report(report::Options),
    /// A running run's weights, excess and time left, live
    Watch(watch::Options),
}

impl Command {
    /// What ends the message of a call that was stopped and has kept its state.
    fn how_to_continue(&self) -> &'static str {
        match self {
            Self::Sft(_) | Self::Specialist(_) => "; call it again with --resume to continue",
            _ => "; call it again to continue",
        }
    }
}

/// Runs the command line `arguments` (the program's name first) and says how it went: 0 done, 1 failed, 2 bad usage
/// or input, 130 stopped.
pub fn main_with<I, T>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with code 0, bad usage to stderr with code 2.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::BAD_INPUT } else { 0 });
        }
    };
    start_logging();
    stop::install();
    threads::start(cli.global.threads);
    if cli.global.profile {
        ama_model::profile::enable();
    }
    let outcome = device::start(cli.global.device).and_then(|()| dispatch(&cli));
    if cli.global.profile {
        let rows = ama_model::profile::take();
        if rows.is_empty() {
            console::note("profile: this command ran no op of the model");
        } else {
            console::note(&ama_model::profile::table(&rows, 1, threads::count()));
        }
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let remedy = if exit::kept(&error) { cli.command.how_to_continue() } else { "" };
            console::note(&format!("ama: {}{remedy}", exit::message(&error)));
            ExitCode::from(exit::code(&error))
        }
    }
}

fn dispatch(cli: &Cli) -> Result<()> {
    let console = Console::new(cli.global.json);
    match &cli.command {
        Command::Data(options) => data::run(options, console),
        Command::Suite(options) => suite::run(options, console),
        Command::Sft(options) => sft::run(options, console),
        Command::Specialist(options) => specialist::run(options, console),
        Command::Score(options) => score::run(options, console),
        Command::Train(options) => train::run(options, console),
        Command::Eval(options) => eval::run(options, console),
        Command::Generate(options) => generate::run(options, console),
        Command::Merge(options) => merge::run(options, console),
        Command::Run(options) => run::run(options, console),
        Command::Report(options) => report::run(options, console),
        Command::Watch(options) => watch::run(options, console),
    }
}

/// `RUST_LOG` decides; warnings by default.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    // Fails only when a subscriber is set already (a second call in one process).
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = log.with_ansi(console::on_terminal()).try_init();
}
