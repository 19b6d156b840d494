//! How many threads a kernel uses.

use std::num::NonZeroUsize;

/// Number of threads, at least one.
///
/// Kernels run in the rayon pool that they are called from (the global one outside of any pool) and by default use
/// all its threads; a caller who wants fewer runs them inside a smaller pool with `ThreadPool::install`, or hands
/// [`Threads::ONE`] to [`matmul`](crate::gemm::matmul) when parallelism lies further out.
///
/// Work is cut by shape, never by which thread is free: one shape and one thread count give the same bits every time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads(NonZeroUsize);

impl Threads {
    /// The calling thread only.
    pub const ONE: Self = Self(NonZeroUsize::MIN);

    /// Exactly `n` threads.
    pub fn new(n: NonZeroUsize) -> Self {
        Self(n)
    }

    /// As many as the current rayon pool has.
    pub fn current() -> Self {
        Self(NonZeroUsize::new(rayon::current_num_threads()).unwrap_or(NonZeroUsize::MIN))
    }

    /// The count.
    pub fn get(self) -> usize {
        self.0.get()
    }
}

impl Default for Threads {
    /// [`Threads::current`].
    fn default() -> Self {
        Self::current()
    }
}
