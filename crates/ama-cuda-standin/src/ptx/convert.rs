//! `cvt`: conversions between all number types, with rounding and saturation.

use super::alu::saturate;
use super::float::{Towards, bf16_to_f32, directed, f16_to_f32, f32_to_bf16, f32_to_bf16_rz, f32_to_f16};
use super::lanes::{Args, File, Lane, Regs, WARP};

/// A number type of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// Integer of so many bits.
    Int { bits: u32, signed: bool },
    /// bf16.
    Bf16,
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
}

impl Number {
    /// The type called `name` in PTX.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "f64" => Self::F64,
            "f32" => Self::F32,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "u8" => Self::Int { bits: 8, signed: false },
            "u16" => Self::Int { bits: 16, signed: false },
            "u32" => Self::Int { bits: 32, signed: false },
            "u64" => Self::Int { bits: 64, signed: false },
            "s8" => Self::Int { bits: 8, signed: true },
            "s16" => Self::Int { bits: 16, signed: true },
            "s32" => Self::Int { bits: 32, signed: true },
            "s64" => Self::Int { bits: 64, signed: true },
            _ => return None,
        })
    }

    /// File of a register that holds it.
    pub(crate) fn file(self) -> File {
        match self {
            Self::Int { bits: 64, .. } | Self::F64 => File::Double,
            _ => File::Word,
        }
    }

    fn is_float(self) -> bool {
        !matches!(self, Self::Int { .. })
    }
}

/// Rounding of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// None given: the conversion is exact or cuts bits off.
    Exact,
    /// To an integer, ties to even (`.rni`).
    IntNearest,
    /// To an integer towards zero (`.rzi`).
    IntZero,
    /// To an integer downwards (`.rmi`).
    IntDown,
    /// To an integer upwards (`.rpi`).
    IntUp,
    /// To the nearest float (`.rn`).
    Nearest,
    /// To a float towards one side.
    Side(Towards),
}

/// One conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Convert {
    pub(crate) to: Number,
    pub(crate) from: Number,
    rounding: Rounding,
    saturate: bool,
    flush: bool,
}

impl Convert {
    /// The conversion with the modifiers and types of `parts`, as in `cvt.rzi.s32.f32`; `None` if unknown.
    pub(crate) fn parse(parts: &[&str]) -> Option<Self> {
        let [modifiers @ .., to, from] = parts else { return None };
        let (to, from) = (Number::parse(to)?, Number::parse(from)?);
        let (mut rounding, mut sat, mut flush) = (Rounding::Exact, false, false);
        for modifier in modifiers {
            match *modifier {
                "rni" => rounding = Rounding::IntNearest,
                "rzi" => rounding = Rounding::IntZero,
                "rmi" => rounding = Rounding::IntDown,
                "rpi" => rounding = Rounding::IntUp,
                "rn" => rounding = Rounding::Nearest,
                "rz" => rounding = Rounding::Side(Towards::Zero),
                "rm" => rounding = Rounding::Side(Towards::Down),
                "rp" => rounding = Rounding::Side(Towards::Up),
                "sat" => sat = true,
                "ftz" => flush = true,
                _ => return None,
            }
        }
        // Combinations without a meaning here must not slip through as something else.
        let known = match (from.is_float(), to.is_float(), rounding) {
            (false, false, Rounding::Exact) => true,
            (true, false, Rounding::IntNearest | Rounding::IntZero | Rounding::IntDown | Rounding::IntUp) => {
                true
            }
            // Sixteen-bit floats are reached through `f32`, so only what fits there is rounded once.
            (false, true, Rounding::Nearest) => {
                matches!(to, Number::F32 | Number::F64)
                    || matches!(from, Number::Int { bits, .. } if bits <= 16)
            }
            (false, true, Rounding::Side(_)) => {
                to == Number::F32 && matches!(from, Number::Int { bits, .. } if bits <= 32)
            }
            (true, true, Rounding::Side(side)) => {
                to == Number::F32 && from == Number::F64
                    || to == Number::Bf16 && from == Number::F32 && side == Towards::Zero
            }
            (true, true, _) => matches!(to, Number::F32 | Number::F64) || from != Number::F64,
            _ => false,
        };
        let sat_known = !sat || to == Number::F32 || (!from.is_float() && !to.is_float());
        (known && sat_known).then_some(Self { to, from, rounding, saturate: sat, flush })
    }

