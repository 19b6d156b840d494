//! Places at which a test ends or holds the process; in debug builds only.
//!
//! `AMA_FAIL_POINT=NAME=ACTION` does ACTION when NAME is reached, `NAME:N=ACTION` when it is reached for the N-th time.
//! Actions: `kill` ends the process without any clean-up, as a kill would; `wait` says so on stderr and holds the process until
//! it is asked to stop.
//! Points: `step`, `scored`, `checkpoint` and `written` (a step, a batch of scores, a checkpoint, a tensor of a merge is done), `temporary` (a file is written but has not got its name),
//! `output-whole` (the output has its name, the state beside it is not gone yet).

/// Does what the environment says about the point `name`.
#[cfg(debug_assertions)]
pub(crate) fn reach(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};

    static REACHED: AtomicU32 = AtomicU32::new(0);
    let Ok(text) = std::env::var("AMA_FAIL_POINT") else { return };
    let Some((point, action)) = text.split_once('=') else { return };
    let (point, at) = point.split_once(':').unwrap_or((point, "1"));
    if point != name || at.parse() != Ok(REACHED.fetch_add(1, Ordering::Relaxed) + 1) {
        return;
    }
    match action {
        // No destructor runs.
        "kill" => std::process::exit(137),
        "wait" => {
            crate::console::note(&format!("waiting at {name}"));
            while !crate::stop::flag().load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        _ => {}
    }
}

/// Nothing: release builds have no fail points.
#[cfg(not(debug_assertions))]
pub(crate) fn reach(_: &str) {}
