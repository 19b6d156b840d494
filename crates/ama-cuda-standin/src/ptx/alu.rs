//! What each arithmetic instruction does: the table of PTX's semantics.
//!
//! One line is one instruction: its name without `.ftz`, its operand types and a Rust expression. Integer arithmetic
//! wraps, as on the device; division by zero gives all ones, as on the device. Approximate float instructions give
//! the nearest value, moved by [`Approx`](super::float::Approx).

use super::float::{self, Towards, directed, fma_directed, two_sum};
use super::lanes::{File, Lane, Regs, Run, Slot, compare, op1, op2, op3};

/// An instruction without memory or control: what to run, and the files of its operands.
#[derive(Clone, Copy)]
pub(crate) struct Alu {
    pub(crate) run: Run,
    /// The same with `.ftz`: subnormal operands and results become zero.
    pub(crate) flushed: Run,
    pub(crate) to: File,
    pub(crate) from: &'static [File],
}

/// An instruction without subnormals to flush: integers, bits, doubles and moves.
macro_rules! alu {
    (|$a:ident: $A:ty| -> $D:ty { $body:expr }) => {
        alu!(op1, |$a: $A| -> $D { $body }, $A)
    };
    (|$a:ident: $A:ty, $b:ident: $B:ty| -> $D:ty { $body:expr }) => {
        alu!(op2, |$a: $A, $b: $B| -> $D { $body }, $A, $B)
    };
    (|$a:ident: $A:ty, $b:ident: $B:ty, $c:ident: $C:ty| -> $D:ty { $body:expr }) => {
        alu!(op3, |$a: $A, $b: $B, $c: $C| -> $D { $body }, $A, $B, $C)
    };
    ($op:ident, |$($arg:ident: $ty:ty),*| -> $D:ty { $body:expr }, $($T:ty),*) => {{
        let run: Run = |r, x, m| $op(r, x, m, |$($arg: $ty),*| -> $D { $body });
        Alu { run, flushed: run, to: <$D as Lane>::FILE, from: &[$(<$T as Lane>::FILE),*] }
    }};
}

/// An instruction on `f32`.
macro_rules! float {
    (|$a:ident| $body:expr) => {
        float!(op1, |$a| $body, &[File::Word])
    };
    (|$a:ident, $b:ident| $body:expr) => {
        float!(op2, |$a, $b| $body, &[File::Word; 2])
    };
    (|$a:ident, $b:ident, $c:ident| $body:expr) => {
        float!(op3, |$a, $b, $c| $body, &[File::Word; 3])
    };
    ($op:ident, |$($arg:ident),*| $body:expr, $from:expr) => {
        Alu {
            run: |r, x, m| $op(r, x, m, |$($arg: f32),*| -> f32 { $body }),
            flushed: |r, x, m| {
                $op(r, x, m, |$($arg: f32),*| -> f32 {
                    $(let $arg = $arg.flush();)*
                    ($body).flush()
                })
            },
            to: File::Word,
            from: $from,
        }
    };
}

/// An approximate function of one `f32`: its best value, shifted by the run's pattern except where PTX's manual lists
/// an exact result (zeros, infinities and NaN are never shifted; what else is exact is said here).
macro_rules! approx {
    (|$a:ident| $body:expr) => {
        approx!(|$a| $body, exact: false)
    };
    (|$a:ident| $body:expr, exact: $exact:expr) => {
        Alu {
            run: |r, x, m| {
                let approx = r.approx;
                op1(r, x, m, |$a: f32| -> f32 {
                    if $exact { $body } else { approx.shift($body, u64::from($a.to_bits())) }
                });
            },
            flushed: |r, x, m| {
                let approx = r.approx;
                op1(r, x, m, |$a: f32| -> f32 {
                    let $a = $a.flush();
                    if $exact { $body } else { approx.shift($body, u64::from($a.to_bits())).flush() }
                });
            },
            to: File::Word,
            from: &[File::Word],
        }
    };
}

/// An approximate quotient.
fn div_approx() -> Alu {
    Alu {
        run: |r, x, m| {
            let approx = r.approx;
            op2(r, x, m, |a: f32, b: f32| -> f32 {
                approx.shift(a / b, u64::from(a.to_bits()) << 32 | u64::from(b.to_bits()))
            });
        },
        flushed: |r, x, m| {
            let approx = r.approx;
            op2(r, x, m, |a: f32, b: f32| -> f32 {
                let (a, b) = (a.flush(), b.flush());
                approx.shift(a / b, u64::from(a.to_bits()) << 32 | u64::from(b.to_bits())).flush()
            });
        },
        to: File::Word,
        from: &[File::Word, File::Word],
    }
}

