//! The workers of the chaos as the director sees them: seats that are filled again and again.
//!
//! Workers are forked from the director, which starts no threads and is attached to nothing. They
//! are reaped by it, and the forked children of dead ones as well.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulus::segment::{ClaimInfo, ParticipantInfo, RowState, Snapshot};
use nix::unistd::ForkResult;

use super::super::log::{Log, Step, Word};
use super::super::system::{self, now_ns};
use super::blows::{Blow, Side};
use super::consumers::ENTRIES;
use super::waits::{Board, unfinished_ns};
use super::worker::{ARRIVED, Post, log_path, work};

/// How long the kernel may take to fork, to execute, or to take a process apart, before others are
/// excused for waiting. On a crowded machine it can be a second.
const SLOW: Duration = Duration::from_millis(50);

/// A thread of a worker, from its beginning to its end; a panic does not end it.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) log: Log,
    path: PathBuf,
}

impl Life {
    pub(super) fn new(ring: &Path, side: Side, number: u64) -> Self {
        let path = log_path(ring, number);
        let entries = match side {
            Side::Producer => 0,
            Side::Consumer => ENTRIES,
        };
        let log = Log::create(&path, entries);
        Self { number, log, path }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.path);
    }
}

/// A blow that is on its way.
#[derive(Debug)]
pub(super) struct Aim {
    pub(super) blow: Blow,
    /// Which of the worker's threads it is to hit.
    pub(super) thread: usize,
    /// When it is given up.
    pub(super) until: Instant,
    /// How many blows that thread has dealt itself before.
    pub(super) dealt: u64,
    /// What the worker becomes if it executes this binary.
    pub(super) image: Option<Life>,
}

impl Aim {
    /// Whether the worker has become what it was to become.
    pub(super) fn has_arrived(&self) -> bool {
        let image = self.image.as_ref();
        image.is_some_and(|image| image.log.get(Word::Answer) == ARRIVED)
    }
}

/// A worker that stands still.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) aim: Aim,
    pub(super) since_ns: u64,
    pub(super) excused_ns: u64,
    pub(super) until: Instant,
    /// What is its own, of which nobody may take anything.
    pub(super) own: Belongings,
    /// Whether others cannot go on for its sake.
    pub(super) obstructs: bool,
    /// Rows of dead ones, by number and lives, of which it may hold the lock to mend them.
    pub(super) suspects: Vec<(u16, u64)>,
}

/// What the ring says is a worker's own: rows, by number and lives, and claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Belongings {
    pub(super) rows: Vec<(u16, u64)>,
    pub(super) claims: Vec<ClaimInfo>,
}

#[derive(Debug)]
pub(super) enum State {
    AtLarge,
    Aimed(Aim),
    Stopped(Box<Stop>),
    /// SIGKILL is on its way.
    Dying {
        stood_still: bool,
        since: Instant,
    },
    /// Nobody has this seat any more: the round comes to its end.
    Empty,
}

#[derive(Debug)]
pub(super) struct Seat {
    pub(super) side: Side,
    /// How many threads its workers have.
    pub(super) threads: usize,
    pub(super) pid: u32,
    pub(super) lives: Vec<Life>,
    pub(super) state: State,
    births: u64,
}

impl Seat {
    pub(super) fn new(side: Side, threads: usize) -> Self {
        Self {
            side,
            threads,
            pid: 0,
            lives: Vec::new(),
            state: State::Empty,
            births: 0,
        }
    }

