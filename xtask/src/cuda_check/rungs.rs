//! The rungs, and the steps that each consists of.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::Outcome;
use super::tests::{self, TestBinary, Verdict, named};
use super::tools::Tools;
use super::wheels::{Toolchain, Wheels};
use crate::shell;

/// A line of the table.
pub(super) struct Step {
    pub(super) what: &'static str,
    pub(super) run: fn(&Tools) -> Result<Outcome>,
}

/// Kernels' tests of `ama-cuda-emulator`.
const KERNELS: [&str; 6] = ["common_cuh", "logp", "logp_boundaries", "segment_sum", "preference", "far_rows"];
/// Those that the sanitizers bear: no memory that is only reserved.
const SANITIZED: [&str; 6] =
    ["sanitizers", "common_cuh", "logp", "logp_boundaries", "segment_sum", "preference"];
/// Those of `ama-loss` that want a device.
pub(super) const DEVICE: [&str; 3] = ["cuda_logits", "cuda_sums", "cuda_linear"];

/// No test takes longer on a machine that does nothing else.
const LIMIT: Duration = Duration::from_secs(400);

/// Variables of a process.
pub(super) type Environment = Vec<(&'static str, String)>;

/// The steps of a rung; of rung 7 there are none, it is in `bugs.rs`.
pub(super) fn steps(rung: u8) -> Vec<Step> {
    let step = |what, run| Step { what, run };
    match rung {
        1 => vec![step("f64 reference against finite differences", reference)],
        2 => vec![
            step("detectors of the emulation against kernels that are wrong", detectors),
            step("the .cu as host C++: f32, bf16, odd sizes, poison, hostile rows, 4 orders", emulated),
        ],
        3 => vec![
            step("the same under AddressSanitizer and UBSan", addresses),
            step("the same under ThreadSanitizer", races),
        ],
        4 => vec![
            step("NVRTC 12.9 and ptxas, sm_80 to sm_100: no spills, registers as committed", newest),
            step("NVRTC 12.0 and ptxas, sm_80 to sm_100: no spills", oldest),
            step("NVRTC 13.5 and its ptxas, sm_80 to sm_100: no spills", next),
        ],
        5 => vec![
            step("stand-in driver: its own checks, end to end through cudarc", standin),
            step("ama-loss on the stand-in driver: launches, bounds, leaks", on_standin),
            step("every driver and cuBLASLt call failing in turn", faults),
            step("device memory at 16 x 1024 rows and 128k tokens, counted", counted),
        ],
        6 => vec![
            step("emitted PTX interpreted: equal to the host C++ within rounding", interpreted),
            step("rung 2's cases on the interpreted PTX, approximations moved by 2 ulp", interpreted_cases),
            step("ama-loss on the stand-in in another order, moved by 2 ulp", perturbed),
            step("the same with PTX by NVRTC 12.0", perturbed_oldest),
            step("the same with PTX by NVRTC 13.5", perturbed_next),
        ],
        _ => Vec::new(),
    }
}

fn reference(tools: &Tools) -> Result<Outcome> {
    let all = tests::build(&shell::root(), &["--package", "ama-loss", "--test", "finite_differences"])?;
    run(&all, &["finite_differences"], &[], &Vec::new(), &tools.folder, "reference")
}

/// Environment of a rung's processes, and the arguments for libtest.
pub(super) fn sanitized(tools: &Tools, which: &str) -> std::result::Result<Environment, String> {
    let runtime = tools.sanitizer(if which == "address" { "libasan.so" } else { "libtsan.so" })?;
    Ok(vec![
        ("AMA_CUDA_SANITIZER", which.to_owned()),
        ("LD_PRELOAD", runtime.display().to_string()),
        // Rust's own memory is not instrumented and its test harness leaks a little.
        ("ASAN_OPTIONS", "detect_leaks=0:halt_on_error=1".to_owned()),
        // The harness synchronises through futexes, which the race detector does not see.
        ("TSAN_OPTIONS", "halt_on_error=1:ignore_noninstrumented_modules=1".to_owned()),
    ])
}

fn detectors(tools: &Tools) -> Result<Outcome> {
    emulator(tools, &["detectors"], None)
}

fn emulated(tools: &Tools) -> Result<Outcome> {
    emulator(tools, &KERNELS, None)
}

fn addresses(tools: &Tools) -> Result<Outcome> {
    emulator(tools, &SANITIZED, Some("address"))
}

fn races(tools: &Tools) -> Result<Outcome> {
    emulator(tools, &SANITIZED, Some("thread"))
}

fn emulator(tools: &Tools, names: &[&str], sanitizer: Option<&str>) -> Result<Outcome> {
    if let Err(reason) = tools.compiler() {
        return Ok(Outcome::Skipped(reason));
    }
    let environment = match sanitizer.map(|which| sanitized(tools, which)) {
        None => Vec::new(),
        Some(Ok(environment)) => environment,
        Some(Err(reason)) => return Ok(Outcome::Skipped(reason)),
    };
    let arguments = emulator_arguments(sanitizer);
    run(tools.emulated()?, names, arguments, &environment, &tools.folder, sanitizer.unwrap_or("plain"))
}

/// Arguments for libtest: the race detector wants all tests in one thread.
pub(super) fn emulator_arguments(sanitizer: Option<&str>) -> &'static [&'static str] {
    if sanitizer == Some("thread") {
        &["--include-ignored", "--test-threads=1"]
    } else {
        &["--include-ignored"]
    }
}

