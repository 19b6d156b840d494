//! A launch: blocks one after the other, the warps of a block in turns, barriers between them.

use super::float::{Approx, mix};
use super::lanes::lanes;
use super::program::{BarrierReduce, Kernel, Kind};
use super::spaces::{Shared, Spaces};
use super::warp::{Group, Run, State, Warp, put};
use crate::errors::Fault;
use crate::memory::Memory;

/// Most threads of a block, on every device so far.
pub const MAX_THREADS: u64 = 1024;

/// How kernels are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Order of blocks, warps and lanes; 0 is the natural one.
    pub seed: u64,
    /// How approximate instructions err.
    pub approx: Approx,
    /// Most instructions of a launch, each lane counted.
    pub max_instructions: u64,
    /// Most shared memory of a block, in bytes.
    pub max_shared: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { seed: 0, approx: Approx::default(), max_instructions: 20_000_000_000, max_shared: 48 << 10 }
    }
}

/// One launch.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// What to run.
    pub kernel: &'a Kernel,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub dynamic: u64,
    /// The parameter buffer, laid out as [`Kernel::params`] say.
    pub params: &'a [u8],
}

impl Launch<'_> {
    /// Checks the launch against the limits of the device and of the kernel, and its pointers against `memory`.
    ///
    /// # Errors
    /// [`Fault::Limit`], [`Fault::ArgumentCount`] for a parameter buffer of the wrong size, [`Fault::ArgumentPointer`].
    pub fn check(&self, memory: &Memory, rules: &Rules) -> Result<(), Fault> {
        let kernel = self.kernel;
        let limit = |what, got: u64, limit: u64, least: u64| {
            if got < least || got > limit {
                Err(Fault::Limit { kernel: kernel.name.clone(), what, got, limit })
            } else {
                Ok(())
            }
        };
        let [gx, gy, gz] = self.grid.map(u64::from);
        let [bx, by, bz] = self.block.map(u64::from);
        limit("grid x", gx, 0x7fff_ffff, 1)?;
        limit("grid y", gy, 65535, 1)?;
        limit("grid z", gz, 65535, 1)?;
        limit("block x", bx, MAX_THREADS, 1)?;
        limit("block y", by, MAX_THREADS, 1)?;
        limit("block z", bz, 64, 1)?;
        limit(
            "threads per block",
            bx * by * bz,
            kernel.max_threads.unwrap_or(MAX_THREADS).min(MAX_THREADS),
            1,
        )?;
        if let Some(required) = kernel.required {
            for ((what, got), want) in
                [("block x", bx), ("block y", by), ("block z", bz)].into_iter().zip(required)
            {
                limit(what, got, want, want)?;
            }
        }
        limit("shared memory in bytes", kernel.shared_bytes + self.dynamic, rules.max_shared, 0)?;
        if self.params.len() != kernel.param_bytes {
            return Err(Fault::ArgumentCount {
                kernel: kernel.name.clone(),
                want: kernel.param_bytes,
                got: self.params.len(),
            });
        }
        for (index, param) in kernel.params.iter().enumerate().filter(|(_, p)| p.is_pointer) {
            let bytes = self.params[param.offset..param.offset + 8].try_into().unwrap_or([0; 8]);
            let address = u64::from_le_bytes(bytes);
            if address != 0 && !memory.is_pointer(address) {
                let blame = memory.blame(address, 1);
                return Err(Fault::ArgumentPointer { kernel: kernel.name.clone(), index, address, blame });
            }
        }
        Ok(())
    }

    /// Checks and runs the launch; returns the instructions executed, each lane counted.
    ///
    /// # Errors
    /// As [`Launch::check`], and whatever the kernel does wrong.
    pub fn run(&self, memory: &mut Memory, rules: &Rules) -> Result<u64, Fault> {
        self.check(memory, rules)?;
        let kernel = self.kernel;
        let threads = self.block.iter().product::<u32>();
        let mut variables = kernel.shared_variables.clone();
        if self.dynamic > 0 {
            variables.push((kernel.dynamic_at, kernel.dynamic_at + self.dynamic));
        }
        let mut spaces = Spaces::new(memory, Shared::new(&variables), self.params, kernel.code.len());
        let mut run = Run {
            kernel,
            grid: self.grid,
            block: self.block,
            dynamic: self.dynamic,
            seed: rules.seed,
            limit: rules.max_instructions,
            executed: 0,
        };
        let mut warps: Vec<Warp> =
            (0..threads.div_ceil(32)).map(|number| Warp::new(&run, number, threads, rules.approx)).collect();
        let blocks = self.grid.iter().map(|&n| u64::from(n)).product();
        for turn in 0..blocks {
            let flat = permuted(turn, blocks, rules.seed);
            let (x, y) = (u64::from(self.grid[0]), u64::from(self.grid[1]));
            let index = [(flat % x) as u32, (flat / x % y) as u32, (flat / x / y) as u32];
            spaces.shared.reset();
            block(&mut run, &mut spaces, &mut warps, index)?;
        }
        Ok(run.executed)
    }
}

