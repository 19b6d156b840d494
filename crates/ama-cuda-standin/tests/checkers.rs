//! Each check proven by a program that breaks the rule, and threads that disagree and meet again.

#[path = "common/ptx.rs"]
mod program;

use ama_cuda_standin::errors::Fault;
use ama_cuda_standin::memory::Blame;
use ama_cuda_standin::ptx::Rules;
use ama_cuda_standin::ptx::float::Approx;
use program::{STORE, Setup, run, words};

const HALF: &str = "setp.lt.u32 %p1, %r2, 16;\n";

#[track_caller]
fn faults(body: &str, setup: Setup<'_>) -> Fault {
    match run(body, setup) {
        Err(fault) => fault,
        Ok(_) => panic!("not reported: {body}"),
    }
}

fn block(threads: u32) -> Setup<'static> {
    Setup { block: [threads, 1, 1], ..Setup::default() }
}

#[test]
fn global_accesses_stay_inside_their_allocation() {
    run("st.global.u32 [%rd1+4092], %r2; ret;", block(1)).expect("the last word is inside");
    for (body, bytes, past) in [
        ("st.global.u32 [%rd1+4096], %r2; ret;", 4, 4),
        ("ld.global.u64 %rd9, [%rd1+4096]; ret;", 8, 8),
        ("ld.u8 %h1, [%rd1+4096]; ret;", 1, 1),
        ("atom.global.add.u32 %r9, [%rd1+4096], 1; ret;", 4, 4),
        ("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+4096]; ret;", 16, 16),
    ] {
        let Fault::Address { bytes: got, blame: Blame::Past { past: by, .. }, site, .. } =
            faults(body, block(1))
        else {
            panic!("{body}");
        };
        assert_eq!((got, by, site.line), (bytes, past, 11), "{body}");
    }
    let before = faults("ld.global.u32 %r9, [%rd1+-4]; ret;", block(1));
    assert!(matches!(before, Fault::Address { .. }), "{before}");
    let null = faults("mov.u64 %rd9, 0; ld.global.u32 %r9, [%rd9]; ret;", block(1));
    assert!(matches!(null, Fault::Address { blame: Blame::Nothing, .. }), "{null}");
    // A 32-bit product of indices that wraps lands in front of the array instead of behind.
    let wrapped = faults(
        "mul.lo.s32 %r5, %r1, 4; cvt.s64.s32 %rd5, %r5; add.s64 %rd5, %rd1, %rd5; ld.global.u32 %r9, [%rd5]; ret;",
        Setup { n: 0x3000_0000, ..block(1) },
    );
    assert_eq!(wrapped.code(), 700);
}

#[test]
fn accesses_are_aligned_to_their_size() {
    for (body, bytes) in [
        ("ld.global.u32 %r9, [%rd1+2]; ret;", 4),
        ("st.global.u16 [%rd1+1], %h1; ret;", 2),
        ("ld.global.u64 %rd9, [%rd1+4]; ret;", 8),
        ("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+8]; ret;", 16),
    ] {
        let fault = faults(body, block(1));
        assert!(matches!(fault, Fault::Misaligned { bytes: b, .. } if b == bytes), "{body}: {fault}");
        assert_eq!(fault.code(), 716);
    }
}

#[test]
fn shared_and_local_accesses_stay_inside_their_variable() {
    let shared = ".shared .align 4 .b8 first[128]; .shared .align 8 .b8 second[8]; .extern .shared .align 16 .b8 more[];";
    let two =
        |rest: &str| format!("{} {rest} ret;", shared.replace(".extern .shared .align 16 .b8 more[];", ""));
    run(&two("st.shared.u32 [first+124], %r2; st.shared.u64 [second], %rd1;"), block(1)).expect("inside");
    for bad in [
        "st.shared.u32 [first+128], %r2;",
        "ld.shared.u32 %r9, [second+8];",
        "ld.shared.u32 %r9, [first+-4];",
    ] {
        assert!(matches!(faults(&two(bad), block(1)), Fault::OffTheEnd { have: 136, .. }), "{bad}");
    }
    let local = ".local .align 4 .b8 mine[16]; mov.u64 %rd9, mine;";
    run(&format!("{local} st.local.u32 [%rd9+12], %r2; ret;"), block(1)).expect("inside");
    assert!(matches!(
        faults(&format!("{local} st.local.u32 [%rd9+16], %r2; ret;"), block(1)),
        Fault::OffTheEnd { .. }
    ));
}