/// The instruction called `name` (with every modifier but `.ftz`), if the interpreter knows it.
pub(crate) fn lookup(name: &str) -> Option<Alu> {
    integer(name).or_else(|| single(name)).or_else(|| double(name)).or_else(|| moves(name))
}

fn moves(name: &str) -> Option<Alu> {
    Some(match name {
        "mov.u16" | "mov.s16" | "mov.b16" => alu!(|a: u16| -> u16 { a }),
        "mov.u32" | "mov.s32" | "mov.b32" | "mov.f32" => alu!(|a: u32| -> u32 { a }),
        "mov.u64" | "mov.s64" | "mov.b64" | "mov.f64" => alu!(|a: u64| -> u64 { a }),
        "mov.pred" => alu!(|a: bool| -> bool { a }),
        "not.pred" => alu!(|a: bool| -> bool { !a }),
        "and.pred" => alu!(|a: bool, b: bool| -> bool { a && b }),
        "or.pred" => alu!(|a: bool, b: bool| -> bool { a || b }),
        "xor.pred" => alu!(|a: bool, b: bool| -> bool { a != b }),
        "selp.u16" | "selp.s16" | "selp.b16" => {
            alu!(|a: u16, b: u16, p: bool| -> u16 { if p { a } else { b } })
        }
        "selp.u32" | "selp.s32" | "selp.b32" | "selp.f32" => {
            alu!(|a: u32, b: u32, p: bool| -> u32 { if p { a } else { b } })
        }
        "selp.u64" | "selp.s64" | "selp.b64" | "selp.f64" => {
            alu!(|a: u64, b: u64, p: bool| -> u64 { if p { a } else { b } })
        }
        // The conversions that address arithmetic and float kernels spend their time on; the others are in `convert`.
        "cvt.s64.s32" => alu!(|a: i32| -> i64 { i64::from(a) }),
        "cvt.u64.u32" => alu!(|a: u32| -> u64 { u64::from(a) }),
        "cvt.u32.u64" | "cvt.s32.s64" | "cvt.u32.s64" | "cvt.s32.u64" => alu!(|a: u64| -> u32 { a as u32 }),
        "cvt.u32.u16" => alu!(|a: u16| -> u32 { u32::from(a) }),
        "cvt.rn.f32.s32" => alu!(|a: i32| -> f32 { a as f32 }),
        "cvt.rn.f32.u32" => alu!(|a: u32| -> f32 { a as f32 }),
        "cvt.f64.f32" => alu!(|a: f32| -> f64 { f64::from(a) }),
        "cvt.rn.f32.f64" => alu!(|a: f64| -> f32 { a as f32 }),
        "cvt.f32.bf16" => alu!(|a: u16| -> f32 { float::bf16_to_f32(a) }),
        "cvt.rn.bf16.f32" => alu!(|a: f32| -> u16 { float::f32_to_bf16(a) }),
        // The first source is the upper half.
        "cvt.rn.bf16x2.f32" => {
            alu!(|a: f32, b: f32| -> u32 {
                u32::from(float::f32_to_bf16(a)) << 16 | u32::from(float::f32_to_bf16(b))
            })
        }
        "cvt.rn.f16x2.f32" => {
            alu!(|a: f32, b: f32| -> u32 {
                u32::from(float::f32_to_f16(a)) << 16 | u32::from(float::f32_to_f16(b))
            })
        }
        _ => return None,
    })
}

