//! One warp: 32 lanes in lock step while they agree, each with a program counter of its own where they do not.
//!
//! Lanes that stand at the same instruction form a group and run it together. A branch that splits a group makes
//! two; groups that meet again at a label become one. Instructions that need several lanes (shuffles, votes,
//! barriers) park a group until the lanes that its mask names have arrived.

use super::lanes::{FULL, Lane, Regs, WARP, lanes, mask_of};
use super::program::{Combine, Kernel, Kind, Reduce, Shuffle, Special, Together, Vote};
use super::spaces::Spaces;
use super::{alu, memory_ops};
use crate::errors::{Fault, Site};

/// Why a group does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    /// Waits for the lanes of this mask.
    Together(u32),
    Barrier,
}

/// Lanes that stand at the same instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) pc: u32,
    pub(crate) mask: u32,
    pub(crate) state: State,
}

/// One warp of a block.
#[derive(Debug)]
pub(crate) struct Warp {
    pub(crate) number: u32,
    pub(crate) regs: Regs,
    pub(crate) local: Vec<u8>,
    pub(crate) groups: Vec<Group>,
    /// Lanes that exist: the last warp of a block may be short.
    pub(crate) exist: u32,
    pub(crate) exited: u32,
}

/// What all warps of a launch share, for messages and limits.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) dynamic: u64,
    pub(crate) seed: u64,
    pub(crate) limit: u64,
    /// Instructions so far, each lane counted.
    pub(crate) executed: u64,
}

impl Warp {
    pub(crate) fn new(run: &Run<'_>, number: u32, threads: u32, approx: super::float::Approx) -> Self {
        let kernel = run.kernel;
        let lanes = (threads - number * WARP as u32).min(WARP as u32);
        let exist = if lanes == 32 { FULL } else { (1 << lanes) - 1 };
        let mut regs = Regs {
            w: vec![[u32::MAX; WARP]; kernel.words],
            d: vec![[u64::MAX; WARP]; kernel.doubles],
            p: vec![0; kernel.preds],
            approx,
        };
        for &(slot, value) in &kernel.word_constants {
            regs.w[slot as usize] = [value; WARP];
        }
        for &(slot, value) in &kernel.double_constants {
            regs.d[slot as usize] = [value; WARP];
        }
        for &(slot, value) in &kernel.pred_constants {
            regs.p[slot as usize] = if value { FULL } else { 0 };
        }
        let local = vec![0xff; kernel.local_bytes as usize * WARP];
        Self { number, regs, local, groups: Vec::new(), exist, exited: 0 }
    }

    /// Ready to run block `index` from the start.
    pub(crate) fn reset(&mut self, run: &Run<'_>, index: [u32; 3]) {
        self.groups.clear();
        self.groups.push(Group { pc: 0, mask: self.exist, state: State::Ready });
        self.exited = 0;
        self.local.fill(0xff);
        let threads = run.block.iter().product::<u32>();
        for &(slot, special) in &run.kernel.specials {
            self.regs.w[slot as usize] = std::array::from_fn(|lane| {
                let l = lane as u32;
                match special {
                    Special::Thread(axis) => self.thread(run, lane)[axis as usize],
                    Special::Block(axis) => index[axis as usize],
                    Special::BlockSize(axis) => run.block[axis as usize],
                    Special::GridSize(axis) => run.grid[axis as usize],
                    Special::Lane => l,
                    Special::Warp => self.number,
                    Special::Warps => threads.div_ceil(WARP as u32),
                    Special::MaskEq => 1 << l,
                    Special::MaskLt => (1 << l) - 1,
                    Special::MaskLe => FULL >> (31 - l),
                    Special::MaskGt => !(FULL >> (31 - l)),
                    Special::MaskGe => FULL << l,
                    Special::DynamicShared => run.dynamic as u32,
                }
            });
        }
    }

    fn thread(&self, run: &Run<'_>, lane: usize) -> [u32; 3] {
        let flat = self.number * WARP as u32 + lane as u32;
        let [x, y, _] = run.block;
        [flat % x, flat / x % y, flat / x / y]
    }