/// A permutation of `0..n`: the identity for seed 0, else a Feistel network over the next power of four, walked until
/// it lands inside.
fn permuted(i: u64, n: u64, seed: u64) -> u64 {
    if seed == 0 || n < 2 {
        return i;
    }
    let half = (64 - (n - 1).leading_zeros()).div_ceil(2);
    let low = (1u64 << half) - 1;
    let mut at = i;
    loop {
        for round in 0..4 {
            let (left, right) = (at >> half, at & low);
            at = right << half | (left ^ mix(right ^ seed.wrapping_add(round << 48)) & low);
        }
        if at < n {
            return at;
        }
    }
}

/// Runs one block to its end.
fn block(
    run: &mut Run<'_>,
    spaces: &mut Spaces<'_>,
    warps: &mut [Warp],
    index: [u32; 3],
) -> Result<(), Fault> {
    for warp in warps.iter_mut() {
        warp.reset(run, index);
    }
    let count = warps.len() as u64;
    loop {
        let round = run.seed ^ mix(run.executed);
        for turn in 0..count {
            let (chosen, quantum) = match run.seed {
                0 => (turn, 1 << 20),
                _ => (permuted(turn, count, round | 1), 1 + mix(round ^ turn) % 200),
            };
            warps[chosen as usize].advance(run, spaces, index, quantum)?;
        }
        if warps.iter().any(Warp::is_ready) {
            continue;
        }
        if warps.iter().all(Warp::is_done) {
            return Ok(());
        }
        release(run, warps, index)?;
        spaces.shared.barrier();
    }
}

/// Nothing is ready: either every thread waits at the same barrier, or the block is stuck.
fn release(run: &Run<'_>, warps: &mut [Warp], index: [u32; 3]) -> Result<(), Fault> {
    for warp in warps.iter() {
        for group in &warp.groups {
            let State::Together(mask) = group.state else { continue };
            let lane = (mask & !group.mask).trailing_zeros();
            let why =
                if warp.exited >> lane & 1 != 0 { "has exited" } else { "waits elsewhere and never comes" };
            let op = match &run.kernel.code[group.pc as usize].kind {
                Kind::Together { what, .. } => what.name(),
                _ => "warp-wide instruction",
            };
            let site = warp.site(run, index, group.pc, group.mask);
            return Err(Fault::Mask { site, op, mask, what: format!("lane {lane} is named but {why}") });
        }
    }
    let waiting: Vec<(usize, Group)> =
        warps.iter().enumerate().flat_map(|(w, warp)| warp.groups.iter().map(move |&g| (w, g))).collect();
    let (first_warp, first) = waiting[0];
    let threads: u32 = warps.iter().map(|w| w.exist.count_ones()).sum();
    let here: u32 = waiting.iter().filter(|(_, g)| g.pc == first.pc).map(|(_, g)| g.mask.count_ones()).sum();
    if here != threads {
        let exited: u32 = warps.iter().map(|w| w.exited.count_ones()).sum();
        let elsewhere = threads - here - exited;
        return Err(Fault::Barrier {
            site: warps[first_warp].site(run, index, first.pc, first.mask),
            waiting: here,
            threads,
            others: format!("{exited} have exited, {elsewhere} wait at another barrier"),
        });
    }
    let Kind::Barrier { id, reduce, d, p, negated } = run.kernel.code[first.pc as usize].kind else {
        return Ok(());
    };
    let number = warps[first_warp].regs.w[id as usize][first.mask.trailing_zeros() as usize];
    let mut votes = 0;
    for warp in warps.iter() {
        if let Some(lane) = lanes(warp.exist).find(|&l| warp.regs.w[id as usize][l] != number) {
            return Err(Fault::Barrier {
                site: warp.site(run, index, first.pc, 1 << lane),
                waiting: threads,
                threads,
                others: "they name different barriers".to_string(),
            });
        }
        if reduce != BarrierReduce::None {
            let yes = warp.regs.p[p as usize] ^ if negated { u32::MAX } else { 0 };
            votes += (yes & warp.exist).count_ones();
        }
    }
    for warp in warps.iter_mut() {
        match reduce {
            BarrierReduce::None => {}
            BarrierReduce::Count => warp.regs.w[d as usize] = [votes; 32],
            BarrierReduce::And | BarrierReduce::Or => {
                let yes = if reduce == BarrierReduce::And { votes == threads } else { votes > 0 };
                let exist = warp.exist;
                put(&mut warp.regs.p[d as usize], if yes { u32::MAX } else { 0 }, exist);
            }
        }
        warp.groups = vec![Group { pc: first.pc + 1, mask: warp.exist, state: State::Ready }];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_hit_every_block_once() {
        for n in [1, 2, 3, 31, 64, 1000, 4099] {
            for seed in [0, 1, 2, 77] {
                let mut seen: Vec<u64> = (0..n).map(|i| permuted(i, n, seed)).collect();
                assert!(
                    seed == 0 || n < 31 || seen.windows(2).any(|w| w[1] < w[0]),
                    "{n} {seed} is not in order"
                );
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..n), "n {n}, seed {seed}");
            }
        }
    }
}
