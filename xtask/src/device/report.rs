//! `cargo xtask device report`: what a GPU said, as a page.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::programs::TESTS;
use super::results::Results;
use super::tables::{self, cell};
use crate::shell;

/// What to report.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask device report results.json             docs/device.md from what kit.py left\n  \
    cargo xtask device report                          docs/device.md for as long as no GPU has been met")]
pub(crate) struct Options {
    /// What kit.py left; without it the page says that no GPU has been met
    #[arg(value_name = "results.json")]
    results: Option<PathBuf>,
    /// Page to write [default: docs/device.md; a rehearsal has no default]
    #[arg(long, value_name = "FILE.md")]
    out: Option<PathBuf>,
}

/// Writes the page.
///
/// # Errors
/// Results that are none, or a rehearsal's that would go to `docs/`; the page cannot be written.
pub(super) fn run(options: &Options) -> Result<()> {
    let folder = std::env::current_dir()?;
    let results = options.results.as_ref().map(|path| Results::read(&folder.join(path))).transpose()?;
    let out = match (&options.out, &results) {
        (Some(out), _) => folder.join(out),
        (None, Some(results)) if results.is_rehearsal() => {
            anyhow::bail!(
                "these are results of a rehearsal, not of a GPU; --out FILE.md writes a page of them"
            )
        }
        (None, _) => shell::root().join("docs").join("device.md"),
    };
    shell::write_whole(&out, &results.as_ref().map_or_else(not_met, page))?;
    shell::say(&format!("device: {}", out.display()));
    Ok(())
}

const HEADING: &str = "# On a GPU\n\n\
    Written by `cargo xtask device report`; how to run the kit: [CONTRIBUTING.md](../CONTRIBUTING.md).\n\n";

/// The page before any GPU has been met.
fn not_met() -> String {
    format!(
        "{HEADING}**No GPU has been met yet.** The CUDA kernels have been compiled, emulated, interpreted and assembled, and \
         the script of the kit has been rehearsed on a stand-in for the driver (`cargo xtask cuda-check`, `cargo xtask device \
         rehearse`). They have not run on any NVIDIA device: nothing is known of their speed there, nor of what only \
         hardware shows.\n"
    )
}

