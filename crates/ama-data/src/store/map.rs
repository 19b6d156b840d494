//! The memory map of a token store.
//!
//! # Safety of the memory map
//! This is the crate's one file with `unsafe`, and it is two calls. The first maps a file, read-only and shared. A map is
//! undefined behaviour if the file changes under it. Stores are never changed in place: a build writes a temporary file
//! and renames it over the old one, whose contents live on, unlinked, as long as somebody maps them. What remains is
//! somebody else writing into or cutting a store by hand while it is in use. Ids read then could be wrong, and a
//! page cut away ends the process (SIGBUS); but no length or index is ever read from the map that was not checked
//! against the bounds of the slice at the time of use, so that memory outside the map is not reached even then.
//! The bytes are plain integers, for which every bit pattern is valid.
//!
//! The second gives pages back to the operating system (`MADV_DONTNEED`), so that a walk over large stores does not
//! end with all of them counted as this process's memory. On a shared map of a file this takes no contents away: the
//! next access, also through a slice that is still borrowed, finds the same bytes of the file again.
#![allow(unsafe_code, reason = "memory map of the store; see the safety argument above")]

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::Mmap;

/// A file, mapped. All maps of the process together keep a bounded number of pages.
pub(super) struct Map {
    map: Mmap,
    #[cfg(target_os = "linux")]
    resident: linux::Resident,
}

impl Map {
    /// Maps a file, which must never be written in place from now on.
    pub(super) fn of(file: &File) -> io::Result<Arc<Self>> {
        // SAFETY: the file is mapped read-only and, by the module's argument, never written in place.
        let map = unsafe { Mmap::map(file) }?;
        let map = Arc::new(Self {
            map,
            #[cfg(target_os = "linux")]
            resident: linux::Resident::default(),
        });
        #[cfg(target_os = "linux")]
        linux::register(&map);
        Ok(map)
    }

    /// All bytes of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Notes that `bytes` are about to be read, and gives pages of all maps back when many were.
    #[cfg(target_os = "linux")]
    pub(super) fn touch(&self, bytes: u64) {
        if self.resident.add(bytes, self.map.len() as u64) {
            linux::give_back();
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn touch(&self, _bytes: u64) {}
}

/// Counting mapped pages, and giving them back.
#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
    use std::sync::{Arc, Mutex, PoisonError, Weak};

    use super::Map;

    /// Pages that may stay mapped, in bytes, in all stores together.
    const RESIDENT_BYTES: i64 = 64 << 20;

    /// What one access can map at most beside the bytes it reads: the kernel maps cached pages around both ends.
    const FAULT_AROUND_BYTES: u64 = 2 * (64 << 10);

    /// Sum of what all maps count. Signed, because a thread that gives back may come before one that adds.
    static RESIDENT: AtomicI64 = AtomicI64::new(0);

    /// The maps in use, and some that are not any more.
    static OPEN: Mutex<Vec<Weak<Map>>> = Mutex::new(Vec::new());

    /// Upper bound on the bytes of a map that were read since its pages were last given back.
    #[derive(Default)]
    pub(super) struct Resident(AtomicU64);

    impl Resident {
        /// Adds one access to a map of `len` bytes; whether all maps together have too many pages now.
        pub(super) fn add(&self, bytes: u64, len: u64) -> bool {
            let bytes = bytes + FAULT_AROUND_BYTES;
            let before = self.0.fetch_add(bytes, Relaxed);
            // No map has more pages than its own.
            let added = (before + bytes).min(len) - before.min(len);
            let added = added as i64;
            added > 0 && RESIDENT.fetch_add(added, Relaxed) + added > RESIDENT_BYTES
        }

        /// Starts again from nothing; whether anything was counted.
        fn reset(&self, len: u64) -> bool {
            let counted = self.0.swap(0, Relaxed).min(len) as i64;
            RESIDENT.fetch_sub(counted, Relaxed);
            counted > 0
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            self.resident.reset(self.map.len() as u64);
        }
    }

    pub(super) fn register(map: &Arc<Map>) {
        // A list of weak pointers is sound wherever another thread stopped.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() == open.capacity() {
            open.retain(|map| map.strong_count() > 0);
        }
        open.push(Arc::downgrade(map));
    }

    /// Gives the pages of all maps back.
    pub(super) fn give_back() {
        let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if RESIDENT.load(Relaxed) <= RESIDENT_BYTES {
            return; // another thread was faster
        }
        for map in open.iter().filter_map(Weak::upgrade) {
            if map.resident.reset(map.map.len() as u64) {
                // SAFETY: a shared, read-only map of a file keeps its contents, see the module's argument.
                let advice = unsafe { map.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
                // It is advice: if the system does not take it, nothing is wrong.
                drop(advice);
            }
        }
    }
}
