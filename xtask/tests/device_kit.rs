//! The device kit's script (`src/device/kit.py`) with programs that hang, crash and lie: a part that fails is named with its
//! reason, and all others still run.
#![cfg(unix)]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

/// A test binary in which everything passes.
const HEALTHY: &str =
    "echo 'test a_same_bits ... ok'\necho 'test b - x ... ok'\necho 'test result: ok. 2 passed; 0 failed'";
/// A timer of kernels that has measured one.
const MEASURED: &str = "echo '{\"name\": \"copy\", \"milliseconds\": 1.0}'";

/// A bundle whose programs are shell scripts.
struct Bundle {
    folder: PathBuf,
}

impl Bundle {
    /// All programs healthy; `None` if there is no Python to run the script with.
    fn new(name: &str) -> Option<Self> {
        if !Command::new("python3").arg("--version").output().is_ok_and(|said| said.status.success()) {
            eprintln!("skipped: no python3 on this machine");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("ama-device-kit-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::write(folder.join("kit.py"), include_str!("../src/device/kit.py")).unwrap();
        let bundle = Self { folder };
        for program in ["cuda_logits", "cuda_sums", "cuda_linear"] {
            bundle.program(program, HEALTHY);
        }
        bundle.program("gpu", MEASURED);
        bundle.manifest(&json!({}));
        Some(bundle)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.folder.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn manifest(&self, manifest: &Value) {
        fs::write(self.folder.join("manifest.json"), manifest.to_string()).unwrap();
    }

    /// Runs these parts; returns the results by part.
    fn play(&self, only: &str) -> Value {
        let mut script = Command::new("python3");
        script.arg(self.folder.join("kit.py")).args(["--rehearse", "--only", only]);
        let said = script.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
        let text = fs::read_to_string(self.folder.join("results.json"));
        let text = text.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&said.stderr)));
        let results: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(results["finished"], true);
        let parts: Vec<&str> =
            results["parts"].as_array().unwrap().iter().map(|part| part["part"].as_str().unwrap()).collect();
        assert_eq!(parts, only.split(',').collect::<Vec<_>>(), "every part ran, in order");
        let failed = results["parts"].as_array().unwrap().iter().any(|part| part["status"] == "failed");
        assert_eq!(said.status.code(), Some(i32::from(failed)));
        assert!(self.folder.join("kit.log").is_file());
        results
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Status and reason of a part.
fn end<'a>(results: &'a Value, part: &str) -> (&'a str, &'a str) {
    let parts = results["parts"].as_array().unwrap();
    let it = parts.iter().find(|p| p["part"] == part).unwrap();
    (it["status"].as_str().unwrap(), it["reason"].as_str().unwrap_or_default())
}

fn found<'a>(results: &'a Value, part: &str) -> &'a Value {
    &results["parts"].as_array().unwrap().iter().find(|p| p["part"] == part).unwrap()["found"]
}

#[test]
fn healthy_programs_pass_and_are_counted() {
    let Some(bundle) = Bundle::new("healthy") else { return };
    let results = bundle.play("cuda_logits,kernels,packages");
    assert_eq!(end(&results, "cuda_logits"), ("passed", ""));
    assert_eq!(found(&results, "cuda_logits")["passed"], 2);
    assert_eq!(found(&results, "kernels")["rows"].as_array().unwrap().len(), 1);
    assert_eq!(end(&results, "packages"), ("skipped", "no wheels in the bundle"));
    assert_eq!(results["rehearsal"], true);
}

