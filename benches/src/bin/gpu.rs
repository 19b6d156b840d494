//! Times every CUDA kernel and prints a line of JSON for each as soon as it is measured: part of the device kit
//! (`cargo xtask device`). Times are those of the device, between two events, with what a call allocates included.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use benches::device::{self, Case, Enqueue, Gpu, Sizes, Work};
use clap::Parser;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaSlice, DriverError};
use serde_json::{Value, json};

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

/// Fewest repetitions of a case that nobody times, and how long they take at least: clocks rise, memory pools fill.
const WARM_UP: (usize, Duration) = (2, Duration::from_millis(50));
/// Fewest and most repetitions of a case that are timed.
const REPETITIONS: (usize, usize) = (3, 50);

fn main() -> Result<()> {
    let options = Options::parse();
    let sizes = if options.small { Sizes::small() } else { Sizes::full() };
    let gpu = Gpu::open().map_err(|error| anyhow!("{error}"))?;
    let budget = Duration::from_millis(options.budget_ms);
    let filler = gpu.stream.alloc_zeros::<u8>(sizes.filler)?;
    let mut timer = Timer { clock: Clock::of(&gpu), gpu: &gpu, filler, budget };
    let mut failed = 0;
    let visited = device::each(&gpu, &sizes, &mut |case, enqueue| {
        let measured = timer.measure(enqueue).unwrap_or_else(|error| {
            failed += 1;
            json!({ "error": error.to_string() })
        });
        say(case, measured)
    });
    visited.map_err(|error| anyhow!("{error}"))?;
    if failed > 0 { Err(anyhow!("{failed} cases could not be measured")) } else { Ok(()) }
}

/// One line: what the case is, and what was measured.
fn say(case: &Case, measured: Value) -> Result<(), device::Error> {
    let (bytes, flops) = match case.work {
        Work::Bytes(n) => (Some(n), None),
        Work::Flops(n) => (None, Some(n)),
    };
    let mut line = json!({
        "name": case.name, "dtype": case.dtype, "shape": case.shape, "bytes": bytes, "flops": flops,
    });
    if let (Value::Object(line), Value::Object(measured)) = (&mut line, measured) {
        line.extend(measured);
    }
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
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
        let once = || -> Result<f32, device::Error> { Ok(mark(gpu)?.elapsed_ms(&mark(gpu)?)?) };
        // cudarc panics where a driver lacks a function.
        let works = catch_unwind(AssertUnwindSafe(once)).is_ok_and(|milliseconds| milliseconds.is_ok());
        if works { Self::Device } else { Self::Host }
    }
}

/// An event behind what is on the stream.
fn mark(gpu: &Gpu) -> Result<CudaEvent, DriverError> {
    gpu.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
}

struct Timer<'a> {
    clock: Clock,
    gpu: &'a Gpu,
    filler: CudaSlice<u8>,
    /// Longest that one case is repeated.
    budget: Duration,
}

impl Timer<'_> {
    fn measure(&mut self, enqueue: Enqueue<'_>) -> Result<Value, device::Error> {
        let ledger = self.gpu.kernels.ledger();
        let held = ledger.held_bytes();
        ledger.reset_peak();
        let (begun, mut warm) = (Instant::now(), 0);
        while warm < WARM_UP.0 || begun.elapsed() < WARM_UP.1.min(self.budget) {
            enqueue()?;
            self.gpu.stream.synchronize()?;
            warm += 1;
        }
        let extra_bytes = ledger.peak_bytes() - held;
        let (begun, mut times) = (Instant::now(), Vec::new());
        while times.len() < REPETITIONS.0 || (times.len() < REPETITIONS.1 && begun.elapsed() < self.budget) {
            times.push(self.milliseconds(&mut *enqueue)?);
        }
        times.sort_by(f64::total_cmp);
        Ok(json!({
            "milliseconds": times[times.len() / 2], "fastest": times[0], "slowest": times[times.len() - 1],
            "repetitions": times.len(), "extra_bytes": extra_bytes, "clock": format!("{:?}", self.clock).to_lowercase(),
        }))
    }

    fn milliseconds(&mut self, enqueue: Enqueue<'_>) -> Result<f64, device::Error> {
        self.gpu.stream.memset_zeros(&mut self.filler)?;
        match self.clock {
            Clock::Device => {
                let start = mark(self.gpu)?;
                enqueue()?;
                Ok(start.elapsed_ms(&mark(self.gpu)?)?.into())
            }
            Clock::Host => {
                self.gpu.stream.synchronize()?;
                let start = Instant::now();
                enqueue()?;
                self.gpu.stream.synchronize()?;
                Ok(start.elapsed().as_secs_f64() * 1e3)
            }
        }
    }
}