    /// Converts the lanes that `mask` names from slot `a` to slot `d`.
    pub(crate) fn run(&self, r: &mut Regs, x: &Args, mask: u32) {
        let source: [u64; WARP] = match self.from.file() {
            File::Double => u64::read(r, x.a),
            _ => u32::read(r, x.a).map(u64::from),
        };
        let result = source.map(|bits| self.one(bits));
        match self.to.file() {
            File::Double => u64::write(r, x.d, &result, mask),
            _ => u32::write(r, x.d, &result.map(|bits| bits as u32), mask),
        }
    }

    #[inline(always)]
    fn one(&self, bits: u64) -> u64 {
        match self.from {
            Number::Int { bits: width, signed } => self.of_int(extend(bits, width, signed)),
            Number::F64 => self.of_float(f64::from_bits(bits)),
            Number::F32 => {
                let x = f32::from_bits(bits as u32);
                self.of_float(f64::from(if self.flush { x.flush() } else { x }))
            }
            Number::Bf16 => self.of_float(f64::from(bf16_to_f32(bits as u16))),
            Number::F16 => self.of_float(f64::from(f16_to_f32(bits as u16))),
        }
    }

    fn of_int(&self, x: i128) -> u64 {
        match self.to {
            Number::Int { bits, signed } => {
                let x = if self.saturate { x.clamp(lowest(bits, signed), highest(bits, signed)) } else { x };
                // A short signed result is sign-extended to the register.
                extend(x as u64, bits, signed) as u64 & ones(bits.max(32))
            }
            Number::F64 => (x as f64).to_bits(),
            Number::F32 => {
                let y = match self.rounding {
                    Rounding::Side(side) => directed(x as f64, 0.0, side),
                    _ => x as f32,
                };
                u64::from(if self.saturate { saturate(y) } else { y }.to_bits())
            }
            Number::Bf16 => u64::from(f32_to_bf16(x as f32)),
            Number::F16 => u64::from(f32_to_f16(x as f32)),
        }
    }

    fn of_float(&self, x: f64) -> u64 {
        let x = match self.rounding {
            Rounding::IntNearest => x.round_ties_even(),
            Rounding::IntZero => x.trunc(),
            Rounding::IntDown => x.floor(),
            Rounding::IntUp => x.ceil(),
            _ => x,
        };
        match self.to {
            Number::Int { bits, signed } => {
                if x.is_nan() {
                    // As the PTX manual has it: zero, but the top bit alone where 64 bits take part.
                    let top = bits == 64 || self.from == Number::F64;
                    return if top { 1 << (bits - 1) } else { 0 };
                }
                let clamped = (x as i128).clamp(lowest(bits, signed), highest(bits, signed));
                clamped as u64 & ones(bits.max(32))
            }
            Number::F64 => x.to_bits(),
            Number::F32 => {
                let y = match self.rounding {
                    Rounding::Side(side) => directed(x, 0.0, side),
                    _ => x as f32,
                };
                let y = if self.flush { y.flush() } else { y };
                u64::from(if self.saturate { saturate(y) } else { y }.to_bits())
            }
            Number::Bf16 if self.rounding == Rounding::Side(Towards::Zero) => {
                u64::from(f32_to_bf16_rz(x as f32))
            }
            Number::Bf16 => u64::from(f32_to_bf16(x as f32)),
            Number::F16 => u64::from(f32_to_f16(x as f32)),
        }
    }
}

/// Low `bits` bits set.
fn ones(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

fn lowest(bits: u32, signed: bool) -> i128 {
    if signed { -(1 << (bits - 1)) } else { 0 }
}

fn highest(bits: u32, signed: bool) -> i128 {
    if signed { (1 << (bits - 1)) - 1 } else { (1 << bits) - 1 }
}

/// The number that the low `width` bits stand for.
fn extend(bits: u64, width: u32, signed: bool) -> i128 {
    let low = bits & ones(width);
    if signed && low >> (width - 1) & 1 != 0 { i128::from(low) - (1 << width) } else { i128::from(low) }
}
