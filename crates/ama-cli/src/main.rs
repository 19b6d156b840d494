//! The `ama` command.
fn main() {}
