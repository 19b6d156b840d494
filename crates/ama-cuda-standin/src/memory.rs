//! Device memory: allocations at addresses of their own, bounds, use after free, leaks.
//!
//! A device address is never a host address, so host code that follows one crashes at once. No address is handed
//! out twice, and each allocation is followed by a gap at least as long as itself: an access past the end, or into
//! memory already freed, lands where nothing lives and can be told apart.

use std::collections::BTreeMap;

use crate::errors::{Code, code};

/// Address of the first allocation.
const FIRST: u64 = 0x7_0000_0000;
/// Alignment of allocations, as `cuMemAlloc` promises at least.
const ALIGN: u64 = 512;
/// Shortest gap behind an allocation.
const GAP: u64 = 1 << 20;
/// What fresh memory holds: NaN in every float format.
const POISON: u8 = 0xff;

/// What lies at an address that should not have been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blame {
    /// Nothing was ever allocated near.
    Nothing,
    /// The access starts inside a live allocation or its gap, `past` bytes from the allocation's end on.
    Past {
        /// First byte of the allocation.
        base: u64,
        /// Its length in bytes.
        bytes: u64,
        /// Bytes between its end and the end of the access.
        past: u64,
    },
    /// The allocation was freed.
    Freed {
        /// First byte of the allocation.
        base: u64,
        /// Its length in bytes.
        bytes: u64,
    },
}

impl std::fmt::Display for Blame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => write!(f, "no allocation is near"),
            Self::Past { base, bytes, past } => {
                write!(f, "{past} bytes past the end of the allocation of {bytes} bytes at {base:#x}")
            }
            Self::Freed { base, bytes } => {
                write!(f, "use after free of the allocation of {bytes} bytes at {base:#x}")
            }
        }
    }
}

/// One live allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) base: u64,
    pub(crate) data: Vec<u8>,
}

/// The memory of one device.
#[derive(Debug)]
pub struct Memory {
    /// Sorted by base; a launch indexes it while it runs.
    live: Vec<Allocation>,
    /// Length by base of what was freed.
    freed: BTreeMap<u64, u64>,
    next: u64,
    limit: u64,
    used: u64,
    peak: u64,
    allocations: u64,
    fail_at: Option<u64>,
    lazy: bool,
}

impl Memory {
    /// Memory of `limit` bytes whose allocation number `fail_at` (from 1) fails.
    ///
    /// `lazy` memory is zero and takes room on the host only where it is written: for runs that count allocations
    /// but execute nothing.
    #[must_use]
    pub fn new(limit: u64, fail_at: Option<u64>, lazy: bool) -> Self {
        Self {
            live: Vec::new(),
            freed: BTreeMap::new(),
            next: FIRST,
            limit,
            used: 0,
            peak: 0,
            allocations: 0,
            fail_at,
            lazy,
        }
    }

    /// Allocates `bytes` bytes of poison (0xff: NaN in every float format) and returns the address.
    ///
    /// # Errors
    /// `INVALID_VALUE` for no bytes, `OUT_OF_MEMORY` above the limit or where a failure was asked for.
    pub fn alloc(&mut self, bytes: u64) -> Result<u64, Code> {
        if bytes == 0 {
            return Err(code::INVALID_VALUE);
        }
        self.allocations += 1;
        if self.fail_at == Some(self.allocations) || bytes > self.limit - self.used {
            return Err(code::OUT_OF_MEMORY);
        }
        let Ok(len) = usize::try_from(bytes) else { return Err(code::OUT_OF_MEMORY) };
        let base = self.next;
        let data = vec![if self.lazy { 0 } else { POISON }; len];
        self.next = (base + bytes + bytes.max(GAP)).next_multiple_of(ALIGN);
        self.live.push(Allocation { base, data });
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        Ok(base)
    }

    /// Frees the allocation that starts at `base`.
    ///
    /// # Errors
    /// What lies there instead, if it is not the start of a live allocation.
    pub fn free(&mut self, base: u64) -> Result<(), Blame> {
        match self.live.binary_search_by_key(&base, |a| a.base) {
            Ok(index) => {
                let gone = self.live.remove(index);
                self.freed.insert(gone.base, gone.data.len() as u64);
                self.used -= gone.data.len() as u64;
                Ok(())
            }
            Err(_) => Err(self.blame(base, 1)),
        }
    }

    /// Frees everything and returns how many allocations and bytes were left: leaks, if the program is over.
    pub fn clear(&mut self) -> (usize, u64) {
        let left = (self.live.len(), self.used);
        for gone in self.live.drain(..) {
            self.freed.insert(gone.base, gone.data.len() as u64);
        }
        self.used = 0;
        left
    }

    /// Bytes allocated now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Most bytes that were allocated at once since the start or the last [`Memory::reset_peak`].
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Returns the peak and starts a new one from what is allocated now.
    pub fn reset_peak(&mut self) -> u64 {
        std::mem::replace(&mut self.peak, self.used)
    }

    /// Bytes of the device.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Allocations now alive.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Index of the allocation that holds all of `bytes` bytes from `address` on.
    #[inline]
    pub(crate) fn find(&self, address: u64, bytes: u64) -> Option<usize> {
        let index = self.live.partition_point(|a| a.base <= address).checked_sub(1)?;
        self.live[index].offset(address, bytes).is_some().then_some(index)
    }