#[test]
fn memory_starts_as_nan() {
    let body = format!(".shared .align 4 .b8 s[128]; .local .align 4 .b8 mine[4]; ld.shared.f32 %f1, [s+4]; ld.local.f32 %f2, [mine];
        ld.global.f32 %f3, [%rd1+512]; setp.nan.f32 %p1, %f1, %f1; setp.nan.and.f32 %p1, %f2, %f2, %p1;
        setp.nan.and.f32 %p1, %f3, %f3, %p1; selp.u32 %r9, 1, 0, %p1; {STORE}");
    assert_eq!(words(&run(&body, block(32)).expect("runs"))[..32], [1; 32]);
}

#[test]
fn barriers_want_all_threads_at_one_place() {
    for (body, some, others) in [
        (format!("{HALF} @%p1 bar.sync 0; ret;"), 16, "48 have exited, 0 wait"),
        (format!("{HALF} @%p1 ret; bar.sync 0; ret;"), 48, "16 have exited, 0 wait"),
        // Either barrier may be the one that is named.
        (format!("{HALF} @%p1 bra $a; bar.sync 0; ret; $a: bar.sync 0; ret;"), 16, "0 have exited, 48 wait"),
        (format!("{HALF} @!%p1 bra $a; bar.sync 0; ret; $a: bar.sync 0; ret;"), 16, "0 have exited, 48 wait"),
    ] {
        let fault = faults(&body, block(64));
        let Fault::Barrier { waiting, threads: 64, others: text, .. } = &fault else {
            panic!("{body}: {fault}")
        };
        let turned = *waiting == 48 && some == 16 && text == "0 have exited, 16 wait at another barrier";
        assert!(turned || (*waiting == some && text.starts_with(others)), "{fault}");
        assert_eq!(fault.code(), 719);
    }
    let different = faults("and.b32 %r5, %r2, 1; bar.sync %r5; ret;", block(64));
    assert!(matches!(different, Fault::Barrier { .. }), "{different}");
}

#[test]
fn masks_name_the_lanes_that_take_part() {
    let shuffle = |mask: &str| format!("shfl.sync.bfly.b32 %r9, %r2, 1, 31, {mask};");
    let mask_fault = |body: &str, threads: u32, part: &str| {
        let fault = faults(body, block(threads));
        assert!(matches!(fault, Fault::Mask { .. }) && fault.to_string().contains(part), "{body}: {fault}");
    };
    mask_fault(&(shuffle("-1") + "ret;"), 48, "lane 16 is named but does not exist");
    mask_fault(&format!("{HALF} @%p1 ret; {} ret;", shuffle("-1")), 32, "lane 0 is named but has exited");
    mask_fault(
        &format!("{HALF} @!%p1 bra $a; {} ret; $a: ret;", shuffle("-1")),
        32,
        "is named but has exited",
    );
    mask_fault(&(shuffle("0xfffffffe") + "ret;"), 32, "lane 0 executes it but is not named");
    mask_fault(
        &format!("{HALF} @%p1 bra $a; {} ret; $a: {} ret;", shuffle("-1"), shuffle("-1")),
        32,
        "waits elsewhere",
    );
    mask_fault(
        &format!("{HALF} @%p1 bra $a; {} ret; $a: bar.sync 0; ret;", shuffle("-1")),
        32,
        "waits elsewhere",
    );
    let source = faults(&format!("{HALF} @%p1 shfl.sync.bfly.b32 %r9, %r2, 16, 31, 0xffff; ret;"), block(32));
    assert!(matches!(source, Fault::ShuffleSource { lane: 16, mask: 0xffff, .. }), "{source}");
    run(&format!("{HALF} @%p1 {} ret;", shuffle("0xffff")), block(32))
        .expect("half a warp may shuffle by itself");
}

#[test]
fn races_between_warps_are_found() {
    let exchange = |between: &str| {
        format!(
            ".shared .align 4 .b8 s[256]; mov.u32 %r5, s; shl.b32 %r6, %r2, 2; add.u32 %r6, %r5, %r6; st.shared.u32 [%r6], %r2;
             {between} xor.b32 %r7, %r2, 32; shl.b32 %r7, %r7, 2; add.u32 %r7, %r5, %r7; ld.shared.u32 %r9, [%r7]; {STORE}"
        )
    };
    for seed in 0..4 {
        let setup = Setup { rules: Rules { seed, ..Rules::default() }, ..block(64) };
        let fault = faults(&exchange(""), setup);
        assert!(matches!(fault, Fault::Race { .. }), "{fault}");
        let got = words(&run(&exchange("bar.sync 0;"), setup).expect("the barrier orders it"));
        assert!((0..64).all(|t| got[t] == t as u32 ^ 32));
    }
}

#[test]
fn traps_and_endless_loops_end() {
    assert!(matches!(faults("trap;", block(1)), Fault::Trap { .. }));
    let rules = Rules { max_instructions: 100_000, ..Rules::default() };
    let fault = faults("$again: bra $again;", Setup { rules, ..block(32) });
    assert_eq!(fault, Fault::Endless { kernel: "k".into(), limit: 100_000 });
}

#[test]
fn launches_keep_the_limits() {
    for (grid, threads, what) in [
        ([0, 1, 1], [32, 1, 1], "grid x"),
        ([1, 65536, 1], [32, 1, 1], "grid y"),
        ([1, 1, 1], [2048, 1, 1], "block x"),
        ([1, 1, 1], [32, 0, 1], "block y"),
        ([1, 1, 1], [1, 1, 65], "block z"),
        ([1, 1, 1], [64, 32, 1], "threads per block"),
    ] {
        let fault = faults("ret;", Setup { grid, block: threads, ..Setup::default() });
        assert!(matches!(fault, Fault::Limit { what: w, .. } if w == what), "{fault}");
        assert_eq!(fault.code(), 1);
    }
    let much = faults(".shared .align 4 .b8 s[64]; ret;", Setup { dynamic: 48 << 10, ..Setup::default() });
    assert!(matches!(much, Fault::Limit { got: 49216, limit: 49152, .. }), "{much}");
}

/// Lane `l` runs its loop `l` times; all meet again for the shuffle.
#[test]
fn divergent_loops_meet_again() {
    let body = format!(
        "mov.u32 %r9, 0; mov.u32 %r5, %r2;
        $loop: setp.eq.u32 %p1, %r5, 0; @%p1 bra $done;
         and.b32 %r6, %r5, 1; setp.eq.u32 %p2, %r6, 0; @%p2 bra $even;
         add.u32 %r9, %r9, 100; bra $next;
        $even: add.u32 %r9, %r9, 1;
        $next: sub.u32 %r5, %r5, 1; bra $loop;
        $done: shfl.sync.down.b32 %r7|%p3, %r9, 1, 31, -1; @%p3 sub.u32 %r9, %r7, %r9; {STORE}"
    );
    for seed in 0..5 {
        let rules = Rules { seed, ..Rules::default() };
        let got = words(&run(&body, Setup { rules, ..block(32) }).expect("meets again"));
        for (lane, got) in got[..31].iter().enumerate() {
            assert_eq!(*got, if lane % 2 == 0 { 100 } else { 1 }, "lane {lane}, seed {seed}");
        }
        assert_eq!(got[31], 1615);
    }
}

#[test]
fn warp_wide_instructions_compute_over_the_mask() {
    for (body, want) in [
        ("setp.gt.u32 %p1, %r2, 7; vote.sync.ballot.b32 %r9, %p1, -1;", 0xffff_ff00),
        ("setp.gt.u32 %p1, %r2, 7; vote.sync.any.pred %p2, %p1, -1; selp.u32 %r9, 5, 6, %p2;", 5),
        ("setp.gt.u32 %p1, %r2, 7; vote.sync.all.pred %p2, !%p1, -1; selp.u32 %r9, 5, 6, %p2;", 6),
        ("redux.sync.add.u32 %r9, %r2, -1;", 496),
        ("xor.b32 %r5, %r2, -1; redux.sync.min.s32 %r9, %r5, -1;", !31),
        ("shfl.sync.idx.b32 %r9, %r2, 9, 31, -1;", 9),
        ("activemask.b32 %r9;", u32::MAX),
        ("and.b32 %r5, %r2, 0; match.any.sync.b32 %r9, %r5, -1;", u32::MAX),
        ("setp.gt.u32 %p1, %r2, 7; bar.red.popc.u32 %r9, 0, %p1;", 24),
        ("setp.gt.u32 %p1, %r2, 7; bar.red.or.pred %p2, 0, %p1; selp.u32 %r9, 5, 6, %p2;", 5),
    ] {
        let got = words(&run(&format!("{body} {STORE}"), block(32)).expect(body));
        assert_eq!(got[..32], [want; 32], "{body}");
    }
    let up = words(&run(&format!("shfl.sync.up.b32 %r9, %r2, 4, 0, -1; {STORE}"), block(32)).expect("runs"));
    assert!((0..32).all(|l| up[l] == if l < 4 { l as u32 } else { l as u32 - 4 }));
    // Segments of eight lanes, as `__shfl_down_sync(..., width = 8)` makes them.
    let down =
        words(&run(&format!("shfl.sync.down.b32 %r9, %r2, 1, 6175, -1; {STORE}"), block(32)).expect("runs"));
    assert!((0..32).all(|l| down[l] == if l % 8 == 7 { l as u32 } else { l as u32 + 1 }));
}

#[test]
fn atomics_see_every_thread_once() {
    let body = "st.global.u32 [%rd1], 0; st.global.u32 [%rd1+4], 0; bar.sync 0; atom.global.add.u32 %r9, [%rd1], 1; red.global.max.u32 [%rd1+4], %r2;
        mul.wide.u32 %rd9, %r9, 4; add.s64 %rd9, %rd1, %rd9; st.global.u32 [%rd9+8], %r2; ret;";
    for seed in [0, 3, 8] {
        let rules = Rules { seed, ..Rules::default() };
        let got = words(&run(body, Setup { rules, ..block(96) }).expect("runs"));
        assert_eq!(got[..2], [96, 95]);
        let mut order = got[2..98].to_vec();
        assert_eq!(order.is_sorted(), seed == 0, "a seed changes who comes first");
        order.sort_unstable();
        assert!(order.into_iter().eq(0..96));
    }
    let swap = "setp.eq.u32 %p1, %r2, 0; @%p1 st.global.u32 [%rd1], 5; atom.global.cas.b32 %r9, [%rd1], 5, 7; atom.global.exch.b32 %r9, [%rd1], 8; ret;";
    assert_eq!(words(&run(swap, block(1)).expect("runs"))[0], 8);
}

/// What hangs on the order of atomics differs between seeds; what does not is the same to the bit.
#[test]
fn orders_differ_but_sound_programs_do_not_notice() {
    let unordered =
        "mov.u32 %r5, %ctaid.x; cvt.rn.f32.u32 %f1, %r5; add.f32 %f1, %f1, 0f3DCCCCCD; mul.f32 %f1, %f1, %f1;
        atom.global.add.f32 %f2, [%rd2], %f1; ld.global.u32 %r9, [%rd2]; mov.u32 %r2, 0;";
    let ordered = "mov.u32 %r5, %ctaid.x; cvt.rn.f32.u32 %f1, %r5; ex2.approx.f32 %f1, %f1; mov.b32 %r9, %f1; mov.u32 %r2, %ctaid.x;";
    let last = |body: &str, seed| {
        let rules = Rules { seed, approx: Approx { ulp: 2, seed: 5 }, ..Rules::default() };
        run(
            &format!("{body} {STORE}"),
            Setup { grid: [100, 1, 1], block: [1, 1, 1], rules, ..Setup::default() },
        )
        .expect("runs")
    };
    let sums: std::collections::BTreeSet<Vec<u8>> =
        (0..6).map(|seed| last(unordered, seed)[..4].to_vec()).collect();
    assert!(sums.len() > 1, "six orders of a hundred additions give one sum");
    let all: std::collections::BTreeSet<Vec<u8>> = (0..6).map(|seed| last(ordered, seed)).collect();
    assert_eq!(all.len(), 1);
}

#[test]
fn approximate_instructions_move_by_at_most_the_given_steps() {
    let body = format!(
        "cvt.rn.f32.u32 %f1, %r2; mul.f32 %f1, %f1, 0f3DCCCCCD; ex2.approx.f32 %f1, %f1; mov.b32 %r9, %f1; {STORE}"
    );
    let with = |ulp| {
        let rules = Rules { approx: Approx { ulp, seed: 3 }, ..Rules::default() };
        words(&run(&body, Setup { rules, ..block(32) }).expect("runs"))
    };
    let steps: Vec<i32> =
        with(0)[..32].iter().zip(&with(2)[..32]).map(|(a, b)| *b as i32 - *a as i32).collect();
    assert_eq!(steps[0], 0, "the manual has ex2(0) = 1");
    assert!(steps.iter().all(|s| s.abs() <= 2) && steps.contains(&2) && steps.contains(&-2), "{steps:?}");
}
