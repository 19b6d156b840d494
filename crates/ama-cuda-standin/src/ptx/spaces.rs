//! The memories that a running block sees, every access checked.

use super::program::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW};
use super::syntax::Space;
use crate::memory::{Blame, Memory};

/// Why an access is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    Address(Blame),
    OffTheEnd { have: u64 },
    Misaligned,
    Race { byte: u64, before: &'static str, other: u32 },
}

/// How memory is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Load,
    Store,
    Atomic,
}

impl Touch {
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Load => "read",
            Self::Store => "written",
            Self::Atomic => "changed atomically",
        }
    }

    /// For messages: the kind of access and its space.
    pub(crate) fn named(self, space: Space) -> &'static str {
        match (self, space) {
            (Self::Load, Space::Shared) => "shared load",
            (Self::Load, Space::Local) => "local load",
            (Self::Load, Space::Const) => "constant load",
            (Self::Load, Space::Param) => "parameter load",
            (Self::Load, _) => "global load",
            (Self::Store, Space::Shared) => "shared store",
            (Self::Store, Space::Local) => "local store",
            (Self::Store, _) => "global store",
            (Self::Atomic, Space::Shared) => "shared atomic",
            (Self::Atomic, _) => "global atomic",
        }
    }
}

/// Who touched a byte of shared memory since when; an epoch is the time between two barriers.
#[derive(Debug, Clone, Copy, Default)]
struct Shadow {
    write_epoch: u32,
    read_epoch: u32,
    write_warp: u16,
    read_warp: u16,
    /// Several warps read it.
    read_by_many: bool,
    written_atomically: bool,
}

/// Shared memory of a block.
#[derive(Debug)]
pub(crate) struct Shared {
    data: Vec<u8>,
    /// Whether a byte belongs to a variable.
    owned: Vec<bool>,
    shadow: Vec<Shadow>,
    epoch: u32,
    have: u64,
}

impl Shared {
    /// Shared memory with the given variables, as ranges of offsets.
    pub(crate) fn new(variables: &[(u64, u64)]) -> Self {
        let end = variables.iter().map(|v| v.1).max().unwrap_or(0) as usize;
        let mut owned = vec![false; end];
        for &(start, stop) in variables {
            owned[start as usize..stop as usize].fill(true);
        }
        let have = owned.iter().filter(|&&o| o).count() as u64;
        Self { data: vec![0xff; end], owned, shadow: vec![Shadow::default(); end], epoch: 1, have }
    }

    /// Poison again, for the next block.
    pub(crate) fn reset(&mut self) {
        self.data.fill(0xff);
        self.barrier();
    }

    /// All threads have met: what was written before is visible.
    pub(crate) fn barrier(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.shadow.fill(Shadow::default());
            self.epoch = 1;
        }
    }

    fn range(
        &mut self,
        offset: u64,
        bytes: u64,
        warp: u32,
        touch: Touch,
    ) -> Result<std::ops::Range<usize>, Bad> {
        let off = Bad::OffTheEnd { have: self.have };
        let start = usize::try_from(offset).map_err(|_| off)?;
        let range = start..start.checked_add(bytes as usize).ok_or(off)?;
        if !self.owned.get(range.clone()).is_some_and(|owned| owned.iter().all(|&o| o)) {
            return Err(off);
        }
        let (epoch, warp) = (self.epoch, warp as u16);
        for (shadow, byte) in self.shadow[range.clone()].iter_mut().zip(offset..) {
            let race = |before, other: u16| Err(Bad::Race { byte, before, other: u32::from(other) });
            if shadow.write_epoch == epoch
                && shadow.write_warp != warp
                && !(touch == Touch::Atomic && shadow.written_atomically)
            {
                return race("written", shadow.write_warp);
            }
            if touch != Touch::Load
                && shadow.read_epoch == epoch
                && (shadow.read_by_many || shadow.read_warp != warp)
            {
                return race("read", shadow.read_warp);
            }
            if touch == Touch::Load {
                let again = shadow.read_epoch == epoch;
                shadow.read_by_many = again && (shadow.read_by_many || shadow.read_warp != warp);
                if !again {
                    (shadow.read_epoch, shadow.read_warp) = (epoch, warp);
                }
            } else {
                shadow.written_atomically =
                    touch == Touch::Atomic && (shadow.write_epoch != epoch || shadow.written_atomically);
                (shadow.write_epoch, shadow.write_warp) = (epoch, warp);
            }
        }
        Ok(range)
    }
}

/// Everything a thread can address.
#[derive(Debug)]
pub(crate) struct Spaces<'a> {
    pub(crate) memory: &'a mut Memory,
    pub(crate) shared: Shared,
    pub(crate) params: &'a [u8],
    /// Allocation that each instruction touched last.
    hints: Vec<usize>,
}