fn newest(tools: &Tools) -> Result<Outcome> {
    assembled(tools, |wheels| &wheels.newest, "newest")
}

fn oldest(tools: &Tools) -> Result<Outcome> {
    assembled(tools, |wheels| &wheels.oldest, "oldest")
}

fn next(tools: &Tools) -> Result<Outcome> {
    assembled(tools, |wheels| &wheels.next, "next")
}

fn assembled(tools: &Tools, which: Choice, name: &str) -> Result<Outcome> {
    let wheels = match tools.wheels()? {
        Ok(wheels) => wheels,
        Err(reason) => return Ok(Outcome::Skipped(reason.clone())),
    };
    let toolchain = which(wheels);
    let ptx = tools.folder.join(format!("ptx-{name}"));
    std::fs::create_dir_all(&ptx)?;
    let environment = vec![
        ("LD_LIBRARY_PATH", toolchain.nvrtc.display().to_string()),
        ("AMA_PTXAS", toolchain.ptxas.display().to_string()),
        ("AMA_CUDA_PTX", ptx.display().to_string()),
    ];
    run(tools.device()?, &["cuda_assembled"], &["--include-ignored"], &environment, &tools.folder, name)
}

fn interpreted(tools: &Tools) -> Result<Outcome> {
    on_ptx(tools, &["interpreted"], "0")
}

fn interpreted_cases(tools: &Tools) -> Result<Outcome> {
    on_ptx(tools, &["logp", "logp_boundaries", "segment_sum", "preference"], "2")
}

/// Tests of the emulator crate on the PTX that rung 4 leaves behind.
fn on_ptx(tools: &Tools, names: &[&str], ulp: &str) -> Result<Outcome> {
    if let Err(reason) = tools.compiler() {
        return Ok(Outcome::Skipped(reason));
    }
    let ptx = tools.folder.join("ptx-newest");
    match newest(tools)? {
        Outcome::Passed { .. } => {}
        other => return Ok(other),
    }
    let environment = vec![("AMA_CUDA_PTX", ptx.display().to_string()), ("AMA_CUDA_ULP", ulp.to_owned())];
    run(
        tools.emulated()?,
        names,
        emulator_arguments(None),
        &environment,
        &tools.folder,
        &format!("ptx-ulp-{ulp}"),
    )
}

fn standin(tools: &Tools) -> Result<Outcome> {
    let all = tests::build(&shell::root(), &["--package", "ama-cuda-standin"])?;
    tools.standin()?;
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    run(&all, &names, &[], &Vec::new(), &tools.folder, "standin")
}

/// One of the toolchains.
pub(super) type Choice = fn(&Wheels) -> &Toolchain;

/// Environment in which the stand-in is the driver, with one of the NVRTCs.
pub(super) fn on_driver(tools: &Tools, which: Choice) -> Result<std::result::Result<Environment, String>> {
    Ok(standin_library_path(tools, which)?.map(|path| vec![("LD_LIBRARY_PATH", path)]))
}

