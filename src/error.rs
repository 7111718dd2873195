//! What an operation on an attached handle can answer, one small enum each.
//!
//! The `try_` operations answer at once and never allocate. The waiting ones cannot answer `Full`
//! or `Empty`, but may run into their deadline.

use crate::protocol::{CutShort, Damage, Gone, Loss};

/// Why there is no claim to write into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryClaimError {
    /// No space: wait for consumers to release some.
    #[error("the ring is full")]
    Full,
    /// The record can never fit into this ring.
    #[error("a record of {len} bytes is too long, this ring takes at most {max}")]
    TooLong {
        /// Bytes asked for.
        len: usize,
        /// The longest record in bytes.
        max: usize,
    },
    /// The ring was closed for writing; see `reopen`.
    #[error("the ring is closed")]
    Closed,
    /// The handle was inherited through `fork`: attach again in the child.
    #[error("the handle belongs to the process that forked this one")]
    Forked,
    /// Somebody made the ring's file shorter. Told instead of SIGBUS to guarded handles, and to
    /// whoever waits.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// The ring's memory holds something that no correct participant writes.
    #[error("the ring is damaged: {0}")]
    Damaged(#[from] Damage),
}

/// Why waiting for a claim to write into ended without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The deadline passed, and the ring was still full.
    #[error("the ring stayed full until the deadline")]
    TimedOut,
    /// The record can never fit into this ring.
    #[error("a record of {len} bytes is too long, this ring takes at most {max}")]
    TooLong {
        /// Bytes asked for.
        len: usize,
        /// The longest record in bytes.
        max: usize,
    },
    /// The ring was closed for writing; see `reopen`.
    #[error("the ring is closed")]
    Closed,
    /// Another file has the ring's name now: attach again.
    #[error("another file has the ring's name now")]
    Replaced,
    /// The ring's file has lost its name, and nobody is left who could end the wait.
    #[error("the ring was removed and its peers are gone")]
    Removed,
    /// Waiting as a future needs a descriptor and a thread, which the system refused.
    #[error("waiting needs a descriptor and a thread: system error {errno}")]
    System {
        /// The system's error number.
        errno: i32,
    },
    /// The handle was inherited through `fork`: attach again in the child.
    #[error("the handle belongs to the process that forked this one")]
    Forked,
    /// Somebody made the ring's file shorter. Told instead of SIGBUS to guarded handles, and to
    /// whoever waits.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// The ring's memory holds something that no correct participant writes.
    #[error("the ring is damaged: {0}")]
    Damaged(#[from] Damage),
}

/// Why there is no record to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryReadError {
    /// Nothing committed: wait for producers.
    #[error("the ring is empty")]
    Empty,
    /// The ring is closed and drained: nothing will come unless somebody reopens it.
    #[error("the ring is closed and drained")]
    Closed,
    /// The handle was inherited through `fork`: attach again in the child.
    #[error("the handle belongs to the process that forked this one")]
    Forked,
    /// Somebody made the ring's file shorter. Told instead of SIGBUS to guarded handles, and to
    /// whoever waits.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// The ring's memory holds something that no correct participant writes.
    #[error("the ring is damaged: {0}")]
    Damaged(#[from] Damage),
}

/// Why waiting for a record ended without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The deadline passed, and the ring was still empty.
    #[error("the ring stayed empty until the deadline")]
    TimedOut,
    /// The ring is closed and drained: nothing will come unless somebody reopens it.
    #[error("the ring is closed and drained")]
    Closed,
    /// Another file has the ring's name now: attach again.
    #[error("another file has the ring's name now")]
    Replaced,
    /// The ring's file has lost its name, and nobody is left who could end the wait.
    #[error("the ring was removed and its peers are gone")]
    Removed,
    /// Waiting as a future needs a descriptor and a thread, which the system refused.
    #[error("waiting needs a descriptor and a thread: system error {errno}")]
    System {
        /// The system's error number.
        errno: i32,
    },
    /// The handle was inherited through `fork`: attach again in the child.
    #[error("the handle belongs to the process that forked this one")]
    Forked,
    /// Somebody made the ring's file shorter. Told instead of SIGBUS to guarded handles, and to
    /// whoever waits.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// The ring's memory holds something that no correct participant writes.
    #[error("the ring is damaged: {0}")]
    Damaged(#[from] Damage),
}

/// How waiting ends other than by success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// The deadline passed.
    TimedOut,
    /// Nobody will come.
    Lost(Loss),
    /// The system refused what waiting as a future needs.
    System(i32),
}

/// An answer of a `try_` operation, as the waiting loop sees it.
pub trait TryError: Sized {
    /// What the waiting operation answers in its place.
    type Final: From<WaitEnd>;

    /// `None` if waiting may help.
    fn into_final(self) -> Option<Self::Final>;
}

impl From<WaitEnd> for ClaimError {
    fn from(end: WaitEnd) -> Self {
        match end {
            WaitEnd::TimedOut => Self::TimedOut,
            WaitEnd::Lost(Loss::Replaced) => Self::Replaced,
            WaitEnd::Lost(Loss::Removed) => Self::Removed,
            WaitEnd::Lost(Loss::CutShort(cut)) => Self::CutShort(cut),
            WaitEnd::System(errno) => Self::System { errno },
        }
    }
}

impl From<WaitEnd> for ReadError {
    fn from(end: WaitEnd) -> Self {
        match end {
            WaitEnd::TimedOut => Self::TimedOut,
            WaitEnd::Lost(Loss::Replaced) => Self::Replaced,
            WaitEnd::Lost(Loss::Removed) => Self::Removed,
            WaitEnd::Lost(Loss::CutShort(cut)) => Self::CutShort(cut),
            WaitEnd::System(errno) => Self::System { errno },
        }
    }
}

impl From<Gone> for TryClaimError {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Forked => Self::Forked,
            Gone::CutShort(cut) => Self::CutShort(cut),
        }
    }
}

impl From<Gone> for TryReadError {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Forked => Self::Forked,
            Gone::CutShort(cut) => Self::CutShort(cut),
        }
    }
}

impl From<Gone> for ReadError {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Forked => Self::Forked,
            Gone::CutShort(cut) => Self::CutShort(cut),
        }
    }
}

impl TryError for TryClaimError {
    type Final = ClaimError;

    fn into_final(self) -> Option<ClaimError> {
        match self {
            Self::Full => None,
            Self::TooLong { len, max } => Some(ClaimError::TooLong { len, max }),
            Self::Closed => Some(ClaimError::Closed),
            Self::Forked => Some(ClaimError::Forked),
            Self::CutShort(cut) => Some(ClaimError::CutShort(cut)),
            Self::Damaged(damage) => Some(ClaimError::Damaged(damage)),
        }
    }
}

impl TryError for TryReadError {
    type Final = ReadError;

    fn into_final(self) -> Option<ReadError> {
        match self {
            Self::Empty => None,
            Self::Closed => Some(ReadError::Closed),
            Self::Forked => Some(ReadError::Forked),
            Self::CutShort(cut) => Some(ReadError::CutShort(cut)),
            Self::Damaged(damage) => Some(ReadError::Damaged(damage)),
        }
    }
}
