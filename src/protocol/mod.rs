//! The algorithms: what each party does to the words of a ring, in which order, and why that
//! survives a death between any two steps.
//!
//! This floor knows atomics and numbers. It maps nothing, sleeps never, asks no clock and makes no
//! system call, so that the same source runs in a mapped file between processes, on the heap, in
//! the fuzzer and under loom.
//!
//! | file | for |
//! | --- | --- |
//! | [`byte_ring`] | SPSC: variable-length records, the header is the flag |
//! | [`slot_ring`] | MPMC: the slot word is the truth |
//! | [`recovery`] | what the lock holder of a dead participant does to its claims |
//! | [`event`] | the handshake between a waker and a sleeper |
//! | [`switches`] | closed for writing, and whether everybody fences for real |
//! | `glance` | a look that changes nothing: may somebody who waits go on? |
//! | [`ledger`] | counters in a participant's row; the exact count of skipped positions |
//! | [`copy`] | payloads copied by words, for peers that are not trusted |
//! | [`heap`] | a ring in plain memory, for threads of one process and for loom |
//!
//! # Invariants
//! 1. A [`Store`] hands out a word or a span only if it lies inside the data area: whatever number
//!    the protocol computes from shared words, memory outside the ring is never touched. It looks
//!    for itself, or its caller says why it need not.
//! 2. Each shared word is loaded once for a decision, into a local that is then checked and used.
//! 3. A row is written only by whoever holds its lock: its participant, or that one's recoverer.
//! 4. Every loop ends by a bound that does not depend on what the file says.

pub mod byte_ring;
pub mod copy;
pub mod event;
#[cfg(not(loom))]
pub mod glance;
pub mod heap;
pub mod ledger;
pub mod recovery;
pub mod slot_ring;
pub mod switches;

#[cfg(all(test, shuttle))]
#[path = "tests/shuttle/mod.rs"]
mod shuttle_tests;
#[cfg(all(test, loom, not(shuttle)))]
mod tests;

pub use recovery::{Recovered, Redelivery};

use crate::layout::{Control, MAX_PARTICIPANTS, Row};
use crate::sync::{AtomicU64, ReadLease, WriteLease};

/// A participant's number: its row, its lock byte, and the owner field of its claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(u16);

impl Owner {
    /// The SPSC ring's producer.
    pub const PRODUCER: Self = Self(1);
    /// The SPSC ring's consumer.
    pub const CONSUMER: Self = Self(2);

    /// Participant `number`, unless that is nobody (0) or more than the layout has room for.
    pub fn new(number: u16) -> Option<Self> {
        (1..=MAX_PARTICIPANTS)
            .contains(&number)
            .then_some(Self(number))
    }

    /// 1..=2047.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// Something in the ring's memory that no correct participant can have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {found:#x}, {expected}")]
pub struct Damage {
    /// Which word.
    pub what: &'static str,
    /// What it held.
    pub found: u64,
    /// What a correct participant would have left there.
    pub expected: &'static str,
}

/// The ring's file has lost bytes that are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ring's file was cut short: it has {found_bytes} bytes, the ring {expected_bytes}")]
pub struct CutShort {
    /// Bytes of the file now. As many as expected if it was made longer again, or lost blocks only.
    pub found_bytes: u64,
    /// Bytes of the ring.
    pub expected_bytes: u64,
}

/// Why nobody will come to whom a participant could wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Another file has the name through which the ring was attached to.
    Replaced,
    /// The file has no name, so that nobody can come any more, and nobody of the other role lives.
    Removed,
    /// The file was cut short.
    CutShort(CutShort),
}

/// Why a handle cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was inherited through `fork`.
    Forked,
    /// Its file was cut short, and its guard had to put zeroes in the place of what is lost.
    CutShort(CutShort),
}

/// Where the words and bytes of one ring lie.
///
/// # Safety
/// - [`word`](Self::word) and [`bytes`](Self::bytes) check their arguments in every build and
///   panic rather than leave the data area.
/// - [`bytes_around`](Self::bytes_around) is always the same power of two, 8 at least and the size
///   of the area at most; [`word_around`](Self::word_around) stays inside.
/// - What they return stays valid, and at the same address, for as long as the store is borrowed.
/// - `word(o)` is the same word for all stores of one ring in all processes.
pub unsafe trait Store {
    /// The shared words.
    fn control(&self) -> &Control;

    /// A participant's row.
    ///
    /// # Panics
    /// If the ring has fewer participants.
    fn row(&self, owner: Owner) -> &Row;

    /// How many rows there are.
    fn participants(&self) -> u16;

    /// The word at byte `offset` of the data area, rounded down to a multiple of 8.
    ///
    /// # Panics
    /// If `offset` lies outside; in a debug build also if it is not a multiple of 8.
    fn word(&self, offset: u64) -> &AtomicU64;

