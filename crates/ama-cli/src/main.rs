//! The `ama` command; see [`ama_cli`].

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    ama_cli::main_with(std::env::args_os())
}
