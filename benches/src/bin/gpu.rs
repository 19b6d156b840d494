//! Times every CUDA kernel and prints a line of JSON for each as soon as it is measured: part of the device kit
//! (`cargo xtask device`). Times are those of the device, between two events, with what a call allocates included.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use benches::device::{self, Case, Enqueue, Gpu, Sizes, Work};
use clap::Parser;
use cudarc::driver::sys::CUevent_flags;
use serde_json::json;

#[derive(Debug, Parser)]
#[command(about = "Times every CUDA kernel and prints a line of JSON for each", version)]
struct Options {
    /// Sizes for a machine without a GPU, where kernels are interpreted
    #[arg(long)]
    small: bool,
    /// Longest that one case is repeated, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500)]
    budget_ms: u64,
}

/// Repetitions of a case that nobody times: clocks rise, memory pools fill.
const WARM_UP: usize = 2;
/// Fewest and most repetitions of a case that are timed.
const REPETITIONS: (usize, usize) = (3, 50);

fn main() -> Result<()> {
    let options = Options::parse();
    let sizes = if options.small { Sizes::small() } else { Sizes::full() };
    let gpu = Gpu::open().map_err(|error| anyhow!("{error}"))?;
    let (budget, clock) = (Duration::from_millis(options.budget_ms), Clock::of(&gpu));
    device::each(&gpu, &sizes, &mut |case, enqueue| measure(&gpu, clock, case, enqueue, budget))
        .map_err(|error| anyhow!("{error}"))
}

/// What times are taken from.
#[derive(Debug, Clone, Copy)]
enum Clock {
    /// Events of the device.
    Device,
    /// The host, with a wait for the device: of drivers before CUDA 12.8, whose events cudarc cannot compare.
    Host,
}

impl Clock {
    fn of(gpu: &Gpu) -> Self {
        let once = || Self::Device.milliseconds(gpu, &mut || Ok(())).is_ok();
        // cudarc panics where a driver lacks a function.
        let works = std::panic::catch_unwind(std::panic::AssertUnwindSafe(once)).unwrap_or(false);
        if works { Self::Device } else { Self::Host }
    }

    fn milliseconds(self, gpu: &Gpu, enqueue: Enqueue<'_>) -> Result<f64, device::Error> {
        match self {
            Self::Device => {
                let mark = || gpu.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
                let start = mark()?;
                enqueue()?;
                Ok(start.elapsed_ms(&mark()?)?.into())
            }
            Self::Host => {
                let start = Instant::now();
                enqueue()?;
                gpu.stream.synchronize()?;
                Ok(start.elapsed().as_secs_f64() * 1e3)
            }
        }
    }
}

fn measure(
    gpu: &Gpu,
    clock: Clock,
    case: &Case,
    enqueue: Enqueue<'_>,
    budget: Duration,
) -> Result<(), device::Error> {
    let ledger = gpu.kernels.ledger();
    let held = ledger.held_bytes();
    ledger.reset_peak();
    for _ in 0..WARM_UP {
        enqueue()?;
    }
    gpu.stream.synchronize()?;
    let extra_bytes = ledger.peak_bytes() - held;
    let mut milliseconds = Vec::new();
    let begun = Instant::now();
    while milliseconds.len() < REPETITIONS.0
        || (milliseconds.len() < REPETITIONS.1 && begun.elapsed() < budget)
    {
        milliseconds.push(clock.milliseconds(gpu, &mut *enqueue)?);
    }
    milliseconds.sort_by(f64::total_cmp);
    let (bytes, flops) = match case.work {
        Work::Bytes(n) => (Some(n), None),
        Work::Flops(n) => (None, Some(n)),
    };
    let line = json!({
        "name": case.name, "dtype": case.dtype, "shape": case.shape, "bytes": bytes, "flops": flops,
        "milliseconds": milliseconds[milliseconds.len() / 2], "fastest": milliseconds[0],
        "slowest": milliseconds[milliseconds.len() - 1], "repetitions": milliseconds.len(), "extra_bytes": extra_bytes,
        "clock": format!("{clock:?}").to_lowercase(),
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
