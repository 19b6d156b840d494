//! How many threads the process works with.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

static COUNT: OnceLock<usize> = OnceLock::new();

/// Makes the global pool of `threads` threads, or as many as the machine offers.
pub(crate) fn start(threads: Option<NonZeroUsize>) {
    let threads = threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let threads = *COUNT.get_or_init(|| threads);
    // Fails only when the pool is there already (a second call in one process).
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// Threads of the process, however few of them the calling piece of work was given. Batches are cut for this number, so
/// that results do not depend on how many runs go on at a time.
pub(crate) fn count() -> usize {
    COUNT.get().copied().unwrap_or_else(rayon::current_num_threads)
}
