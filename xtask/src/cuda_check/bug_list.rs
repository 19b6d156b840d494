//! The seeded bugs: textual replacements in `crates/ama-loss/src/cuda`, each a mistake that somebody could make.
//!
//! A replacement that no longer applies fails the check, so a kernel cannot be rewritten without its bugs.

mod backward;
mod forward;
mod launches;
mod pairs;

/// One mistake.
#[derive(Debug)]
pub(super) struct Bug {
    pub(super) name: &'static str,
    /// File in `crates/ama-loss/src/cuda`; a `.rs` file is only tried on the stand-in driver.
    pub(super) file: &'static str,
    /// Text that occurs exactly once.
    pub(super) find: &'static str,
    pub(super) replace: &'static str,
}

const fn bug(name: &'static str, file: &'static str, find: &'static str, replace: &'static str) -> Bug {
    Bug { name, file, find, replace }
}

/// All of them.
pub(super) fn bugs() -> impl Iterator<Item = &'static Bug> {
    [forward::BUGS, backward::BUGS, pairs::BUGS, launches::BUGS].into_iter().flatten()
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::shell;

    #[test]
    fn every_bug_applies_to_the_sources() {
        let mut broken = Vec::new();
        for bug in bugs() {
            let path = shell::root().join("crates/ama-loss/src/cuda").join(bug.file);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let count = text.matches(bug.find).count();
            if count != 1 || bug.find == bug.replace {
                broken.push(format!("{}: its text occurs {count} times in {}", bug.name, bug.file));
            }
        }
        assert!(broken.is_empty(), "\n{}", broken.join("\n"));
        let names: std::collections::BTreeSet<_> = bugs().map(|bug| bug.name).collect();
        assert_eq!(names.len(), bugs().count(), "two bugs of one name");
    }
}
