//! The small run of tests/data, copied so that a test can damage it.

// Every test file uses another part of this.
#![allow(dead_code, reason = "shared by several test binaries")]

use std::fs;
use std::path::{Path, PathBuf};

use ama_report::{PageOptions, Reading, Run, page};
use scraper::{Html, Selector};

/// The committed run: eight steps of every training of a real run of the default pipeline.
pub(crate) fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/run")
}

/// A copy of the run in a folder of its own.
pub(crate) fn copy() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = folder.path().join("run");
    copy_folder(&fixture(), &run);
    (folder, run)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let other = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &other);
        } else {
            fs::copy(&path, &other).expect("a copy");
        }
    }
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Replaces text in a file.
#[track_caller]
pub(crate) fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("a text");
    assert!(text.contains(from), "{}: has no {from}", path.display());
    fs::write(path, text.replace(from, to)).expect("a written file");
}

/// The page of a folder, which has to be HTML without a fault.
#[track_caller]
pub(crate) fn page_of(folder: &Path) -> (Run, String, Html) {
    let run = Run::read(folder, Reading::Whole).expect("a run");
    let text = page(std::slice::from_ref(&run), PageOptions { reload_seconds: Some(15) }).expect("a page");
    let html = well_formed(&text);
    (run, text, html)
}

/// Parses as browsers do, and allows nothing that they would have to mend.
#[track_caller]
pub(crate) fn well_formed(text: &str) -> Html {
    let html = Html::parse_document(text);
    assert!(html.errors.is_empty(), "{:?}", &html.errors[..html.errors.len().min(5)]);
    for element in ["script", "iframe", "object", "embed", "img", "base", "form", "foreignObject"] {
        assert_eq!(count(&html, element), 0, "<{element}> has no place on the page");
    }
    for element in html.select(&Selector::parse("*").expect("a selector")) {
        for (name, value) in element.value().attrs() {
            assert!(!name.starts_with("on"), "an event handler: {name}={value}");
            assert!(!value.contains("://"), "an address: {name}={value}");
        }
    }
    html
}

/// How many elements a selector finds.
pub(crate) fn count(html: &Html, selector: &str) -> usize {
    html.select(&Selector::parse(selector).expect("a selector")).count()
}

/// The text of the first element that a selector finds, its pieces a space apart.
#[track_caller]
pub(crate) fn text(html: &Html, selector: &str) -> String {
    let element = html.select(&Selector::parse(selector).expect("a selector")).next();
    let element = element.unwrap_or_else(|| panic!("nothing is {selector}"));
    element.text().flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}
