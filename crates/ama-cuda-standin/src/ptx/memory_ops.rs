//! Loads, stores and atomics of a warp, lane by lane, and the moves between registers of different widths.

use super::alu::insert;
use super::lanes::{File, Lane, Regs, Slot, WARP, lanes};
use super::program::{Access, Atomic, AtomicType, Kind};
use super::spaces::{Bad, From, Spaces, Touch};
use super::syntax::Space;
use super::warp::{Run, Warp};
use crate::errors::Fault;

/// Runs the access at `pc` for the lanes that `active` names.
pub(crate) fn access(
    warp: &mut Warp,
    run: &Run<'_>,
    spaces: &mut Spaces<'_>,
    index: [u32; 3],
    pc: u32,
    active: u32,
) -> Result<(), Fault> {
    let (access, touch) = match &run.kernel.code[pc as usize].kind {
        Kind::Load(access) => (access, Touch::Load),
        Kind::Store(access) => (access, Touch::Store),
        Kind::Atomic { access, .. } => (access, Touch::Atomic),
        _ => return Ok(()),
    };
    let from = From { pc: pc as usize, warp: warp.number, touch };
    let own = warp.local.len() / WARP;
    let bytes = u64::from(access.bytes) * u64::from(access.count);
    let mut one = |lane: usize| -> Result<(), (Bad, u64, Space)> {
        let base = match access.base {
            (File::Double, slot) => warp.regs.d[slot as usize][lane],
            (_, slot) => u64::from(warp.regs.w[slot as usize][lane]),
        };
        let address = base.wrapping_add_signed(access.offset);
        let place = Spaces::resolve(access.space, address);
        let bad = |bad| (bad, place.1, place.0);
        if place.0 == Space::Param {
            let data = spaces.param(place.1, bytes).map_err(bad)?;
            load(&mut warp.regs, access, lane, data);
            return Ok(());
        }
        let local = &mut warp.local[lane * own..(lane + 1) * own];
        let data = spaces.bytes(local, place, bytes, from).map_err(bad)?;
        match &run.kernel.code[pc as usize].kind {
            Kind::Atomic { op, ty, d, b, c, .. } => {
                let old = number(data);
                let (b, c) = (get(&warp.regs, access.file, *b, lane), get(&warp.regs, access.file, *c, lane));
                let new = atomic(*op, *ty, access.bytes, old, b, c);
                data.copy_from_slice(&new.to_le_bytes()[..access.bytes as usize]);
                if let Some(d) = d {
                    set(&mut warp.regs, access.file, *d, lane, old);
                }
            }
            Kind::Store(_) => {
                let width = access.bytes as usize;
                for (chunk, &slot) in data.chunks_exact_mut(width).zip(&access.regs) {
                    let value = get(&warp.regs, access.file, slot, lane);
                    chunk.copy_from_slice(&value.to_le_bytes()[..width]);
                }
            }
            _ => load(&mut warp.regs, access, lane, data),
        }
        Ok(())
    };
    // With a seed, half of the accesses visit their lanes backwards: nothing may hang on who comes last.
    let backwards = run.seed != 0 && super::float::mix(run.seed ^ run.executed) & 1 != 0;
    let mut failed = None;
    if backwards {
        let order: Vec<usize> = lanes(active).collect();
        for &lane in order.iter().rev() {
            if let Err(bad) = one(lane) {
                failed = Some((lane, bad));
                break;
            }
        }
    } else {
        for lane in lanes(active) {
            if let Err(bad) = one(lane) {
                failed = Some((lane, bad));
                break;
            }
        }
    }
    let Some((lane, (bad, address, space))) = failed else { return Ok(()) };
    let site = warp.site(run, index, pc, 1 << lane);
    let access = touch.named(space);
    Err(match bad {
        Bad::Address(blame) => Fault::Address { site, access, bytes, address, blame },
        Bad::OffTheEnd { have } => Fault::OffTheEnd { site, access, bytes, offset: address, have },
        Bad::Misaligned => Fault::Misaligned { site, access, bytes, address },
        Bad::Race { byte, before, other } => {
            Fault::Race { site, offset: byte, now: touch.verb(), warp: warp.number, before, other }
        }
    })
}