    /// Over how many bytes a stream goes round that fills the data area: its size, if that is a
    /// power of two, as a byte ring's is; else the greatest one below.
    fn bytes_around(&self) -> u64;

    /// The word on which byte `position` of such a stream falls; no position lies outside.
    fn word_around(&self, position: u64) -> &AtomicU64;

    /// The `len` bytes at byte `offset` of the data area.
    ///
    /// # Panics
    /// If they do not all lie inside.
    fn bytes(&self, offset: u64, len: u64) -> *mut u8;

    /// The same without a look, for a straight line.
    ///
    /// # Safety
    /// They all lie inside.
    unsafe fn bytes_inside(&self, offset: u64, len: u64) -> *mut u8 {
        self.bytes(offset, len)
    }

    /// Registers exclusive access to a span with loom; nothing otherwise.
    fn write_lease(&self, offset: u64, len: u64) -> WriteLease;

    /// Registers shared access to a span with loom; nothing otherwise.
    fn read_lease(&self, offset: u64, len: u64) -> ReadLease;
}

// SAFETY: it passes everything on.
unsafe impl<S: Store + ?Sized> Store for &S {
    #[inline]
    fn control(&self) -> &Control {
        (**self).control()
    }

    #[inline]
    fn row(&self, owner: Owner) -> &Row {
        (**self).row(owner)
    }

    #[inline]
    fn participants(&self) -> u16 {
        (**self).participants()
    }

    #[inline]
    fn word(&self, offset: u64) -> &AtomicU64 {
        (**self).word(offset)
    }

    #[inline]
    fn bytes_around(&self) -> u64 {
        (**self).bytes_around()
    }

    #[inline]
    fn word_around(&self, position: u64) -> &AtomicU64 {
        (**self).word_around(position)
    }

    #[inline]
    fn bytes(&self, offset: u64, len: u64) -> *mut u8 {
        (**self).bytes(offset, len)
    }

    #[inline]
    unsafe fn bytes_inside(&self, offset: u64, len: u64) -> *mut u8 {
        // SAFETY: the caller's promise is this one's.
        unsafe { (**self).bytes_inside(offset, len) }
    }

    #[inline]
    fn write_lease(&self, offset: u64, len: u64) -> WriteLease {
        (**self).write_lease(offset, len)
    }

    #[inline]
    fn read_lease(&self, offset: u64, len: u64) -> ReadLease {
        (**self).read_lease(offset, len)
    }
}

/// All participants of a ring, row by row.
pub fn owners<S: Store + ?Sized>(store: &S) -> impl Iterator<Item = Owner> + use<S> {
    (1..=store.participants()).map(Owner)
}

/// What a handle needs of the place in which its participant is attached.
///
/// A participant of a mapped file has a lock and may find others dead; one of a heap ring shares
/// their fate.
pub trait Attachment: Send + Sync + 'static {
    /// Where the ring lies.
    type Store: Store;

    /// The same, as pointers side by side.
    type Near<'a>: Store + Copy
    where
        Self: 'a;

    /// Payloads are moved by words, because a peer may write to them at any time.
    const COPY_BY_WORDS: bool;

    /// Where the ring lies.
    fn store(&self) -> &Self::Store;

    /// The same for a straight line, which copies it into locals once: what lies behind a reference
    /// is loaded again after each store that publishes something.
    fn near(&self) -> Self::Near<'_>;

    /// This participant's number.
    fn me(&self) -> Owner;

    /// This participant's row.
    #[inline]
    fn row(&self) -> &Row {
        self.store().row(self.me())
    }

    /// The checked geometry.
    fn shape(&self) -> &recovery::Shape;

    /// The element type that the ring was created for.
    fn element(&self) -> Option<&ElementType>;

    /// Recovers every participant whose lock is free.
    fn mend(&self) -> Recovered;

    /// Whether somebody lives in `owner`'s row.
    fn is_alive(&self, owner: Owner) -> bool;

    /// Whether a file that is cut short is noticed rather than fatal.
    const GUARDED: bool;

    /// Whether all participants are threads of this process.
    const IN_ONE_PROCESS: bool;

    /// Whether the handle may be used at all: false in a forked child, which has no mapping, and
    /// for good once a guarded one has lost part of its own.
    fn is_here(&self) -> bool;

    /// Why the handle may not be used, once [`is_here`](Self::is_here) has said so.
    fn gone(&self) -> Gone;

    /// Whether waiting is in vain. Costs system calls.
    fn loss(&self) -> Option<Loss>;
}

/// An attachment in which a claimed span belongs to its claimer alone, so that slices may be lent.
pub trait ZeroCopy: Attachment {}

/// The element type of a typed ring, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementType {
    /// The name that its author gave it.
    pub name: String,
    /// Bytes of an element.
    pub size: u64,
    /// Its alignment in bytes.
    pub align: u64,
    /// A hash of its fields, chosen by its author.
    pub schema: u64,
}