fn integer(name: &str) -> Option<Alu> {
    Some(match name {
        "add.u16" | "add.s16" => alu!(|a: u16, b: u16| -> u16 { a.wrapping_add(b) }),
        "add.u32" | "add.s32" => alu!(|a: u32, b: u32| -> u32 { a.wrapping_add(b) }),
        "add.u64" | "add.s64" => alu!(|a: u64, b: u64| -> u64 { a.wrapping_add(b) }),
        "sub.u16" | "sub.s16" => alu!(|a: u16, b: u16| -> u16 { a.wrapping_sub(b) }),
        "sub.u32" | "sub.s32" => alu!(|a: u32, b: u32| -> u32 { a.wrapping_sub(b) }),
        "sub.u64" | "sub.s64" => alu!(|a: u64, b: u64| -> u64 { a.wrapping_sub(b) }),
        "mul.lo.u16" | "mul.lo.s16" => alu!(|a: u16, b: u16| -> u16 { a.wrapping_mul(b) }),
        "mul.lo.u32" | "mul.lo.s32" => alu!(|a: u32, b: u32| -> u32 { a.wrapping_mul(b) }),
        "mul.lo.u64" | "mul.lo.s64" => alu!(|a: u64, b: u64| -> u64 { a.wrapping_mul(b) }),
        "mul.hi.u32" => alu!(|a: u32, b: u32| -> u32 { ((u64::from(a) * u64::from(b)) >> 32) as u32 }),
        "mul.hi.s32" => alu!(|a: i32, b: i32| -> i32 { ((i64::from(a) * i64::from(b)) >> 32) as i32 }),
        "mul.hi.u64" => alu!(|a: u64, b: u64| -> u64 { ((u128::from(a) * u128::from(b)) >> 64) as u64 }),
        "mul.hi.s64" => alu!(|a: i64, b: i64| -> i64 { ((i128::from(a) * i128::from(b)) >> 64) as i64 }),
        "mul.wide.u16" => alu!(|a: u16, b: u16| -> u32 { u32::from(a) * u32::from(b) }),
        "mul.wide.s16" => alu!(|a: i16, b: i16| -> i32 { i32::from(a) * i32::from(b) }),
        "mul.wide.u32" => alu!(|a: u32, b: u32| -> u64 { u64::from(a) * u64::from(b) }),
        "mul.wide.s32" => alu!(|a: i32, b: i32| -> i64 { i64::from(a) * i64::from(b) }),
        "mad.lo.u16" | "mad.lo.s16" => {
            alu!(|a: u16, b: u16, c: u16| -> u16 { a.wrapping_mul(b).wrapping_add(c) })
        }
        "mad.lo.u32" | "mad.lo.s32" => {
            alu!(|a: u32, b: u32, c: u32| -> u32 { a.wrapping_mul(b).wrapping_add(c) })
        }
        "mad.lo.u64" | "mad.lo.s64" => {
            alu!(|a: u64, b: u64, c: u64| -> u64 { a.wrapping_mul(b).wrapping_add(c) })
        }
        "mad.hi.u32" => {
            alu!(|a: u32, b: u32, c: u32| -> u32 {
                (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
            })
        }
        "mad.wide.u16" => {
            alu!(|a: u16, b: u16, c: u32| -> u32 { (u32::from(a) * u32::from(b)).wrapping_add(c) })
        }
        "mad.wide.u32" => {
            alu!(|a: u32, b: u32, c: u64| -> u64 { (u64::from(a) * u64::from(b)).wrapping_add(c) })
        }
        "mad.wide.s32" => {
            alu!(|a: i32, b: i32, c: i64| -> i64 { (i64::from(a) * i64::from(b)).wrapping_add(c) })
        }
        "div.u16" => alu!(|a: u16, b: u16| -> u16 { a.checked_div(b).unwrap_or(u16::MAX) }),
        "div.u32" => alu!(|a: u32, b: u32| -> u32 { a.checked_div(b).unwrap_or(u32::MAX) }),
        "div.u64" => alu!(|a: u64, b: u64| -> u64 { a.checked_div(b).unwrap_or(u64::MAX) }),
        "div.s32" => alu!(|a: i32, b: i32| -> i32 { if b == 0 { -1 } else { a.wrapping_div(b) } }),
        "div.s64" => alu!(|a: i64, b: i64| -> i64 { if b == 0 { -1 } else { a.wrapping_div(b) } }),
        "rem.u16" => alu!(|a: u16, b: u16| -> u16 { a.checked_rem(b).unwrap_or(a) }),
        "rem.u32" => alu!(|a: u32, b: u32| -> u32 { a.checked_rem(b).unwrap_or(a) }),
        "rem.u64" => alu!(|a: u64, b: u64| -> u64 { a.checked_rem(b).unwrap_or(a) }),
        "rem.s32" => alu!(|a: i32, b: i32| -> i32 { if b == 0 { a } else { a.wrapping_rem(b) } }),
        "rem.s64" => alu!(|a: i64, b: i64| -> i64 { if b == 0 { a } else { a.wrapping_rem(b) } }),
        "neg.s16" => alu!(|a: i16| -> i16 { a.wrapping_neg() }),
        "neg.s32" => alu!(|a: i32| -> i32 { a.wrapping_neg() }),
        "neg.s64" => alu!(|a: i64| -> i64 { a.wrapping_neg() }),
        "abs.s32" => alu!(|a: i32| -> i32 { a.wrapping_abs() }),
        "abs.s64" => alu!(|a: i64| -> i64 { a.wrapping_abs() }),
        "min.u16" => alu!(|a: u16, b: u16| -> u16 { a.min(b) }),
        "min.s16" => alu!(|a: i16, b: i16| -> i16 { a.min(b) }),
        "min.u32" => alu!(|a: u32, b: u32| -> u32 { a.min(b) }),
        "min.s32" => alu!(|a: i32, b: i32| -> i32 { a.min(b) }),
        "min.u64" => alu!(|a: u64, b: u64| -> u64 { a.min(b) }),
        "min.s64" => alu!(|a: i64, b: i64| -> i64 { a.min(b) }),
        "max.u16" => alu!(|a: u16, b: u16| -> u16 { a.max(b) }),
        "max.s16" => alu!(|a: i16, b: i16| -> i16 { a.max(b) }),
        "max.u32" => alu!(|a: u32, b: u32| -> u32 { a.max(b) }),
        "max.s32" => alu!(|a: i32, b: i32| -> i32 { a.max(b) }),
        "max.u64" => alu!(|a: u64, b: u64| -> u64 { a.max(b) }),
        "max.s64" => alu!(|a: i64, b: i64| -> i64 { a.max(b) }),
        "and.b16" => alu!(|a: u16, b: u16| -> u16 { a & b }),
        "and.b32" => alu!(|a: u32, b: u32| -> u32 { a & b }),
        "and.b64" => alu!(|a: u64, b: u64| -> u64 { a & b }),
        "or.b16" => alu!(|a: u16, b: u16| -> u16 { a | b }),
        "or.b32" => alu!(|a: u32, b: u32| -> u32 { a | b }),
        "or.b64" => alu!(|a: u64, b: u64| -> u64 { a | b }),
        "xor.b16" => alu!(|a: u16, b: u16| -> u16 { a ^ b }),
        "xor.b32" => alu!(|a: u32, b: u32| -> u32 { a ^ b }),
        "xor.b64" => alu!(|a: u64, b: u64| -> u64 { a ^ b }),
        "not.b16" => alu!(|a: u16| -> u16 { !a }),
        "not.b32" => alu!(|a: u32| -> u32 { !a }),
        "not.b64" => alu!(|a: u64| -> u64 { !a }),
        // Amounts beyond the width count as the width.
        "shl.b16" => alu!(|a: u16, n: u32| -> u16 { a.checked_shl(n).unwrap_or(0) }),
        "shl.b32" => alu!(|a: u32, n: u32| -> u32 { a.checked_shl(n).unwrap_or(0) }),
        "shl.b64" => alu!(|a: u64, n: u32| -> u64 { a.checked_shl(n).unwrap_or(0) }),
        "shr.u16" | "shr.b16" => alu!(|a: u16, n: u32| -> u16 { a.checked_shr(n).unwrap_or(0) }),
        "shr.u32" | "shr.b32" => alu!(|a: u32, n: u32| -> u32 { a.checked_shr(n).unwrap_or(0) }),
        "shr.u64" | "shr.b64" => alu!(|a: u64, n: u32| -> u64 { a.checked_shr(n).unwrap_or(0) }),
        "shr.s16" => alu!(|a: i16, n: u32| -> i16 { a >> n.min(15) }),
        "shr.s32" => alu!(|a: i32, n: u32| -> i32 { a >> n.min(31) }),
        "shr.s64" => alu!(|a: i64, n: u32| -> i64 { a >> n.min(63) }),
        "shf.l.wrap.b32" => alu!(|a: u32, b: u32, n: u32| -> u32 { funnel_left(a, b, n & 31) }),
        "shf.l.clamp.b32" => alu!(|a: u32, b: u32, n: u32| -> u32 { funnel_left(a, b, n.min(32)) }),
        "shf.r.wrap.b32" => alu!(|a: u32, b: u32, n: u32| -> u32 { funnel_right(a, b, n & 31) }),
        "shf.r.clamp.b32" => alu!(|a: u32, b: u32, n: u32| -> u32 { funnel_right(a, b, n.min(32)) }),
        "popc.b32" => alu!(|a: u32| -> u32 { a.count_ones() }),
        "popc.b64" => alu!(|a: u64| -> u32 { a.count_ones() }),
        "clz.b32" => alu!(|a: u32| -> u32 { a.leading_zeros() }),
        "clz.b64" => alu!(|a: u64| -> u32 { a.leading_zeros() }),
        "brev.b32" => alu!(|a: u32| -> u32 { a.reverse_bits() }),
        "brev.b64" => alu!(|a: u64| -> u64 { a.reverse_bits() }),
        "bfind.u32" => alu!(|a: u32| -> u32 { 31u32.wrapping_sub(a.leading_zeros()) }),
        "bfind.u64" => alu!(|a: u64| -> u32 { 63u32.wrapping_sub(a.leading_zeros()) }),
        "bfind.shiftamt.u32" => alu!(|a: u32| -> u32 { if a == 0 { u32::MAX } else { a.leading_zeros() } }),
        "bfe.u32" => alu!(|a: u32, pos: u32, len: u32| -> u32 { extract(u64::from(a), pos, len, 32) as u32 }),
        "bfe.u64" => alu!(|a: u64, pos: u32, len: u32| -> u64 { extract(a, pos, len, 64) }),
        "bfe.s32" => {
            alu!(|a: u32, pos: u32, len: u32| -> u32 { extract_signed(u64::from(a), pos, len, 32) as u32 })
        }
        "bfe.s64" => alu!(|a: u64, pos: u32, len: u32| -> u64 { extract_signed(a, pos, len, 64) }),
        "prmt.b32" => alu!(|a: u32, b: u32, select: u32| -> u32 { permute(a, b, select) }),
        _ => return None,
    })
}

fn single(name: &str) -> Option<Alu> {
    Some(match name {
        "add.f32" | "add.rn.f32" => float!(|a, b| a + b),
        "sub.f32" | "sub.rn.f32" => float!(|a, b| a - b),
        "mul.f32" | "mul.rn.f32" => float!(|a, b| a * b),
        "fma.rn.f32" | "mad.rn.f32" => float!(|a, b, c| a.mul_add(b, c)),
        "add.rz.f32" => float!(|a, b| add_directed(a, b, Towards::Zero)),
        "add.rm.f32" => float!(|a, b| add_directed(a, b, Towards::Down)),
        "add.rp.f32" => float!(|a, b| add_directed(a, b, Towards::Up)),
        "sub.rz.f32" => float!(|a, b| add_directed(a, -b, Towards::Zero)),
        "sub.rm.f32" => float!(|a, b| add_directed(a, -b, Towards::Down)),
        "sub.rp.f32" => float!(|a, b| add_directed(a, -b, Towards::Up)),
        "mul.rz.f32" => float!(|a, b| mul_directed(a, b, Towards::Zero)),
        "mul.rm.f32" => float!(|a, b| mul_directed(a, b, Towards::Down)),
        "mul.rp.f32" => float!(|a, b| mul_directed(a, b, Towards::Up)),
        "fma.rz.f32" => float!(|a, b, c| fma_directed(a, b, c, Towards::Zero)),
        "fma.rm.f32" => float!(|a, b, c| fma_directed(a, b, c, Towards::Down)),
        "fma.rp.f32" => float!(|a, b, c| fma_directed(a, b, c, Towards::Up)),
        "div.rn.f32" => float!(|a, b| a / b),
        "rcp.rn.f32" => float!(|a| 1.0 / a),
        "sqrt.rn.f32" => float!(|a| a.sqrt()),
        "neg.f32" => float!(|a| -a),
        "abs.f32" => float!(|a| a.abs()),
        // The sign comes from the first operand.
        "copysign.f32" => float!(|a, b| b.copysign(a)),
        "min.f32" => float!(|a, b| least(a, b)),
        "max.f32" => float!(|a, b| -least(-a, -b)),
        "min.NaN.f32" => float!(|a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { least(a, b) }),
        "max.NaN.f32" => float!(|a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { -least(-a, -b) }),
        "testp.finite.f32" => alu!(|a: f32| -> bool { a.is_finite() }),
        "testp.infinite.f32" => alu!(|a: f32| -> bool { a.is_infinite() }),
        "testp.number.f32" => alu!(|a: f32| -> bool { !a.is_nan() }),
        "testp.notanumber.f32" => alu!(|a: f32| -> bool { a.is_nan() }),
        "sat.f32" => float!(|a| saturate(a)),
        "ex2.approx.f32" => approx!(|a| float::exp2(a), exact: a == 0.0),
        "lg2.approx.f32" => approx!(|a| f64::from(a).log2() as f32),
        "rcp.approx.f32" => approx!(|a| 1.0 / a),
        "sqrt.approx.f32" => approx!(|a| a.sqrt()),
        "rsqrt.approx.f32" => approx!(|a| f64::from(a).sqrt().recip() as f32),
        "sin.approx.f32" => approx!(|a| f64::from(a).sin() as f32),
        "cos.approx.f32" => approx!(|a| f64::from(a).cos() as f32),
        "tanh.approx.f32" => approx!(|a| f64::from(a).tanh() as f32),
        "div.approx.f32" | "div.full.f32" => div_approx(),
        _ => return None,
    })
}

fn double(name: &str) -> Option<Alu> {
    Some(match name {
        "add.f64" | "add.rn.f64" => alu!(|a: f64, b: f64| -> f64 { a + b }),
        "sub.f64" | "sub.rn.f64" => alu!(|a: f64, b: f64| -> f64 { a - b }),
        "mul.f64" | "mul.rn.f64" => alu!(|a: f64, b: f64| -> f64 { a * b }),
        "fma.rn.f64" => alu!(|a: f64, b: f64, c: f64| -> f64 { a.mul_add(b, c) }),
        "div.rn.f64" => alu!(|a: f64, b: f64| -> f64 { a / b }),
        "rcp.rn.f64" => alu!(|a: f64| -> f64 { 1.0 / a }),
        "sqrt.rn.f64" => alu!(|a: f64| -> f64 { a.sqrt() }),
        "neg.f64" => alu!(|a: f64| -> f64 { -a }),
        "abs.f64" => alu!(|a: f64| -> f64 { a.abs() }),
        "copysign.f64" => alu!(|a: f64, b: f64| -> f64 { b.copysign(a) }),
        "min.f64" => alu!(|a: f64, b: f64| -> f64 { least_double(a, b) }),
        "max.f64" => alu!(|a: f64, b: f64| -> f64 { -least_double(-a, -b) }),
        // The device keeps only the upper word (the lower is zero); callers refine it by Newton steps.
        "rcp.approx.f64" => alu!(|a: f64| -> f64 { upper(1.0 / a) }),
        "rsqrt.approx.f64" => alu!(|a: f64| -> f64 { upper(a.sqrt().recip()) }),
        _ => return None,
    })
}

/// A comparison of two registers: the mask of lanes where it holds.
pub(crate) type Compare = fn(&Regs, Slot, Slot) -> u32;

/// The comparison `cmp` (`lt`, `geu`, ...) of operands of type `ty`, if there is one, and their file.
pub(crate) fn comparison(cmp: &str, ty: &str) -> Option<(Compare, File)> {
    macro_rules! ordered {
        ($T:ty) => {{
            let run: Compare = match cmp {
                "eq" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a == b),
                "ne" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a != b),
                "lt" | "lo" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a < b),
                "le" | "ls" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a <= b),
                "gt" | "hi" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a > b),
                "ge" | "hs" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a >= b),
                _ => return None,
            };
            (run, <$T as Lane>::FILE)
        }};
    }
    // Plain comparisons of floats fail on NaN, the `u` ones hold.
    macro_rules! partial {
        ($T:ty) => {{
            let run: Compare = match cmp {
                "eq" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a == b),
                "ne" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a != b && !a.is_nan() && !b.is_nan()),
                "lt" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a < b),
                "le" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a <= b),
                "gt" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a > b),
                "ge" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a >= b),
                "equ" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a == b || a.is_nan() || b.is_nan()),
                "neu" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a != b),
                "ltu" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a < b || a.is_nan() || b.is_nan()),
                "leu" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a <= b || a.is_nan() || b.is_nan()),
                "gtu" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a > b || a.is_nan() || b.is_nan()),
                "geu" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a >= b || a.is_nan() || b.is_nan()),
                "num" => |r, a, b| compare(r, a, b, |a: $T, b: $T| !a.is_nan() && !b.is_nan()),
                "nan" => |r, a, b| compare(r, a, b, |a: $T, b: $T| a.is_nan() || b.is_nan()),
                _ => return None,
            };
            (run, <$T as Lane>::FILE)
        }};
    }
    Some(match ty {
        "u16" | "b16" => ordered!(u16),
        "s16" => ordered!(i16),
        "u32" | "b32" => ordered!(u32),
        "s32" => ordered!(i32),
        "u64" | "b64" => ordered!(u64),
        "s64" => ordered!(i64),
        "f32" => partial!(f32),
        "f64" => partial!(f64),
        _ => return None,
    })
}

