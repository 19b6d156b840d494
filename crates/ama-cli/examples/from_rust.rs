//! Calls the command line from Rust: `main_with` takes what a shell would, and says how it went.

use std::process::ExitCode;

fn main() {
    let shown = |code: ExitCode| format!("{code:?}");

    // A tiny suite, looked at and checked, as one would do in a terminal.
    let folder = std::env::temp_dir().join(format!("ama-cli-example-{}", std::process::id()));
    let suite = folder.join("suite");
    let out = suite.display().to_string();
    let sizes =
        ["--helpful", "12", "--harmless", "12", "--reasoning", "12", "--held-out", "3", "--sft", "20"];
    let generate = ["ama", "suite", "generate", "--seed", "5", "--out", &out];
    assert_eq!(shown(ama_cli::main_with(generate.iter().chain(&sizes))), shown(ExitCode::SUCCESS));

    let pairs = suite.join("train").join("reasoning.parquet").display().to_string();
    let base = suite.join("base").display().to_string();
    assert_eq!(
        shown(ama_cli::main_with(["ama", "data", "validate", &pairs, "--model", &base])),
        shown(ExitCode::SUCCESS)
    );

    // Writing there again is refused: bad input, exit code 2, and nothing is touched.
    assert_eq!(shown(ama_cli::main_with(generate)), shown(ExitCode::from(2)));
    let _ = std::fs::remove_dir_all(&folder);
}