/// The page of a run.
pub(super) fn page(results: &Results) -> String {
    let mut out = String::from(HEADING);
    let failed: Vec<_> = results.parts().filter(|part| part.status == "failed").collect();
    let skipped = results.parts().filter(|part| part.status == "skipped").count();
    let all = results.parts().count();
    if results.is_rehearsal() {
        out.push_str(
            "**A rehearsal on the stand-in driver: this is no GPU, and no time below means anything.**\n\n",
        );
    }
    let passed = all - failed.len() - skipped;
    let _ =
        write!(out, "{passed} of {all} parts passed, {} failed, {skipped} could not be tried", failed.len());
    let seconds = results.field("seconds").as_f64().unwrap_or(0.0);
    let _ = writeln!(out, "; {seconds:.0} s on {}.\n", cell(results.field("date").as_str().unwrap_or("?")));
    if results.field("finished") != true {
        out.push_str("The run was cut off before its last part.\n\n");
    }
    for name in results.field("damaged_files").as_array().into_iter().flatten() {
        let _ = writeln!(out, "`{}` was not as it was when the bundle was made.\n", cell(&text(name)));
    }
    machine(&mut out, results);
    if !failed.is_empty() {
        out.push_str("## What failed\n\n");
        for part in &failed {
            let _ = writeln!(out, "- **{}** after {:.1} s: {}", part.name, part.seconds, cell(part.reason));
        }
        out.push('\n');
    }
    let _ = writeln!(out, "## Parts\n\n{}", tables::parts(results));
    let _ = writeln!(out, "## Device tests\n\n{}", tables::tests(results, &TESTS));
    let kernels = tables::kernels(results);
    if !kernels.is_empty() {
        let _ = writeln!(
            out,
            "## Kernels\n\nMedians of the device's own time, with a cache that was cleared before. The limit of what moves bytes is the \
             `copy` of this machine (what only reads may be faster), that of what computes is `gemm` with the same type; `head` is \
             counted by the products that the mathematics needs (forward and backward together spend a third more, to compute the \
             logits again). Sums and preference losses are so small that their launches count more than their bytes. Extra memory \
             is the most that a call allocates at a time, gradients of weights and hidden states aside; what PyTorch keeps from its \
             forward to its backward pass is not in that of `logits_backward_in_place`, which only ours is. With `bf16` operands our \
             logits and results are f32, PyTorch's are `bf16`.\n\n{kernels}"
        );
    }
    let training = tables::training(results);
    if !training.is_empty() {
        let _ = writeln!(
            out,
            "## Training\n\nDPO losses in nats of a random Llama (`ama specialist`, f32; the head on the device, the rest on \
             the processor).\n\n{training}"
        );
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Device, versions, libraries.
fn machine(out: &mut String, results: &Results) {
    let (found, manifest) = (results.found("machine"), results.field("manifest"));
    let device = &found["device"];
    let gib = device["memory_bytes"].as_f64().map(|bytes| format!("{:.1} GiB", bytes / f64::from(1 << 30)));
    let dirty = if manifest["uncommitted_changes"] == true { " with uncommitted changes" } else { "" };
    let lines = [
        ("device", text(&device["name"])),
        ("memory", gib.unwrap_or_default()),
        ("compute capability", text(&device["compute_capability"])),
        ("multiprocessors", text(&device["multiprocessors"])),
        ("driver", text(&found["nvidia_smi"]["driver_version"])),
        ("CUDA of the driver", text(&device["driver_cuda"])),
        ("clocks when idle (SM, memory; at most)", clocks(&found["nvidia_smi"])),
        ("clocks while kernels ran (MHz), power (W)", busy(&results.found("kernels")["clocks"])),
        ("driver library", place(&text(&found["libraries"]["driver"]["taken"]))),
        ("NVRTC", place(&text(&found["libraries"]["nvrtc"]["taken"]))),
        ("cuBLASLt", place(&text(&found["libraries"]["cublaslt"]["taken"]))),
        ("PyTorch", text(&found["torch"])),
        ("processor", text(&found["system"]["processor"])),
        ("system", format!("{}, {}", text(&found["system"]["platform"]), text(&found["system"]["libc"]))),
        ("ama", format!("{}, {}{dirty}", text(&manifest["version"]), text(&manifest["commit"]))),
        ("compiler", format!("{}, {}", text(&manifest["rustc"]), text(&manifest["profile"]))),
    ];
    out.push_str("| | |\n|---|---|\n");
    for (name, value) in lines {
        if !value.trim_matches([',', ' ']).is_empty() {
            let _ = writeln!(out, "| {name} | {} |", cell(&value));
        }
    }
    out.push('\n');
}

fn clocks(smi: &Value) -> String {
    let [now, memory, most, memory_most] =
        ["clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem"].map(|field| text(&smi[field]));
    if now.is_empty() { now } else { format!("{now}, {memory}; {most}, {memory_most}") }
}

fn busy(clocks: &Value) -> String {
    let [sm, memory, power] = ["clocks.sm", "clocks.mem", "power.draw"].map(|field| text(&clocks[field]));
    if sm.is_empty() { sm } else { format!("{sm}, {memory}; {power}") }
}

/// A library's path without what only says whose machine it was: the page is committed.
fn place(path: &str) -> String {
    if let Some(at) = path.find("site-packages/") {
        return path[at..].to_owned();
    }
    let parts: Vec<&str> = path.split('/').collect();
    let kept = &parts[parts.len().saturating_sub(3)..];
    if path.starts_with("/usr/") || kept.len() == parts.len() {
        path.to_owned()
    } else {
        format!(".../{}", kept.join("/"))
    }
}

/// Text of a value; empty for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;

    fn results() -> Results {
        let part = |name: &str, status: &str, reason: &str, found: Value| json!({ "part": name, "status": status, "reason": reason, "seconds": 1.5, "found": found });
        let row = |name: &str, dtype: &str, bytes: Option<u64>, flops: Option<u64>, ms: f64| {
            json!({ "name": name, "dtype": dtype, "shape": "8", "bytes": bytes, "flops": flops, "milliseconds": ms,
                    "extra_bytes": 2 << 20 })
        };
        Results::of(json!({
            "kit": 1, "rehearsal": false, "finished": true, "seconds": 100.0, "date": "2026-01-01T00:00:00Z",
            "manifest": { "version": "0.1.0", "commit": "abc", "uncommitted_changes": true },
            "damaged_files": [],
            "parts": [
                part("machine", "passed", "", json!({
                    "device": { "name": "NVIDIA | <H100>", "memory_bytes": 80_u64 << 30, "driver_cuda": "13.0" },
                    "libraries": { "nvrtc": { "taken": "lib/libnvrtc.so.13" } },
                })),
                part("cuda_logits", "failed", "1 of 2 tests failed", json!({
                    "tests": { "a_same_bits": "ok", "b": "FAILED" }, "reasons": { "b": "1 vs 2" },
                })),
                part("kernels", "failed", "took longer than its 70 s", json!({ "rows": [
                    row("copy", "f32", Some(2_000_000_000), None, 1.0),
                    row("gemm", "bf16", None, Some(500_000_000_000), 1.0),
                    row("logits_forward", "bf16", Some(1_000_000_000), None, 1.0),
                    row("head_forward", "bf16", None, Some(100_000_000_000), 1.0),
                    { "name": "segment_sum", "dtype": "f32", "shape": "8", "error": "cuBLASLt | says no" },
                ] })),
                part("peers", "passed", "", json!({ "rows": [
                    row("copy", "f32", Some(2_500_000_000), None, 1.0),
                    row("logits_forward", "bf16", Some(1_000_000_000), None, 3.0),
                    row("logits_forward", "f32", Some(1_000_000_000), None, 9.0),
                ] })),
                part("training", "passed", "", json!({
                    "losses": { "cuda:0": [0.5, 0.25], "PyTorch": [0.5] }, "differences": { "PyTorch": 1e-6 },
                })),
                part("packages", "skipped", "no wheels in the bundle", json!({})),
            ],
        }))
    }

    #[test]
    fn a_page_says_what_passed_what_failed_and_how_near_the_limit_it_is() {
        let page = page(&results());
        for line in [
            "3 of 6 parts passed, 2 failed, 1 could not be tried; 100 s on 2026-01-01T00:00:00Z.",
            "| device | NVIDIA / &lt;H100> |",
            "| memory | 80.0 GiB |",
            "| NVRTC | lib/libnvrtc.so.13 |",
            "| ama | 0.1.0, abc with uncommitted changes |",
            "- **cuda_logits** after 1.5 s: 1 of 2 tests failed",
            "- **kernels** after 1.5 s: took longer than its 70 s",
            "| cuda_logits | 1 | 1 | 1 |",
            "- `b`: 1 vs 2",
            // The faster copy of the two, PyTorch's, is the limit.
            "| logits_forward | bf16 | 8 | 1.000 | 1000.0 GB/s | 40% | 3.000 | 3.00 | 2.0 | 2.0 |",
            "| head_forward | bf16 | 8 | 1.000 | 100.0 TFLOP/s | 20% | - | - | 2.0 | - |",
            "| segment_sum | f32 | 8 | cuBLASLt / says no | - | - | - | - | - | - |",
            "| 2 | - | 0.2500000 |",
            "Largest difference from PyTorch: 1.0e-6 nats.",
        ] {
            assert!(page.contains(line), "no `{line}` in\n{page}");
        }
        assert!(!page.contains("rehearsal on"), "{page}");
    }

    #[test]
    fn paths_do_not_say_whose_machine_it_was() {
        assert_eq!(place("/usr/local/cuda/lib64/libnvrtc.so.13"), "/usr/local/cuda/lib64/libnvrtc.so.13");
        let wheel = "/srv/venv/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13";
        assert_eq!(place(wheel), "site-packages/nvidia/cu13/lib/libnvrtc.so.13");
        assert_eq!(place("/srv/someone/cuda/lib64/libcuda.so.1"), ".../cuda/lib64/libcuda.so.1");
        assert_eq!(place(""), "");
    }

    #[test]
    fn the_committed_page_is_a_reports() {
        let committed = std::fs::read_to_string(shell::root().join("docs/device.md")).unwrap();
        assert!(committed.starts_with(HEADING), "docs/device.md is written by `cargo xtask device report`");
        let met = committed.contains("parts passed");
        assert!(met || committed == not_met(), "docs/device.md: run `cargo xtask device report`");
    }
}