fn get(regs: &Regs, file: File, slot: Slot, lane: usize) -> u64 {
    match file {
        File::Double => regs.d[slot as usize][lane],
        _ => u64::from(regs.w[slot as usize][lane]),
    }
}

fn set(regs: &mut Regs, file: File, slot: Slot, lane: usize, value: u64) {
    match file {
        File::Double => regs.d[slot as usize][lane] = value,
        _ => regs.w[slot as usize][lane] = value as u32,
    }
}

/// The little-endian number in at most eight bytes.
fn number(data: &[u8]) -> u64 {
    data.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

#[inline]
fn load(regs: &mut Regs, access: &Access, lane: usize, data: &[u8]) {
    let width = access.bytes as usize;
    for (chunk, &slot) in data.chunks_exact(width).zip(&access.regs) {
        let value = match chunk {
            [a, b, c, d] => {
                let value = u32::from_le_bytes([*a, *b, *c, *d]);
                if access.file == File::Word {
                    regs.w[slot as usize][lane] = value;
                    continue;
                }
                u64::from(value)
            }
            [a, b] => u64::from(u16::from_le_bytes([*a, *b])),
            [a] => u64::from(*a),
            _ => number(chunk),
        };
        let unused = 64 - 8 * u32::from(access.bytes);
        let value = if access.signed { ((value << unused) as i64 >> unused) as u64 } else { value };
        set(regs, access.file, slot, lane, value);
    }
}

/// What an atomic leaves in memory.
fn atomic(op: Atomic, ty: AtomicType, bytes: u8, old: u64, b: u64, c: u64) -> u64 {
    let signed = |x: u64| if bytes == 4 { i64::from(x as u32 as i32) } else { x as i64 };
    match (op, ty) {
        (Atomic::Exchange, _) => b,
        (Atomic::CompareAndSwap, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
        (Atomic::Add, AtomicType::Float) if bytes == 4 => {
            u64::from((f32::from_bits(old as u32) + f32::from_bits(b as u32)).to_bits())
        }
        (Atomic::Add, AtomicType::Float) => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        (Atomic::Add, _) => old.wrapping_add(b),
        (Atomic::Min, AtomicType::Signed) => signed(old).min(signed(b)) as u64,
        (Atomic::Max, AtomicType::Signed) => signed(old).max(signed(b)) as u64,
        (Atomic::Min, _) => old.min(b),
        (Atomic::Max, _) => old.max(b),
        (Atomic::And, _) => old & b,
        (Atomic::Or, _) => old | b,
        (Atomic::Xor, _) => old ^ b,
        (Atomic::Increment, _) => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        (Atomic::Decrement, _) => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
    }
}

/// Bit-field insertion, and moves between one wide register and several narrow ones.
pub(crate) fn rearrange(r: &mut Regs, kind: &Kind, mask: u32) {
    match kind {
        Kind::Insert { file, d, a, b, pos, len } => {
            for lane in lanes(mask) {
                let (pos, len) = (r.w[*pos as usize][lane], r.w[*len as usize][lane]);
                let width = if *file == File::Double { 64 } else { 32 };
                let value = insert(get(r, *file, *a, lane), get(r, *file, *b, lane), pos, len, width);
                set(r, *file, *d, lane, value);
            }
        }
        Kind::Pack { wide, narrow, count, bits } => {
            let mut value = [0u64; WARP];
            for (i, &slot) in narrow[..*count as usize].iter().enumerate() {
                for (value, &part) in value.iter_mut().zip(&r.w[slot as usize]) {
                    *value |= (u64::from(part) & ((1 << *bits) - 1)) << (i as u32 * u32::from(*bits));
                }
            }
            match wide.0 {
                File::Double => u64::write(r, wide.1, &value, mask),
                _ => u32::write(r, wide.1, &value.map(|v| v as u32), mask),
            }
        }
        Kind::Unpack { wide, narrow, count, bits } => {
            let value: [u64; WARP] = match wide.0 {
                File::Double => r.d[wide.1 as usize],
                _ => r.w[wide.1 as usize].map(u64::from),
            };
            for (i, &slot) in narrow[..*count as usize].iter().enumerate() {
                let part = value.map(|v| (v >> (i as u32 * u32::from(*bits)) & ((1 << *bits) - 1)) as u32);
                u32::write(r, slot, &part, mask);
            }
        }
        _ => {}
    }
}
