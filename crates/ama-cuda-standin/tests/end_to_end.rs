//! Through cudarc, as our kernels are launched: each case in a process of its own that loads the stand-in as its driver.
//!
//! A case is a test that runs itself again with `LD_LIBRARY_PATH` set to a folder that holds the library under the
//! driver's names; the body runs in the child, what it printed and reported is judged in the parent.

#![allow(unsafe_code)] // reason: launches are unsafe; each block says why it is sound, or what it provokes

mod common;

use common::{SAXPY, case};
use cudarc::driver::sys::CUresult::*;
use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::sync::Arc;

fn start() -> Result<(Arc<CudaStream>, CudaFunction), DriverError> {
    let context = CudaContext::new(0)?;
    let module = context.load_module(Ptx::from_src(SAXPY))?;
    Ok((context.default_stream(), module.load_function("saxpy")?))
}

fn config(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// The whole path: allocate, copy, launch, copy back.
fn saxpy() -> Result<Vec<f32>, DriverError> {
    let (stream, kernel) = start()?;
    let x = stream.clone_htod(&[1f32, 2.0, 3.0])?;
    let mut y = stream.alloc_zeros::<f32>(3)?;
    // SAFETY: the kernel touches three elements of either array.
    unsafe {
        stream.launch_builder(&kernel).arg(&x).arg(&mut y).arg(&2f32).arg(&3u32).launch(config(1, 32))
    }?;
    let result = stream.clone_dtoh(&y)?;
    stream.synchronize()?;
    Ok(result)
}

#[test]
fn a_launch_gives_its_result_and_leaves_nothing_behind() {
    let Some(child) = case("a_launch_gives_its_result_and_leaves_nothing_behind", &[], || {
        assert_eq!(saxpy(), Ok(vec![2.0, 4.0, 6.0]));
    }) else {
        return;
    };
    child.succeeded();
    for part in ["\"launches\":1,", "\"problems\":0,", "\"leaked_allocations\":0,", "\"peak_bytes\":24,"] {
        assert!(child.report.contains(part), "{part} in {}", child.report);
    }
    assert!(
        child.log.contains("cuLaunchKernel(saxpy grid [1, 1, 1] block [32, 1, 1] dynamic 0 instructions ")
    );
}

#[test]
fn streams_and_events_work_and_are_given_back() {
    let Some(child) = case("streams_and_events_work_and_are_given_back", &[], || {
        let (stream, kernel) = start().expect("starts");
        let other = stream.context().new_stream().expect("a second stream");
        let x = other.clone_htod(&vec![1f32; 100]).expect("copies");
        let mut y = other.clone_htod(&vec![1f32; 100]).expect("copies");
        // SAFETY: the kernel touches a hundred elements of either array.
        let events = unsafe {
            let mut launch = other.launch_builder(&kernel);
            launch.record_kernel_launch(cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT);
            launch.arg(&x).arg(&mut y).arg(&3f32).arg(&100u32).launch(config(4, 32)).expect("launches")
        };
        let (before, after) = events.expect("they were asked for");
        assert!(before.elapsed_ms(&after).expect("both recorded") >= 0.0);
        stream.join(&other).expect("waits");
        assert_eq!(stream.clone_dtoh(&y).expect("copies"), vec![4f32; 100]);
    }) else {
        return;
    };
    child.succeeded();
    assert!(child.report.contains("\"problems\":0,"), "{}", child.report);
}

#[test]
fn wrong_launches_are_refused_at_once() {
    let Some(child) = case("wrong_launches_are_refused_at_once", &[], || {
        let (stream, kernel) = start().expect("starts");
        let x = stream.clone_htod(&[1f32; 8]).expect("copies");
        let mut y = stream.clone_htod(&[1f32; 8]).expect("copies");
        let code = |result: Result<_, DriverError>| result.map(|_: Option<_>| ()).expect_err("refused").0;
        // SAFETY: none of these launches gets to run.
        unsafe {
            let mut few = stream.launch_builder(&kernel);
            assert_eq!(
                code(few.arg(&x).arg(&mut y).arg(&2f32).launch(config(1, 32))),
                CUDA_ERROR_INVALID_VALUE
            );
            let mut many = stream.launch_builder(&kernel);
            let many = many.arg(&x).arg(&mut y).arg(&2f32).arg(&8u32).arg(&8u32);
            assert_eq!(code(many.launch(config(1, 32))), CUDA_ERROR_INVALID_VALUE);
            let swapped = 8u64;
            let mut launch = stream.launch_builder(&kernel);
            let launch = launch.arg(&swapped).arg(&mut y).arg(&2f32).arg(&8u32);
            assert_eq!(code(launch.launch(config(1, 32))), CUDA_ERROR_ILLEGAL_ADDRESS);
            for (blocks, threads) in [(0, 32), (1, 0), (1, 2048), (1, 1025)] {
                let mut launch = stream.launch_builder(&kernel);
                let launch = launch.arg(&x).arg(&mut y).arg(&2f32).arg(&8u32);
                assert_eq!(code(launch.launch(config(blocks, threads))), CUDA_ERROR_INVALID_VALUE);
            }
            let mut launch = stream.launch_builder(&kernel);
            let launch = launch.arg(&x).arg(&mut y).arg(&2f32).arg(&8u32);
            let much = LaunchConfig { shared_mem_bytes: (48 << 10) + 1, ..config(1, 32) };
            assert_eq!(code(launch.launch(much)), CUDA_ERROR_INVALID_VALUE);
        }
        let missing =
            stream.context().load_module(Ptx::from_src(SAXPY)).expect("loads").load_function("daxpy");
        assert_eq!(missing.expect_err("no such kernel").0, CUDA_ERROR_NOT_FOUND);
        // Nothing of it did harm: the next launch is sound.
        // SAFETY: the kernel touches eight elements of either array.
        unsafe {
            stream.launch_builder(&kernel).arg(&x).arg(&mut y).arg(&2f32).arg(&8u32).launch(config(1, 32))
        }
        .expect("a sound launch");
        assert_eq!(stream.clone_dtoh(&y).expect("copies"), vec![3f32; 8]);
    }) else {
        return;
    };
    child.succeeded();
    for part in [
        "launch of saxpy: 3 arguments; its PTX signature has 4",
        "launch of saxpy: 5 arguments; its PTX signature has 4",
        "argument 0 is 0x8, no allocation is near",
        "block x is 2048; at most 1024",
        "grid x is 0",
    ] {
        assert!(child.stderr.contains(part), "{part} in\n{}", child.stderr);
    }
}

#[test]
fn an_access_past_the_end_comes_back_from_every_later_call() {
    let Some(child) = case("an_access_past_the_end_comes_back_from_every_later_call", &[], || {
        let (stream, kernel) = start().expect("starts");
        let x = stream.clone_htod(&[1f32; 8]).expect("copies");
        let mut y = stream.clone_htod(&[1f32; 8]).expect("copies");
        // SAFETY: none: the kernel is told of one element too many, which is what the case is about.
        unsafe {
            stream.launch_builder(&kernel).arg(&x).arg(&mut y).arg(&2f32).arg(&9u32).launch(config(1, 32))
        }
        .expect("a launch returns before the kernel has run");
        assert_eq!(stream.synchronize().expect_err("lost").0, CUDA_ERROR_ILLEGAL_ADDRESS);
        assert_eq!(stream.clone_dtoh(&x).expect_err("lost").0, CUDA_ERROR_ILLEGAL_ADDRESS);
    }) else {
        return;
    };
    child.succeeded();
    let want = "saxpy block (0,0,0) thread (8,0,0) PTX line 22: global load of 4 bytes";
    assert!(child.stderr.contains(want), "{}", child.stderr);
    assert!(child.stderr.contains("4 bytes past the end of the allocation of 32 bytes"), "{}", child.stderr);
}

#[test]
fn misused_memory_is_reported() {
    let Some(child) = case("misused_memory_is_reported", &[], || {
        use cudarc::driver::result;
        let (stream, kernel) = start().expect("starts");
        let y = stream.clone_htod(&[1f32; 8]).expect("copies");
        // SAFETY: the stand-in takes every misuse of its addresses as an error.
        unsafe {
            let gone = result::malloc_sync(64).expect("fits");
            result::free_sync(gone).expect("is alive");
            assert_eq!(result::free_sync(gone).expect_err("double free").0, CUDA_ERROR_INVALID_VALUE);
            assert_eq!(
                result::memcpy_htod_sync(gone, &[0u8; 4]).expect_err("use after free").0,
                CUDA_ERROR_INVALID_VALUE
            );
            let mut launch = stream.launch_builder(&kernel);
            let result = launch.arg(&gone).arg(&y).arg(&2f32).arg(&8u32).launch(config(1, 32));
            assert_eq!(result.map(|_| ()).expect_err("use after free").0, CUDA_ERROR_ILLEGAL_ADDRESS);
            result::malloc_sync(1000).expect("fits, and is never freed");
        }
    }) else {
        return;
    };
    child.succeeded();
    for part in [
        "double free of",
        "copy to the device of 4 bytes",
        "use after free",
        "leak: 1 allocations, 1000 bytes",
    ] {
        assert!(child.stderr.contains(part), "{part} in\n{}", child.stderr);
    }
    assert!(child.report.contains("\"leaked_bytes\":1000,"), "{}", child.report);
}

#[test]
fn a_forgotten_context_is_reported_at_the_end() {
    let Some(child) = case("a_forgotten_context_is_reported_at_the_end", &[], || {
        let (stream, _) = start().expect("starts");
        std::mem::forget(stream.clone_htod(&[1f32; 8]).expect("copies"));
    }) else {
        return;
    };
    child.succeeded();
    assert!(child.report.contains("\"leaked_bytes\":32,"), "{}", child.report);
    assert!(child.stderr.contains("the context is still held at the end of the process"), "{}", child.stderr);
}

#[test]
fn memory_runs_out_where_it_should() {
    let limit = [("STANDIN_MEM_BYTES", "4096"), ("STANDIN_FAIL_ALLOC", "3")];
    let Some(child) = case("memory_runs_out_where_it_should", &limit, || {
        let (stream, _) = start().expect("starts");
        assert_eq!(stream.context().mem_get_info(), Ok((4096, 4096)));
        assert_eq!(stream.alloc_zeros::<u8>(4097).expect_err("too large").0, CUDA_ERROR_OUT_OF_MEMORY);
        let kept = stream.alloc_zeros::<u8>(4000).expect("fits");
        assert_eq!(stream.alloc_zeros::<u8>(1).expect_err("the third fails").0, CUDA_ERROR_OUT_OF_MEMORY);
        assert_eq!(stream.context().mem_get_info(), Ok((96, 4096)));
        drop(kept);
        stream.alloc_zeros::<u8>(4096).expect("fits again");
    }) else {
        return;
    };
    child.succeeded();
    assert!(child.report.contains("\"peak_bytes\":4096,"), "{}", child.report);
}

/// Every call that the path makes, each failing in turn: an error comes out, and nothing else breaks.
#[test]
fn every_call_can_fail() {
    let name = "every_call_can_fail";
    let failing = std::env::var("STANDIN_FAIL").unwrap_or_default();
    let Some(child) = case(name, &[], || {
        let result = saxpy();
        // Errors of destructors are kept by cudarc for the next call, which there is none of.
        let swallowed = ["cuMemFree", "cuEventDestroy", "cuModuleUnload", "cuDevicePrimaryCtxRelease"];
        if failing.is_empty() || swallowed.iter().any(|call| failing.starts_with(call)) {
            assert_eq!(result, Ok(vec![2.0, 4.0, 6.0]));
        } else {
            assert_eq!(result.expect_err("the call failed").0, CUDA_ERROR_UNKNOWN, "{failing}");
        }
    }) else {
        return;
    };
    child.succeeded();
    let calls: std::collections::BTreeSet<&str> =
        child.log.lines().filter_map(|line| line.split('(').next()).collect();
    assert!(calls.len() > 10, "{calls:?}");
    for call in calls {
        common::child(name, &[("STANDIN_FAIL", &format!("{call}:999"))]).succeeded();
    }
}

#[test]
fn texts_for_newer_devices_and_drivers_are_refused() {
    for (setting, value, want) in [
        ("STANDIN_CC", "75", CUDA_ERROR_NO_BINARY_FOR_GPU),
        ("STANDIN_DRIVER", "10020", CUDA_ERROR_UNSUPPORTED_PTX_VERSION),
    ] {
        let Some(child) =
            case("texts_for_newer_devices_and_drivers_are_refused", &[(setting, value)], || {
                let old = std::env::var("STANDIN_CC").is_ok();
                let want =
                    if old { CUDA_ERROR_NO_BINARY_FOR_GPU } else { CUDA_ERROR_UNSUPPORTED_PTX_VERSION };
                assert_eq!(start().map(|_| ()).expect_err("too new").0, want);
                let context = CudaContext::new(0).expect("a context");
                let wrong = SAXPY
                    .replace("fma.rn.f32", "wmma.frobnicate")
                    .replace("sm_80", "sm_60")
                    .replace("7.0", "6.0");
                let wrong =
                    context.load_module(Ptx::from_src(wrong)).map(|_| ()).expect_err("unknown opcode");
                assert_eq!(wrong.0, CUDA_ERROR_INVALID_PTX);
            })
        else {
            return;
        };
        child.succeeded();
        assert!(child.stderr.contains("wmma.frobnicate %f4, %f1, %f2, %f3;"), "{want:?}: {}", child.stderr);
    }
}

#[test]
fn a_machine_without_a_device_says_so() {
    let Some(child) = case("a_machine_without_a_device_says_so", &[("STANDIN_DEVICES", "0")], || {
        assert_eq!(CudaContext::new(0).expect_err("none there").0, CUDA_ERROR_NO_DEVICE);
    }) else {
        return;
    };
    child.succeeded();
}

#[test]
fn a_dry_run_counts_without_executing() {
    let Some(child) = case("a_dry_run_counts_without_executing", &[("STANDIN_DRY_RUN", "1")], || {
        let (stream, kernel) = start().expect("starts");
        let n = 1u32 << 29;
        // Two gigabytes each, none of it touched.
        let x = stream.alloc_zeros::<f32>(n as usize).expect("fits");
        let mut y = stream.alloc_zeros::<f32>(n as usize).expect("fits");
        // SAFETY: the kernel is not executed.
        unsafe {
            stream
                .launch_builder(&kernel)
                .arg(&x)
                .arg(&mut y)
                .arg(&2f32)
                .arg(&n)
                .launch(config(n / 1024, 1024))
        }
        .expect("is sound");
    }) else {
        return;
    };
    child.succeeded();
    for part in ["\"peak_bytes\":4294967296,", "\"launches\":1,", "\"instructions\":0,", "\"problems\":0,"] {
        assert!(child.report.contains(part), "{part} in {}", child.report);
    }
}
