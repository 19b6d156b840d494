//! What a kernel is called with.

use std::marker::PhantomData;

use crate::{Buffer, Element};

/// One argument: the address of a [`Buffer`], a null pointer, or a number.
#[derive(Debug, Clone)]
pub struct Argument<'a> {
    pub(crate) kind: Kind,
    pub(crate) bytes: usize,
    /// The value, in the low bytes.
    pub(crate) bits: u64,
    /// Bytes of the buffer from its first element to its last.
    extent: usize,
    /// Memory that the kernel must not touch.
    pub(crate) forbidden: Vec<(*const u8, usize)>,
    buffer: PhantomData<&'a ()>,
}

/// Kinds of parameters, numbered as in `cuda_host.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pointer = 0,
    Integer = 1,
    Float = 2,
}

impl Kind {
    pub(crate) fn of(number: i32) -> Self {
        match number {
            0 => Self::Pointer,
            1 => Self::Integer,
            _ => Self::Float,
        }
    }

    /// In words, with its size.
    pub(crate) fn describe(self, bytes: usize) -> String {
        match self {
            Self::Pointer => "a pointer".to_owned(),
            Self::Integer => format!("an integer of {bytes} bytes"),
            Self::Float => format!("a floating-point number of {bytes} bytes"),
        }
    }
}

impl Argument<'_> {
    /// The null pointer.
    pub fn null() -> Self {
        Self::number(Kind::Pointer, 8, 0)
    }

    /// An address that is not a [`Buffer`]'s.
    pub fn address<T>(pointer: *mut T) -> Self {
        Self::number(Kind::Pointer, 8, pointer.expose_provenance() as u64)
    }

    /// Address and bytes, from first to last element, of the buffer; none for numbers and other addresses. For those who run
    /// kernels on something else than [`Module`](crate::Module).
    pub fn extent(&self) -> Option<(*mut u8, usize)> {
        let address = std::ptr::with_exposed_provenance_mut(self.bits as usize);
        (self.extent > 0).then_some((address, self.extent))
    }

    /// The value as its little-endian bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bits.to_le_bytes()[..self.bytes].to_vec()
    }

    fn number(kind: Kind, bytes: usize, bits: u64) -> Self {
        Self { kind, bytes, bits, extent: 0, forbidden: Vec::new(), buffer: PhantomData }
    }
}

/// An empty buffer is the null pointer.
impl<'a, T: Element> From<&'a Buffer<T>> for Argument<'a> {
    fn from(buffer: &'a Buffer<T>) -> Self {
        let extent = buffer.extent();
        // The kernel gets the address through an integer, so say that there is one.
        let bits = if extent == 0 { 0 } else { buffer.address().expose_provenance() as u64 };
        let forbidden = buffer.forbidden().collect();
        Self { kind: Kind::Pointer, bytes: 8, bits, extent, forbidden, buffer: PhantomData }
    }
}

impl From<u32> for Argument<'_> {
    fn from(value: u32) -> Self {
        Self::number(Kind::Integer, 4, u64::from(value))
    }
}

impl From<u64> for Argument<'_> {
    fn from(value: u64) -> Self {
        Self::number(Kind::Integer, 8, value)
    }
}

impl From<f32> for Argument<'_> {
    fn from(value: f32) -> Self {
        Self::number(Kind::Float, 4, u64::from(value.to_bits()))
    }
}

impl From<f64> for Argument<'_> {
    fn from(value: f64) -> Self {
        Self::number(Kind::Float, 8, value.to_bits())
    }
}
