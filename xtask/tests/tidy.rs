//! Layout rules of the workspace, as tests: `cargo xtask tidy`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Which of our crates each of our crates may depend on (DESIGN, "Crates and arrows").
const ARROWS: &[(&str, &[&str])] = &[
    // Only tests load it, as a shared library: nobody that is shipped may depend on it.
    ("ama-cuda-standin", &[]),
    // Test-only as well; its tests run ama-loss's kernels, and compare with their interpreted PTX.
    ("ama-cuda-emulator", &["ama-cuda-standin", "ama-loss"]),
    ("ama-data", &[]),
    ("ama-loss", &[]),
    ("ama-merge", &["ama-safetensors"]),
    ("ama-mix", &[]),
    ("ama-safetensors", &[]),
    ("ama-specialist-cache", &[]),
    ("ama-report", &[]),
    ("ama-suite", &[]),
    ("ama-model", &["ama-loss", "ama-safetensors"]),
    ("ama-train", &["ama-data", "ama-loss", "ama-mix", "ama-model", "ama-specialist-cache"]),
    (
        "ama-cli",
        &[
            "ama-data",
            "ama-loss",
            "ama-merge",
            "ama-mix",
            "ama-model",
            "ama-report",
            "ama-safetensors",
            "ama-specialist-cache",
            "ama-suite",
            "ama-train",
        ],
    ),
    ("xtask", &[]),
    ("benches", &["ama-data", "ama-loss", "ama-mix", "ama-model", "ama-specialist-cache"]),
];

/// Third-party packages that a crate must not pull in, not even through others.
const KEPT_OUT: &[(&str, &[&str])] = &[
    ("ama-mix", &["dfdx", "arrow", "arrow-array", "parquet", "tokenizers", "rand"]),
    ("ama-loss", &["dfdx", "arrow", "arrow-array", "parquet", "tokenizers"]),
    ("ama-cuda-standin", &["cudarc", "libloading"]),
    ("ama-merge", &["dfdx", "arrow", "arrow-array", "parquet", "tokenizers"]),
    ("ama-safetensors", &["dfdx", "arrow", "arrow-array", "parquet", "tokenizers", "rayon"]),
    ("ama-data", &["dfdx", "safetensors"]),
    ("ama-specialist-cache", &["dfdx", "safetensors", "tokenizers"]),
    ("ama-suite", &["dfdx", "safetensors", "tokenizers"]),
    (
        "ama-report",
        &["dfdx", "arrow", "arrow-array", "parquet", "safetensors", "tokenizers", "image", "font-kit"],
    ),
    ("ama-model", &["arrow", "arrow-array", "parquet", "tokenizers"]),
];

/// No source file is longer.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked".to_string()])
        .exec()
        .expect("cargo metadata runs on a workspace whose Cargo.lock is current")
}

/// Files of the repository, without what builds, runs and version control leave there.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository can be listed") {
            let path = entry.expect("a folder of the repository can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "runs", "shared", "node_modules"].contains(&name.as_str()) && name != ".git" {
                    folders.push(path);
                }
            } else if name != ".git" {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Fails with every broken rule at once.
#[track_caller]
fn none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn arrows_between_crates_are_as_designed() {
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata.workspace_packages().iter().map(|p| p.name.as_str()).collect();
    let mut broken = Vec::new();
    for package in metadata.workspace_packages() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name.as_str()) else {
            broken.push(format!(
                "{}: not in the table of arrows; ARCHITECTURE.md wants a reason for it",
                package.name
            ));
            continue;
        };
        // Tests and examples keep to the arrows too: a crate has to be usable without the rest.
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if members.contains(name) && !allowed.contains(&name) {
                broken.push(format!("{} -> {name}: not an arrow of the design", package.name));
            }
        }
    }
    none(broken);
}

