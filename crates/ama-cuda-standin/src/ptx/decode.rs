//! One PTX instruction to one operation (rarely two), with every modifier accounted for.
//!
//! A modifier that is not listed here makes the whole text invalid: better no result than a wrong one.

use super::alu::{comparison, lookup};
use super::convert::Convert;
use super::lanes::{Args, File, Slot};
use super::lower::{Lower, window};
use super::program::{
    Access, Atomic, AtomicType, BarrierReduce, Combine, Kind, Reduce, Shuffle, Together, Vote,
};
use super::syntax::{Instruction, Operand, Space};
use crate::errors::Fault;

type Guard = Option<(Slot, bool)>;

/// Modifiers of loads and stores that change only caching or ordering; one thread of the host runs everything, so
/// every access is in order.
const ORDERING: &[&str] = &[
    "weak", "volatile", "relaxed", "acquire", "release", "cta", "gpu", "sys", "ca", "cg", "cs", "cv", "lu",
    "wb", "wt", "nc",
];

impl Lower<'_> {
    pub(crate) fn instruction(&mut self, i: &Instruction, guard: Guard) -> Result<(), Fault> {
        let parts: Vec<&str> = i.name.split('.').collect();
        match (parts[0], &parts[1..]) {
            ("ld" | "ldu", rest) => self.load(i, rest, guard),
            ("st", rest) => self.store(i, rest, guard),
            ("atom" | "red", rest) => self.atomic(i, rest, guard),
            ("bra", _) => {
                let [Operand::Name(name)] = i.operands.as_slice() else {
                    return self.fail("expected a label");
                };
                let target = self.target(name)?;
                self.emit(guard, Kind::Branch { target });
                Ok(())
            }
            ("brx", ["idx"] | ["idx", "uni"]) => {
                let [index, Operand::Name(name)] = i.operands.as_slice() else {
                    return self.fail("expected an index and a branch table");
                };
                let (index, targets) = (self.source(index, File::Word)?, self.table(name)?);
                self.emit(guard, Kind::BranchTable { index, targets });
                Ok(())
            }
            ("call", [] | ["uni"]) => self.call(i, guard),
            ("ret", [] | ["uni"]) => {
                self.leave(guard);
                Ok(())
            }
            ("exit", []) => self.plain(guard, Kind::Exit),
            ("trap", []) => self.plain(guard, Kind::Trap),
            ("membar" | "fence" | "nanosleep" | "prefetch" | "discard", _) => {
                self.plain(guard, Kind::Nothing)
            }
            ("setp", rest) => self.compare(i, rest, guard),
            ("cvta", rest) => self.cvta(i, rest, guard),
            ("shfl", ["sync", mode, "b32"]) => self.shuffle(i, mode, guard),
            ("vote", ["sync", mode, _]) => self.vote(i, mode, guard),
            ("redux", ["sync", mode, ty]) => self.redux(i, mode, ty, guard),
            ("match", ["any", "sync", ty]) => {
                let [d, a, mask] = self.operands::<3>(i)?;
                let file = if *ty == "b64" { File::Double } else { File::Word };
                let (d, a) = (self.destination(d, File::Word)?, self.source(a, file)?);
                self.together(guard, Together::MatchAny { d, a, file }, mask)
            }
            ("activemask", ["b32"]) => {
                let [d] = self.operands::<1>(i)?;
                let d = self.destination(d, File::Word)?;
                self.plain(guard, Kind::ActiveMask { d })
            }
            ("bar", ["warp", "sync"]) => {
                let [mask] = self.operands::<1>(i)?;
                self.together(guard, Together::Sync, mask)
            }
            ("bar" | "barrier", rest) => self.barrier(i, rest, guard),
            ("lop3", ["b32"]) => {
                let [d, a, b, c, table] = self.operands::<5>(i)?;
                let Operand::Int(table) = *table else { return self.fail("lop3 wants a constant table") };
                let x = Args {
                    d: self.destination(d, File::Word)?,
                    a: self.source(a, File::Word)?,
                    b: self.source(b, File::Word)?,
                    c: self.source(c, File::Word)?,
                };
                self.plain(guard, Kind::Lop3 { x, table: table as u32 })
            }
            ("bfi", [ty @ ("b32" | "b64")]) => {
                let file = if *ty == "b64" { File::Double } else { File::Word };
                let [d, a, b, pos, len] = self.operands::<5>(i)?;
                let kind = Kind::Insert {
                    file,
                    d: self.destination(d, file)?,
                    a: self.source(a, file)?,
                    b: self.source(b, file)?,
                    pos: self.source(pos, File::Word)?,
                    len: self.source(len, File::Word)?,
                };
                self.plain(guard, kind)
            }
            ("mov", [ty]) if i.operands.iter().any(|o| matches!(o, Operand::Vector(_))) => {
                self.pack(i, ty, guard)
            }
            ("cvt", rest) if lookup(&i.name).is_none() => {
                let Some(how) = Convert::parse(rest) else {
                    return self.fail("conversion that is not known");
                };
                let [d, a] = self.operands::<2>(i)?;
                let x = Args {
                    d: self.destination(d, how.to.file())?,
                    a: self.source(a, how.from.file())?,
                    ..Args::default()
                };
                self.plain(guard, Kind::Convert { how, x })
            }
            _ => self.arithmetic(i, &parts, guard),
        }
    }

    fn plain(&mut self, guard: Guard, kind: Kind) -> Result<(), Fault> {
        self.emit(guard, kind);
        Ok(())
    }

    /// Exactly `N` operands.
    fn operands<'i, const N: usize>(&self, i: &'i Instruction) -> Result<[&'i Operand; N], Fault> {
        match i.operands.iter().collect::<Vec<_>>().try_into() {
            Ok(operands) => Ok(operands),
            Err(_) => self.fail(format!("{} operands; want {N}", i.operands.len())),
        }
    }

    /// Whatever the table of `alu` knows.
    fn arithmetic(&mut self, i: &Instruction, parts: &[&str], guard: Guard) -> Result<(), Fault> {
        let flush = parts.contains(&"ftz");
        let saturate = parts.contains(&"sat") && parts.last() == Some(&"f32");
        let kept = parts.iter().filter(|p| **p != "ftz" && !(saturate && **p == "sat"));
        let name = kept.copied().collect::<Vec<_>>().join(".");
        let Some(alu) = lookup(&name) else {
            return self.fail("instruction that the interpreter does not know");
        };
        let Some((to, from)) = i.operands.split_first() else { return self.fail("no operands") };
        if from.len() != alu.from.len() {
            return self.fail(format!("{} source operands; want {}", from.len(), alu.from.len()));
        }
        let mut slots = [0; 3];
        for ((slot, operand), &file) in slots.iter_mut().zip(from).zip(alu.from) {
            *slot = match operand {
                // A negated predicate becomes a register of its own.
                Operand::Not(name) if file == File::Pred => {
                    let (a, d) = (self.named(name, File::Pred)?, self.sink(File::Pred)?);
                    let run = lookup("not.pred").expect("the table has it").run;
                    self.emit(None, Kind::Alu { run, x: Args { d, a, ..Args::default() } });
                    d
                }
                operand => self.source(operand, file)?,
            };
        }
        let d = self.destination(to, alu.to)?;
        let x = Args { d, a: slots[0], b: slots[1], c: slots[2] };
        self.emit(guard, Kind::Alu { run: if flush { alu.flushed } else { alu.run }, x });
        if saturate {
            let run = lookup("sat.f32").expect("the table has it").run;
            self.emit(guard, Kind::Alu { run, x: Args { d, a: d, ..Args::default() } });
        }
        if let (Operand::Name(_), true) = (to, name == "mov.u64" || name == "mov.b64") {
            // A copy of a pointer is a pointer, as far as the check of arguments goes.
            self.copied(d, x.a);
        }
        Ok(())
    }

    fn compare(&mut self, i: &Instruction, rest: &[&str], guard: Guard) -> Result<(), Fault> {
        let (cmp, combine, ty) = match *rest {
            [cmp, ty] => (cmp, None, ty),
            [cmp, "and", ty] => (cmp, Some(Combine::And), ty),
            [cmp, "or", ty] => (cmp, Some(Combine::Or), ty),
            [cmp, "xor", ty] => (cmp, Some(Combine::Xor), ty),
            _ => return self.fail("comparison that is not known"),
        };
        let Some((run, file)) = comparison(cmp, ty) else { return self.fail("comparison that is not known") };
        let want = 3 + usize::from(combine.is_some());
        if i.operands.len() != want {
            return self.fail(format!("{} operands; want {want}", i.operands.len()));
        }
        let (d, not) = match &i.operands[0] {
            Operand::Pair(d, not) => (self.named(d, File::Pred)?, Some(self.named(not, File::Pred)?)),
            operand => (self.destination(operand, File::Pred)?, None),
        };
        let (a, b) = (self.source(&i.operands[1], file)?, self.source(&i.operands[2], file)?);
        let with = match combine {
            None => None,
            Some(combine) => Some(match &i.operands[3] {
                Operand::Not(name) => (combine, self.named(name, File::Pred)?, true),
                operand => (combine, self.source(operand, File::Pred)?, false),
            }),
        };
        self.plain(guard, Kind::Compare { run, a, b, d, not, with })
    }

    /// Address conversions add or subtract the start of the space's window.
    fn cvta(&mut self, i: &Instruction, rest: &[&str], guard: Guard) -> Result<(), Fault> {
        let (space, into) = match *rest {
            ["to", space, "u64"] => (space, false),
            [space, "u64"] => (space, true),
            _ => return self.fail("address conversion that is not known"),
        };
        let Some(start) = window(space) else {
            return self.fail(format!("state space `{space}` is not known"));
        };
        let [d, a] = self.operands::<2>(i)?;
        let (d, a) = (self.destination(d, File::Double)?, self.source(a, File::Double)?);
        if space == "global" {
            self.is_pointer(a);
        }
        let b = self.double(if into { start } else { start.wrapping_neg() })?;
        let run = lookup("add.u64").expect("the table has it").run;
        self.plain(guard, Kind::Alu { run, x: Args { d, a, b, c: 0 } })
    }

    /// `mov` between one register and a vector of narrower ones.
    fn pack(&mut self, i: &Instruction, ty: &str, guard: Guard) -> Result<(), Fault> {
        let [d, a] = self.operands::<2>(i)?;
        let (file, width) = match ty {
            "b64" => (File::Double, 64),
            "b32" => (File::Word, 32),
            _ => return self.fail("packing that is not known"),
        };
        let (wide, vector, packs) = match (d, a) {
            (Operand::Vector(v), wide) => (self.source(wide, file)?, v, false),
            (wide, Operand::Vector(v)) => (self.destination(wide, file)?, v, true),
            _ => return self.fail("packing that is not known"),
        };
        let bits = match (width, vector.len()) {
            (64, 2) => 32,
            (64, 4) | (32, 2) => 16,
            _ => return self.fail("packing that is not known"),
        };
        let mut narrow = [0; 4];
        for (slot, operand) in narrow.iter_mut().zip(vector) {
            *slot = if packs {
                self.source(operand, File::Word)?
            } else {
                self.destination(operand, File::Word)?
            };
        }
        let (wide, count) = ((file, wide), vector.len() as u8);
        self.plain(
            guard,
            if packs {
                Kind::Pack { wide, narrow, count, bits }
            } else {
                Kind::Unpack { wide, narrow, count, bits }
            },
        )
    }

    fn memory_type(&self, rest: &[&str]) -> Result<(Space, u8, u8, bool), Fault> {
        let Some((ty, modifiers)) = rest.split_last() else { return self.fail("access without a type") };
        let (mut space, mut count) = (Space::Generic, 1);
        for modifier in modifiers {
            match *modifier {
                "global" => space = Space::Global,
                "shared" | "shared::cta" => space = Space::Shared,
                "local" => space = Space::Local,
                "const" => space = Space::Const,
                "param" | "param::entry" | "param::func" => space = Space::Param,
                "v2" => count = 2,
                "v4" => count = 4,
                m if ORDERING.contains(&m) || m.starts_with("L1::") || m.starts_with("L2::") => {}
                m => return self.fail(format!("modifier `.{m}` is not known")),
            }
        }
        let Some(bytes) = super::syntax::type_bytes(ty) else {
            return self.fail(format!("type `.{ty}` is not known"));
        };
        if count as u64 * bytes > 16 {
            return self.fail("access of more than 16 bytes");
        }
        Ok((space, count, bytes as u8, ty.starts_with('s')))
    }

    fn access(
        &mut self,
        rest: &[&str],
        value: &Operand,
        address: &Operand,
        loads: bool,
    ) -> Result<Access, Fault> {
        let (space, count, bytes, signed) = self.memory_type(rest)?;
        let elements = match value {
            Operand::Vector(elements) if elements.len() == count as usize && count > 1 => elements.as_slice(),
            Operand::Vector(_) => return self.fail("vector length and register count differ"),
            element if count == 1 => std::slice::from_ref(element),
            _ => return self.fail("vector access of a single register"),
        };
        // Narrow values may sit in wider registers.
        let wide = bytes == 8 || self.file_of(&elements[0]) == Some(File::Double);
        let file = if wide { File::Double } else { File::Word };
        let (space, base, offset) = self.address(address, space)?;
        let mut regs = [0; 4];
        for (slot, element) in regs.iter_mut().zip(elements) {
            *slot = if loads { self.destination(element, file)? } else { self.source(element, file)? };
        }
        Ok(Access { space, bytes, signed, count, file, regs, base, offset })
    }

    fn load(&mut self, i: &Instruction, rest: &[&str], guard: Guard) -> Result<(), Fault> {
        let [value, address] = self.operands::<2>(i)?;
        let access = self.access(rest, value, address, true)?;
        if access.space == Space::Param && access.file == File::Double {
            let constant = self.kernel.double_constants.iter().find(|(slot, _)| *slot == access.base.1);
            let offset = constant.map_or(u64::MAX, |(_, at)| at.wrapping_add_signed(access.offset));
            self.loaded_from(access.regs[0], offset);
        }
        self.plain(guard, Kind::Load(access))
    }

    fn store(&mut self, i: &Instruction, rest: &[&str], guard: Guard) -> Result<(), Fault> {
        let [address, value] = self.operands::<2>(i)?;
        let access = self.access(rest, value, address, false)?;
        if matches!(access.space, Space::Const | Space::Param) {
            return self.fail("store to read-only memory");
        }
        self.plain(guard, Kind::Store(access))
    }

    fn atomic(&mut self, i: &Instruction, rest: &[&str], guard: Guard) -> Result<(), Fault> {
        let returns = i.name.starts_with("atom");
        let [modifiers @ .., op, ty] = rest else { return self.fail("atomic that is not known") };
        let (_, _, bytes, _) = self.memory_type(&[*ty])?;
        let class = match ty.as_bytes()[0] {
            b'f' => AtomicType::Float,
            b's' => AtomicType::Signed,
            _ => AtomicType::Unsigned,
        };
        let op = match (*op, class) {
            ("add", _) => Atomic::Add,
            ("exch", _) => Atomic::Exchange,
            ("cas", AtomicType::Unsigned) => Atomic::CompareAndSwap,
            ("min", AtomicType::Signed | AtomicType::Unsigned) => Atomic::Min,
            ("max", AtomicType::Signed | AtomicType::Unsigned) => Atomic::Max,
            ("and", AtomicType::Unsigned) => Atomic::And,
            ("or", AtomicType::Unsigned) => Atomic::Or,
            ("xor", AtomicType::Unsigned) => Atomic::Xor,
            ("inc", AtomicType::Unsigned) => Atomic::Increment,
            ("dec", AtomicType::Unsigned) => Atomic::Decrement,
            _ => return self.fail("atomic that is not known"),
        };
        if bytes < 4 || matches!(op, Atomic::Increment | Atomic::Decrement) && bytes != 4 {
            return self.fail("atomic that is not known");
        }
        let mut place: Vec<&str> = modifiers.to_vec();
        place.push(ty);
        let want = 2 + usize::from(returns) + usize::from(op == Atomic::CompareAndSwap);
        if i.operands.len() != want {
            return self.fail(format!("{} operands; want {want}", i.operands.len()));
        }
        let (result, sources) = i.operands.split_at(usize::from(returns));
        let access = self.access(&place, &sources[1], &sources[0], false)?;
        let d = match result {
            [d] => Some(self.destination(d, access.file)?),
            _ => None,
        };
        let c = match sources.get(2) {
            Some(c) => self.source(c, access.file)?,
            None => 0,
        };
        self.plain(guard, Kind::Atomic { access, op, ty: class, d, b: access.regs[0], c })
    }

    fn together(&mut self, guard: Guard, what: Together, mask: &Operand) -> Result<(), Fault> {
        let mask = self.source(mask, File::Word)?;
        self.plain(guard, Kind::Together { what, mask })
    }

    fn shuffle(&mut self, i: &Instruction, mode: &str, guard: Guard) -> Result<(), Fault> {
        let [d, a, b, c, mask] = self.operands::<5>(i)?;
        let mode = match mode {
            "up" => Shuffle::Up,
            "down" => Shuffle::Down,
            "bfly" => Shuffle::Butterfly,
            "idx" => Shuffle::Index,
            _ => return self.fail("shuffle that is not known"),
        };
        let (d, valid) = match d {
            Operand::Pair(d, p) => (self.named(d, File::Word)?, Some(self.named(p, File::Pred)?)),
            d => (self.destination(d, File::Word)?, None),
        };
        let a = self.source(a, File::Word)?;
        let (b, c) = (self.source(b, File::Word)?, self.source(c, File::Word)?);
        self.together(guard, Together::Shuffle { mode, d, valid, a, b, c }, mask)
    }

    fn vote(&mut self, i: &Instruction, mode: &str, guard: Guard) -> Result<(), Fault> {
        let [d, p, mask] = self.operands::<3>(i)?;
        let (mode, file) = match mode {
            "all" => (Vote::All, File::Pred),
            "any" => (Vote::Any, File::Pred),
            "uni" => (Vote::Uniform, File::Pred),
            "ballot" => (Vote::Ballot, File::Word),
            _ => return self.fail("vote that is not known"),
        };
        let d = self.destination(d, file)?;
        let (p, negated) = self.predicate(p)?;
        self.together(guard, Together::Vote { mode, d, p, negated }, mask)
    }

    fn predicate(&mut self, operand: &Operand) -> Result<(Slot, bool), Fault> {
        Ok(match operand {
            Operand::Not(name) => (self.named(name, File::Pred)?, true),
            operand => (self.source(operand, File::Pred)?, false),
        })
    }

    fn redux(&mut self, i: &Instruction, mode: &str, ty: &str, guard: Guard) -> Result<(), Fault> {
        let mode = match (mode, ty) {
            ("add", "u32" | "s32") => Reduce::Add,
            ("min", "u32") => Reduce::MinUnsigned,
            ("min", "s32") => Reduce::MinSigned,
            ("max", "u32") => Reduce::MaxUnsigned,
            ("max", "s32") => Reduce::MaxSigned,
            ("and", "b32") => Reduce::And,
            ("or", "b32") => Reduce::Or,
            ("xor", "b32") => Reduce::Xor,
            _ => return self.fail("reduction that is not known"),
        };
        let [d, a, mask] = self.operands::<3>(i)?;
        let (d, a) = (self.destination(d, File::Word)?, self.source(a, File::Word)?);
        self.together(guard, Together::Reduce { mode, d, a }, mask)
    }

    fn barrier(&mut self, i: &Instruction, rest: &[&str], guard: Guard) -> Result<(), Fault> {
        let rest = match rest {
            ["cta", rest @ ..] => rest,
            rest => rest,
        };
        let barrier = |lower: &mut Self, reduce, id: &Operand, d, p, negated| {
            let id = lower.source(id, File::Word)?;
            lower.plain(guard, Kind::Barrier { id, reduce, d, p, negated })
        };
        match *rest {
            ["sync"] | ["sync", "aligned"] => {
                let [id] = self.operands::<1>(i)?;
                barrier(self, BarrierReduce::None, id, 0, 0, false)
            }
            ["red", "popc", "u32"] | ["red", "popc", "aligned", "u32"] => {
                let [d, id, p] = self.operands::<3>(i)?;
                let (d, (p, negated)) = (self.destination(d, File::Word)?, self.predicate(p)?);
                barrier(self, BarrierReduce::Count, id, d, p, negated)
            }
            ["red", op @ ("and" | "or"), "pred"] | ["red", op @ ("and" | "or"), "aligned", "pred"] => {
                let [d, id, p] = self.operands::<3>(i)?;
                let (d, (p, negated)) = (self.destination(d, File::Pred)?, self.predicate(p)?);
                let reduce = if op == "and" { BarrierReduce::And } else { BarrierReduce::Or };
                barrier(self, reduce, id, d, p, negated)
            }
            _ => self.fail("barrier that is not known"),
        }
    }
}
