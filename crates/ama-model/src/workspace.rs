//! Buffers for activations and their gradients, used again by the next op, layer and step.
//!
//! A training step asks for the same sizes every time. Memory fresh from the system costs a page fault for every 4 KiB,
//! which is a tenth of a step of a small model; a buffer that was used before is mapped, and often still in the cache.
//! Buffers come with *arbitrary* contents (NaN in debug builds, so that a test sees a kernel that reads before it writes).

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Forward passes after which buffers that none of them needed go back to the system.
const PERIOD: u32 = 16;

/// Free buffers by capacity. Shared by the activations of one thread or of one model.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    classes: BTreeMap<usize, Class>,
    passes: u32,
}

/// Free buffers of one capacity, last used last.
#[derive(Debug, Default)]
struct Class {
    buffers: Vec<Vec<f32>>,
    /// Fewest free buffers since the period began: so many were never needed in it.
    idle: usize,
}

/// Capacity of a buffer for `len` elements: at most a sixteenth more, so that batches of about the same number of tokens
/// share their buffers.
fn capacity(len: usize) -> usize {
    let step = (len.next_power_of_two() / 32).max(16);
    len.next_multiple_of(step)
}

impl Workspace {
    /// A buffer of `len` elements with arbitrary contents.
    pub(crate) fn buffer(self: &Arc<Self>, len: usize) -> Buffer {
        let capacity = capacity(len);
        let mut values = {
            let mut free = self.lock();
            let found = free.classes.get_mut(&capacity).and_then(|class| {
                let values = class.buffers.pop();
                class.idle = class.idle.min(class.buffers.len());
                values
            });
            found.unwrap_or_else(|| vec![0.0; capacity])
        };
        values.resize(len, 0.0);
        if cfg!(debug_assertions) {
            values.fill(f32::NAN);
        }
        Buffer { values, home: Some(Arc::clone(self)) }
    }

    /// Says that a forward pass begins; now and then gives back what the last ones did not need.
    pub(crate) fn begin_pass(&self) {
        let mut free = self.lock();
        free.passes += 1;
        if free.passes >= PERIOD {
            free.passes = 0;
            for class in free.classes.values_mut() {
                class.buffers.drain(..class.idle);
                class.idle = class.buffers.len();
            }
            free.classes.retain(|_, class| !class.buffers.is_empty());
        }
    }

    /// Gives every free buffer back to the system.
    pub(crate) fn release(&self) {
        self.lock().classes.clear();
    }

    fn give(&self, values: Vec<f32>) {
        let capacity = values.capacity();
        if capacity == 0 {
            return;
        }
        self.lock().classes.entry(capacity).or_default().buffers.push(values);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        // The lists are whole after every operation, whatever panicked elsewhere.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Floats that go back to their [`Workspace`] when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    values: Vec<f32>,
    home: Option<Arc<Workspace>>,
}

impl Buffer {
    /// Wraps a vector; it goes to `home` in the end.
    pub(crate) fn adopt(home: &Arc<Workspace>, values: Vec<f32>) -> Self {
        Self { values, home: Some(Arc::clone(home)) }
    }

    /// The vector itself, to be adopted again later.
    pub(crate) fn into_vec(mut self) -> Vec<f32> {
        self.home = None;
        std::mem::take(&mut self.values)
    }

    /// Where it goes in the end.
    pub(crate) fn home(&self) -> &Arc<Workspace> {
        self.home.as_ref().expect("only into_vec, which consumes the buffer, takes the home")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.give(std::mem::take(&mut self.values));
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(home: &Workspace) -> usize {
        home.lock().classes.values().map(|class| class.buffers.len()).sum()
    }

    #[test]
    fn capacities_waste_little() {
        for len in [1usize, 16, 17, 1000, 12_345, 1 << 20, (1 << 20) + 1] {
            let got = capacity(len);
            assert!(got >= len && got <= len + (len / 16).max(15), "{len}: {got}");
        }
    }

    #[test]
    fn memory_is_used_again_for_any_length_of_its_class() {
        let home = Arc::new(Workspace::default());
        let first = home.buffer(1000);
        let at = first.as_ptr();
        drop(first);
        let second = home.buffer(capacity(1000));
        assert_eq!((second.as_ptr(), second.len()), (at, capacity(1000)));
        let other = home.buffer(1000);
        assert_ne!(other.as_ptr(), at, "two live buffers are two");
    }

    #[test]
    fn what_no_pass_needs_goes_back_to_the_system() {
        let home = Arc::new(Workspace::default());
        drop([home.buffer(100), home.buffer(100), home.buffer(5000)]);
        assert_eq!(held(&home), 3);
        // Nobody has had a whole period without them yet.
        (0..PERIOD).for_each(|_| home.begin_pass());
        for _ in 0..PERIOD {
            home.begin_pass();
            drop(home.buffer(100));
        }
        assert_eq!(held(&home), 1, "one buffer of 100 is in use every pass");
    }

    #[test]
    fn everything_free_can_go_at_once() {
        let home = Arc::new(Workspace::default());
        let kept = home.buffer(100);
        drop(home.buffer(5000));
        home.release();
        assert_eq!(held(&home), 0);
        drop(kept);
        assert_eq!(held(&home), 1, "a buffer that was out comes back");
    }

    #[test]
    fn a_vector_can_leave_and_come_back() {
        let home = Arc::new(Workspace::default());
        let values = home.buffer(64).into_vec();
        assert_eq!(held(&home), 0);
        drop(Buffer::adopt(&home, values));
        assert_eq!(held(&home), 1);
    }
}
