//! Reading and writing a dfdx CPU tensor in place.
//!
//! dfdx 0.13 gives no slice of a tensor's buffer: `as_vec` and `copy_into` copy, and the field is private.
//! Its `Index` and `IndexMut` give a reference to *one* element, so this file, and no other, widens the
//! reference to element 0 into a slice of all of them.
//!
//! # Safety argument
//! Only one-dimensional `f32` tensors on the CPU are taken. For them:
//! 1. **In bounds.** `Index` goes through `Vec`'s checked indexing (`&self.data[i]`), so `t[[0]]` and
//!    `t[[n - 1]]` are live elements of one `Vec`, hence of one allocation, or the call panics.
//! 2. **Contiguous.** `Index` computes `stride * i`. We check that the last element lies exactly `n - 1`
//!    elements after the first, so the stride is 1 (a broadcast has stride 0 and is refused), and elements
//!    `0..n` are exactly the `n` consecutive floats from the first.
//! 3. **Initialised.** They are elements of a `Vec<f32>`.
//! 4. **Lifetime and aliasing, shared.** The slice borrows the tensor. dfdx writes to a buffer only through
//!    `Arc::make_mut` behind `&mut Tensor`, which copies when the `Arc` is shared, so nobody writes to the
//!    buffer while the borrow lasts.
//! 5. **Aliasing, mutable.** `IndexMut` calls `Arc::make_mut`: afterwards this tensor is the buffer's only
//!    owner, and the slice borrows the tensor mutably. (When another clone was alive the buffer was copied
//!    first: correct, only slower.)
//! 6. **Provenance.** Safe code may reach every element through the same tensor and the same borrow, so no
//!    exclusive right to any of them is held elsewhere. Under Tree Borrows a reference may be used past the
//!    element it was made from, so the widening is defined there; the older Stacked Borrows model would
//!    object to it. dfdx is dormant at 0.13.0 and the dependency is pinned to it, so its code cannot shift
//!    under this argument.

#![allow(unsafe_code, reason = "dfdx has no slice access; see the safety argument above")]

use dfdx::prelude::*;

/// A flat, row-major `f32` tensor: the only kind of tensor that this crate puts on dfdx's tape.
pub type Flat = Tensor<(usize,), f32, Cpu>;

/// The elements of `t`, without a copy.
///
/// # Panics
/// If `t` is a broadcast view. The crate makes tensors from whole `Vec`s only.
#[must_use]
pub fn values(t: &Flat) -> &[f32] {
    let n = t.shape().0;
    if n == 0 {
        return &[];
    }
    let (first, last): (*const f32, *const f32) = (&t[[0]], &t[[n - 1]]);
    assert!(std::ptr::eq(first.wrapping_add(n - 1), last), "a flat tensor has stride 1");
    // SAFETY: `first` is element 0 of a live `Vec<f32>` that holds at least n elements from there on (1, 2,
    // 3 above); the returned lifetime is that of the borrow of `t` (4).
    unsafe { std::slice::from_raw_parts(first, n) }
}

/// The elements of `t` for writing, without a copy if `t` is the only clone.
///
/// # Panics
/// If `t` is a broadcast view. The crate makes tensors from whole `Vec`s only.
#[must_use]
pub fn values_mut(t: &mut Flat) -> &mut [f32] {
    let n = t.shape().0;
    if n == 0 {
        return &mut [];
    }
    let last: *const f32 = &mut t[[n - 1]];
    let first: *mut f32 = &mut t[[0]];
    assert!(std::ptr::eq(first.wrapping_add(n - 1), last), "a flat tensor has stride 1");
    // SAFETY: as in `values`, and the buffer has one owner (5), which is mutably borrowed for as long as the
    // slice lives.
    unsafe { std::slice::from_raw_parts_mut(first, n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_place() {
        let t: Flat = Cpu::default().tensor_from_vec(vec![1.0, 2.0, 3.0], (3,));
        assert_eq!(values(&t), &[1.0, 2.0, 3.0]);
        assert!(std::ptr::eq(values(&t).as_ptr(), values(&t.clone()).as_ptr()));
        let empty: Flat = Cpu::default().tensor_from_vec(vec![], (0,));
        assert!(values(&empty).is_empty());
    }

    #[test]
    fn moves_the_vec_in() {
        let v = vec![1.0f32; 1000];
        let at = v.as_ptr();
        let t: Flat = Cpu::default().tensor_from_vec(v, (1000,));
        assert!(std::ptr::eq(values(&t).as_ptr(), at));
    }

    #[test]
    fn writes_in_place_and_never_into_a_clone() {
        let mut t: Flat = Cpu::default().tensor_from_vec(vec![1.0, 2.0, 3.0], (3,));
        let at = values(&t).as_ptr();
        values_mut(&mut t)[2] = 7.0;
        assert!(std::ptr::eq(values(&t).as_ptr(), at), "sole owner: no copy");
        assert_eq!(t.as_vec(), [1.0, 2.0, 7.0]);
        let clone = t.clone();
        values_mut(&mut t)[0] = 9.0;
        assert_eq!(values(&clone), &[1.0, 2.0, 7.0]);
        assert_eq!(values(&t), &[9.0, 2.0, 7.0]);
        assert!(values_mut(&mut Cpu::default().tensor_from_vec(vec![], (0,))).is_empty());
    }

    #[test]
    #[should_panic(expected = "stride 1")]
    fn refuses_a_broadcast() {
        let one: Tensor<(), f32, Cpu> = Cpu::default().tensor_from_vec(vec![1.0], ());
        let wide: Flat = one.broadcast_like(&(4,));
        let _ = values(&wide);
    }
}
