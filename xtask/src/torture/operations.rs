//! The operations that victims perform, and what each may do to the ring's records.

use std::path::Path;

use annulus::{mpmc, spsc};

use super::account::origin_words;
use super::victim::Stage;

mod files;
mod mpmc_consumer;
mod mpmc_producer;
mod spsc_consumer;
mod spsc_producer;

/// Which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    Mpmc,
    Spsc,
}

/// Which side of the ring the victim is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Producer,
    Consumer,
    /// It does not join.
    Neither,
}

/// In which state the ring is found, apart from the records that are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none: the operation creates it.
    Missing,
    Plain,
    /// Closed for writing, after the records that are ready.
    Closed,
    /// The first of the slots to be read is to be skipped.
    Skip,
    /// The first record was given back once.
    GivenBack,
    /// A consumer has announced that it sleeps.
    ConsumerAsleep,
    /// A producer has announced that it sleeps; the ring is full.
    ProducerAsleep,
    /// SPSC: 64 bytes are left before the end of the ring.
    NearEnd,
    /// A participant of the victim's side died holding what it could.
    DeadPredecessor,
    /// The records that are ready were copied from another ring, the last one from place
    /// [`ORIGIN_BEFORE`] of it.
    Copied,
    /// The same, and the producer died between saying where the next ones come from and their
    /// publication; in a slot ring a consumer with it, holding a record.
    DeadBridge,
}

/// How an operation is cut into points at which it is stopped or killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Points {
    /// After every instruction.
    All,
    /// After every instruction between the first and the last that changes the ring, around every
    /// system call, and a sample of the others.
    Changes,
    /// As `Changes`, up to a little after the first sleep; and once while it is asleep.
    Sleep,
}

/// One operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) ring: Ring,
    pub(super) side: Side,
    pub(super) found: Found,
    pub(super) points: Points,
    /// Records 1 to this are committed and not released.
    pub(super) ready: u32,
    /// The victim may commit this many, counted from `FIRST_OF_VICTIM`, and has once it is done.
    pub(super) commits: u32,
    /// The victim may release this many of those ready, and has once it is done.
    pub(super) releases: u32,
    /// What its commit says of the ring that the records come from, if it says anything.
    pub(super) origin: Option<u64>,
    /// Commits are seen all or none.
    pub(super) is_atomic: bool,
    /// Whether survivors can be attached before the operation.
    pub(super) has_witnesses: bool,
    /// Deaths must be seen in all of these states.
    pub(super) states: &'static [&'static str],
    pub(super) act: fn(&Stage),
}

impl Operation {
    /// Whose place is empty after the victim's death, in an SPSC ring.
    pub(super) fn vacant(&self) -> Side {
        match self.side {
            Side::Producer => Side::Producer,
            Side::Consumer | Side::Neither => Side::Consumer,
        }
    }
}

/// What most operations have in common.
const PLAIN: Operation = Operation {
    name: "",
    ring: Ring::Mpmc,
    side: Side::Producer,
    found: Found::Plain,
    points: Points::All,
    ready: 0,
    commits: 0,
    releases: 0,
    origin: None,
    is_atomic: false,
    has_witnesses: true,
    states: &[],
    act: |_| {},
};

/// Where the copied records of [`Found::Copied`] end in the ring that they come from.
pub(super) const ORIGIN_BEFORE: u64 = 3000;
/// Where those end that the victim commits.
pub(super) const ORIGIN_AFTER: u64 = 3003;
/// What a dead bridge announced and never published.
pub(super) const ORIGIN_NEVER: u64 = 3777;

/// An origin all of whose words follow from `records`.
pub(super) fn origin(records: u64) -> spsc::Origin {
    let [records, low, high, generation, life] = origin_words(records);
    let mut ring_id = [0; 16];
    ring_id[..8].copy_from_slice(&low.to_le_bytes());
    ring_id[8..].copy_from_slice(&high.to_le_bytes());
    spsc::Origin {
        ring_id,
        generation,
        life,
        records,
    }
}

/// All of them, in the order in which they run.
pub(super) fn all() -> Vec<&'static Operation> {
    let lists = [
        mpmc_producer::OPERATIONS,
        mpmc_consumer::OPERATIONS,
        spsc_producer::OPERATIONS,
        spsc_consumer::OPERATIONS,
        files::OPERATIONS,
    ];
    lists.into_iter().flatten().collect()
}

/// The MPMC rings of the campaign: 4 slots of 48 bytes.
pub(super) fn mpmc_options() -> mpmc::Options {
    mpmc::Options::new(4, 48).participants(6)
}

/// Bytes of the SPSC rings of the campaign.
pub(super) const BYTES: u64 = 4096;

/// The SPSC rings of the campaign.
pub(super) fn spsc_options() -> spsc::Options {
    spsc::Options::new(BYTES)
}

pub(super) fn mpmc_producer(ring: &Path) -> mpmc::Producer {
    // SAFETY: everybody who writes to the file uses the library, and the campaign's unsafe code
    // touches no ring.
    unsafe { mpmc::Producer::attach(ring) }.expect("a producer attaches")
}

pub(super) fn mpmc_consumer(ring: &Path) -> mpmc::Consumer {
    // SAFETY: as above.
    unsafe { mpmc::Consumer::attach(ring) }.expect("a consumer attaches")
}

pub(super) fn spsc_producer(ring: &Path) -> spsc::Producer {
    // SAFETY: as above.
    unsafe { spsc::Producer::attach(ring) }.expect("the producer attaches")
}

pub(super) fn spsc_consumer(ring: &Path) -> spsc::Consumer {
    // SAFETY: as above.
    unsafe { spsc::Consumer::attach(ring) }.expect("the consumer attaches")
}
