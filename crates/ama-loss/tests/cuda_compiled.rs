//! What a run without `cuda-tests` shows: the device code compiled, and a machine without a device gets an error.

#![allow(clippy::print_stdout, reason = "a test without a harness says by itself what it did")]

use ama_loss::{LossError, cuda};

fn main() {
    if cfg!(feature = "cuda-tests") {
        return;
    }
    match cuda::open(0) {
        Ok(context) => {
            println!("cuda: compiled, not run (device: {:?}); --features cuda-tests runs it", context.name())
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.contains("; "), "one line with a remedy: {text}");
            if let LossError::NoDriver = error {
                let again = cuda::open(1);
                assert_eq!(again.map(|_| ()), Err(LossError::NoDriver), "a second try is no panic either");
            }
            println!("cuda: compiled, not run ({text})");
        }
    }
}
