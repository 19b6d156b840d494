//! Ctrl-C: the first asks to keep what was done and end in order, the second ends at once.

use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// Set when the user wants the program to stop; read between steps, and between batches that are scored.
pub(crate) fn flag() -> &'static AtomicBool {
    &STOP
}

/// Installs the handler for Ctrl-C, SIGTERM and SIGHUP.
pub(crate) fn install() {
    // An error means that a handler is there already (a second call in one process): it does the same.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(crate::exit::INTERRUPTED));
        }
        crate::console::note("stopping after this step or batch; once more to stop at once");
    });
}
