//! How fast kernels are interpreted: by hand, in the release profile or the dev profile of this crate.
//!
//! `cargo test -p ama-cuda-standin --test speed -- --ignored --nocapture`

#![allow(clippy::print_stdout)] // reason: a measurement is printed

#[path = "common/ptx.rs"]
mod program;

use program::{STORE, Setup, run};
use std::time::Instant;

#[test]
#[ignore = "measures; needs a quiet machine"]
fn instructions_per_second() {
    // The inner loop of a log-sum-exp: load, compare, exponential, add.
    let body = format!(
        "cvt.rn.f32.u32 %f1, %r2; mov.u32 %r5, 0; mov.f32 %f2, 0f00000000; mul.wide.u32 %rd5, %r2, 4; add.s64 %rd5, %rd2, %rd5;
        $loop: ld.global.f32 %f3, [%rd5]; sub.f32 %f4, %f3, %f1; mul.f32 %f5, %f4, 0f3FB8AA3B; ex2.approx.f32 %f6, %f5;
         add.f32 %f2, %f2, %f6; fma.rn.f32 %f2, %f2, %f6, %f2; add.u32 %r5, %r5, 1; setp.lt.u32 %p1, %r5, %r1; @%p1 bra $loop;
         mov.b32 %r9, %f2; {STORE}"
    );
    let n = 20_000;
    let setup = Setup { input: &[0; 1024], n, block: [256, 1, 1], ..Setup::default() };
    let start = Instant::now();
    run(&body, setup).expect("runs");
    let seconds = start.elapsed().as_secs_f64();
    let executed = f64::from(n) * 9.0 * 256.0;
    let rate = executed / seconds / 1e6;
    assert!(rate > 30.0, "{rate:.0} million instructions a second");
    println!("{rate:.0} million instructions a second");
}
