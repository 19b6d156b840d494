//! Buffers for activations and their gradients, used again by the next op, layer and step.
//!
//! A training step asks for the same sizes every time. Memory fresh from the system costs a page fault for every 4 KiB,
//! which is a tenth of a step of a small model; a buffer that was used before is mapped, and often still in the cache.
//! Buffers come with *arbitrary* contents (NaN in debug builds, so that a test sees a kernel that reads before it writes).

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Forward passes after which buffers that none of them needed go back to the system.
const PERIOD: u32 = 16;

/// Free buffers by capacity. Shared by the activations of one thread or of one model.
///
/// Batches of ragged lengths ask for other sizes every time. So that their buffers do not pile up, free and used buffers
/// together never hold more than was in use at one time: what has been free longest goes back to the system first.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    classes: BTreeMap<usize, Class>,
    passes: u32,
    /// Counts buffers that come back, to know which came first.
    clock: u64,
    /// Floats in `classes`, floats in use, and the most that were in use at one time.
    floats: usize,
    used: usize,
    most_used: usize,
}

/// Free buffers of one capacity, last used last.
#[derive(Debug, Default)]
struct Class {
    /// With the time at which each came back.
    buffers: VecDeque<(u64, Vec<f32>)>,
    /// Fewest free buffers since the period began: so many were never needed in it.
    idle: usize,
}

/// Capacity of a new buffer for `len` elements: at most a sixteenth more, so that batches of about the same number of
/// tokens share their buffers.
fn capacity(len: usize) -> usize {
    let step = (len.next_power_of_two() / 32).max(16);
    len.next_multiple_of(step)
}

impl Free {
    /// The smallest free buffer of at least `capacity` that is at most a quarter larger.
    fn take(&mut self, capacity: usize) -> Option<Vec<f32>> {
        let fitting = self.classes.range_mut(capacity..=capacity + capacity / 4);
        let class = fitting.map(|(_, class)| class).find(|class| !class.buffers.is_empty())?;
        let (_, values) = class.buffers.pop_back()?;
        class.idle = class.idle.min(class.buffers.len());
        self.floats -= values.capacity();
        Some(values)
    }

    /// Counts a buffer as used. Free ones beyond the most that were ever in use are let go of.
    fn use_up(&mut self, capacity: usize) {
        self.used += capacity;
        self.most_used = self.most_used.max(self.used);
        while self.used + self.floats > self.most_used {
            let fronts =
                self.classes.iter().filter_map(|(&key, class)| Some((class.buffers.front()?.0, key)));
            let Some((_, key)) = fronts.min() else { break };
            let Some(class) = self.classes.get_mut(&key) else { break };
            class.buffers.pop_front();
            class.idle = class.idle.min(class.buffers.len());
            if class.buffers.is_empty() {
                self.classes.remove(&key);
            }
            self.floats -= key;
        }
    }
}

impl Workspace {
    /// A buffer of `len` elements with arbitrary contents.
    pub(crate) fn buffer(self: &Arc<Self>, len: usize) -> Buffer {
        let capacity = capacity(len);
        let found = {
            let mut free = self.lock();
            let found = free.take(capacity);
            free.use_up(found.as_ref().map_or(capacity, Vec::capacity));
            found
        };
        // Outside the lock: memory fresh from the system takes a while.
        let mut values = found.unwrap_or_else(|| vec![0.0; capacity]);
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
            let mut gone = 0;
            for (capacity, class) in &mut free.classes {
                gone += capacity * class.buffers.drain(..class.idle).count();
                class.idle = class.buffers.len();
            }
            free.floats -= gone;
            free.classes.retain(|_, class| !class.buffers.is_empty());
        }
    }

    /// Gives every free buffer back to the system, and forgets how much was in use.
    pub(crate) fn release(&self) {
        let mut free = self.lock();
        free.classes.clear();
        free.floats = 0;
        free.most_used = free.used;
    }

    fn give(&self, values: Vec<f32>) {
        let capacity = values.capacity();
        if capacity == 0 {
            return;
        }
        let mut free = self.lock();
        free.used -= capacity;
        free.floats += capacity;
        free.clock += 1;
        let now = free.clock;
        free.classes.entry(capacity).or_default().buffers.push_back((now, values));
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
        home.lock().use_up(values.capacity());
        Self { values, home: Some(Arc::clone(home)) }
    }

    /// The vector itself, to be adopted again later.
    pub(crate) fn into_vec(mut self) -> Vec<f32> {
        let values = std::mem::take(&mut self.values);
        if let Some(home) = self.home.take() {
            home.lock().used -= values.capacity();
        }
        values
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

    /// Batches of ragged lengths: sizes that hardly ever repeat do not pile up.
    #[test]
    fn no_more_is_held_than_was_in_use_at_one_time() {
        let home = Arc::new(Workspace::default());
        let (mut most, mut state) = (0, 1_u64);
        for _ in 0..300 {
            home.begin_pass();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let tokens = 100 + (state >> 33) as usize % 900;
            let live: Vec<Buffer> = (1..=8).map(|width| home.buffer(tokens * width)).collect();
            most = most.max(live.iter().map(|buffer| buffer.values.capacity()).sum());
            drop(live);
            let free = home.lock();
            assert_eq!(free.used, 0);
            let held: usize =
                free.classes.iter().map(|(capacity, class)| capacity * class.buffers.len()).sum();
            assert_eq!(held, free.floats);
            assert!(held <= most, "{held} floats are held, {most} were in use at one time");
        }
    }

    #[test]
    fn a_buffer_serves_what_is_a_little_smaller_only() {
        let home = Arc::new(Workspace::default());
        let (first, large) = (home.buffer(1 << 20), home.buffer(1 << 20));
        let at = large.as_ptr();
        drop(first);
        drop(large);
        let small = home.buffer(1 << 10);
        assert_ne!(small.as_ptr(), at, "a thousandth of it would waste the rest");
        drop(small);
        let fitting = home.buffer((1 << 20) - (1 << 17));
        assert_eq!(fitting.as_ptr(), at);
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
