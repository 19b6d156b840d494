//! What goes to the terminal: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};

/// Where results go. With `--json`, human-readable lines move to stderr and one JSON object ends stdout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    json: bool,
}

impl Console {
    /// `json` is the `--json` flag.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// A human-readable line of the result.
    ///
    /// # Errors
    /// Stdout cannot be written, for another reason than that its reader went away.
    pub(crate) fn say(self, line: &str) -> Result<()> {
        if self.json {
            note(line);
            return Ok(());
        }
        stdout_line(line)
    }

    /// The JSON object that ends the output, if it was asked for.
    ///
    /// # Errors
    /// As [`Console::say`].
    pub(crate) fn finish(self, value: &serde_json::Value) -> Result<()> {
        if self.json { stdout_line(&value.to_string()) } else { Ok(()) }
    }
}

/// A line on stderr; a closed stderr is no reason to stop.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether progress bars make sense.
pub(crate) fn on_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A closed pipe (`ama ... | head`) ends the output, not the program.
fn stdout_line(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to stdout"),
        _ => Ok(()),
    }
}