/// Also what the part has started, which would run on and hold the device.
#[test]
fn a_part_that_sleeps_for_ever_is_ended_with_its_children_and_keeps_what_it_has_found() {
    let Some(bundle) = Bundle::new("sleep") else { return };
    bundle.manifest(&json!({ "limits_s": { "kernels": 10 } }));
    let child = bundle.folder.join("child");
    bundle.program("gpu", &format!("sleep 1000 &\necho $! > {}\n{MEASURED}\nsleep 1000", child.display()));
    let results = bundle.play("cuda_logits,kernels,cuda_sums");
    assert_eq!(end(&results, "kernels"), ("failed", "took longer than its 10 s"));
    assert_eq!(found(&results, "kernels")["rows"][0]["name"], "copy");
    assert_eq!(end(&results, "cuda_logits").0, "passed");
    assert_eq!(end(&results, "cuda_sums").0, "passed");
    let child = fs::read_to_string(child).unwrap();
    // Ended, or a zombie that its new parent has not looked at yet.
    let state = fs::read_to_string(format!("/proc/{}/stat", child.trim()));
    let alive = state.is_ok_and(|state| !state.contains(") Z "));
    assert!(!alive, "a child was left running");
}

#[test]
fn a_part_that_crashes_is_named_with_its_signal() {
    let Some(bundle) = Bundle::new("crash") else { return };
    bundle.program("cuda_linear", "echo 'test a_same_bits ... ok'\nkill -SEGV $$");
    let results = bundle.play("cuda_linear,cuda_logits");
    let (status, reason) = end(&results, "cuda_linear");
    assert_eq!(status, "failed");
    assert!(reason.contains("cuda_linear was ended by SIGSEGV"), "{reason}");
    assert_eq!(found(&results, "cuda_linear")["tests"]["a_same_bits"], "ok");
    assert_eq!(end(&results, "cuda_logits").0, "passed");
}

#[test]
fn a_wrong_value_is_named_with_its_test_and_message() {
    let Some(bundle) = Bundle::new("wrong") else { return };
    bundle.program(
        "cuda_logits",
        "cat <<'END'\ntest a_same_bits ... ok\ntest values ... FAILED\n\nfailures:\n\n---- values stdout ----\n\n\
         thread 'main' (7) panicked at t.rs:1:2:\nelement 3: 1 vs 2\n\n\
         test result: FAILED. 1 passed; 1 failed\nEND\nexit 101",
    );
    let results = bundle.play("cuda_logits,cuda_linear");
    let (status, reason) = end(&results, "cuda_logits");
    assert_eq!(status, "failed");
    assert_eq!(
        reason,
        "1 of 2 tests failed: values: element 3: 1 vs 2; in a process of its own: element 3: 1 vs 2"
    );
    assert_eq!(end(&results, "cuda_linear").0, "passed");
}

#[test]
fn tests_that_run_nothing_and_programs_that_are_missing_do_not_pass() {
    let Some(bundle) = Bundle::new("nothing") else { return };
    bundle.program("cuda_logits", "echo 'test result: ok. 0 passed; 0 failed'");
    bundle.program("cuda_sums", "echo 'test other ... ok'");
    fs::remove_file(bundle.folder.join("bin/gpu")).unwrap();
    bundle.program("cuda_linear", "exit 3");
    let results = bundle.play("cuda_logits,cuda_sums,cuda_linear,kernels");
    assert_eq!(end(&results, "cuda_logits"), ("failed", "no test ran"));
    assert_eq!(end(&results, "cuda_sums").0, "failed", "no kernel ran twice");
    assert_eq!(end(&results, "cuda_linear").0, "failed");
    assert_eq!(end(&results, "kernels"), ("failed", "bin/gpu is not in the bundle"));
}

#[test]
fn no_time_left_is_said_of_the_parts_that_it_costs() {
    let Some(bundle) = Bundle::new("late") else { return };
    bundle.manifest(&json!({ "total_s": 8 }));
    bundle.program("cuda_logits", "sleep 1000");
    let results = bundle.play("cuda_logits,cuda_sums");
    let (status, reason) = end(&results, "cuda_logits");
    assert!(status == "failed" && reason.starts_with("took longer than its "), "{reason}");
    assert_eq!(end(&results, "cuda_sums"), ("skipped", "no time was left"));
}

