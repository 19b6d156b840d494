//! Content keys: what a stage or a checkpoint depends on, as one hash.

use std::fmt::Debug;

/// Raised when a stage's output changes although its inputs and settings do not.
const FORMAT: u32 = 1;

/// Hash of named fields, in the order in which they are added.
pub(crate) struct Key {
    hasher: blake3::Hasher,
}

impl Key {
    /// A key of one kind of work; equal fields of two kinds give two keys.
    pub(crate) fn of(kind: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("ama-cli content key");
        hasher.update(&FORMAT.to_le_bytes());
        Self { hasher }.bytes("kind", kind.as_bytes())
    }

    /// Adds a field of bytes.
    pub(crate) fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        for part in [name.as_bytes(), value] {
            // Lengths in between: no two lists of fields hash the same bytes.
            self.hasher.update(&(part.len() as u64).to_le_bytes());
            self.hasher.update(part);
        }
        self
    }

    /// Adds a field of settings, by its `Debug` text (`f64` prints every digit that matters).
    pub(crate) fn field(self, name: &str, value: &dyn Debug) -> Self {
        self.bytes(name, format!("{value:?}").as_bytes())
    }

    /// The key as 64 hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

/// A seed for one piece of work; different names give unrelated seeds.
pub(crate) fn derive_seed(seed: u64, work: &str) -> u64 {
    let hash = blake3::derive_key("ama-cli seed", format!("{seed}/{work}").as_bytes());
    let mut low = [0; 8];
    low.copy_from_slice(&hash[..8]);
    // 53 bits, so that it also survives JSON readers that hold numbers as doubles.
    u64::from_le_bytes(low) >> 11
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_together() {
        let one = Key::of("a").bytes("x", b"yz").hex();
        assert_ne!(one, Key::of("a").bytes("xy", b"z").hex());
        assert_ne!(one, Key::of("b").bytes("x", b"yz").hex());
        assert_eq!(one, Key::of("a").bytes("x", b"yz").hex());
        assert_ne!(
            Key::of("a").field("lr", &0.1).hex(),
            Key::of("a").field("lr", &0.100_000_000_000_000_02).hex()
        );
    }

    #[test]
    fn seeds_differ_by_work() {
        assert_ne!(derive_seed(1, "a"), derive_seed(1, "b"));
        assert_ne!(derive_seed(1, "a"), derive_seed(2, "a"));
        assert!(derive_seed(1, "a") < 1 << 53);
    }
}
