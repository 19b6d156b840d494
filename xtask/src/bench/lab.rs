//! What every row works with: machine, peers, our programs, inputs; and how the sides take turns.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Options;
use super::inputs::Inputs;
use super::machine::Machine;
use super::ours::Ours;
use super::peers::Peers;
use crate::shell;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Times that every side has its turn.
    pub(super) rounds: u64,
    /// Measured steps or repetitions in a turn.
    pub(super) repeat: u64,
    /// Threads of both sides.
    pub(super) threads: u64,
    /// Whether TRL takes part.
    pub(super) trl: bool,
}

impl Plan {
    fn of(options: &Options, cores: usize) -> Self {
        let total = options.repeat.unwrap_or(if options.quick { 2 } else { 10 });
        let rounds = if options.quick || total == 1 { 1 } else { 2 };
        let threads = options.threads.unwrap_or(cores as u64);
        Self { rounds, repeat: total.div_ceil(rounds), threads, trl: !options.quick }
    }
}

/// Everything a row needs.
#[derive(Debug)]
pub(super) struct Lab {
    pub(super) machine: Machine,
    pub(super) plan: Plan,
    pub(super) peers: Peers,
    pub(super) ours: Ours,
    pub(super) inputs: Inputs,
    /// Where inputs, outputs and (by default) the table lie.
    pub(super) folder: PathBuf,
}

impl Lab {
    /// Builds our programs and sees to the peers' environment.
    ///
    /// # Errors
    /// Names what is missing, and the remedy.
    pub(super) fn open(options: &Options) -> Result<Self> {
        let machine = Machine::detect();
        let plan = Plan::of(options, machine.cores);
        let folder = shell::target().join("bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let venv = match &options.venv {
            Some(venv) => std::env::current_dir()?.join(venv),
            None => shell::target().join("peers-venv"),
        };
        let peers = Peers::open(&venv, &folder, &machine, plan.threads)?;
        let ours = Ours::build(&folder, plan.threads)?;
        let inputs = Inputs::new(folder.join("inputs"));
        Ok(Self { machine, plan, peers, ours, inputs, folder })
    }

    /// Gives every side its turn, round after round: A B C A B C ... Answers what each side measured.
    ///
    /// # Errors
    /// Names the side that failed.
    pub(super) fn in_turn<T>(&self, sides: &[(&str, Turn<'_, T>)]) -> Result<Vec<Vec<T>>> {
        let mut measured: Vec<Vec<T>> = sides.iter().map(|_| Vec::new()).collect();
        for round in 1..=self.plan.rounds {
            for ((name, turn), measured) in sides.iter().zip(&mut measured) {
                shell::say(&format!("bench:   {name}, round {round} of {}", self.plan.rounds));
                measured.push(turn().with_context(|| name.to_string())?);
            }
        }
        Ok(measured)
    }
}

/// One turn of one side.
pub(super) type Turn<'a, T> = Box<dyn Fn() -> Result<T> + 'a>;
