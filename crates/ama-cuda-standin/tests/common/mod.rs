//! Tests in processes of their own, with the stand-in in the place of the driver.
#![allow(dead_code, unreachable_pub)] // reason: every test binary includes it and uses its part

use std::path::{Path, PathBuf};
use std::process::Command;

/// `y[i] = a * x[i] + y[i]` for `i < n`.
pub const SAXPY: &str = "
.version 7.0
.target sm_80
.address_size 64
.visible .entry saxpy(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n) {
    .reg .pred %p<2>;
    .reg .f32 %f<5>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.f32 %f1, [a];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra $done;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r5, 4;
    add.s64 %rd6, %rd3, %rd5; add.s64 %rd7, %rd4, %rd5;
    ld.global.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd7];
    fma.rn.f32 %f4, %f1, %f2, %f3;
    st.global.f32 [%rd7], %f4;
$done:
    ret;
}
";

/// Set in a child, where the body of a case runs.
const CHILD: &str = "STANDIN_TEST_CHILD";

/// What a child left.
pub struct Child {
    /// Whether it exited with success.
    pub success: bool,
    /// Its standard error.
    pub stderr: String,
    /// Its log of driver calls.
    pub log: String,
    /// Its report.
    pub report: String,
}

impl Child {
    /// Fails with what the child said, unless it succeeded.
    #[track_caller]
    pub fn succeeded(&self) {
        assert!(self.success, "the child failed:\n{}", self.stderr);
    }
}

/// Runs `body` if this is the child; otherwise runs the test `name` in a child with `settings`, and returns what it left.
pub fn case(name: &str, settings: &[(&str, &str)], body: impl FnOnce()) -> Option<Child> {
    if std::env::var_os(CHILD).is_some() {
        body();
        return None;
    }
    Some(child(name, settings))
}

/// Runs the test `name` of this very binary in a child.
pub fn child(name: &str, settings: &[(&str, &str)]) -> Child {
    let folder = tempfile::tempdir().expect("a folder for the library's names");
    let library = library();
    for name in ["libcuda.so", "libcuda.so.1", "libcublasLt.so", "libcublasLt.so.12", "libcublasLt.so.13"] {
        std::os::unix::fs::symlink(&library, folder.path().join(name)).expect("a symbolic link");
    }
    let (log, report) = (folder.path().join("log"), folder.path().join("report"));
    let output = Command::new(std::env::current_exe().expect("a test knows its own path"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .env("LD_LIBRARY_PATH", folder.path())
        .env("STANDIN_LOG", &log)
        .env("STANDIN_REPORT", &report)
        .envs(settings.iter().copied())
        .output()
        .expect("a test can run itself");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("1 passed") || !output.status.success(), "no such test: {name}");
    Child {
        success: output.status.success(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        log: read(&log),
        report: read(&report),
    }
}

/// The shared library, which cargo builds beside the test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().expect("it lies in a folder");
    let names = [folder.join("libama_cuda_standin.so"), folder.join("../libama_cuda_standin.so")];
    let found = names.into_iter().find(|path| path.is_file());
    found
        .expect("the shared library of this crate is built with its tests")
        .canonicalize()
        .expect("it exists")
}