    /// Whether `address` points into an allocation or just behind it, as the pointer of an empty slice may.
    pub(crate) fn is_pointer(&self, address: u64) -> bool {
        let index = self.live.partition_point(|a| a.base <= address);
        index > 0 && {
            let a = &self.live[index - 1];
            address - a.base <= a.data.len() as u64
        }
    }

    #[inline]
    pub(crate) fn allocation(&mut self, index: usize) -> &mut Allocation {
        &mut self.live[index]
    }

    /// The `bytes` bytes from `address` on.
    ///
    /// # Errors
    /// What lies there, if it is not all inside one live allocation.
    pub fn get(&self, address: u64, bytes: u64) -> Result<&[u8], Blame> {
        let index = self.find(address, bytes).ok_or_else(|| self.blame(address, bytes))?;
        let start = (address - self.live[index].base) as usize;
        Ok(&self.live[index].data[start..start + bytes as usize])
    }

    /// The `bytes` bytes from `address` on, to be written.
    ///
    /// # Errors
    /// As [`Memory::get`].
    pub fn get_mut(&mut self, address: u64, bytes: u64) -> Result<&mut [u8], Blame> {
        let index = self.find(address, bytes).ok_or_else(|| self.blame(address, bytes))?;
        let start = (address - self.live[index].base) as usize;
        Ok(&mut self.live[index].data[start..start + bytes as usize])
    }

    /// Copies inside device memory; the two ranges may lie in the same allocation.
    ///
    /// # Errors
    /// As [`Memory::get`], for whichever range is bad.
    pub fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Result<(), Blame> {
        let source = self.get(from, bytes)?.to_vec();
        self.get_mut(to, bytes)?.copy_from_slice(&source);
        Ok(())
    }

    /// Says what lies at a range that is not inside one live allocation.
    #[must_use]
    pub fn blame(&self, address: u64, bytes: u64) -> Blame {
        let live = self.live.partition_point(|a| a.base <= address).checked_sub(1).map(|i| &self.live[i]);
        let freed = self.freed.range(..=address).next_back();
        match (live, freed) {
            (live, Some((&base, &len))) if live.is_none_or(|a| a.base < base) => {
                if address < base + len + len.max(GAP) + ALIGN {
                    Blame::Freed { base, bytes: len }
                } else {
                    Blame::Nothing
                }
            }
            (Some(a), _) => {
                let len = a.data.len() as u64;
                let end = address.saturating_add(bytes);
                if address - a.base < len + len.max(GAP) + ALIGN {
                    Blame::Past { base: a.base, bytes: len, past: end - (a.base + len) }
                } else {
                    Blame::Nothing
                }
            }
            _ => Blame::Nothing,
        }
    }
}

impl Allocation {
    /// Offset of `address` if all of `bytes` bytes from there on lie inside.
    #[inline]
    pub(crate) fn offset(&self, address: u64, bytes: u64) -> Option<usize> {
        let offset = address.wrapping_sub(self.base);
        let len = self.data.len() as u64;
        (offset < len && bytes <= len - offset).then_some(offset as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_memory_is_nan_and_addresses_are_never_reused() {
        let mut memory = Memory::new(1 << 20, None, false);
        let first = memory.alloc(64).expect("64 bytes fit");
        let bytes = memory.get(first, 4).expect("inside").try_into().expect("four bytes");
        assert!(f32::from_le_bytes(bytes).is_nan());
        memory.free(first).expect("it is alive");
        let second = memory.alloc(64).expect("64 bytes fit");
        assert_ne!(first, second);
        assert_eq!(memory.get(first, 4), Err(Blame::Freed { base: first, bytes: 64 }));
        assert_eq!(memory.free(first), Err(Blame::Freed { base: first, bytes: 64 }), "double free");
    }

    #[test]
    fn one_byte_past_the_end_is_refused() {
        let mut memory = Memory::new(1 << 20, None, false);
        let a = memory.alloc(100).expect("fits");
        let b = memory.alloc(100).expect("fits");
        assert!(memory.get(a + 96, 4).is_ok());
        assert_eq!(memory.get(a + 97, 4), Err(Blame::Past { base: a, bytes: 100, past: 1 }));
        assert!(memory.get(b, 100).is_ok());
        assert_eq!(memory.get(b - 1, 1), Err(Blame::Past { base: a, bytes: 100, past: b - a - 100 }));
        assert_eq!(memory.get(8, 1), Err(Blame::Nothing));
        assert!(memory.is_pointer(a + 100) && !memory.is_pointer(a + 101));
    }

    #[test]
    fn limits_failures_and_peaks_are_counted() {
        let mut memory = Memory::new(1000, Some(3), false);
        let a = memory.alloc(600).expect("fits");
        assert_eq!(memory.alloc(401), Err(code::OUT_OF_MEMORY));
        assert_eq!(memory.alloc(1), Err(code::OUT_OF_MEMORY), "the third fails by order");
        memory.alloc(400).expect("fits exactly");
        memory.free(a).expect("alive");
        assert_eq!((memory.used(), memory.peak(), memory.live()), (400, 1000, 1));
        assert_eq!(memory.reset_peak(), 1000);
        assert_eq!(memory.peak(), 400);
        assert_eq!(memory.alloc(0), Err(code::INVALID_VALUE));
        assert_eq!(memory.clear(), (1, 400));
    }
}