/// What was found stays: in the results, under another name, and when somebody loses patience.
#[test]
fn earlier_results_are_kept_and_an_interruption_leaves_some() {
    let Some(bundle) = Bundle::new("kept") else { return };
    bundle.play("cuda_logits,kernels");
    let mut script = Command::new("python3");
    script.arg(bundle.folder.join("kit.py")).args(["--rehearse", "--only", "kernels,packages"]);
    bundle.program(
        "gpu",
        &format!("{MEASURED}\nkill -TERM $(cat {}/kit.pid)\nsleep 1000", bundle.folder.display()),
    );
    let mut running = script.env("PYTHONDONTWRITEBYTECODE", "1").spawn().unwrap();
    fs::write(bundle.folder.join("kit.pid"), running.id().to_string()).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(130));
    let results: Value =
        serde_json::from_str(&fs::read_to_string(bundle.folder.join("results.json")).unwrap()).unwrap();
    assert_eq!(results["finished"], false);
    assert_eq!(end(&results, "cuda_logits").0, "passed", "of the run before");
    assert_eq!(end(&results, "kernels"), ("failed", "interrupted"));
    assert_eq!(found(&results, "kernels")["rows"][0]["name"], "copy");

    bundle.manifest(&json!({ "commit": "another" }));
    bundle.program("gpu", MEASURED);
    bundle.play("kernels");
    let names = fs::read_dir(&bundle.folder).unwrap().map(|entry| entry.unwrap().file_name());
    let old = names.filter(|name| name.to_string_lossy().starts_with("results-2")).count();
    assert_eq!(old, 1, "results of another bundle are set aside");
}

#[test]
fn no_number_is_lost_to_nan() {
    let Some(bundle) = Bundle::new("nan") else { return };
    bundle.program("gpu", "echo '{\"name\": \"copy\", \"milliseconds\": NaN}'");
    let results = bundle.play("kernels");
    assert_eq!(found(&results, "kernels")["rows"][0]["milliseconds"], "nan");
}

#[test]
fn a_bundle_that_was_damaged_on_its_way_says_so() {
    let Some(bundle) = Bundle::new("damaged") else { return };
    bundle.manifest(&json!({ "files": {
        "bin/gpu": { "sha256": "00" }, "wheels/x.whl": { "sha256": "00" },
    } }));
    assert_eq!(bundle.play("packages")["damaged_files"], json!(["bin/gpu", "wheels/x.whl"]));
}

#[test]
fn wheels_for_another_python_are_not_tried() {
    let Some(bundle) = Bundle::new("python") else { return };
    fs::create_dir_all(bundle.folder.join("wheels")).unwrap();
    fs::write(bundle.folder.join("wheels/x-1-py3-none-any.whl"), "").unwrap();
    bundle.manifest(&json!({ "python": "2.7" }));
    let results = bundle.play("packages");
    let (status, reason) = end(&results, "packages");
    assert_eq!(status, "skipped");
    assert!(reason.starts_with("the wheels are for Python 2.7, this is 3."), "{reason}");
}

/// A driver's libraries of several CUDA versions: none later than the driver's is taken, wherever it lies.
#[test]
fn libraries_are_found_by_version_and_said() {
    let Some(bundle) = Bundle::new("libraries") else { return };
    let lib = bundle.folder.join("lib64");
    fs::create_dir_all(&lib).unwrap();
    for name in ["libnvrtc.so.13", "libnvrtc.so.12", "libcublasLt.so.13"] {
        fs::write(lib.join(name), "").unwrap();
    }
    let ask = "import sys; sys.path.insert(0, sys.argv[1]); import kit, json\n\
               kit.driver_version = lambda path: int(sys.argv[2])\n\
               found = kit.find_libraries()\n\
               print(json.dumps([found['nvrtc']['taken'], found['cublaslt']['taken']]))";
    let taken = |driver: &str| -> Value {
        let said = Command::new("python3")
            .args(["-c", ask])
            .arg(&bundle.folder)
            .arg(driver)
            .env("LD_LIBRARY_PATH", &lib)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&said.stderr)))
    };
    let path = |name: &str| lib.join(name).display().to_string();
    assert_eq!(taken("13000"), json!([path("libnvrtc.so.13"), path("libcublasLt.so.13")]));
    assert_eq!(taken("12080")[0], path("libnvrtc.so.12"));
}
