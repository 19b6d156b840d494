//! Registers of a warp, 32 lanes side by side, and operations on them lane by lane.
//!
//! PTX registers live in three files by width: words (up to 32 bits), doubles (64 bits) and predicates (one mask
//! per register). An operation reads whole registers as arrays of its operand type, computes all 32 lanes, and
//! writes those that the mask names: the loops have no branches, so the compiler can vectorise them.

use super::float::Approx;

/// Lanes of a warp.
pub(crate) const WARP: usize = 32;
/// Mask that names every lane.
pub(crate) const FULL: u32 = u32::MAX;
/// Number of a register in its file.
pub(crate) type Slot = u16;

/// Which file a register lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum File {
    /// 8, 16 and 32 bits.
    Word,
    /// 64 bits.
    Double,
    /// Predicates.
    Pred,
}

/// The registers of one warp.
#[derive(Debug, Clone)]
pub(crate) struct Regs {
    pub(crate) w: Vec<[u32; WARP]>,
    pub(crate) d: Vec<[u64; WARP]>,
    pub(crate) p: Vec<u32>,
    pub(crate) approx: Approx,
}

/// Slots of an operation: `d` (and for few `q`) written, the others read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) d: Slot,
    pub(crate) a: Slot,
    pub(crate) b: Slot,
    pub(crate) c: Slot,
}

/// An operation on whole registers; the last argument is the mask of lanes to write.
pub(crate) type Run = fn(&mut Regs, &Args, u32);

/// A type that a lane of a register can hold.
pub(crate) trait Lane: Copy {
    const FILE: File;
    fn read(regs: &Regs, slot: Slot) -> [Self; WARP];
    fn write(regs: &mut Regs, slot: Slot, value: &[Self; WARP], mask: u32);
    /// Subnormal floats become zero of the same sign (`.ftz`); anything else stays.
    fn flush(self) -> Self {
        self
    }
}

/// Writes the lanes that `mask` names.
#[inline(always)]
fn blend<T: Copy>(into: &mut [T; WARP], value: &[T; WARP], mask: u32) {
    if mask == FULL {
        *into = *value;
    } else {
        for l in 0..WARP {
            into[l] = if mask >> l & 1 != 0 { value[l] } else { into[l] };
        }
    }
}

macro_rules! lane {
    ($ty:ty, $file:ident, $store:ident, $from:expr, $to:expr $(, $flush:expr)?) => {
        impl Lane for $ty {
            const FILE: File = File::$file;
            #[inline(always)]
            fn read(regs: &Regs, slot: Slot) -> [Self; WARP] {
                let value = &regs.$store[slot as usize];
                std::array::from_fn(|l| ($from)(value[l]))
            }
            #[inline(always)]
            fn write(regs: &mut Regs, slot: Slot, value: &[Self; WARP], mask: u32) {
                let value = std::array::from_fn(|l| ($to)(value[l]));
                blend(&mut regs.$store[slot as usize], &value, mask);
            }
            $(#[inline(always)]
            fn flush(self) -> Self {
                ($flush)(self)
            })?
        }
    };
}

lane!(u32, Word, w, |x: u32| x, |x: u32| x);
lane!(i32, Word, w, |x: u32| x as i32, |x: i32| x as u32);
lane!(u16, Word, w, |x: u32| x as u16, |x: u16| u32::from(x));
lane!(i16, Word, w, |x: u32| x as i16, |x: i16| u32::from(x as u16));
lane!(f32, Word, w, f32::from_bits, |x: f32| x.to_bits(), |x: f32| if x.is_subnormal() {
    0f32.copysign(x)
} else {
    x
});
lane!(u64, Double, d, |x: u64| x, |x: u64| x);
lane!(i64, Double, d, |x: u64| x as i64, |x: i64| x as u64);
lane!(f64, Double, d, f64::from_bits, |x: f64| x.to_bits());

impl Lane for bool {
    const FILE: File = File::Pred;
    #[inline(always)]
    fn read(regs: &Regs, slot: Slot) -> [Self; WARP] {
        let mask = regs.p[slot as usize];
        std::array::from_fn(|l| mask >> l & 1 != 0)
    }
    #[inline(always)]
    fn write(regs: &mut Regs, slot: Slot, value: &[Self; WARP], mask: u32) {
        let bits = mask_of(|l| value[l]);
        let into = &mut regs.p[slot as usize];
        *into = *into & !mask | bits & mask;
    }
}

/// Mask of the lanes for which `f` holds.
#[inline(always)]
pub(crate) fn mask_of(f: impl Fn(usize) -> bool) -> u32 {
    (0..WARP).fold(0, |mask, l| mask | u32::from(f(l)) << l)
}

/// Lanes that `mask` names, in rising order.
#[inline(always)]
pub(crate) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        (left != 0).then(|| {
            let lane = left.trailing_zeros() as usize;
            left &= left - 1;
            lane
        })
    })
}

#[inline(always)]
pub(crate) fn op1<A: Lane, D: Lane>(r: &mut Regs, x: &Args, mask: u32, f: impl Fn(A) -> D) {
    let a = A::read(r, x.a);
    D::write(r, x.d, &std::array::from_fn(|l| f(a[l])), mask);
}

#[inline(always)]
pub(crate) fn op2<A: Lane, B: Lane, D: Lane>(r: &mut Regs, x: &Args, mask: u32, f: impl Fn(A, B) -> D) {
    let (a, b) = (A::read(r, x.a), B::read(r, x.b));
    D::write(r, x.d, &std::array::from_fn(|l| f(a[l], b[l])), mask);
}

#[inline(always)]
pub(crate) fn op3<A: Lane, B: Lane, C: Lane, D: Lane>(
    r: &mut Regs,
    x: &Args,
    mask: u32,
    f: impl Fn(A, B, C) -> D,
) {
    let (a, b, c) = (A::read(r, x.a), B::read(r, x.b), C::read(r, x.c));
    D::write(r, x.d, &std::array::from_fn(|l| f(a[l], b[l], c[l])), mask);
}

/// Mask of the lanes whose operands compare so.
#[inline(always)]
pub(crate) fn compare<A: Lane>(r: &Regs, a: Slot, b: Slot, f: impl Fn(A, A) -> bool) -> u32 {
    let (a, b) = (A::read(r, a), A::read(r, b));
    mask_of(|l| f(a[l], b[l]))
}