    /// Forks a worker whose threads have the numbers from `number` on.
    pub(super) fn fill(&mut self, ring: &Path, board: &Board, seed: u64, number: u64) {
        self.births += 1;
        self.lives = (number..)
            .take(self.threads)
            .map(|number| Life::new(ring, self.side, number))
            .collect();
        let director = std::process::id();
        // SAFETY: the only other thread of this process waits for the role to come to its end
        // (`Director::begin` counts them), so that the child finds nothing half done.
        match unsafe { nix::unistd::fork() }.expect("fork") {
            ForkResult::Parent { child } => {
                self.pid = child.as_raw().cast_unsigned();
                self.state = State::AtLarge;
            }
            ForkResult::Child => {
                let post = Post {
                    side: self.side,
                    ring,
                    board,
                    seed: seed ^ self.births << 40,
                    director,
                };
                let lives: Vec<_> = self
                    .lives
                    .iter()
                    .map(|life| (life.number, &life.log))
                    .collect();
                work(&post, &lives)
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.state, State::Empty)
    }

    pub(super) fn is_at_large(&self) -> bool {
        matches!(self.state, State::AtLarge)
    }

    /// Whether others may be unable to go on for its sake, and not for the ring's.
    pub(super) fn obstructs(&self) -> bool {
        match &self.state {
            State::Stopped(stop) => stop.obstructs || !stop.suspects.is_empty(),
            // Its locks are not free yet.
            State::Dying { since, .. } => since.elapsed() > SLOW,
            State::Empty => false,
            State::AtLarge | State::Aimed(_) => self.lives.iter().any(|life| {
                let since = life.log.get(Word::BusySince);
                since != 0 && Duration::from_nanos(now_ns().saturating_sub(since)) > SLOW
            }),
        }
    }

    pub(super) fn kill(&mut self, stood_still: bool) {
        self.state = State::Dying {
            stood_still,
            since: Instant::now(),
        };
        system::signal(self.pid, libc::SIGKILL);
    }

    /// Records that its threads have committed, or taken.
    pub(super) fn achieved(&self) -> u64 {
        self.lives
            .iter()
            .map(|life| life.log.get(Word::Done) + life.log.get(Word::Entries))
            .sum()
    }

    pub(super) fn is_asleep(&self, thread: usize) -> bool {
        let log = &self.lives[thread].log;
        log.step() == Step::Waiting && system::is_asleep(self.pid, log.get(Word::Thread))
    }

    /// Gives an aim up. A signal that is under way may still come.
    pub(super) fn hold_fire(&mut self) {
        for life in &self.lives {
            life.log.hold_fire();
        }
    }

    /// What its worker, which stands still, has in the ring as somebody who is alive.
    pub(super) fn belongings(&self, snapshot: &Snapshot) -> Belongings {
        let is_own = |row: &&ParticipantInfo| row.pid == self.pid && row.is_alive;
        let rows: Vec<_> = snapshot
            .participants
            .iter()
            .filter(is_own)
            .map(|row| (row.number, row.lives))
            .collect();
        let is_held = |claim: &&ClaimInfo| rows.iter().any(|(number, _)| *number == claim.owner);
        let claims = snapshot.claims.iter().filter(is_held).copied().collect();
        Belongings { rows, claims }
    }

    /// Whether a thread of it has stopped in the midst of giving something back, which no claim
    /// names any more and of which nobody was told yet.
    pub(super) fn is_undoing(&self) -> bool {
        self.lives
            .iter()
            .any(|life| life.log.step() == Step::Undoing)
    }

    /// The longest wait of its threads that has not come to its end, before it is killed.
    pub(super) fn unfinished_wait(&self, board: &Board) -> Duration {
        let unfinished = |life: &Life| unfinished_ns(&life.log, board, self.pid);
        let ns = self.lives.iter().map(unfinished).max().unwrap_or(0);
        Duration::from_nanos(ns)
    }
}

/// Rows of participants that are dead, or seem to be: whoever stands still may be mending them.
pub(super) fn rows_of_the_dead(snapshot: &Snapshot, seats: &[Seat]) -> Vec<(u16, u64)> {
    let is_dead = |row: &&ParticipantInfo| {
        let is_recovering = row.state == RowState::Recovering;
        !row.is_alive || is_recovering || seats.iter().all(|seat| seat.pid != row.pid)
    };
    let rows = snapshot.participants.iter().filter(is_dead);
    rows.map(|row| (row.number, row.lives)).collect()
}
