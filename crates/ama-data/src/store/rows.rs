//! The rows of a store's data files, each with what became of it.

use std::fmt;
use std::path::Path;

use super::TokenStore;
use super::format::{DROPPED_LEN, DroppedEntry, PLACE_LEN};
use crate::id::PairId;
use crate::tokenise::DropReason;

/// Where a row stands. Displayed as `FILE, row N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The data file.
    pub file: &'a Path,
    /// 1-based row of the file; blank lines of JSON Lines do not count.
    pub row: u64,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, row {}", self.file.display(), self.row)
    }
}

/// A row that was read when the store was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRow<'a> {
    /// Where it stands.
    pub place: Place<'a>,
    /// The id of its content.
    pub id: PairId,
    /// The index of its example in the store, or why it has none.
    pub example: Result<usize, DropReason>,
}

/// Merges examples and dropped rows, both of which are in the order of the files.
pub(super) struct Rows<'a> {
    store: &'a TokenStore,
    example: usize,
    dropped: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(store: &'a TokenStore) -> Self {
        Self { store, example: 0, dropped: 0 }
    }

    fn dropped(&self) -> Option<DroppedEntry> {
        // The count fits: so many entries are in the file, which was mapped.
        if self.dropped == self.store.inner.header.dropped as usize {
            return None;
        }
        let at = self.store.places_start() + self.store.len() * PLACE_LEN + self.dropped * DROPPED_LEN;
        let mut bytes = [0; DROPPED_LEN];
        self.store.inner.map.touch(DROPPED_LEN as u64);
        bytes.copy_from_slice(&self.store.inner.map.bytes()[at..at + DROPPED_LEN]);
        DroppedEntry::from_bytes(&bytes)
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = StoredRow<'a>;

    fn next(&mut self) -> Option<StoredRow<'a>> {
        let kept = (self.example < self.store.len()).then(|| self.store.place_entry(self.example));
        match (kept, self.dropped()) {
            (Some(place), dropped) if dropped.is_none_or(|dropped| place < dropped.place) => {
                self.example += 1;
                let example = self.example - 1;
                let id = self.store.id(example);
                Some(StoredRow { place: self.store.named(place), id, example: Ok(example) })
            }
            (_, Some(dropped)) => {
                self.dropped += 1;
                let place = self.store.named(dropped.place);
                Some(StoredRow { place, id: dropped.id, example: Err(dropped.reason) })
            }
            _ => None,
        }
    }
}