/// Where one access comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From {
    pub(crate) pc: usize,
    pub(crate) warp: u32,
    pub(crate) touch: Touch,
}

impl<'a> Spaces<'a> {
    pub(crate) fn new(memory: &'a mut Memory, shared: Shared, params: &'a [u8], instructions: usize) -> Self {
        Self { memory, shared, params, hints: vec![0; instructions] }
    }

    /// The space and offset that a generic address means.
    #[inline]
    pub(crate) fn resolve(space: Space, address: u64) -> (Space, u64) {
        if space != Space::Generic {
            return (space, address);
        }
        if address.wrapping_sub(SHARED_WINDOW) < WINDOW {
            (Space::Shared, address - SHARED_WINDOW)
        } else if address.wrapping_sub(LOCAL_WINDOW) < WINDOW {
            (Space::Local, address - LOCAL_WINDOW)
        } else {
            (Space::Global, address)
        }
    }

    /// The bytes of one access. `local` is the thread's own memory.
    #[inline]
    pub(crate) fn bytes<'b>(
        &'b mut self,
        local: &'b mut [u8],
        (space, address): (Space, u64),
        bytes: u64,
        from: From,
    ) -> Result<&'b mut [u8], Bad> {
        if !address.is_multiple_of(bytes) {
            return Err(Bad::Misaligned);
        }
        match space {
            Space::Global | Space::Const | Space::Generic => {
                let hint = self.hints[from.pc];
                let index = if hint < self.memory.live()
                    && self.memory.allocation(hint).offset(address, bytes).is_some()
                {
                    hint
                } else {
                    let found = self.memory.find(address, bytes);
                    let index = found.ok_or_else(|| Bad::Address(self.memory.blame(address, bytes)))?;
                    self.hints[from.pc] = index;
                    index
                };
                let allocation = self.memory.allocation(index);
                let start = (address - allocation.base) as usize;
                Ok(&mut allocation.data[start..start + bytes as usize])
            }
            Space::Shared => {
                let range = self.shared.range(address, bytes, from.warp, from.touch)?;
                Ok(&mut self.shared.data[range])
            }
            Space::Local => {
                let have = local.len() as u64;
                let end = address.checked_add(bytes).filter(|&end| end <= have);
                let end = end.ok_or(Bad::OffTheEnd { have })?;
                Ok(&mut local[address as usize..end as usize])
            }
            // Parameters are read through `params`, never written.
            Space::Param => Err(Bad::OffTheEnd { have: self.params.len() as u64 }),
        }
    }

    /// The bytes of a parameter.
    pub(crate) fn param(&self, address: u64, bytes: u64) -> Result<&[u8], Bad> {
        let have = self.params.len() as u64;
        let end = address.checked_add(bytes).filter(|&end| end <= have).ok_or(Bad::OffTheEnd { have })?;
        Ok(&self.params[address as usize..end as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared::new(&[(0, 8), (72, 76)])
    }

    #[test]
    fn guard_zones_belong_to_no_variable() {
        let mut s = shared();
        assert!(s.range(4, 4, 0, Touch::Load).is_ok());
        assert_eq!(s.range(8, 4, 0, Touch::Load), Err(Bad::OffTheEnd { have: 12 }));
        assert_eq!(s.range(6, 4, 0, Touch::Store), Err(Bad::OffTheEnd { have: 12 }));
        assert!(s.range(72, 4, 0, Touch::Load).is_ok());
        assert_eq!(s.range(76, 1, 0, Touch::Load), Err(Bad::OffTheEnd { have: 12 }));
        assert_eq!(s.range(u64::MAX - 1, 4, 0, Touch::Load), Err(Bad::OffTheEnd { have: 12 }));
    }

    #[test]
    fn races_are_seen_until_the_next_barrier() {
        let mut s = shared();
        s.range(0, 4, 0, Touch::Store).expect("first");
        s.range(0, 4, 0, Touch::Load).expect("same warp");
        assert_eq!(s.range(0, 4, 1, Touch::Load), Err(Bad::Race { byte: 0, before: "written", other: 0 }));
        s.barrier();
        s.range(0, 4, 1, Touch::Load).expect("after a barrier");
        s.range(0, 4, 2, Touch::Load).expect("readers do not race");
        assert_eq!(s.range(0, 4, 1, Touch::Store), Err(Bad::Race { byte: 0, before: "read", other: 1 }));
        s.barrier();
        s.range(4, 4, 1, Touch::Atomic).expect("first");
        s.range(4, 4, 2, Touch::Atomic).expect("atomics do not race");
        assert!(s.range(4, 4, 3, Touch::Load).is_err(), "a plain read beside atomics does");
    }
}