    pub(crate) fn site(&self, run: &Run<'_>, index: [u32; 3], pc: u32, mask: u32) -> Site {
        let lane = mask.trailing_zeros().min(31) as usize;
        Site {
            kernel: run.kernel.name.clone(),
            block: index,
            thread: self.thread(run, lane),
            line: run.kernel.code[pc as usize].line,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.exited == self.exist
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.groups.iter().any(|g| g.state == State::Ready)
    }

    /// Takes the group to run next: the one furthest behind, so that the others are met again; with a seed, at times
    /// any other. Ready groups at the same place join it.
    fn choose(&mut self, run: &Run<'_>) -> Option<Group> {
        let ready = |g: &&Group| g.state == State::Ready;
        let pc = if run.seed != 0 && self.groups.len() > 1 {
            let some: Vec<u32> = self.groups.iter().filter(ready).map(|g| g.pc).collect();
            let draw = super::float::mix(run.seed ^ run.executed) as usize;
            match some.len() {
                0 => return None,
                n if draw.is_multiple_of(3) => some[draw / 3 % n],
                _ => *some.iter().min()?,
            }
        } else {
            self.groups.iter().filter(ready).map(|g| g.pc).min()?
        };
        let mut mask = 0;
        self.groups.retain(|g| {
            let joins = g.state == State::Ready && g.pc == pc;
            mask |= if joins { g.mask } else { 0 };
            !joins
        });
        Some(Group { pc, mask, state: State::Ready })
    }

    /// Runs until nothing is ready or about `quantum` instructions have passed.
    pub(crate) fn advance(
        &mut self,
        run: &mut Run<'_>,
        spaces: &mut Spaces<'_>,
        index: [u32; 3],
        mut quantum: u64,
    ) -> Result<(), Fault> {
        let kernel = run.kernel;
        // A divergent warp whose group furthest behind spins would starve the others: rotate now and then.
        while let Some(mut group) = self.choose(run) {
            loop {
                let op = &kernel.code[group.pc as usize];
                let active = match op.guard {
                    None => group.mask,
                    Some((p, negated)) => {
                        let p = self.regs.p[p as usize];
                        group.mask & if negated { !p } else { p }
                    }
                };
                run.executed += u64::from(group.mask.count_ones());
                if run.executed > run.limit {
                    return Err(Fault::Endless { kernel: kernel.name.clone(), limit: run.limit });
                }
                let r = &mut self.regs;
                match &op.kind {
                    Kind::Alu { run, x } => run(r, x, active),
                    Kind::Convert { how, x } => how.run(r, x, active),
                    Kind::Compare { run, a, b, d, not, with } => {
                        let holds = run(r, *a, *b);
                        let merge = |holds: u32| match with {
                            None => holds,
                            Some((combine, p, negated)) => {
                                let p = r.p[*p as usize] ^ if *negated { FULL } else { 0 };
                                match combine {
                                    Combine::And => holds & p,
                                    Combine::Or => holds | p,
                                    Combine::Xor => holds ^ p,
                                }
                            }
                        };
                        let (yes, no) = (merge(holds), merge(!holds));
                        put(&mut r.p[*d as usize], yes, active);
                        if let Some(not) = not {
                            put(&mut r.p[*not as usize], no, active);
                        }
                    }
                    Kind::Lop3 { x, table } => {
                        let [a, b, c] = [x.a, x.b, x.c].map(|slot| u32::read(r, slot));
                        let value = std::array::from_fn(|l| alu::lop3(a[l], b[l], c[l], *table));
                        u32::write(r, x.d, &value, active);
                    }
                    Kind::Insert { .. } | Kind::Pack { .. } | Kind::Unpack { .. } => {
                        memory_ops::rearrange(r, &op.kind, active);
                    }
                    Kind::Load(_) | Kind::Store(_) | Kind::Atomic { .. } if active != 0 => {
                        memory_ops::access(self, run, spaces, index, group.pc, active)?;
                    }
                    Kind::Load(_) | Kind::Store(_) | Kind::Atomic { .. } | Kind::Nothing => {}
                    Kind::ActiveMask { d } => u32::write(r, *d, &[active; WARP], active),
                    Kind::Join => {
                        run.executed -= u64::from(group.mask.count_ones());
                        if !self.groups.is_empty() || quantum == 0 {
                            group.pc += 1;
                            self.groups.push(group);
                            break;
                        }
                    }
                    Kind::Branch { target } => {
                        let rest = group.mask & !active;
                        if rest == 0 {
                            group.pc = *target;
                            continue;
                        }
                        if active != 0 {
                            self.groups.push(Group { pc: *target, mask: active, state: State::Ready });
                            self.groups.push(Group { pc: group.pc + 1, mask: rest, state: State::Ready });
                            break;
                        }
                    }
                    Kind::BranchTable { index: slot, targets } => {
                        let wanted = r.w[*slot as usize];
                        for lane in lanes(active) {
                            let Some(&pc) = targets.get(wanted[lane] as usize) else {
                                return Err(Fault::Trap { site: self.site(run, index, group.pc, 1 << lane) });
                            };
                            self.groups.push(Group { pc, mask: 1 << lane, state: State::Ready });
                        }
                        self.skip(group, active);
                        break;
                    }
                    Kind::Together { .. } if active == 0 => {}
                    Kind::Together { what, mask } => {
                        let named = self.regs.w[*mask as usize];
                        let first = named[active.trailing_zeros() as usize];
                        if active == group.mask && active == first && lanes(active).all(|l| named[l] == first)
                        {
                            self.together(run, index, group.pc, what, active)?;
                        } else {
                            self.meet(run, index, group, active, what, &named)?;
                            break;
                        }
                    }
                    Kind::Barrier { .. } if active == 0 => {}
                    Kind::Barrier { .. } => {
                        self.groups.push(Group { pc: group.pc, mask: active, state: State::Barrier });
                        self.skip(group, active);
                        break;
                    }
                    Kind::Exit => {
                        self.exited |= active;
                        self.skip(group, active);
                        break;
                    }
                    Kind::Trap if active == 0 => {}
                    Kind::Trap => return Err(Fault::Trap { site: self.site(run, index, group.pc, active) }),
                }
                group.pc += 1;
                quantum = quantum.saturating_sub(1);
                if quantum == 0 && run.seed != 0 {
                    self.groups.push(group);
                    break;
                }
            }
            if quantum == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Lanes of the group that did not take part go on behind the instruction.
    fn skip(&mut self, group: Group, taken: u32) {
        let mask = group.mask & !taken;
        if mask != 0 {
            self.groups.push(Group { pc: group.pc + 1, mask, state: State::Ready });
        }
    }

    /// Parks the lanes at a convergence instruction, and runs it for each mask whose lanes are all there.
    fn meet(
        &mut self,
        run: &Run<'_>,
        index: [u32; 3],
        group: Group,
        active: u32,
        what: &Together,
        named: &[u32; WARP],
    ) -> Result<(), Fault> {
        self.skip(group, active);
        let mut left = active;
        while left != 0 {
            let first = left.trailing_zeros() as usize;
            let wanted = named[first];
            let same = left & mask_of(|l| named[l] == wanted);
            left &= !same;
            let fault = |site, what: String, op: &Together| {
                Err(Fault::Mask { site, op: op.name(), mask: wanted, what })
            };
            let strangers = same & !wanted;
            if strangers != 0 {
                let lane = strangers.trailing_zeros();
                let site = self.site(run, index, group.pc, strangers);
                return fault(site, format!("lane {lane} executes it but is not named"), what);
            }
            let missing = wanted & (self.exited | !self.exist);
            if missing != 0 {
                let lane = missing.trailing_zeros();
                let why = if self.exist >> lane & 1 == 0 { "does not exist" } else { "has exited" };
                let site = self.site(run, index, group.pc, same);
                return fault(site, format!("lane {lane} is named but {why}"), what);
            }
            let parked = State::Together(wanted);
            let mut mask = same;
            self.groups.retain(|g| {
                let joins = g.pc == group.pc && g.state == parked;
                mask |= if joins { g.mask } else { 0 };
                !joins
            });
            if mask == wanted {
                self.together(run, index, group.pc, what, mask)?;
                self.groups.push(Group { pc: group.pc + 1, mask, state: State::Ready });
            } else {
                self.groups.push(Group { pc: group.pc, mask, state: parked });
            }
        }
        Ok(())
    }

    /// Runs a convergence instruction for exactly the lanes of `mask`.
    fn together(
        &mut self,
        run: &Run<'_>,
        index: [u32; 3],
        pc: u32,
        what: &Together,
        mask: u32,
    ) -> Result<(), Fault> {
        let r = &mut self.regs;
        match *what {
            Together::Sync => {}
            Together::Shuffle { mode, d, valid, a, b, c } => {
                let (value, b, c) = (r.w[a as usize], r.w[b as usize], r.w[c as usize]);
                let (mut result, mut inside) = (value, 0u32);
                for lane in lanes(mask) {
                    let (from, ok) = source(mode, lane as i32, b[lane], c[lane]);
                    if mask >> from & 1 == 0 {
                        let site = self.site(run, index, pc, 1 << lane);
                        return Err(Fault::ShuffleSource { site, lane: from, mask });
                    }
                    result[lane] = value[from as usize];
                    inside |= u32::from(ok) << lane;
                }
                u32::write(r, d, &result, mask);
                if let Some(valid) = valid {
                    put(&mut r.p[valid as usize], inside, mask);
                }
            }
            Together::Vote { mode, d, p, negated } => {
                let votes = mask & (r.p[p as usize] ^ if negated { FULL } else { 0 });
                let yes = match mode {
                    Vote::Ballot => {
                        u32::write(r, d, &[votes; WARP], mask);
                        return Ok(());
                    }
                    Vote::All => votes == mask,
                    Vote::Any => votes != 0,
                    Vote::Uniform => votes == mask || votes == 0,
                };
                put(&mut r.p[d as usize], if yes { FULL } else { 0 }, mask);
            }
            Together::Reduce { mode, d, a } => {
                let value = r.w[a as usize];
                let of = |f: fn(u32, u32) -> u32| lanes(mask).map(|l| value[l]).reduce(f).unwrap_or(0);
                let result = match mode {
                    Reduce::Add => of(u32::wrapping_add),
                    Reduce::MinUnsigned => of(u32::min),
                    Reduce::MaxUnsigned => of(u32::max),
                    Reduce::MinSigned => of(|a, b| (a as i32).min(b as i32) as u32),
                    Reduce::MaxSigned => of(|a, b| (a as i32).max(b as i32) as u32),
                    Reduce::And => of(|a, b| a & b),
                    Reduce::Or => of(|a, b| a | b),
                    Reduce::Xor => of(|a, b| a ^ b),
                };
                u32::write(r, d, &[result; WARP], mask);
            }
            Together::MatchAny { d, a, file } => {
                let value: [u64; WARP] = match file {
                    super::lanes::File::Double => r.d[a as usize],
                    _ => r.w[a as usize].map(u64::from),
                };
                let same: [u32; WARP] =
                    std::array::from_fn(|lane| mask & mask_of(|other| value[other] == value[lane]));
                u32::write(r, d, &same, mask);
            }
        }
        Ok(())
    }
}

/// Writes the bits of a predicate that `mask` names.
pub(crate) fn put(into: &mut u32, value: u32, mask: u32) {
    *into = *into & !mask | value & mask;
}

/// Lane that a shuffle reads, and whether it lies in the segment; if not, a lane reads itself.
///
/// As the PTX manual defines it: the low five bits of `c` clamp, bits 8 to 12 cut the warp into segments.
fn source(mode: Shuffle, lane: i32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = ((b & 31) as i32, (c & 31) as i32, (c >> 8 & 31) as i32);
    let highest = (lane & segment) | (clamp & !segment);
    let lowest = lane & segment;
    let (from, inside) = match mode {
        Shuffle::Up => (lane - b, lane - b >= highest),
        Shuffle::Down => (lane + b, lane + b <= highest),
        Shuffle::Butterfly => (lane ^ b, (lane ^ b) <= highest),
        Shuffle::Index => (lowest | (b & !segment), (lowest | (b & !segment)) <= highest),
    };
    (if inside { from } else { lane } as u32, inside)
}
