//! Every driver and cuBLASLt call that the device path makes, failing in turn: an error of ours comes out, never a
//! panic, and no device memory stays behind.
//!
//! Needs the stand-in driver (`ama-cuda-standin`) on the library path, which can be told to fail; a real one cannot, and there
//! the test says that it was skipped.

#![cfg(feature = "cuda-tests")]
#![allow(clippy::print_stdout, reason = "a child tells its parent how it ended")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ama_loss::cuda::{self, CudaHead, Excess, PairArrays, Segments};
use ama_loss::{HeadShape, LossError, PreferenceKind, PreferenceLoss, cpu};
use common::{targets, uniform};
use cudarc::driver::DriverError;

/// Set in the child that runs the path.
const CHILD: &str = "AMA_CUDA_FAULTS_CHILD";

/// What can end the path: an error of this crate, or one of cudarc where the test itself calls it.
#[derive(Debug)]
enum Failed {
    Ours(LossError),
    Own(DriverError),
}

impl From<LossError> for Failed {
    fn from(error: LossError) -> Self {
        Self::Ours(error)
    }
}

impl From<DriverError> for Failed {
    fn from(error: DriverError) -> Self {
        Self::Own(error)
    }
}

/// One step of training, as far as the device is concerned.
fn path() -> Result<Vec<f64>, Failed> {
    let head = CudaHead::open(0)?;
    let shape = HeadShape { rows: 5, hidden: 6, vocab: 40 };
    let (hidden, weight) = (uniform(1, 5 * 6, 1.0), uniform(2, 40 * 6, 1.0));
    let (targets, upstream) = (targets(5, 40), uniform(3, 5, 1.0));
    let operands =
        cpu::LinearLogp { hidden: &hidden, weight: &weight, targets: &targets, shape, budget_bytes: 512 };
    let (forward, kept) = head.forward(&operands)?;
    let (mut d_hidden, mut d_weight) = (vec![0.0; hidden.len()], vec![0.0; weight.len()]);
    head.backward(kept, &upstream, &mut d_hidden, Some(&mut d_weight))?;

    let kernels = head.kernels();
    let stream = kernels.context().new_stream()?;
    let values = stream.clone_htod(&forward.logp)?;
    let segments = Segments::new(kernels, &stream, &[0, 2, 5], 5)?;
    let mut sums = stream.clone_htod(&[0f64; 2])?;
    kernels.segment_sum(&stream, &values.as_view(), &segments, &mut sums.as_view_mut())?;
    let mut spread = stream.clone_htod(&[0f32; 5])?;
    kernels.segment_spread(&stream, &sums.as_view(), &segments, &mut spread.as_view_mut())?;
    let tokens = stream.clone_htod(&[2u32, 3])?;
    let pairs = PairArrays {
        chosen: sums.as_view(),
        rejected: sums.as_view(),
        ref_chosen: sums.as_view(),
        ref_rejected: sums.as_view(),
        chosen_tokens: tokens.as_view(),
        rejected_tokens: tokens.as_view(),
        weight: None,
    };
    let loss = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.1, 0.0)?;
    let losses = kernels.preference(&stream, &loss, &pairs, &Excess::Raw)?;
    let losses = stream.clone_dtoh(&*losses.loss)?;
    stream.synchronize()?;
    Ok(losses)
}

/// Runs the path in a process of its own, and returns whether it ended well, what it said, its log and its report.
fn child(folder: &Path, fail: &str) -> (bool, String, String, String) {
    let (log, report) = (folder.join("log"), folder.join("report"));
    for old in [&log, &report] {
        // The first child finds none.
        let _ = std::fs::remove_file(old);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["every_call_can_fail", "--exact", "--include-ignored", "--nocapture"])
        .env(CHILD, "1")
        .env("XDG_CACHE_HOME", folder)
        .env("STANDIN_LOG", &log)
        .env("STANDIN_REPORT", &report)
        .env("STANDIN_FAIL", fail)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    (output.status.success(), said, read(&log), read(&report))
}

/// Calls whose failure may stay without consequence: those of destructors, which nobody can be told of, and those
/// whose answer is not needed.
const MAY_PASS: &[&str] = &[
    "cuMemFree",
    "cuEventDestroy",
    "cuStreamDestroy",
    "cuModuleUnload",
    "cuDevicePrimaryCtxRelease",
    "cublasLtDestroy",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatrixLayoutDestroy",
    "cuGetExportTable",
    "cuGetErrorName",
    "cuGetErrorString",
    // The last ones of these come from destructors.
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuStreamWaitEvent",
];

/// Calls whose failure leaves memory behind: those that free it, and, in cudarc, those that come between an
/// allocation and the slice that owns it.
const MAY_LEAK: &[&str] = &["cuMemFree", "cuDevicePrimaryCtxRelease", "cuEventCreate"];

#[test]
#[ignore = "needs the stand-in driver of ama-cuda-standin on the library path"]
fn every_call_can_fail() {
    if std::env::var_os(CHILD).is_some() {
        match path() {
            Ok(losses) => {
                assert!(
                    losses.iter().all(|loss| (loss - std::f64::consts::LN_2).abs() < 1e-12),
                    "{losses:?}"
                );
                println!("outcome: fine");
            }
            Err(Failed::Ours(error)) => println!("outcome: {error}"),
            Err(Failed::Own(error)) => println!("outcome: own call: {error:?}"),
        }
        return;
    }
    let context = cuda::open(0).expect("the stand-in driver on the library path");
    let name = context.name().unwrap();
    if name != "CPU stand-in" {
        println!("skipped: {name} is a device, which cannot be told to fail; ama-cuda-standin can");
        return;
    }
    let folder = std::env::temp_dir().join(format!("ama-cuda-faults-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // The first run compiles and fills the cache of kernels; the second makes the calls that the others make.
    let (success, said, ..) = child(&folder, "");
    assert!(success, "{said}");
    let (success, said, log, report) = child(&folder, "");
    assert!(success && said.contains("outcome: fine"), "{said}");
    assert!(report.contains("\"problems\":0,"), "{report}\n{said}");
    let mut calls = BTreeMap::new();
    for name in log.lines().filter_map(|line| line.split('(').next()) {
        *calls.entry(name.to_string()).or_insert(0) += 1;
    }
    assert!(calls.len() > 30, "the stand-in's log is short: {calls:?}");

    let mut wrong = Vec::new();
    for (name, count) in &calls {
        // Only debug builds call it, to assert that argument lists have the sizes of the signature.
        if name == "cuFuncGetParamInfo" {
            continue;
        }
        let code = match name.as_str() {
            name if name.starts_with("cublasLt") => 13,
            name if name.starts_with("cuMemAlloc") => 2,
            _ => 999,
        };
        for nth in [1, count / 2 + 1, *count] {
            let fail = format!("{name}:{code}:{nth}");
            let (success, said, _, report) = child(&folder, &fail);
            let outcome =
                said.lines().find_map(|line| line.split_once("outcome: ")).map(|(_, o)| o).unwrap_or("none");
            let passes = MAY_PASS.iter().any(|call| name.starts_with(call));
            if !success || outcome == "none" {
                wrong.push(format!("{fail}: the process failed: {said}"));
            } else if outcome == "fine" && !passes {
                wrong.push(format!("{fail}: nobody noticed"));
            }
            let leaks = report.contains("\"leaked_bytes\"") && !report.contains("\"leaked_bytes\":0,");
            if leaks && !MAY_LEAK.iter().any(|call| name.starts_with(call)) {
                wrong.push(format!("{fail}: device memory was left behind: {report}"));
            }
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
