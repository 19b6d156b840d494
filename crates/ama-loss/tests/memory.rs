//! The head's memory, counted at the allocator: the budget and little else, never all logits.
#![allow(unsafe_code, reason = "a counting allocator has to implement an unsafe trait")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ama_loss::{HeadShape, linear_logp_backward, linear_logp_forward};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call on to the system's allocator unchanged and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that `run` held beyond what was there.
fn peak(run: impl FnOnce()) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    run();
    PEAK.load(Relaxed) - before
}

#[test]
fn head_stays_under_its_budget() {
    let shape = HeadShape { rows: 512, hidden: 32, vocab: 20_000 };
    let (hidden, weight) = (common::uniform(1, 512 * 32, 1.0), common::uniform(2, 20_000 * 32, 1.0));
    let targets = common::targets(512, 20_000);
    let upstream = vec![1.0; 512];
    let (mut d_hidden, mut d_weight) = (vec![0.0; hidden.len()], vec![0.0; weight.len()]);
    // All logits would be 39 MiB. On top of the budget come what products pack and, per thread and once, a slab of the size
    // of a second-level cache; two threads keep that the same everywhere.
    let slack = 10 << 20;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let mut forward = None;
    let mut run = |budget: usize| {
        peak(|| {
            pool.install(|| {
                let logps = linear_logp_forward(&hidden, &weight, &targets, shape, budget).unwrap();
                let (lse, d_w) = (&logps.lse, Some(&mut d_weight[..]));
                linear_logp_backward(
                    &hidden,
                    &weight,
                    &targets,
                    lse,
                    &upstream,
                    shape,
                    budget,
                    &mut d_hidden,
                    d_w,
                )
                .unwrap();
                forward = Some(logps);
            });
        })
    };
    for budget in [1 << 16, 1 << 20, 8 << 20] {
        let held = run(budget);
        assert!(held <= budget + slack, "held {held} bytes under a budget of {budget}");
    }
    assert!(forward.unwrap().logp.iter().all(|x| x.is_finite()));
}