fn add_directed(a: f32, b: f32, towards: Towards) -> f32 {
    let (high, low) = two_sum(f64::from(a), f64::from(b));
    directed(high, if low.is_nan() { 0.0 } else { low }, towards)
}

fn mul_directed(a: f32, b: f32, towards: Towards) -> f32 {
    directed(f64::from(a) * f64::from(b), 0.0, towards)
}

/// The smaller, NaN only if both are; -0 counts as less than +0.
fn least(a: f32, b: f32) -> f32 {
    if a < b || b.is_nan() || (a == b && a.is_sign_negative()) { a } else { b }
}

/// As [`least`].
fn least_double(a: f64, b: f64) -> f64 {
    if a < b || b.is_nan() || (a == b && a.is_sign_negative()) { a } else { b }
}

/// `.sat`: into `[0, 1]`, NaN to zero.
pub(crate) fn saturate(a: f32) -> f32 {
    if a >= 0.0 { a.min(1.0) } else { 0.0 }
}

/// Keeps the upper word of a float.
fn upper(a: f64) -> f64 {
    if a.is_nan() { a } else { f64::from_bits(a.to_bits() & 0xffff_ffff_0000_0000) }
}

/// Upper word of the 64 bits `b:a` shifted left.
fn funnel_left(a: u32, b: u32, n: u32) -> u32 {
    ((u64::from(b) << 32 | u64::from(a)) << n >> 32) as u32
}

