//! Device memory of the emulation: surrounded, and where wanted interspersed, with what no kernel may touch.

use std::cell::Cell;
use std::ops::Range;

/// What a kernel's array can consist of.
pub trait Element: Copy + PartialEq + std::fmt::Debug {
    /// NaN where the type has one (as `u16` it is that of bf16), a number beyond every size otherwise.
    const POISON: Self;
    /// Whether it is [`Element::POISON`], bit for bit.
    fn is_poison(self) -> bool;
}

impl Element for f32 {
    const POISON: Self = f32::from_bits(0x7fed_cba9);
    fn is_poison(self) -> bool {
        self.to_bits() == Self::POISON.to_bits()
    }
}

impl Element for f64 {
    const POISON: Self = f64::from_bits(0x7ffe_dcba_9876_5432);
    fn is_poison(self) -> bool {
        self.to_bits() == Self::POISON.to_bits()
    }
}

impl Element for u16 {
    const POISON: Self = 0x7fed;
    fn is_poison(self) -> bool {
        self == Self::POISON
    }
}

impl Element for u32 {
    const POISON: Self = 0xfedc_ba98;
    fn is_poison(self) -> bool {
        self == Self::POISON
    }
}

/// An array in the memory that kernels see.
///
/// It begins at a multiple of 256 bytes (as what a device's driver hands out), or a chosen number of elements later. Guards
/// of 256 bytes lie on both sides and padding between rows: poison, whose use shows as NaN in a result, whose overwriting
/// [`Buffer::is_intact`] finds, and which AddressSanitizer does not even let kernels read.
#[derive(Debug)]
pub struct Buffer<T: Copy> {
    /// Cells, for a kernel writes through a shared reference, as to device memory.
    memory: Vec<Cell<T>>,
    start: usize,
    rows: usize,
    width: usize,
    stride: usize,
    /// Forbidden places, as indices into `memory`.
    forbidden: Vec<Range<usize>>,
}

const ALIGNMENT: usize = 256;

impl<T: Element> Buffer<T> {
    /// A copy of `values`.
    pub fn new(values: &[T]) -> Self {
        Self::rows(values, values.len(), values.len(), 0)
    }

    /// `len` elements of poison, to be written by a kernel.
    pub fn unwritten(len: usize) -> Self {
        Self::new(&vec![T::POISON; len])
    }

    /// Rows of `width` elements, `stride` apart, the first `shift` elements behind an aligned address.
    ///
    /// # Panics
    /// If `stride` is less than `width`, or `values` are no whole rows.
    pub fn rows(values: &[T], width: usize, stride: usize, shift: usize) -> Self {
        assert!(stride >= width, "rows of {width} cannot be {stride} apart");
        assert!(
            values.is_empty() || values.len().is_multiple_of(width),
            "rows of {width} in {}",
            values.len()
        );
        let rows = values.len().checked_div(width).unwrap_or(0);
        let len = if rows == 0 { 0 } else { (rows - 1) * stride + width };
        let guard = ALIGNMENT / size_of::<T>();
        let memory = vec![Cell::new(T::POISON); len + shift + 3 * guard];
        let past = memory.as_ptr().addr() % ALIGNMENT / size_of::<T>();
        let start = 2 * guard - past + shift;
        let mut forbidden = vec![0..start, start + len..memory.len()];
        for (row, values) in values.chunks(width.max(1)).enumerate() {
            let first = start + row * stride;
            for (cell, value) in memory[first..first + width].iter().zip(values) {
                cell.set(*value);
            }
            if row + 1 < rows && stride > width {
                forbidden.push(first + width..first + stride);
            }
        }
        Self { memory, start, rows, width, stride, forbidden }
    }

    /// What is in it, without padding.
    pub fn values(&self) -> Vec<T> {
        (0..self.rows).flat_map(|row| self.row(row).iter().map(Cell::get)).collect()
    }

    fn row(&self, row: usize) -> &[Cell<T>] {
        let first = self.start + row * self.stride;
        &self.memory[first..first + self.width]
    }

    /// Whether guards and padding are as they were.
    pub fn is_intact(&self) -> bool {
        self.forbidden.iter().flat_map(|range| &self.memory[range.clone()]).all(|cell| cell.get().is_poison())
    }

    /// The address of its first element.
    pub(crate) fn address(&self) -> *const Cell<T> {
        self.memory[self.start..].as_ptr()
    }

    /// Bytes from the first element to the last.
    pub(crate) fn extent(&self) -> usize {
        let len = if self.rows == 0 { 0 } else { (self.rows - 1) * self.stride + self.width };
        len * size_of::<T>()
    }

    /// Addresses and sizes in bytes of what must not be touched.
    pub(crate) fn forbidden(&self) -> impl Iterator<Item = (*const u8, usize)> + '_ {
        self.forbidden.iter().map(|range| {
            let cells = &self.memory[range.clone()];
            (cells.as_ptr().cast(), size_of_val(cells))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_no_value_and_notices_writes() {
        let x = Buffer::rows(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 5, 3);
        assert_eq!(x.values(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!((x.address().addr() - 12) % ALIGNMENT, 0);
        assert!(x.is_intact());
        for i in [x.start - 1, x.start + 2, x.start + 9, x.start + 12] {
            let before = x.memory[i].replace(0.0);
            assert!(!x.is_intact(), "{i}");
            x.memory[i].set(before);
        }
        x.memory[x.start].set(9.0);
        assert!(x.is_intact());
    }
}
