//! Mapped files: a ring that processes share, and the system calls that tell who lives.
//!
//! A path, or a memfd handed over a UNIX socket, is the whole of a ring; there is no daemon and no
//! registry. [`create()`] makes the file, [`attach()`] joins it as one participant, whose row and
//! lock last until [`Mapped`] is dropped or its process dies, [`recover()`] mends what the dead
//! left, [`inspect()`] looks without joining, and [`remove()`] takes the name away.
//!
//! # What is trusted
//! Whoever can open the file for writing is trusted, with this exception: whatever stands in it,
//! nothing here panics, loops for ever or touches memory outside the mapping. A damaged file gives
//! a typed error. What we cannot stop others from doing:
//! - to make the file shorter: then our next access beyond its end is SIGBUS. A memfd is sealed
//!   against it, and [`Untrusted`] insists on the seal. Under a path, [`Guarded`] makes an error of
//!   it, within the limits that `sigbus` tells;
//! - to write to bytes that the protocol gave to us: those who share a ring as [`Mapped`] promise
//!   not to, which is why their attaching is `unsafe` further up. [`Untrusted`] lends no slices and
//!   copies by words instead;
//! - to hold locks that are not theirs, so that nobody is found dead: attaching then ends with an
//!   error after a bounded time. Observers, who may only look, have no locks to hold: `observe`;
//! - to punch holes, which are zeroes when we touch them next, or SIGBUS if the machine has no
//!   memory for them. Of huge pages there may be none left at any time, and [`Untrusted`] takes
//!   none;
//! - to lie in rows: pids, names and counters are for display.
//!
//! | file | for |
//! | --- | --- |
//! | `location` | where a file is, and what file system that is |
//! | `create`, `newborn` | a file that is born whole |
//! | `open` | all checks before a byte is mapped |
//! | `map` | the mapping, as a `Store`: the only raw pointers |
//! | `sigbus` | the guard of a mapping whose file may be cut short |
//! | `attach` | rows and locks: becoming a participant |
//! | `mapped` | the attachment of a handle |
//! | `recover` | mending: of one row, of a ring, of a ring from another boot |
//! | `liveness`, `fork` | locks, identities; what a forked child may keep |
//! | `inspect`, `observe`, `remove` | looking, showing and removing |
//!
//! # Invariants
//! 1. A row is written only by whoever holds its lock: its participant through the description that
//!    it mapped, or a mender, who got the lock because that mapping is gone.
//! 2. A participant's lock is free only when no processor can store through its mapping any more.
//!    Time-outs, pids and heartbeats never take anything from anybody.
//! 3. A ring of another boot has no participants of this one until somebody who holds all row locks
//!    has checked and adopted it. Adoption is the only write to the header after the magic.
//! 4. A forked child has no mapping, no descriptor and no lock of its parent's participants.
//!
//! # Pairing
//! - `born-whole`: see `create`.
//! - `row-state`: see `protocol::recovery`.
//!
//! # After a crash
//! | dead | leaves | mended by |
//! | --- | --- | --- |
//! | creating | an unnamed file, or a private name | the kernel; the next creator |
//! | attaching, before the row is in use | a FREE row, perhaps half filled | nothing to mend |
//! | attached, in whatever operation | a row in use, a free lock | any `mend`; the next attacher |
//! | detaching | a row in use or FREE | as above |
//! | recovering | a row that is RECOVERING, a free lock | as above: all of it is done again |
//! | adopting | a ring that is still of another boot | the next adopter |

mod attach;
pub(crate) mod create;
mod error;
mod fork;
mod inspect;
mod liveness;
mod location;
mod map;
mod mapped;
mod newborn;
mod observe;
mod open;
mod recover;
mod remove;
mod sigbus;

#[cfg(test)]
mod tests;

pub use attach::{AttachOptions, attach, attach_guarded, attach_untrusted};
pub use create::{CreateOptions, create, create_memfd};
pub use error::{AttachError, CreateError, InspectError, OpenError, RecoverError, RemoveError};
pub use inspect::{
    ClaimInfo, ClaimKind, Counters, MAX_CLAIMS_LISTED, ParticipantInfo, RowState, Snapshot, inspect,
};
pub use location::{FileSystemError, Location, ShmNameError, share};
pub use map::Map;
pub use mapped::{Guarded, Mapped, Untrusted};
pub use observe::{Observable, create_observable};
pub use recover::{RecoverOptions, recover};
pub use remove::remove;

use crate::layout::{ROLE_CONSUMER, ROLE_PRODUCER};

/// What a participant does with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It writes them.
    Producer,
    /// It reads them.
    Consumer,
}

impl Role {
    fn number(self) -> u32 {
        match self {
            Self::Producer => ROLE_PRODUCER,
            Self::Consumer => ROLE_CONSUMER,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        match number {
            ROLE_PRODUCER => Some(Self::Producer),
            ROLE_CONSUMER => Some(Self::Consumer),
            _ => None,
        }
    }
}

impl core::fmt::Display for Role {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        })
    }
}