/// Lower word of the 64 bits `b:a` shifted right.
fn funnel_right(a: u32, b: u32, n: u32) -> u32 {
    ((u64::from(b) << 32 | u64::from(a)) >> n) as u32
}

/// `len` bits of `a` from `pos` on (both taken modulo 256), as an unsigned number.
fn extract(a: u64, pos: u32, len: u32, width: u32) -> u64 {
    let (pos, len) = (pos & 0xff, (len & 0xff).min(width));
    let bits = a.checked_shr(pos).unwrap_or(0);
    if len >= 64 { bits } else { bits & ((1 << len) - 1) }
}

/// The same, sign-extended from the field's top bit, or from the operand's if the field reaches beyond it.
fn extract_signed(a: u64, pos: u32, len: u32, width: u32) -> u64 {
    let (at, wide) = (pos & 0xff, (len & 0xff).min(width));
    if wide == 0 {
        return 0;
    }
    let top = (at + wide - 1).min(width - 1);
    let negative = a >> top & 1 != 0;
    let bits = extract(a, pos, len, width);
    let kept = wide.min(width.saturating_sub(at));
    if negative && kept < 64 { bits | u64::MAX << kept } else { bits }
}

/// Inserts the low `len` bits of `a` into `b` at `pos`.
pub(crate) fn insert(a: u64, b: u64, pos: u32, len: u32, width: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos >= width || len == 0 {
        return b;
    }
    let field = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
    b & !(field << pos) | (a & field) << pos
}

/// `prmt`: four bytes chosen from the eight of `b:a`; bit 3 of a selector replicates the byte's sign.
fn permute(a: u32, b: u32, select: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |out, i| {
        let selector = select >> (4 * i) & 0xf;
        let byte = (bytes >> (8 * (selector & 7))) as u8;
        let byte = if selector & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
        out | u32::from(byte) << (8 * i)
    })
}

/// `lop3`: bit `i` of the result is the table's entry at the three operand bits.
pub(crate) fn lop3(a: u32, b: u32, c: u32, table: u32) -> u32 {
    (0..8).filter(|entry| table >> entry & 1 != 0).fold(0, |out, entry| {
        let pick = |x: u32, bit: u32| if entry & bit != 0 { x } else { !x };
        out | pick(a, 4) & pick(b, 2) & pick(c, 1)
    })
}
