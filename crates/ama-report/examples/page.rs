//! The page of the small run in tests/data, or of run folders of yours:
//!
//! ```text
//! cargo run -p ama-report --example page -- [RUN_DIR...] > report.html
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ama_report::{FrameOptions, PageOptions, Reading, Run, frame, page};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let own = folders.is_empty();
    if own {
        folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/run"));
    }
    let runs =
        folders.iter().map(|folder| Run::read(folder, Reading::Whole)).collect::<Result<Vec<_>, _>>()?;
    let html = page(&runs, PageOptions::default())?;
    assert!(html.contains("<svg") && !html.contains("<script"));
    if own {
        let text = frame(&runs[0], FrameOptions::default());
        assert!(text.contains("AMA-S lifts the worst task"));
        write!(std::io::stdout(), "{text}")?;
        writeln!(std::io::stdout(), "the page has {} bytes", html.len())?;
    } else {
        std::io::stdout().write_all(html.as_bytes())?;
    }
    Ok(())
}
