//! Those who live on: they read what is left, write two laps, and find the ring as good as new.
//!
//! They are handles of the tracer's own process, used through the library's public interface. Some
//! are attached before the operation and must notice the death by themselves (witnesses), others
//! come only after it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use annulus::Wait;

use super::account::{Account, Left, payload};
use super::operations::{Operation, Ring};

mod bytes;
mod slots;

/// Within this time of the lock's release everybody goes on.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// The first id that survivors write.
const FIRST_FRESH: u32 = 201;

/// What the survivors meet.
#[derive(Debug)]
pub(super) struct Scene<'s> {
    pub(super) ring: &'s Path,
    /// What the words said when the victim was dead.
    pub(super) account: &'s Account,
    pub(super) is_closed: bool,
    /// Whether the victim's row was in use.
    pub(super) was_attached: bool,
    /// When the locks of the dead were free.
    pub(super) free_at: Instant,
    /// Whether to sleep while waiting; otherwise yield.
    pub(super) sleeps: bool,
}

impl Scene<'_> {
    fn wait(&self) -> Wait {
        let wait = if self.sleeps {
            Wait::block()
        } else {
            Wait::yielding()
        };
        wait.until(self.free_at + LIMIT)
    }

    fn check_time(&self, what: &str) -> Result<()> {
        let took = self.free_at.elapsed();
        ensure!(
            took < LIMIT,
            "{what} took {took:?} after the locks were free"
        );
        Ok(())
    }
}

/// Who was attached before the operation.
#[derive(Debug)]
pub(super) enum Survivors {
    Slots(slots::Pair),
    Bytes(bytes::Lone),
}

impl Survivors {
    /// Attaches those who are there before the operation.
    pub(super) fn witnesses(operation: &Operation, ring: &Path) -> Self {
        match operation.ring {
            Ring::Mpmc => Self::Slots(slots::Pair::attach(ring)),
            Ring::Spsc => Self::Bytes(bytes::Lone::attach(operation.vacant(), ring)),
        }
    }

    /// Attaches those who come after it.
    pub(super) fn successors(operation: &Operation, ring: &Path) -> Self {
        match operation.ring {
            Ring::Mpmc => Self::Slots(slots::Pair::attach(ring)),
            Ring::Spsc => Self::Bytes(bytes::Lone::both(ring)),
        }
    }

    /// How many rows they have once they have gone on.
    pub(super) const ROWS: usize = 2;

    /// Reads what is left and writes two laps. Returns how many records were written.
    pub(super) fn go_on(&mut self, scene: &Scene<'_>) -> Result<u64> {
        match self {
            Self::Slots(pair) => pair.go_on(scene),
            Self::Bytes(lone) => lone.go_on(scene),
        }
    }

    /// Drives the ring round a stopped victim until it blocks; `is_attached` tells whether its row
    /// is in use. Returns what was read and written.
    pub(super) fn drive(&mut self, is_attached: bool) -> Result<Driven> {
        match self {
            Self::Slots(pair) => pair.drive(),
            Self::Bytes(lone) => lone.drive(is_attached),
        }
    }

    /// Lets the victim go on while survivors hold a claim and a record, where they can.
    pub(super) fn hold_while(
        &self,
        driven: &mut Driven,
        go_on: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Slots(pair) => pair.hold_while(driven, go_on),
            Self::Bytes(_) => go_on(),
        }
    }

    /// Once more, when nobody is in the way any more, with the missing ones attached.
    pub(super) fn drain(&mut self, ring: &Path, driven: &mut Driven) -> Result<()> {
        match self {
            Self::Slots(pair) => pair.drain(driven),
            Self::Bytes(lone) => lone.drain(ring, driven),
        }
    }
}

/// What survivors did around a stopped victim.
#[derive(Debug, Default)]
pub(super) struct Driven {
    pub(super) written: Vec<u32>,
    pub(super) read: Vec<u32>,
}

impl Driven {
    fn next(&self) -> u32 {
        FIRST_FRESH + u32::try_from(self.written.len()).unwrap_or(0)
    }
}

/// Refuses bytes that are not those of the record.
fn check_bytes(id: u32, found: &[u8]) -> Result<()> {
    ensure!(
        found == payload(id),
        "record {id} arrived torn: {found:02x?}"
    );
    Ok(())
}

/// Compares what was delivered with what was left. Those that nobody held come in order; those that
/// are delivered again come whenever.
fn check_delivery(left: &[Left], got: &[(u32, u8)], counts: bool) -> Result<()> {
    let attempts = |left: &Left| {
        let again = u8::from(left.is_held && counts);
        (left.attempts + again).min(3)
    };
    let mut expected: Vec<(u32, u8)> = left.iter().map(|left| (left.id, attempts(left))).collect();
    let in_order = |list: &[(u32, u8)]| -> Vec<u32> {
        let once = list.iter().filter(|(_, attempts)| *attempts == 0);
        once.map(|(id, _)| *id).collect()
    };
    let order = in_order(got) == in_order(&expected);
    let mut sorted = got.to_vec();
    sorted.sort_unstable();
    expected.sort_unstable();
    if sorted != expected || !order {
        bail!("delivered {got:?} (id, attempts), expected {left:?}");
    }
    Ok(())
}
