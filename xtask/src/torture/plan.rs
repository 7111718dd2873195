//! Where to stop an operation: found by stepping through it once.
//!
//! After each instruction the ring's file is compared with what it was before, as are the names in
//! its directory and its locks after each system call, which alone can change those.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;

use anyhow::Result;

use super::bench::Bench;
use super::operations::{Found, Operation, Points};
use super::trial::{Variant, set_out};
use super::victim::{Victim, Way};

/// The number of futex(2).
const FUTEX: u64 = 202;

/// The points of one operation.
#[derive(Debug)]
pub(super) struct Plan {
    /// Instructions of the operation.
    pub(super) instructions: u64,
    /// Numbers of instructions after which to stop.
    pub(super) points: Vec<u64>,
    /// How one victim went.
    pub(super) way: Way,
    /// The number of the instruction after which the victim is about to sleep.
    pub(super) sleep: Option<u64>,
}

/// Stands for the end of the operation, however many instructions it takes.
pub(super) const END: u64 = u64::MAX;

/// Stands for the time while the victim is asleep.
pub(super) const ASLEEP: u64 = u64::MAX - 1;

/// Instructions of interest after a sleep: the next attempt, and more.
const AFTER_SLEEP: u64 = 400;

/// Instructions of a few looks at the ring.
const FEW_LOOKS: u64 = 700;

/// Instructions of at most this many are worth a trial each, if they are those of the protocol.
const WINDOW: u64 = 4000;

/// Steps through the operation.
pub(super) fn plan(
    bench: &Bench,
    operation: &Operation,
    variant: Variant,
    seed: u64,
    sample: usize,
) -> Result<Plan> {
    let mut ready = set_out(bench, operation, variant)?;
    let is_watched = operation.points != Points::All;
    let mut sleep = None;
    let mut watch = Watch::default();
    watch.look(bench, &ready.victim)?;
    let (mut way, mut changes) = (Way::default(), Vec::new());
    way.places.push(ready.victim.place()?);
    while !ready.victim.is_done() {
        let number = ready.victim.system_call()?;
        let is_call = number.is_some();
        if operation.points == Points::Sleep && number == Some(FUTEX) {
            sleep = sleep.or(Some(ready.victim.steps));
        }
        ready.victim.step()?;
        way.places.push(ready.victim.place()?);
        if is_call {
            way.calls.push(ready.victim.steps);
        }
        if is_watched && watch.has_changed(bench, &ready.victim, is_call)? {
            changes.push(ready.victim.steps);
        }
        if sleep.is_some_and(|sleep| ready.victim.steps > sleep + AFTER_SLEEP) {
            break;
        }
    }
    if let Some(sleep) = sleep {
        // The looks before a sleep are all alike: the first ones and the last ones will do.
        let is_apart = |at: &u64| *at < FEW_LOOKS || *at + FEW_LOOKS > sleep;
        changes.retain(is_apart);
    }
    let instructions = ready.victim.steps;
    ready.victim.kill()?;
    let mut points: BTreeSet<u64> = match operation.points {
        Points::All => (0..=instructions).collect(),
        Points::Changes | Points::Sleep => chosen(instructions, &way.calls, &changes, seed, sample),
    };
    points.insert(if sleep.is_some() { ASLEEP } else { END });
    Ok(Plan {
        instructions,
        points: points.into_iter().collect(),
        way,
        sleep,
    })
}

fn chosen(
    instructions: u64,
    calls: &[u64],
    changes: &[u64],
    seed: u64,
    sample: usize,
) -> BTreeSet<u64> {
    let mut points: BTreeSet<u64> = [0].into();
    for around in calls.iter().chain(changes) {
        points.extend([around - 1, *around, around + 1]);
    }
    // From the first change to the last: where those are close together, all of it.
    for cluster in changes.chunk_by(|before, after| after - before < 500) {
        let (first, last) = (cluster[0], cluster[cluster.len() - 1]);
        if last - first <= WINDOW {
            points.extend(first..=last);
        }
    }
    let mut random = Random(seed);
    points.extend((0..sample).map(|_| random.below(instructions.max(1))));
    points
}

/// splitmix64: a few lines that give the same numbers everywhere.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What the operation can be seen to change.
#[derive(Debug, Default)]
struct Watch {
    /// The ring's file, also while it has no name.
    file: Option<File>,
    bytes: Vec<u8>,
    names: Vec<String>,
    locks: Vec<bool>,
}

impl Watch {
    fn look(&mut self, bench: &Bench, victim: &Victim) -> Result<()> {
        self.file = bench.find_ring(victim.pid());
        self.names = bench.names()?;
        self.locks = self.read_locks();
        self.bytes = self.read()?;
        Ok(())
    }

    fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Some(file) = &self.file {
            use std::io::Seek as _;
            let mut file = file;
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    fn read_locks(&self) -> Vec<bool> {
        const ROWS: u16 = 6;
        let Some(file) = &self.file else {
            return Vec::new();
        };
        let locked = |row| super::image::is_locked(file, row).unwrap_or(false);
        (1..=ROWS).map(locked).collect()
    }

    fn has_changed(&mut self, bench: &Bench, victim: &Victim, is_call: bool) -> Result<bool> {
        let mut changed = false;
        if is_call {
            let (names, locks) = (self.names.clone(), self.locks.clone());
            if self.file.is_none() {
                self.file = bench.find_ring(victim.pid());
            }
            self.names = bench.names()?;
            self.locks = self.read_locks();
            changed = names != self.names || locks != self.locks;
        }
        let bytes = self.read()?;
        changed |= bytes != self.bytes;
        self.bytes = bytes;
        Ok(changed)
    }
}

/// Whether the operation makes the ring's file.
pub(super) fn is_birth(operation: &Operation) -> bool {
    operation.found == Found::Missing
}