#[test]
fn leaf_crates_stay_light() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().expect("metadata was asked for with dependencies");
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut broken = Vec::new();
    for (name, kept_out) in KEPT_OUT {
        let package =
            metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == *name);
        let package = package.unwrap_or_else(|| panic!("no crate {name}"));
        let mut seen = BTreeSet::new();
        let mut left = vec![&package.id];
        while let Some(id) = left.pop() {
            if !seen.insert(id) {
                continue;
            }
            for dependency in &nodes[id].deps {
                // What only tests need does not reach a user of the crate.
                let normal = |kind: &cargo_metadata::DepKindInfo| kind.kind != DependencyKind::Development;
                if dependency.dep_kinds.iter().any(normal) {
                    left.push(&dependency.pkg);
                }
            }
        }
        for id in seen {
            if kept_out.contains(&metadata[id].name.as_str()) {
                broken.push(format!("{name} pulls in {}", metadata[id].name));
            }
        }
    }
    none(broken);
}

#[test]
fn source_files_are_short() {
    let mut broken = Vec::new();
    for path in files().iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let lines = fs::read_to_string(path).expect("a source file is text").lines().count();
        if lines > MAX_LINES {
            broken.push(format!("{}: {lines} lines; at most {MAX_LINES}, so split it", shown(path)));
        }
    }
    none(broken);
}

#[test]
fn every_crate_has_readme_example_and_changelog_entry() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).expect("there is a CHANGELOG.md");
    let mut broken = Vec::new();
    for entry in fs::read_dir(root().join("crates")).expect("there is a folder crates/") {
        let folder = entry.expect("crates/ can be listed").path();
        if !folder.join("Cargo.toml").is_file() {
            continue;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        if readme.lines().count() < 10 {
            broken.push(format!("crates/{name}/README.md: missing or next to empty"));
        }
        let examples = fs::read_dir(folder.join("examples")).map(|entries| {
            entries
                .filter_map(Result::ok)
                .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"))
                .count()
        });
        if examples.unwrap_or(0) == 0 {
            broken.push(format!("crates/{name}/examples: no example"));
        }
        if !changelog.contains(&format!("`{name}`")) {
            broken.push(format!("CHANGELOG.md: no entry for `{name}`"));
        }
    }
    none(broken);
}

#[test]
fn changelog_has_the_version() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).expect("there is a CHANGELOG.md");
    let mut broken = Vec::new();
    for package in metadata().workspace_packages() {
        let heading = format!("## {}", package.version);
        if !changelog.lines().any(|line| line.starts_with(&heading)) {
            broken.push(format!("CHANGELOG.md: no heading `{heading}` for {}", package.name));
        }
    }
    none(broken);
}

#[test]
fn library_roots_document_themselves() {
    let mut broken = Vec::new();
    for entry in fs::read_dir(root().join("crates")).expect("there is a folder crates/") {
        let path = entry.expect("crates/ can be listed").path().join("src/lib.rs");
        let Ok(text) = fs::read_to_string(&path) else {
            broken.push(format!("{}: missing", shown(&path)));
            continue;
        };
        if !text.starts_with("//! ") {
            broken.push(format!("{}: does not open with what the crate is for", shown(&path)));
        }
        if !text.contains("//! ```") {
            broken.push(format!("{}: no doc-tested example", shown(&path)));
        }
    }
    none(broken);
}

#[test]
fn nothing_names_a_machine() {
    // Built from parts, or this file would break its own rule.
    let words: Vec<String> =
        [["/ro", "ot/"], ["/ho", "me/"], ["/wo", "rk/"], ["/tmp/", "peers"], ["C:\\Us", "ers"]]
            .iter()
            .map(|parts| parts.concat())
            .collect();
    let mut broken = Vec::new();
    for path in files() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                broken.push(format!("{}:{}: names a machine's path: {word}", shown(&path), number + 1));
            }
        }
    }
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed");
    for line in lock.lines().filter(|line| line.starts_with("source = ")) {
        if line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"" {
            broken.push(format!("Cargo.lock: a source that is not crates.io: {line}"));
        }
    }
    none(broken);
}