/// Folders of the stand-in, as driver and as cuBLASLt, and of one of the NVRTCs.
pub(super) fn standin_library_path(
    tools: &Tools,
    which: Choice,
) -> Result<std::result::Result<String, String>> {
    let wheels = match tools.wheels()? {
        Ok(wheels) => wheels,
        Err(reason) => return Ok(Err(reason.clone())),
    };
    Ok(Ok(format!("{}:{}", tools.standin()?.display(), which(wheels).nvrtc.display())))
}

fn on_standin(tools: &Tools) -> Result<Outcome> {
    device(tools, &Run { name: "standin", ..Run::default() })
}

fn faults(tools: &Tools) -> Result<Outcome> {
    let arguments = &["--include-ignored"];
    device(tools, &Run { binaries: &["cuda_faults"], arguments, name: "standin", ..Run::default() })
}

fn counted(tools: &Tools) -> Result<Outcome> {
    let (arguments, environment) = (&["--ignored"], &[("STANDIN_DRY_RUN", "1")]);
    device(
        tools,
        &Run { binaries: &["cuda_linear"], arguments, environment, name: "dry-run", ..Run::default() },
    )
}

fn perturbed(tools: &Tools) -> Result<Outcome> {
    let environment = &[("STANDIN_ULP", "2"), ("STANDIN_SEED", "1")];
    device(tools, &Run { environment, name: "perturbed", ..Run::default() })
}

fn perturbed_oldest(tools: &Tools) -> Result<Outcome> {
    let environment = &[("STANDIN_ULP", "2"), ("STANDIN_SEED", "2")];
    let nvrtc: Choice = |wheels| &wheels.oldest;
    device(tools, &Run { environment, nvrtc, name: "perturbed-oldest", ..Run::default() })
}

fn perturbed_next(tools: &Tools) -> Result<Outcome> {
    let environment = &[("STANDIN_ULP", "2"), ("STANDIN_SEED", "3")];
    let nvrtc: Choice = |wheels| &wheels.next;
    device(tools, &Run { environment, nvrtc, name: "perturbed-next", ..Run::default() })
}

/// How tests of `ama-loss` are run on the stand-in.
struct Run<'a> {
    binaries: &'a [&'a str],
    /// For libtest.
    arguments: &'a [&'a str],
    /// Besides where libraries are.
    environment: &'a [(&'static str, &'a str)],
    /// By which NVRTC.
    nvrtc: Choice,
    /// For the logs.
    name: &'a str,
}

impl Default for Run<'_> {
    fn default() -> Self {
        let nvrtc: Choice = |wheels| &wheels.newest;
        Self { binaries: &DEVICE, arguments: &[], environment: &[], nvrtc, name: "" }
    }
}

fn device(tools: &Tools, how: &Run<'_>) -> Result<Outcome> {
    let mut environment = match on_driver(tools, how.nvrtc)? {
        Ok(environment) => environment,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    environment.extend(how.environment.iter().map(|(name, value)| (*name, (*value).to_owned())));
    run(tools.device()?, how.binaries, how.arguments, &environment, &tools.folder, how.name)
}

/// Runs test binaries one after the other; the first failure ends it.
pub(super) fn run(
    all: &BTreeMap<String, TestBinary>,
    names: &[&str],
    arguments: &[&str],
    environment: &Environment,
    folder: &Path,
    suffix: &str,
) -> Result<Outcome> {
    let mut passed = 0;
    for name in names {
        let log = folder.join("logs").join(format!("{name}-{suffix}.log"));
        match named(all, name)?.run(arguments, environment, LIMIT, &log)? {
            Verdict::Passed(tests) => passed += tests,
            Verdict::Failed { reason, log } => {
                return Ok(Outcome::Failed(format!("{name}: {reason} (all of it: {})", log.display())));
            }
        }
    }
    if passed == 0 {
        return Ok(Outcome::Failed(format!("{}: no test ran", names.join(", "))));
    }
    Ok(Outcome::Passed { tests: passed, note: String::new() })
}
