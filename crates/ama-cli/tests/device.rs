//! `--device`: what is missing is said in one line before any work is done, and a device computes what the processor does.

mod common;

#[cfg(feature = "cuda")]
use common::ama;
use common::refused;

#[test]
fn a_device_that_is_none_is_bad_usage() {
    refused(&["data", "inspect", "x.parquet", "--device", "gpu"], &["want cpu, cuda or cuda:N"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_so() {
    let said = refused(&["data", "inspect", "x.parquet", "--device", "cuda:0"], &["--features cuda"]);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
}

/// No library path, no visible device: an error on any machine.
#[cfg(feature = "cuda")]
#[test]
fn a_machine_without_a_device_says_so_in_one_line() {
    let mut command = ama(&["data", "inspect", "x.parquet", "--device", "cuda:0"]);
    let said: common::Said =
        command.env_remove("LD_LIBRARY_PATH").env("CUDA_VISIBLE_DEVICES", "").output().unwrap().into();
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(said.err.starts_with("ama: no CUDA d"), "{}", said.err);
    assert!(said.err.contains("; "), "a remedy: {}", said.err);
}

/// The same training and scoring on the processor and on the device (or a stand-in for its driver).
#[cfg(feature = "cuda-tests")]
#[test]
fn a_device_trains_and_scores_as_the_processor_does() {
    let lab = common::Lab::with_model();
    let (model, data) = (lab.path("model"), lab.path("suite/train/harmless.parquet"));
    let run = |device: &str| {
        let (out, scores, summary) =
            (lab.path(&format!("{device}-tuned")), lab.path(&format!("{device}-scores")), lab.path(device));
        let name = device.replace('-', ":");
        let train = [
            "specialist",
            "--model",
            &model,
            "--data",
            &data,
            "--out",
            &out,
            "--steps",
            "3",
            "--lr",
            "1e-3",
            "--batch-pairs",
            "8",
            "--order",
            "file",
            "--max-length",
            "64",
            "--summary",
            &summary,
            "--device",
            &name,
        ];
        let said: common::Said = ama(&train).env("RUST_LOG", "ama_cli=info").output().unwrap().into();
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert_eq!(said.err.contains("the head runs on CUDA device 0"), device != "cpu", "{}", said.err);
        common::succeed(&[
            "score",
            "--model",
            &out,
            "--data",
            &data,
            "--out",
            &scores,
            "--max-length",
            "64",
            "--device",
            &name,
        ]);
        let summary = std::fs::read_to_string(summary).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        let losses = summary["losses"].as_array().unwrap();
        let losses: Vec<f64> = losses.iter().map(|loss| loss.as_f64().unwrap()).collect();
        assert_eq!(losses.len(), 3);
        let rows = ama_specialist_cache::read_row_scores(&scores).unwrap();
        (losses, rows.into_iter().map(|row| (row.id, row.score.unwrap())).collect::<Vec<_>>())
    };
    let (cpu, device) = (run("cpu"), run("cuda-0"));
    for (cpu, device) in cpu.0.iter().zip(&device.0) {
        assert!((cpu - device).abs() < 1e-4 * cpu.abs(), "{cpu} vs {device}");
    }
    assert_eq!(cpu.1.len(), device.1.len());
    for ((id, cpu), (same, device)) in cpu.1.iter().zip(&device.1) {
        assert_eq!(id, same);
        for (cpu, device) in
            [(cpu.chosen_logp, device.chosen_logp), (cpu.rejected_logp, device.rejected_logp)]
        {
            assert!((cpu - device).abs() < 1e-3 * cpu.abs().max(1.0), "{cpu} vs {device}");
        }
    }
    assert_ne!(cpu.1, device.1, "another order of additions gives other last bits");
}
